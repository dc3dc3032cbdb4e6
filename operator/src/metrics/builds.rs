//! What a written status says has happened to a build.

use robotimage_crds::api::{BuildPhase, LatestBuild, LatestImage, RobotImageStatus};
use robotimage_crds::duration;
use robotimage_crds::reason::Reason;

use super::Metrics;

/// What a build turned out to do; empty when it ended before that was known.
pub(super) const PLANS: [&str; 5] = ["Noop", "CodeOnly", "RebaseOnly", "Full", ""];
/// What the environment cache can say.
pub(super) const CACHE: [&str; 3] = ["hit", "miss", "bad"];
/// Steps of a build pod.
const STEPS: [&str; 3] = ["fetch", "resolve", "publish"];
/// Roles of layers.
const ROLES: [&str; 5] = ["base", "rcc", "environment", "home", "code"];

/// The entry of a closed list, `otherwise` for anything else.
fn listed(list: &[&'static str], text: &str, otherwise: &'static str) -> &'static str {
    list.iter().find(|entry| **entry == text).copied().unwrap_or(otherwise)
}

impl Metrics {
    /// Counts what happened to the build between two states of a status: that it started, and that it ended.
    pub(crate) fn written(&self, before: Option<&RobotImageStatus>, after: &RobotImageStatus) {
        let Some(build) = &after.latest_build else { return };
        let old = before
            .and_then(|status| status.latest_build.as_ref())
            .filter(|old| old.build_id == build.build_id);
        if let Some(waited) = waited(build)
            && old.is_none_or(|old| waited_for(old).is_none())
        {
            self.queued.observe(waited);
        }
        if over(build.phase) && !old.is_some_and(|old| over(old.phase)) {
            self.ended(build, after);
        }
    }

    fn ended(&self, build: &LatestBuild, status: &RobotImageStatus) {
        let (result, reason) = match build.phase {
            BuildPhase::Succeeded => ("success", ""),
            BuildPhase::Canceled => ("canceled", ""),
            _ => (
                "failure",
                status.last_failure.as_ref().map_or("", |failure| failure.reason.as_str()),
            ),
        };
        let reason = reason.parse::<Reason>().map_or("", Reason::as_str);
        let plan = listed(&PLANS, build.plan.as_deref().unwrap_or_default(), "");
        self.builds
            .with_label_values(&[result, reason, if result == "failure" { "" } else { plan }])
            .inc();
        let whole = build.duration.as_deref().map(|time| ("all", time));
        let steps = build.steps.iter().filter_map(|step| {
            let name = listed(&STEPS, &step.name, "other");
            Some((name, step.duration.as_deref()?))
        });
        for (step, time) in whole.into_iter().chain(steps) {
            if let Some(time) = duration::parse(time) {
                self.build_duration.with_label_values(&[step]).observe(time.as_secs_f64());
            }
        }
        for said in build.steps.iter().filter_map(|step| step.cache.as_deref()) {
            let word = said.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
            self.environments.with_label_values(&[listed(&CACHE, word, "other")]).inc();
        }
        // A build that found nothing to do has sent nothing, and the image is an older one's.
        if let Some(image) = status.latest_image.as_ref().filter(|_| result == "success" && plan != "Noop") {
            self.sent(image);
        }
    }

    fn sent(&self, image: &LatestImage) {
        for layer in &image.layers {
            let uploaded = layer.uploaded.clamp(0, layer.size.max(0));
            let role = listed(&ROLES, &layer.role, "other");
            for (direction, bytes) in [("uploaded", uploaded), ("reused", layer.size.max(0) - uploaded)] {
                self.layer_bytes.with_label_values(&[role, direction]).inc_by(bytes.unsigned_abs());
            }
        }
    }
}

/// Seconds from the decision until the first step started, once it has.
fn waited(build: &LatestBuild) -> Option<f64> {
    let (decided, started) = (build.started_at.as_ref()?, waited_for(build)?);
    Some(started.0.duration_since(decided.0).as_secs_f64().max(0.0))
}

fn waited_for(build: &LatestBuild) -> Option<&k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    build.steps.iter().find_map(|step| step.started_at.as_ref())
}

fn over(phase: BuildPhase) -> bool {
    matches!(phase, BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Canceled)
}
