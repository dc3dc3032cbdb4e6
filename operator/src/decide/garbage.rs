//! Jobs that are not needed any more.

use jiff::Timestamp;
use robotimage_crds::api::{BuildPhase, RobotImageStatus};

use super::outcome::Action;
use crate::observe::{JobView, Observed};

/// Whether something of a Job may still run.
pub(super) fn live(job: &JobView, observed: &Observed, now: Timestamp) -> bool {
    let mut pods = observed.pods.iter().filter(|pod| pod.owner == job.uid).peekable();
    if pods.peek().is_none() {
        return job.ended.is_none();
    }
    pods.any(|pod| !pod.ended(now))
}

/// Whether anything but the Job of this name still runs for the resource: two builds never push at once.
pub(super) fn others_live(observed: &Observed, name: &str, now: Timestamp) -> bool {
    let own = observed.jobs.iter().find(|job| job.name == name).map(|job| job.uid.as_str());
    observed
        .jobs
        .iter()
        .any(|job| job.name != name && ours(job, observed) && live(job, observed, now))
        || observed.pods.iter().any(|pod| Some(pod.owner.as_str()) != own && !pod.ended(now))
}

/// Jobs to delete: those that run without being the live build's, and ended ones that the status does not list any more.
pub(super) fn collect(status: &RobotImageStatus, observed: &Observed, now: Timestamp) -> Vec<Action> {
    let latest = status.latest_build.as_ref();
    let unwanted = |job: &&JobView| {
        let is_latest = latest.is_some_and(|build| build.job == job.name);
        if is_latest {
            let phase = latest.map(|build| build.phase);
            return matches!(phase, Some(BuildPhase::Failed | BuildPhase::Canceled)) && live(job, observed, now);
        }
        let listed =
            latest.is_some_and(|build| build.number == job.number) || status.history.iter().any(|entry| entry.number == job.number);
        let last_of_number = observed
            .jobs
            .iter()
            .all(|other| other.number != job.number || other.attempt <= job.attempt)
            && latest.is_none_or(|build| build.number != job.number || build.attempt <= job.attempt);
        !(listed && last_of_number) || live(job, observed, now)
    };
    observed
        .jobs
        .iter()
        .filter(|job| ours(job, observed) && !job.deleting)
        .filter(unwanted)
        .map(|job| Action::DeleteJob {
            name: job.name.clone(),
            uid: job.uid.clone(),
        })
        .collect()
}

fn ours(job: &JobView, observed: &Observed) -> bool {
    Some(job.owner.as_str()) == observed.image.metadata.uid.as_deref()
}
