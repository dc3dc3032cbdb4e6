//! When a watch that failed is begun again.
//!
//! Invariant: an API server that comes back is noticed within seconds, however long it was away. The runtime's own waits grow to a
//! minute, and a restart of an API server costs several of them: it refuses, then initializes, then knows no version that is asked
//! for.

use std::time::Duration;

use kube::runtime::utils::{Backoff, ResetTimerBackoff};

use super::random;

/// The first wait; a random time of at most as long is added to each.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest wait, without what is added. A list of everything may follow each: not much shorter than such a list takes.
const LONGEST: Duration = Duration::from_secs(4);
/// A watch that went well for so long begins with the shortest wait.
const WELL: Duration = Duration::from_secs(30);

/// Each twice as long as the one before, up to [`LONGEST`].
struct Waits(Duration);

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let wait = self.0;
        self.0 = (2 * wait).min(LONGEST);
        Some(wait.mul_f64(1.0 + random::draw().unit))
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.0 = SHORTEST;
    }
}

/// The waits of one watch.
pub(super) fn again() -> impl Backoff {
    ResetTimerBackoff::new(Waits(SHORTEST), WELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_short() {
        let waits: Vec<Duration> = again().take(100).collect();
        assert_eq!(waits.len(), 100, "it never gives up");
        assert!(waits[0] >= SHORTEST && waits[0] <= 2 * SHORTEST, "{:?}", waits[0]);
        let mut waits_anew = Waits(LONGEST);
        waits_anew.reset();
        assert!(waits_anew.next().unwrap() <= 2 * SHORTEST);
        assert!(waits[10..].iter().all(|wait| *wait >= LONGEST && *wait <= 2 * LONGEST), "{waits:?}");
    }
}
