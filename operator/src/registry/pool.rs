//! What registries have told, for the whole operator.
//!
//! Invariant: a reference is asked for once at a time, whoever asks; its answer is everybody's. An answer that says nothing
//! leaves the last digest standing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, Shared};
use jiff::Timestamp;
use robotimage_crds::reason::Reason;
use tokio::sync::Semaphore;

use super::{Found, Inspector, LookupFailure, host_of};
use crate::hosts::Hosts;
use crate::observe::Check;

/// Look-ups under way at the same time.
const AT_ONCE: usize = 32;
/// References that nobody has asked for in so long are forgotten.
const KEPT: Duration = Duration::from_hours(24);

type Asking = Shared<BoxFuture<'static, ()>>;

#[derive(Default)]
struct Entry {
    check: Option<Check>,
    found: Option<Found>,
    asking: Option<Asking>,
    used: Option<Instant>,
}

/// Look-ups under way, and the last answer about each reference. Cheap to clone.
#[derive(Clone)]
pub struct Registries {
    inspector: Arc<dyn Inspector>,
    hosts: Arc<Hosts>,
    slots: Arc<Semaphore>,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
}

impl std::fmt::Debug for Registries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registries").finish_non_exhaustive()
    }
}

impl Registries {
    /// Asks by `inspector`, as `hosts` allow.
    pub fn new(inspector: Arc<dyn Inspector>, hosts: Arc<Hosts>) -> Self {
        Self {
            inspector,
            hosts,
            slots: Arc::new(Semaphore::new(AT_ONCE)),
            entries: Arc::default(),
        }
    }

    fn with<T>(&self, reference: &str, work: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if !entries.contains_key(reference) {
            entries.retain(|_, entry| entry.asking.is_some() || entry.used.is_some_and(|used| used.elapsed() < KEPT));
        }
        let entry = entries.entry(reference.to_owned()).or_default();
        entry.used = Some(Instant::now());
        work(entry)
    }

    /// What is known of the digest behind a reference, and whether it is being asked for.
    pub fn known(&self, reference: &str) -> (Option<Check>, bool) {
        self.with(reference, |entry| (entry.check.clone(), entry.asking.is_some()))
    }

