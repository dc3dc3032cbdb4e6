//! Whether a status gives up a build whose Job was made: it fails, is cancelled, or another takes its place.
//!
//! An index may lag behind by the length of an outage, in which the build may have made its image: such a status is written only
//! when Job and pods were read directly.

use robotimage_crds::api::{BuildPhase, RobotImageStatus};

use crate::observe::Observed;

/// Whether `status` gives up the live build of what was observed.
pub fn gives_up(observed: &Observed, status: &RobotImageStatus) -> bool {
    let before = observed.image.status.as_ref().and_then(|status| status.latest_build.as_ref());
    let live = before.filter(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running));
    let Some(build) = live.filter(|build| observed.jobs.iter().any(|job| job.name == build.job)) else {
        return false;
    };
    status.latest_build.as_ref().is_none_or(|now| {
        (now.number, now.attempt) != (build.number, build.attempt) || matches!(now.phase, BuildPhase::Failed | BuildPhase::Canceled)
    })
}
