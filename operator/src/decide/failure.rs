//! Failures in the status: recorded once, counted, and planned.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{LastFailure, RobotImageStatus};
use robotimage_crds::reason::{Reason, Retry};

use super::outcome::Chance;
use super::retry::{self, Circumstances, MOST_ATTEMPTS, Plan, RETRIES};
use super::schedule::later;
use super::verdict::Failed;
use crate::source::SourceFailure;

/// A failure of this request, of this generation.
pub(super) fn standing<'a>(status: &'a RobotImageStatus, key: &str, generation: i64) -> Option<&'a LastFailure> {
    status
        .last_failure
        .as_ref()
        .filter(|failure| failure.request_key.as_deref() == Some(key) && failure.generation == Some(generation))
}

/// Whether the same is tried again soon: the resource is at work, not stalled.
pub(super) fn again(failure: &LastFailure, attempt: u32) -> bool {
    let retry = failure.reason.parse::<Reason>().map_or(Retry::Never, Reason::retry);
    retry == Retry::Backoff && failure.attempts <= RETRIES && attempt < MOST_ATTEMPTS && failure.next_retry_at.is_some()
}

/// Records the failure of a build, of this attempt of its number.
pub(super) fn record_build(
    status: &mut RobotImageStatus,
    key: &str,
    generation: i64,
    attempt: u32,
    failed: &Failed,
    now: Timestamp,
    chance: Chance,
) -> Plan {
    let before = standing(status, key, generation).map_or(0, |failure| failure.attempts);
    // Where the quick retries are used up, whatever for, every failure counts: the slow ones are to become slower.
    let mut attempts = before + u32::from(failed.counted || before > RETRIES);
    if attempt >= MOST_ATTEMPTS {
        attempts = attempts.max(RETRIES + 1);
    }
    let plan = retry::plan(
        Circumstances {
            reason: failed.reason,
            attempts,
            attempt,
            counted: failed.counted,
            asked: failed.retry_after,
        },
        chance.unit,
    );
    let tail = Some(failed.tail.clone()).filter(|tail| !tail.is_empty());
    status.last_failure = Some(entry(failed.reason, &failed.message, tail, key, generation, attempts, plan, now));
    plan
}

/// Records that the source could not be resolved. The same answer is not counted twice: a new one comes after the retry was due.
pub(super) fn record_source(
    status: &mut RobotImageStatus,
    key: &str,
    generation: i64,
    failure: &SourceFailure,
    at: Timestamp,
    now: Timestamp,
    chance: Chance,
) -> bool {
    let attempts = match standing(status, key, generation) {
        Some(before) if before.next_retry_at.as_ref().is_none_or(|due| at < due.0) => return false,
        Some(before) => before.attempts + 1,
        None => 1,
    };
    let plan = retry::plan(
        Circumstances {
            reason: failure.reason,
            attempts,
            attempt: 0,
            counted: true,
            asked: failure.retry_after,
        },
        chance.unit,
    );
    status.last_failure = Some(entry(failure.reason, &failure.message, None, key, generation, attempts, plan, now));
    true
}

#[expect(clippy::too_many_arguments, reason = "the fields of one struct, in its order")]
fn entry(
    reason: Reason,
    message: &str,
    log_tail: Option<String>,
    key: &str,
    generation: i64,
    attempts: u32,
    plan: Plan,
    now: Timestamp,
) -> LastFailure {
    let next = match plan {
        Plan::Again(after) | Plan::Slowly(after) => Some(Time(super::outcome::whole_seconds(later(now, after)))),
        Plan::Never => None,
    };
    LastFailure {
        reason: reason.as_str().to_owned(),
        owner: reason.owner().as_str().to_owned(),
        retryable: reason.retryable(),
        message: message.to_owned(),
        log_tail,
        request_key: Some(key.to_owned()),
        attempts,
        next_retry_at: next,
        generation: Some(generation),
    }
}