    /// Asks for the digest behind a reference, or joins who does. It goes on when the answer is dropped.
    pub fn ask(&self, reference: &str) -> impl Future<Output = ()> + Send + 'static + use<> {
        let (pool, name) = (self.clone(), reference.to_owned());
        self.with(reference, |entry| {
            let before = entry.found.clone();
            entry
                .asking
                .get_or_insert_with(|| {
                    let asked = pool.inspector.digest(name.clone(), before);
                    let (held, own) = (pool.clone(), name.clone());
                    let asking = tokio::spawn(async move { held.held(&own, asked).await });
                    let task = tokio::spawn(async move {
                        let answer = asking.await.unwrap_or_else(|_| {
                            let message = format!("the look-up of {name} failed by a bug");
                            Err(LookupFailure::failed(Reason::InternalError, message))
                        });
                        pool.answered(&name, answer);
                    });
                    // However it ends, who waits looks at what is known then.
                    task.map(drop).boxed().shared()
                })
                .clone()
        })
    }

    /// Whether there is such an image; nothing of it is kept.
    pub async fn exists(&self, reference: &str) -> Result<(), LookupFailure> {
        let asked = self.inspector.exists(reference.to_owned());
        self.held(reference, asked).await
    }

    /// Waits for a turn, and hears what the host wishes.
    async fn held<T>(&self, reference: &str, asked: impl Future<Output = Result<T, LookupFailure>>) -> Result<T, LookupFailure> {
        let Some(host) = host_of(reference) else {
            return asked.await;
        };
        let _own = self.hosts.enter(&host).await;
        let _slot = self.slots.acquire().await;
        if let Some(left) = self.hosts.closed_for(&host) {
            return Err(LookupFailure::Failed {
                reason: Reason::RegistryRateLimited,
                message: format!("{host} limits the rate of requests"),
                retry_after: Some(left),
            });
        }
        let answer = asked.await;
        if let Err(failure) = &answer
            && let Some(wish) = failure.retry_after()
        {
            self.hosts.leave_alone(&host, wish);
        }
        answer
    }

    fn answered(&self, reference: &str, answer: Result<Found, LookupFailure>) {
        self.with(reference, |entry| {
            entry.asking = None;
            let (digest, failure) = match answer {
                Ok(found) => {
                    let digest = found.manifest.clone();
                    entry.found = Some(found);
                    (Some(digest), None)
                }
                Err(failure) => (entry.check.as_ref().and_then(|check| check.digest.clone()), Some(failure)),
            };
            let before = entry.check.as_ref().map_or(0, |check| check.failures);
            entry.check = Some(Check {
                at: Timestamp::now(),
                failures: if failure.is_none() { 0 } else { before + 1 },
                digest,
                failure,
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A mock: counts, and answers what it is told.
    #[derive(Default)]
    struct Mock {
        asked: AtomicUsize,
        answer: Mutex<Option<LookupFailure>>,
    }

    impl Inspector for Mock {
        fn digest(&self, reference: String, before: Option<Found>) -> BoxFuture<'static, Result<Found, LookupFailure>> {
            let count = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            let failure = self.answer.lock().unwrap().clone();
            async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                failure.map_or_else(
                    || {
                        Ok(before.unwrap_or(Found {
                            top: reference,
                            manifest: format!("sha256:{count}"),
                        }))
                    },
                    Err,
                )
            }
            .boxed()
        }

        fn exists(&self, _: String) -> BoxFuture<'static, Result<(), LookupFailure>> {
            async { Ok(()) }.boxed()
        }
    }

    fn pool() -> (Arc<Mock>, Registries) {
        let mock = Arc::new(Mock::default());
        let inspector: Arc<dyn Inspector> = Arc::clone(&mock) as Arc<dyn Inspector>;
        (mock, Registries::new(inspector, Arc::new(Hosts::new(4))))
    }

    #[tokio::test]
    async fn a_thousand_who_ask_at_once_are_one_look_up() {
        let (mock, pool) = pool();
        assert_eq!(pool.known("registry.example.com/base:1"), (None, false));
        let all: Vec<_> = (0..1000).map(|_| pool.ask("registry.example.com/base:1")).collect();
        assert!(pool.known("registry.example.com/base:1").1);
        futures::future::join_all(all).await;
        assert_eq!(mock.asked.load(Ordering::SeqCst), 1);
        let (check, asking) = pool.known("registry.example.com/base:1");
        assert_eq!((check.unwrap().digest.as_deref(), asking), (Some("sha256:1"), false));
        pool.ask("registry.example.com/base:2").await;
        assert_eq!(mock.asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_failure_leaves_the_digest_and_is_counted() {
        let (mock, pool) = pool();
        pool.ask("registry.example.com/base:1").await;
        *mock.answer.lock().unwrap() = Some(LookupFailure::failed(Reason::RegistryUnavailable, "down"));
        for failures in 1..3 {
            pool.ask("registry.example.com/base:1").await;
            let check = pool.known("registry.example.com/base:1").0.unwrap();
            assert_eq!((check.digest.as_deref(), check.failures), (Some("sha256:1"), failures));
        }
        *mock.answer.lock().unwrap() = None;
        pool.ask("registry.example.com/base:1").await;
        let check = pool.known("registry.example.com/base:1").0.unwrap();
        assert_eq!((check.failures, check.failure), (0, None));
    }

    #[tokio::test]
    async fn what_a_registry_wishes_holds_for_all_its_images() {
        let (mock, pool) = pool();
        *mock.answer.lock().unwrap() = Some(LookupFailure::Failed {
            reason: Reason::RegistryRateLimited,
            message: "slowly".to_owned(),
            retry_after: Some(Duration::from_mins(2)),
        });
        pool.ask("registry.example.com/a:1").await;
        pool.ask("registry.example.com/b:1").await;
        assert!(pool.exists("registry.example.com/c:1").await.is_err());
        assert_eq!(mock.asked.load(Ordering::SeqCst), 2, "the future is made, and not run");
        let check = pool.known("registry.example.com/b:1").0.unwrap();
        assert_eq!(check.failure.as_ref().map(LookupFailure::reason), Some(Reason::RegistryRateLimited));
        assert!(check.failure.unwrap().retry_after().unwrap() > Duration::from_mins(1));
        assert!(pool.exists("other.example.com/c:1").await.is_ok());
    }
}
