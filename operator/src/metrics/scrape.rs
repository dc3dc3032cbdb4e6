//! The text of a scrape.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus::TextEncoder;
use robotimage_crds::api::condition::reasons::{BUILDING, CHECKING_SOURCE};
use robotimage_crds::api::condition::{READY, RECONCILING};
use robotimage_crds::api::{BuildPhase, RobotImage, RobotImageStatus};

use super::Metrics;

impl Metrics {
    /// The text of a scrape. `images` are all resources; they are counted by the replica that leads.
    pub(crate) fn render(&self, images: impl Iterator<Item = Arc<RobotImage>>, leads: bool) -> String {
        self.leader.set(i64::from(leads));
        self.images.reset();
        self.live.reset();
        if leads {
            self.count(images);
        }
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| format!("# {error}\n"))
    }

    fn count(&self, images: impl Iterator<Item = Arc<RobotImage>>) {
        let (mut ready, mut live) = ([0_i64; 3], [0_i64; 2]);
        for image in images {
            let status = image.status.as_ref();
            let said = condition(status, READY).map_or("Unknown", |condition| condition.status.as_str());
            ready[match said {
                "True" => 0,
                "False" => 1,
                _ => 2,
            }] += 1;
            match status.and_then(|status| status.latest_build.as_ref()).map(|build| build.phase) {
                // Running only says that there is a Job: what keeps its pod from starting is said by the condition.
                Some(BuildPhase::Running)
                    if reason(status, RECONCILING).is_some_and(|reason| [BUILDING, CHECKING_SOURCE].contains(&reason)) =>
                {
                    live[1] += 1;
                }
                Some(BuildPhase::Pending | BuildPhase::Running) => live[0] += 1,
                _ => {}
            }
        }
        for (label, count) in ["True", "False", "Unknown"].into_iter().zip(ready) {
            self.images.with_label_values(&[label]).set(count);
        }
        for (label, count) in ["Pending", "Running"].into_iter().zip(live) {
            self.live.with_label_values(&[label]).set(count);
        }
    }
}

fn condition<'a>(status: Option<&'a RobotImageStatus>, kind: &str) -> Option<&'a Condition> {
    status?.conditions.iter().find(|condition| condition.type_ == kind)
}

fn reason<'a>(status: Option<&'a RobotImageStatus>, kind: &str) -> Option<&'a str> {
    condition(status, kind).map(|condition| condition.reason.as_str())
}
