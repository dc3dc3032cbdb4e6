//! When a failure is tried again.
//!
//! Invariant: every failure has a plan that ends: as many counted retries with backoff as the resource wants, a bounded number
//! of uncounted ones, then slowly or not at all. Randomness is an argument.

use std::time::Duration;

use robotimage_crds::api::LastFailure;
use robotimage_crds::reason::{Reason, Retry};

/// Attempts of one build number that do not count, at most.
const MOST_UNCOUNTED: u32 = 6;

const FIRST: Duration = Duration::from_secs(20);
/// The same for what does not count: somebody took a pod or Job away, and nothing says that it happens again.
const FIRST_UNCOUNTED: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(5);
const FIRST_SLOW: Duration = Duration::from_mins(10);
const LONGEST_SLOW: Duration = Duration::from_hours(6);
/// The longest wait that another side can ask of us.
const LONGEST_ASKED: Duration = Duration::from_hours(1);

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The same again, after this time. The resource is at work.
    Again(Duration),
    /// Only a change helps, but the change may be one that nobody sees: again after this long time. The resource is stalled.
    Slowly(Duration),
    /// Only a change helps.
    Never,
}

/// A failure's circumstances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Circumstances {
    /// Why.
    pub reason: Reason,
    /// Failures of this request that count, this one included.
    pub attempts: u32,
    /// Attempt of the build number; 0 for a failed look-up.
    pub attempt: u32,
    /// Whether this one counts.
    pub counted: bool,
    /// Counted retries of one request after its first attempt.
    pub retries: u32,
    /// What the other side asked for.
    pub asked: Option<Duration>,
}

/// Attempts of one build number in all, those included that do not count.
pub(super) fn most_attempts(retries: u32) -> u32 {
    retries + 1 + MOST_UNCOUNTED
}

/// What follows. `chance` in 0..1.
pub(super) fn plan(of: Circumstances, chance: f64) -> Plan {
    let jittered = |longest: Duration| longest.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0));
    let slow = |times: u32| Plan::Slowly(jittered(doubled(FIRST_SLOW, times, LONGEST_SLOW)));
    match of.reason.retry() {
        Retry::Never => Plan::Never,
        Retry::Slowly => slow(of.attempts.saturating_sub(1)),
        Retry::Backoff if of.attempts > of.retries || of.attempt >= most_attempts(of.retries) => {
            slow(of.attempts.saturating_sub(of.retries + 1))
        }
        Retry::Backoff => {
            let first = if of.counted { FIRST } else { FIRST_UNCOUNTED };
            let longest = doubled(first, of.attempts.max(of.attempt).saturating_sub(1), LONGEST);
            let drawn = longest.mul_f64(chance.clamp(0.0, 1.0)).max(Duration::from_secs(1));
            let asked = of.asked.filter(|_| may_ask(of.reason)).unwrap_or_default();
            Plan::Again(drawn.max(asked.min(LONGEST_ASKED)))
        }
    }
}

/// The longest wait that is planned after a failure that stands.
pub(super) fn longest(failure: &LastFailure, retries: u32) -> Duration {
    let reason = failure.reason.parse::<Reason>();
    let slow = |times: u32| doubled(FIRST_SLOW, times, LONGEST_SLOW).mul_f64(1.1);
    match reason.as_ref().map_or(Retry::Never, |reason| reason.retry()) {
        Retry::Never => Duration::ZERO,
        Retry::Slowly => slow(failure.attempts.saturating_sub(1)),
        Retry::Backoff if failure.attempts > retries => slow(failure.attempts.saturating_sub(retries + 1)),
        Retry::Backoff if reason.is_ok_and(may_ask) => LONGEST_ASKED,
        Retry::Backoff => LONGEST,
    }
}

/// Whether it is a failure of another side that may have asked us to wait.
fn may_ask(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::SourceUnreachable | Reason::IndexUnreachable | Reason::RegistryUnavailable | Reason::RegistryRateLimited
    )
}

/// `first` doubled `times` times, at most `longest`.
pub(super) fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first
        .checked_mul(2_u32.saturating_pow(times.min(30)))
        .unwrap_or(longest)
        .min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(reason: Reason, attempts: u32, attempt: u32) -> Circumstances {
        Circumstances {
            reason,
            attempts,
            attempt,
            counted: true,
            retries: 3,
            asked: None,
        }
    }

    #[test]
    fn three_counted_retries_then_slowly() {
        for attempts in 1..=3 {
            assert!(matches!(
                plan(of(Reason::RegistryUnavailable, attempts, attempts), 0.5),
                Plan::Again(_)
            ));
        }
        assert_eq!(
            plan(of(Reason::RegistryUnavailable, 4, 4), 0.5),
            Plan::Slowly(Duration::from_mins(10))
        );
        assert_eq!(
            plan(of(Reason::RegistryUnavailable, 5, 1), 0.5),
            Plan::Slowly(Duration::from_mins(20))
        );
    }

    #[test]
    fn as_many_retries_as_are_wanted() {
        for (retries, attempts, again) in [(0, 1, false), (1, 1, true), (1, 2, false), (10, 10, true), (10, 11, false)] {
            let circumstances = Circumstances {
                retries,
                ..of(Reason::Evicted, attempts, attempts)
            };
            assert_eq!(matches!(plan(circumstances, 0.5), Plan::Again(_)), again, "{retries} {attempts}");
        }
    }

    #[test]
    fn what_does_not_count_is_bounded_too() {
        assert!(matches!(plan(of(Reason::ResultUnreadable, 0, 9), 0.5), Plan::Again(_)));
        assert!(matches!(plan(of(Reason::ResultUnreadable, 0, 10), 0.5), Plan::Slowly(_)));
    }

    #[test]
    fn slow_retries_double_to_six_hours() {
        let seconds = |attempts| match plan(of(Reason::GitAuthFailed, attempts, 1), 0.5) {
            Plan::Slowly(after) => after.as_secs(),
            other => panic!("{other:?}"),
        };
        assert_eq!([1, 2, 3, 6, 7, 99].map(seconds), [600, 1200, 2400, 19_200, 21_600, 21_600]);
        assert_eq!(plan(of(Reason::RobotYamlInvalid, 1, 1), 0.5), Plan::Never);
    }

    #[test]
    fn full_jitter_within_a_growing_bound_and_a_wish_that_is_bounded() {
        let after = |attempts, chance| match plan(of(Reason::SourceUnreachable, attempts, 0), chance) {
            Plan::Again(after) => after,
            other => panic!("{other:?}"),
        };
        assert_eq!(after(1, 0.0), Duration::from_secs(1));
        assert_eq!(after(1, 1.0), Duration::from_secs(20));
        assert_eq!(after(3, 1.0), Duration::from_secs(80));
        let asked = |seconds| {
            let circumstances = Circumstances {
                asked: Some(Duration::from_secs(seconds)),
                ..of(Reason::RegistryRateLimited, 1, 1)
            };
            plan(circumstances, 0.5)
        };
        assert_eq!(asked(90), Plan::Again(Duration::from_secs(90)));
        assert_eq!(asked(86_400), Plan::Again(Duration::from_hours(1)));
    }
}
