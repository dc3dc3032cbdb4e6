//! The text of a scrape.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use prometheus::TextEncoder;
use robotimage_crds::api::condition::reasons::{BUILDING, CHECKING_SOURCE};
use robotimage_crds::api::condition::{READY, RECONCILING};
use robotimage_crds::api::{BuildPhase, RobotImage, RobotImageStatus};

use super::Metrics;

/// How a RobotImage stands, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    ready: Ready,
    live: Option<Live>,
}

/// Status of the condition Ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    True,
    False,
    Unknown,
}

/// A build that has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Live {
    Pending,
    Running,
}

impl Standing {
    /// Of a resource.
    pub(crate) fn of(image: &RobotImage) -> Self {
        let status = image.status.as_ref();
        let said = condition(status, READY).map_or("Unknown", |condition| condition.status.as_str());
        let phase = status.and_then(|status| status.latest_build.as_ref()).map(|build| build.phase);
        Self {
            ready: match said {
                "True" => Ready::True,
                "False" => Ready::False,
                _ => Ready::Unknown,
            },
            live: match phase {
                // Running only says that there is a Job: what keeps its pod from starting is said by the condition.
                Some(BuildPhase::Running)
                    if reason(status, RECONCILING).is_some_and(|reason| [BUILDING, CHECKING_SOURCE].contains(&reason)) =>
                {
                    Some(Live::Running)
                }
                Some(BuildPhase::Pending | BuildPhase::Running) => Some(Live::Pending),
                _ => None,
            },
        }
    }

    /// Whether it has a build that has not ended.
    pub(crate) fn lives(self) -> bool {
        self.live.is_some()
    }
}

impl Metrics {
    /// The text of a scrape. `images` are all resources; they are counted by the replica that leads.
    pub(crate) fn render(&self, images: impl Iterator<Item = Standing>, leads: bool) -> String {
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

    fn count(&self, images: impl Iterator<Item = Standing>) {
        let (mut ready, mut live) = ([0_i64; 3], [0_i64; 2]);
        for image in images {
            ready[image.ready as usize] += 1;
            if let Some(state) = image.live {
                live[state as usize] += 1;
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
