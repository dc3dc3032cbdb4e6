//! When each watch was heard last.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// All watches of the process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watchdog {
    timeout: Duration,
    heard: Arc<Mutex<HashMap<String, Instant>>>,
}

/// A watch that hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// Its path on the API server.
    pub watch: String,
    /// For how long nothing was heard of it.
    pub since: Duration,
}

impl Watchdog {
    /// For watches that ask the API server to end them after `timeout`.
    pub fn new(timeout: Duration) -> Self {
        Self {
            timeout,
            heard: Arc::default(),
        }
    }

    /// The time after which the API server is to end a watch, in the seconds that it takes.
    pub fn timeout_seconds(&self) -> u32 {
        u32::try_from(self.timeout.as_secs()).unwrap_or(u32::MAX)
    }

    /// How long a watch may be silent: its timeout, and three tenths more for the next one to begin.
    pub fn limit(&self) -> Duration {
        self.timeout + self.timeout * 3 / 10
    }

    /// Expects to hear of a watch from now on. `path` is the one that it is requested by.
    pub fn expect(&self, path: &str, now: Instant) {
        self.locked().insert(path.to_owned(), now);
    }

    /// Something was heard of a watch; of one that nobody expects it means nothing.
    pub(super) fn hear(&self, path: &str, now: Instant) {
        if let Some(last) = self.locked().get_mut(path) {
            *last = now;
        }
    }

    pub(super) fn expects(&self, path: &str) -> bool {
        self.locked().contains_key(path)
    }

    /// The watch that is silent for longest, if for too long.
    pub fn silence(&self, now: Instant) -> Option<Silence> {
        let heard = self.locked();
        let (watch, last) = heard.iter().min_by_key(|(_, last)| **last)?;
        let since = now.saturating_duration_since(*last);
        (since > self.limit()).then(|| Silence {
            watch: watch.clone(),
            since,
        })
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_counts_and_only_when_it_is_too_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let watchdog = Watchdog::new(Duration::from_secs(200));
        assert_eq!(watchdog.silence(at(1000)), None);
        watchdog.expect("/pods", at(0));
        watchdog.expect("/jobs", at(0));
        watchdog.hear("/pods", at(150));
        watchdog.hear("/unknown", at(150));
        assert_eq!(watchdog.silence(at(260)), None);
        let silence = watchdog.silence(at(261)).unwrap();
        assert_eq!((silence.watch.as_str(), silence.since.as_secs()), ("/jobs", 261));
        watchdog.hear("/jobs", at(262));
        assert_eq!(watchdog.silence(at(263)), None);
        assert_eq!(watchdog.silence(at(411)).unwrap().watch, "/pods");
    }
}
