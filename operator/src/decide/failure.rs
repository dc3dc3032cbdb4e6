//! Failures in the status: recorded once, counted, and planned.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{LastFailure, LatestBuild, RobotImageStatus};
use robotimage_crds::reason::{Reason, Retry};

use super::outcome::Chance;
use super::retry::{self, Circumstances, Plan, longest, most_attempts};
use super::schedule::{believed, later};
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
pub(super) fn again(failure: &LastFailure, attempt: u32, retries: u32) -> bool {
    let retry = failure.reason.parse::<Reason>().map_or(Retry::Never, Reason::retry);
    retry == Retry::Backoff && failure.attempts <= retries && attempt < most_attempts(retries) && failure.next_retry_at.is_some()
}

/// What a failure is planned by, beside itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Counted retries that the resource wants.
    pub(super) retries: u32,
    /// Now.
    pub(super) now: Timestamp,
    /// For the jitter.
    pub(super) chance: Chance,
}

/// Records the failure of a build. `last`: trying the same again cannot help, whatever the reason says.
pub(super) fn record_build(status: &mut RobotImageStatus, build: &LatestBuild, failed: &Failed, last: bool, terms: Terms) -> Plan {
    let retries = terms.retries;
    let before = standing(status, &build.request_key, build.generation).map_or(0, |failure| failure.attempts);
    // Where the quick retries are used up, whatever for, every failure counts: the slow ones are to become slower.
    let mut attempts = before + u32::from(failed.counted || before > retries);
    if build.attempt >= most_attempts(retries) {
        attempts = attempts.max(retries + 1);
    }
    let circumstances = Circumstances {
        reason: failed.reason,
        attempts,
        attempt: build.attempt,
        counted: failed.counted,
        retries,
        asked: failed.retry_after,
    };
    let plan = if last {
        Plan::Never
    } else {
        retry::plan(circumstances, terms.chance.unit)
    };
    status.last_failure = Some(LastFailure {
        log_tail: Some(failed.tail.clone()).filter(|tail| !tail.is_empty()),
        attempts,
        ..entry(
            failed.reason,
            &failed.message,
            &build.request_key,
            build.generation,
            plan,
            terms.now,
        )
    });
    plan
}

/// Records that the source could not be resolved. The same answer is not counted twice: a new one comes after the retry was due,
/// or after another clock is believed.
pub(super) fn record_source(
    status: &mut RobotImageStatus,
    key: &str,
    generation: i64,
    failure: &SourceFailure,
    at: Timestamp,
    terms: Terms,
) -> bool {
    let waits = |due, before| believed(due, longest(before, terms.retries), terms.now).is_some_and(|due| at < due);
    let attempts = match standing(status, key, generation) {
        Some(before) if before.next_retry_at.as_ref().is_none_or(|due| waits(due.0, before)) => return false,
        Some(before) => before.attempts + 1,
        None => 1,
    };
    let circumstances = Circumstances {
        reason: failure.reason,
        attempts,
        attempt: 0,
        counted: true,
        retries: terms.retries,
        asked: failure.retry_after,
    };
    let plan = retry::plan(circumstances, terms.chance.unit);
    status.last_failure = Some(LastFailure {
        attempts,
        ..entry(failure.reason, &failure.message, key, generation, plan, terms.now)
    });
    true
}

/// What a canceled build leaves: nothing follows of itself.
pub(super) fn of_cancel(key: &str, generation: i64, message: &str, now: Timestamp) -> LastFailure {
    entry(Reason::Canceled, message, key, generation, Plan::Never, now)
}

/// What a spec leaves that makes no sense: nothing follows of itself.
pub(super) fn of_refusal(key: &str, generation: i64, message: &str, now: Timestamp) -> LastFailure {
    entry(Reason::NotAllowed, message, key, generation, Plan::Never, now)
}

/// Whether a person ended it, and a person must start it again: not even a look is made.
pub(super) fn is_cancel(failure: &LastFailure) -> bool {
    failure.reason == Reason::Canceled.as_str()
}

/// Makes a failure that stands due at once, as if nothing had been tried.
pub(super) fn forgive(status: &mut RobotImageStatus, key: &str, generation: i64, due: Timestamp) {
    if standing(status, key, generation).is_some()
        && let Some(failure) = status.last_failure.as_mut()
    {
        failure.attempts = 0;
        failure.next_retry_at = Some(Time(super::outcome::whole_seconds(due)));
    }
}

fn entry(reason: Reason, message: &str, key: &str, generation: i64, plan: Plan, now: Timestamp) -> LastFailure {
    let next = match plan {
        Plan::Again(after) | Plan::Slowly(after) => Some(Time(super::outcome::whole_seconds(later(now, after)))),
        Plan::Never => None,
    };
    LastFailure {
        reason: reason.as_str().to_owned(),
        owner: reason.owner().as_str().to_owned(),
        retryable: reason.retryable() && next.is_some(),
        message: message.to_owned(),
        log_tail: None,
        request_key: Some(key.to_owned()),
        attempts: 0,
        next_retry_at: next,
        generation: Some(generation),
    }
}
