//! The loop guard: builds that end in the same build key again and again, and that nobody has asked for, are stopped.
//!
//! Invariant: a look for a new revision, or after another configuration of the platform, that finds nothing to do is no build
//! here: an administrator at work must not stop a fleet. What a person changes (the generation, a commit, `requestedAt`,
//! `forceAt`) is built whatever was before and ends a stop; nothing else does.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{ChangeReason, LatestBuild, LoopStatus, RobotImageStatus};

use super::schedule::later;

/// Most such builds within [`WINDOW`].
const MOST: u32 = 5;
const WINDOW: Duration = Duration::from_hours(1);

/// For conditions and the event.
pub(super) const MESSAGE: &str = "5 builds within an hour ended in the same build key and nobody had asked for them; \
    a commit, an edit, robotimage.dev/requestedAt or robotimage.dev/forceAt builds again";

/// Counts a build that ended well.
pub(super) fn count(status: &mut RobotImageStatus, build: &LatestBuild, build_key: &str, noop: bool, now: Timestamp) {
    let elsewhere = |kind: &str| matches!(kind, "SourceChanged" | "PlatformChanged");
    if noop && build.reasons.iter().all(|reason| elsewhere(&reason.kind)) {
        return;
    }
    let (count, since) = status
        .repeated
        .take()
        .filter(|repeated| repeated.build_key == build_key && within(repeated, now))
        .map_or((1, Time(now)), |repeated| {
            (repeated.count.saturating_add(1).min(MOST), repeated.since)
        });
    status.repeated = Some(LoopStatus {
        build_key: build_key.to_owned(),
        count,
        since,
    });
}

/// Whether a build for these reasons is none of a loop whatever was built before: somebody has committed, or a build pod only looks.
pub(super) fn is_no_loop(reasons: &[ChangeReason]) -> bool {
    reasons.is_empty() || reasons.iter().any(|reason| reason.kind == "SourceChanged")
}

/// Whether one more build is one too many.
pub(super) fn full(status: &RobotImageStatus, now: Timestamp) -> bool {
    status
        .repeated
        .as_ref()
        .is_some_and(|repeated| repeated.count >= MOST && within(repeated, now))
}

/// Notes that one more was wanted.
pub(super) fn stop(status: &mut RobotImageStatus) {
    if let Some(repeated) = status.repeated.as_mut() {
        repeated.count = MOST + 1;
    }
}

/// Whether no more builds are made.
pub(super) fn stopped(status: &RobotImageStatus) -> bool {
    status.repeated.as_ref().is_some_and(|repeated| repeated.count > MOST)
}

fn within(repeated: &LoopStatus, now: Timestamp) -> bool {
    now < later(repeated.since.0, WINDOW)
}
