//! Ended builds in the status: newest first, a bounded number of each kind, one entry a build number.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{BuildPhase, HistoryEntry, LatestBuild, RobotImageStatus};
use robotimage_crds::duration;

use super::defaults::Settings;
use super::failure;
use crate::observe::Revision;

/// Outcome of a build that made an image.
pub(super) const SUCCEEDED: &str = "Succeeded";

/// Adds the entry of a build that ended now.
pub(super) fn add(status: &mut RobotImageStatus, build: &LatestBuild, outcome: &str, digest: Option<String>, now: Timestamp) {
    status.history.retain(|entry| entry.number != build.number);
    let entry = HistoryEntry {
        number: build.number,
        digest,
        revision: build
            .revision
            .as_deref()
            .map(|text| Revision::parse(text).map_or_else(|| text.to_owned(), |revision| revision.short())),
        reasons: build.reasons.iter().map(|reason| reason.kind.clone()).collect(),
        outcome: outcome.to_owned(),
        started_at: build.started_at.clone(),
        duration: Some(elapsed(build.started_at.as_ref(), now)),
    };
    status.history.insert(0, entry);
    status.history.sort_by_key(|entry| std::cmp::Reverse(entry.number));
}

/// A build that was to be tried again, and is given up for another or for nothing, has come to its end: it is told like the
/// others. `waited` is the status in which it waited for that.
pub(super) fn close(status: &mut RobotImageStatus, waited: &RobotImageStatus, now: Timestamp) {
    let Some(build) = waited.latest_build.as_ref().filter(|build| build.phase == BuildPhase::Failed) else {
        return;
    };
    let stands = |status: &RobotImageStatus| {
        let failed = failure::standing(status, &build.request_key, build.generation);
        failed.filter(|failed| failed.retryable).map(|failed| failed.reason.clone())
    };
    let waits = status.latest_build.as_ref().is_some_and(|latest| latest.number == build.number) && stands(status).is_some();
    let told = status.history.iter().any(|entry| entry.number == build.number);
    if let Some(reason) = stands(waited).filter(|_| !waits && !told) {
        add(status, build, &reason, None, now);
    }
}

/// Drops what is beyond the limits.
pub(super) fn trim(status: &mut RobotImageStatus, settings: &Settings) {
    let (mut succeeded, mut failed) = (settings.keep_succeeded, settings.keep_failed);
    status.history.retain(|entry| {
        let left = if entry.outcome == SUCCEEDED { &mut succeeded } else { &mut failed };
        let keep = *left > 0;
        *left = left.saturating_sub(1);
        keep
    });
}

/// Time since a start, as the status writes it.
pub(super) fn elapsed(from: Option<&Time>, to: Timestamp) -> String {
    duration::format(
        from.map(|from| to.duration_since(from.0))
            .filter(jiff::SignedDuration::is_positive)
            .unwrap_or_default()
            .unsigned_abs(),
    )
}
