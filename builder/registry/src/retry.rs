//! When to try again: exponential backoff with full jitter, and what a server asks for in `Retry-After`.
//!
//! Invariant: pure. The random number and the time of day are arguments.

use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// From this number on, seconds are counted from 1970.
const EPOCH_BEGINS: u64 = 1_000_000_000;

/// How often and how long to retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub attempts: u32,
    /// Upper bound of the first wait; it doubles with each attempt.
    pub base: Duration,
    /// Upper bound of every wait that we choose.
    pub cap: Duration,
    /// Upper bound of a wait that the server asks for.
    pub retry_after_cap: Duration,
}

impl Default for RetryPolicy {
    /// Six attempts, up to 1 s, 2 s, 4 s … 60 s apart; a server may ask for 5 minutes.
    fn default() -> Self {
        Self {
            attempts: 6,
            base: Duration::from_secs(1),
            cap: Duration::from_mins(1),
            retry_after_cap: Duration::from_mins(5),
        }
    }
}

impl RetryPolicy {
    /// A single attempt.
    pub fn never() -> Self {
        Self {
            attempts: 1,
            ..Self::default()
        }
    }

    /// The wait after attempt number `attempt` (from 1). `random` is uniform over `u64`. What the server asks for is a
    /// minimum, spread by up to a tenth so that a crowd does not come back at once.
    pub fn delay(&self, attempt: u32, random: u64, retry_after: Option<Duration>) -> Duration {
        let share = |whole: Duration| {
            let nanos = (u128::from(random) * whole.as_nanos()) >> 64;
            Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
        };
        if let Some(asked) = retry_after {
            let asked = asked.min(self.retry_after_cap);
            return asked + share(asked / 10);
        }
        let ceiling = self.base.saturating_mul(1 << attempt.saturating_sub(1).min(20)).min(self.cap);
        share(ceiling)
    }
}

/// A random number from the entropy that hash maps are seeded with: good enough to spread clients.
pub(crate) fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Answers that mean "later": timeouts of proxies included.
pub(crate) fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 499 | 500 | 502 | 503 | 504 | 522)
}

/// The wait that a `Retry-After` header asks for: seconds or an HTTP date. A date in the past is zero; nonsense is none.
pub(crate) fn retry_after(headers: &HeaderMap, now: jiff::Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits for a number still say "long": the cap decides.
        let seconds = text.parse().unwrap_or(u64::from(u32::MAX));
        // Docker Hub writes the time when its limit ends instead of how long that is; nobody means thirty years.
        let epoch = u64::try_from(now.as_second())
            .ok()
            .filter(|_| (EPOCH_BEGINS..u64::from(u32::MAX)).contains(&seconds));
        return Some(Duration::from_secs(epoch.map_or(seconds, |now| seconds.saturating_sub(now))));
    }
    let when = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(when.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits() {
        let policy = RetryPolicy::default();
        let table = [
            (1, u64::MAX, None, 999..=1000),
            (1, 0, None, 0..=0),
            (2, u64::MAX, None, 1999..=2000),
            (3, u64::MAX / 2, None, 1999..=2000),
            (7, u64::MAX, None, 59_999..=60_000),
            (u32::MAX, u64::MAX, None, 59_999..=60_000),
            (1, 0, Some(7), 7000..=7000),
            (5, u64::MAX, Some(7), 7699..=7700),
            (1, 0, Some(86_400), 300_000..=300_000),
            (1, 0, Some(0), 0..=0),
        ];
        for (attempt, random, asked, expected) in table {
            let delay = policy.delay(attempt, random, asked.map(Duration::from_secs));
            assert!(expected.contains(&delay.as_millis()), "{attempt} {random} {asked:?}: {delay:?}");
        }
    }

    #[test]
    fn retry_after_header() {
        let now: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let table = [
            ("120", Some(120)),
            (" 5 ", Some(5)),
            ("0", Some(0)),
            ("1767225690", Some(90)),
            ("1767225000", Some(0)),
            ("999999999", Some(999_999_999)),
            ("99999999999999999999999", Some(u64::from(u32::MAX))),
            ("Thu, 01 Jan 2026 00:01:30 GMT", Some(90)),
            ("Wed, 31 Dec 2025 23:00:00 GMT", Some(0)),
            ("-3", None),
            ("soon", None),
            ("", None),
        ];
        for (text, expected) in table {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text:?}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
