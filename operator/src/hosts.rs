//! How hosts are spared: so many look-ups at once, and none while a host asks to be left alone.
//!
//! Invariant: what one look-up is told counts for all look-ups at that host, whoever they are for. No wait that a host asks
//! for is longer than an hour.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The longest time that a host can ask to be left alone.
const LONGEST: Duration = Duration::from_hours(1);
/// Hosts that are remembered before those are forgotten of which nothing is to be known.
const MOST: usize = 256;

#[derive(Debug)]
struct Host {
    slots: Arc<Semaphore>,
    until: Option<Instant>,
}

/// All hosts that are asked, by `host[:port]`.
#[derive(Debug)]
pub struct Hosts {
    at_once: usize,
    hosts: Mutex<HashMap<String, Host>>,
}

impl Hosts {
    /// At most `at_once` look-ups at a time at each host.
    pub fn new(at_once: usize) -> Self {
        Self {
            at_once,
            hosts: Mutex::default(),
        }
    }

    fn with<T>(&self, name: &str, work: impl FnOnce(&mut Host) -> T) -> T {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MOST {
            let now = Instant::now();
            hosts.retain(|_, host| host.slots.available_permits() < self.at_once || host.until.is_some_and(|until| until > now));
        }
        let host = hosts.entry(name.to_owned()).or_insert_with(|| Host {
            slots: Arc::new(Semaphore::new(self.at_once)),
            until: None,
        });
        work(host)
    }

    /// Waits for a turn at this host; it lasts until the permit is dropped.
    pub async fn enter(&self, name: &str) -> OwnedSemaphorePermit {
        let slots = self.with(name, |host| Arc::clone(&host.slots));
        slots.acquire_owned().await.expect("invariant: the semaphore is never closed")
    }

    /// How long the host still wants to be left alone.
    pub fn closed_for(&self, name: &str) -> Option<Duration> {
        let until = self.with(name, |host| host.until)?;
        until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// The host asks to be left alone for so long.
    pub fn leave_alone(&self, name: &str, wish: Duration) {
        let until = Instant::now() + wish.min(LONGEST);
        self.with(name, |host| host.until = host.until.max(Some(until)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_at_once_at_each_host() {
        let hosts = Hosts::new(2);
        let (first, _second) = (hosts.enter("a").await, hosts.enter("a").await);
        assert!(tokio::time::timeout(Duration::from_millis(20), hosts.enter("a")).await.is_err());
        // Another host has slots of its own.
        drop(hosts.enter("b").await);
        drop(first);
        drop(hosts.enter("a").await);
    }

    #[tokio::test]
    async fn a_wish_holds_for_its_host_and_is_bounded() {
        let hosts = Hosts::new(1);
        assert_eq!(hosts.closed_for("a"), None);
        hosts.leave_alone("a", Duration::from_hours(8760));
        hosts.leave_alone("a", Duration::from_secs(1));
        let left = hosts.closed_for("a").unwrap();
        assert!(left <= LONGEST && left > LONGEST / 2, "{left:?}");
        assert_eq!(hosts.closed_for("b"), None);
        hosts.leave_alone("c", Duration::ZERO);
        assert_eq!(hosts.closed_for("c"), None);
    }

    #[tokio::test]
    async fn what_is_not_in_use_is_forgotten() {
        let hosts = Hosts::new(1);
        let _held = hosts.enter("held").await;
        hosts.leave_alone("closed", Duration::from_mins(1));
        for number in 0..3 * MOST {
            drop(hosts.enter(&number.to_string()).await);
        }
        assert!(hosts.hosts.lock().unwrap().len() <= MOST + 1);
        assert!(hosts.closed_for("closed").is_some());
        assert_eq!(hosts.with("held", |host| host.slots.available_permits()), 0);
    }
}
