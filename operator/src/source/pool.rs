//! Look-ups, each made once for everybody who asks the same at the same time.
//!
//! Invariant: nobody waits in a reconcile for a slow server longer than it wants: a look-up goes on by itself, its answer is
//! kept for a moment, and who waited is woken. At most [`AT_ONCE`] are under way, at each host as many as [`Hosts`] allows; a
//! host that asks to be left alone is, whichever of its repositories was asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, Shared};
use robotimage_crds::reason::Reason;
use tokio::sync::Semaphore;

use super::{Question, SourceFailure};
use crate::hosts::Hosts;
use crate::observe::Revision;

/// Look-ups under way at the same time.
const AT_ONCE: usize = 32;
/// How long an answer stands for others that ask the same.
const FRESH: Duration = Duration::from_secs(2);

/// What makes two look-ups the same: question and Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LookupKey {
    /// What is asked.
    pub question: Question,
    /// Namespace and name of the Secret, when there is one.
    pub secret: Option<(String, String)>,
}

/// Makes one look-up. The controller's asks the API server for the Secret, then the git server; a test's answers by itself.
pub trait Asker: Send + Sync + 'static {
    /// Asks. Ends within a bounded time.
    fn ask(&self, key: LookupKey) -> BoxFuture<'static, Result<Revision, SourceFailure>>;
}

type Answer = Shared<BoxFuture<'static, Result<Revision, SourceFailure>>>;

struct Entry {
    answer: Answer,
    asked: Instant,
}

/// Look-ups under way, and answers of the last moments.
pub struct Pool {
    asker: Arc<dyn Asker>,
    hosts: Arc<Hosts>,
    entries: Mutex<HashMap<LookupKey, Entry>>,
    slots: Arc<Semaphore>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool that asks by `asker`, as `hosts` allow.
    pub fn new(asker: Arc<dyn Asker>, hosts: Arc<Hosts>) -> Self {
        Self {
            asker,
            hosts,
            entries: Mutex::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The look-up of this key: a new one, one under way, or one that ended a moment ago. It goes on when the answer is dropped.
    /// `anew`: a new one in any case, because somebody says that the source has changed just now.
    pub fn ask(&self, key: &LookupKey, anew: bool) -> impl Future<Output = Result<Revision, SourceFailure>> + Send + 'static + use<> {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.answer.peek().is_none() || now.duration_since(entry.asked) < FRESH);
        if anew {
            entries.remove(key);
        }
        let entry = entries.entry(key.clone()).or_insert_with(|| {
            let (slots, hosts) = (Arc::clone(&self.slots), Arc::clone(&self.hosts));
            let (asking, host) = (self.asker.ask(key.clone()), key.question.host());
            let task = tokio::spawn(async move {
                // First the turn at the host: who waits for a slow one takes no slot from those who ask others.
                let _turn = hosts.enter(&host).await;
                let _slot = slots.acquire_owned().await;
                if let Some(left) = hosts.closed_for(&host) {
                    return Err(SourceFailure {
                        retry_after: Some(left),
                        ..SourceFailure::new(Reason::SourceUnreachable, format!("{host} asks to be left alone for a while"))
                    });
                }
                let answer = asking.await;
                if let Some(wish) = answer.as_ref().err().and_then(|failure| failure.retry_after) {
                    hosts.leave_alone(&host, wish);
                }
                answer
            });
            let answer = async move {
                task.await.unwrap_or_else(|error| {
                    let message = if error.is_panic() {
                        "the look-up failed by a bug"
                    } else {
                        "the look-up was ended"
                    };
                    Err(SourceFailure::new(Reason::InternalError, message))
                })
            };
            Entry {
                answer: answer.boxed().shared(),
                asked: now,
            }
        });
        entry.answer.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A mock: counts, and answers what it is told when it is let.
    struct Counting {
        asked: AtomicU32,
        gate: Arc<Semaphore>,
        failure: Option<SourceFailure>,
    }

    impl Counting {
        fn new(failure: Option<SourceFailure>) -> Arc<Self> {
            Arc::new(Self {
                asked: AtomicU32::new(0),
                gate: Arc::new(Semaphore::new(0)),
                failure,
            })
        }

        fn asked(&self) -> u32 {
            self.asked.load(Ordering::SeqCst)
        }
    }

    impl Asker for Arc<Counting> {
        fn ask(&self, _: LookupKey) -> BoxFuture<'static, Result<Revision, SourceFailure>> {
            let own = Arc::clone(self);
            async move {
                own.asked.fetch_add(1, Ordering::SeqCst);
                let _pass = own.gate.acquire().await;
                match &own.failure {
                    Some(failure) => Err(failure.clone()),
                    None => Ok(Revision {
                        reference: "main".to_owned(),
                        commit: "a".repeat(40),
                    }),
                }
            }
            .boxed()
        }
    }

    fn pool(asker: &Arc<Counting>, at_once: usize) -> Pool {
        Pool::new(Arc::new(Arc::clone(asker)), Arc::new(Hosts::new(at_once)))
    }

    fn key(url: &str) -> LookupKey {
        LookupKey {
            question: Question::Http { url: url.to_owned() },
            secret: None,
        }
    }

    /// Lets every task come to where it waits.
    async fn rest() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn equal_questions_share_one_look_up() {
        let asker = Counting::new(None);
        let pool = pool(&asker, 8);
        let (first, second, other) = (pool.ask(&key("a"), false), pool.ask(&key("a"), false), pool.ask(&key("b"), false));
        rest().await;
        assert_eq!(asker.asked(), 2);
        asker.gate.add_permits(10);
        assert_eq!(first.await, second.await);
        assert!(other.await.is_ok());
        // Just answered: still the same look-up.
        assert!(pool.ask(&key("a"), false).await.is_ok());
        assert_eq!(asker.asked(), 2);
        // Unless somebody knows better.
        assert!(pool.ask(&key("a"), true).await.is_ok());
        assert_eq!(asker.asked(), 3);
    }

    #[tokio::test]
    async fn a_slow_host_holds_up_nobody_else() {
        let asker = Counting::new(None);
        let pool = pool(&asker, 2);
        let slow: Vec<_> = (0..100)
            .map(|number| pool.ask(&key(&format!("https://slow.example.com/{number}")), false))
            .collect();
        rest().await;
        assert_eq!(asker.asked(), 2);
        let other = pool.ask(&key("https://other.example.com/a"), false);
        rest().await;
        assert_eq!(asker.asked(), 3);
        asker.gate.add_permits(10);
        assert!(other.await.is_ok());
        assert!(futures::future::join_all(slow).await.iter().all(Result::is_ok));
        assert_eq!(asker.asked(), 101);
    }

    #[tokio::test]
    async fn a_host_that_wants_to_be_left_alone_is() {
        let asker = Counting::new(Some(SourceFailure {
            retry_after: Some(Duration::from_mins(2)),
            ..SourceFailure::new(Reason::SourceUnreachable, "git.example.com answers 429")
        }));
        let pool = pool(&asker, 1);
        asker.gate.add_permits(10);
        assert!(pool.ask(&key("https://git.example.com/a"), false).await.is_err());
        let second = pool.ask(&key("https://git.example.com/b"), false).await.unwrap_err();
        assert!(second.retry_after.unwrap() > Duration::from_mins(1), "{second:?}");
        assert_eq!(asker.asked(), 1);
        assert!(pool.ask(&key("https://git.example.com:8443/a"), false).await.is_err());
        assert_eq!(asker.asked(), 2, "another port is another server");
    }
}
