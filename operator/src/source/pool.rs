//! Look-ups, each made once for everybody who asks the same at the same time.
//!
//! Invariant: nobody waits in a reconcile for a slow server longer than it wants: a look-up goes on by itself, its answer is
//! kept for a moment, and who waited is woken. At most [`AT_ONCE`] are under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt, Shared};
use tokio::sync::Semaphore;

use super::{Question, SourceFailure};
use crate::observe::Revision;

/// Look-ups under way at the same time.
const AT_ONCE: usize = 32;
/// How long an answer stands for others that ask the same.
const FRESH: Duration = Duration::from_secs(2);

/// What makes two look-ups the same: question and Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LookupKey {
    /// Repository and reference.
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
    entries: Mutex<HashMap<LookupKey, Entry>>,
    slots: Arc<Semaphore>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool that asks by `asker`.
    pub fn new(asker: Arc<dyn Asker>) -> Self {
        Self {
            asker,
            entries: Mutex::default(),
            slots: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    /// The look-up of this key: a new one, one under way, or one that ended a moment ago. It goes on when the answer is dropped.
    /// `anew`: a new one in any case, because somebody says that the source has changed just now.
    pub fn ask(&self, key: &LookupKey, anew: bool) -> impl Future<Output = Result<Revision, SourceFailure>> + Send + 'static {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| entry.answer.peek().is_none() || now.duration_since(entry.asked) < FRESH);
        if anew {
            entries.remove(key);
        }
        let entry = entries.entry(key.clone()).or_insert_with(|| {
            let (slots, asking) = (Arc::clone(&self.slots), self.asker.ask(key.clone()));
            let task = tokio::spawn(async move {
                let _slot = slots.acquire_owned().await;
                asking.await
            });
            let answer = async move {
                task.await.unwrap_or_else(|error| {
                    let message = if error.is_panic() {
                        "the look-up failed by a bug"
                    } else {
                        "the look-up was ended"
                    };
                    Err(SourceFailure::new(robotimage_crds::reason::Reason::InternalError, message))
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

    /// A mock: counts, and answers when it is let.
    struct Counting(AtomicU32, Arc<Semaphore>);

    impl Asker for Counting {
        fn ask(&self, _: LookupKey) -> BoxFuture<'static, Result<Revision, SourceFailure>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            let gate = Arc::clone(&self.1);
            async move {
                let _pass = gate.acquire().await;
                Ok(Revision {
                    reference: "main".to_owned(),
                    commit: "a".repeat(40),
                })
            }
            .boxed()
        }
    }

    fn key(url: &str) -> LookupKey {
        LookupKey {
            question: Question {
                url: url.to_owned(),
                branch: None,
                tag: None,
            },
            secret: None,
        }
    }

    #[tokio::test]
    async fn equal_questions_share_one_look_up() {
        let gate = Arc::new(Semaphore::new(0));
        let asker = Arc::new(Counting(AtomicU32::new(0), Arc::clone(&gate)));
        let pool = Pool::new(Arc::clone(&asker) as Arc<dyn Asker>);
        let (first, second, other) = (pool.ask(&key("a"), false), pool.ask(&key("a"), false), pool.ask(&key("b"), false));
        assert_eq!(asker.0.load(Ordering::SeqCst), 2);
        gate.add_permits(10);
        assert_eq!(first.await, second.await);
        assert!(other.await.is_ok());
        // Just answered: still the same look-up.
        assert!(pool.ask(&key("a"), false).await.is_ok());
        assert_eq!(asker.0.load(Ordering::SeqCst), 2);
        // Unless somebody knows better.
        assert!(pool.ask(&key("a"), true).await.is_ok());
        assert_eq!(asker.0.load(Ordering::SeqCst), 3);
    }
}
