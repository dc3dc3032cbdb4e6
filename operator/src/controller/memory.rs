//! What is remembered of each object between two reconciles: answers of look-ups, refusals, errors in a row.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use crate::observe::{Announced, Answer, ImageCheck, Refusal, SourceKnowledge};
use crate::registry::LookupFailure;
use crate::source::LookupKey;

/// Longest time between two tries of an object whose reconcile fails.
const LONGEST: Duration = Duration::from_mins(5);

/// One object.
#[derive(Debug)]
struct Entry {
    seen_at: Timestamp,
    seen_chance: f64,
    key: Option<LookupKey>,
    answer: Option<Answer>,
    asking: bool,
    image: Option<ImageCheck>,
    asking_image: bool,
    announced: Option<Announced>,
    /// Build id, and why the API server did not take its Job.
    refusal: Option<(String, Refusal)>,
    errors: u32,
}

/// All objects, by UID.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<HashMap<String, Box<Entry>>>);

impl Memory {
    fn with<T>(&self, uid: &str, work: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.entry(uid.to_owned()).or_insert_with(|| {
            // On the heap: a table has room for twice as many as there are.
            Box::new(Entry {
                seen_at: Timestamp::now(),
                seen_chance: super::random::draw().unit,
                key: None,
                answer: None,
                asking: false,
                image: None,
                asking_image: false,
                announced: None,
                refusal: None,
                errors: 0,
            })
        });
        work(entry)
    }

    /// What is known of the source behind this key; an answer to another question is forgotten.
    pub(super) fn source(&self, uid: &str, key: Option<&LookupKey>) -> SourceKnowledge {
        self.with(uid, |entry| {
            if entry.key.as_ref() != key {
                entry.key = key.cloned();
                entry.answer = None;
                entry.asking = false;
            }
            SourceKnowledge {
                seen_at: entry.seen_at,
                seen_chance: entry.seen_chance,
                answer: entry.answer.clone(),
                asking: entry.asking,
            }
        })
    }

    /// Notes that a look-up is under way.
    pub(super) fn asking(&self, uid: &str) {
        self.with(uid, |entry| entry.asking = true);
    }

    /// Notes an answer, unless another question is asked by now.
    pub(super) fn answered(&self, uid: &str, key: &LookupKey, mut answer: Answer) {
        self.with(uid, |entry| {
            if entry.key.as_ref() == Some(key) {
                let before = entry.answer.as_ref().map_or(0, |before| before.failures);
                answer.failures = if answer.result.is_ok() { 0 } else { before + 1 };
                entry.answer = Some(answer);
                entry.asking = false;
            }
        });
    }

    /// What is known of the published image, and whether it is being looked for.
    pub(super) fn image(&self, uid: &str) -> (Option<ImageCheck>, bool) {
        self.with(uid, |entry| (entry.image.clone(), entry.asking_image))
    }

    /// Notes that the published image is looked for.
    pub(super) fn asking_image(&self, uid: &str) {
        self.with(uid, |entry| entry.asking_image = true);
    }

    /// Notes whether the image was there; `build` is the number of the last build when it was asked for.
    pub(super) fn looked_for(&self, uid: &str, build: i64, answer: &Result<(), LookupFailure>) {
        self.with(uid, |entry| {
            entry.image = Some(ImageCheck::after(entry.image.as_ref(), build, answer, Timestamp::now()));
            entry.asking_image = false;
        });
    }

    /// What was last written into the ConfigMap that announces the image.
    pub(super) fn announced(&self, uid: &str) -> Option<Announced> {
        self.with(uid, |entry| entry.announced.clone())
    }

    /// Notes what was written into it; answers whether it is refused for another reason than before.
    pub(super) fn announce(&self, uid: &str, announced: Announced) -> bool {
        self.with(uid, |entry| {
            let before = entry.announced.replace(announced);
            let now = entry.announced.as_ref().and_then(|now| now.refused.as_ref());
            now.is_some() && before.as_ref().and_then(|before| before.refused.as_ref()) != now
        })
    }

    /// Notes why the Job of this build was not taken.
    pub(super) fn refused(&self, uid: &str, build: &str, refusal: Option<Refusal>) {
        self.with(uid, |entry| entry.refusal = refusal.map(|refusal| (build.to_owned(), refusal)));
    }

    /// Why the Job of this build was not taken, if so.
    pub(super) fn refusal(&self, uid: &str, build: Option<&str>) -> Option<Refusal> {
        self.with(uid, |entry| {
            entry
                .refusal
                .as_ref()
                .filter(|(id, _)| Some(id.as_str()) == build)
                .map(|(_, refusal)| refusal.clone())
        })
    }

    /// A reconcile succeeded.
    pub(super) fn succeeded(&self, uid: &str) {
        self.with(uid, |entry| entry.errors = 0);
    }

    /// A reconcile failed; answers when to try again: from a second, doubling, with jitter.
    pub(super) fn failed(&self, uid: &str, chance: f64) -> Duration {
        self.with(uid, |entry| {
            let delay = Duration::from_secs(1)
                .saturating_mul(2_u32.saturating_pow(entry.errors.min(20)))
                .min(LONGEST);
            entry.errors += 1;
            delay.mul_f64(0.5 + 0.5 * chance)
        })
    }

    /// Forgets objects that are gone, once they are many.
    pub(super) fn forget_all_but(&self, alive: impl FnOnce() -> HashSet<String>, living: usize) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() > 2 * living + 64 {
            let alive = alive();
            entries.retain(|uid, _| alive.contains(uid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_and_is_reset() {
        let memory = Memory::default();
        let delays: Vec<u64> = (0..12).map(|_| memory.failed("a", 1.0).as_secs()).collect();
        assert_eq!(delays[..4], [1, 2, 4, 8]);
        assert_eq!(delays[11], 300);
        assert_eq!(memory.failed("b", 1.0).as_secs(), 1);
        memory.succeeded("a");
        assert_eq!(memory.failed("a", 0.0), Duration::from_millis(500));
    }

    #[test]
    fn a_refusal_is_of_one_build() {
        let memory = Memory::default();
        let refusal = Refusal {
            reason: robotimage_crds::reason::Reason::QuotaExceeded,
            message: String::new(),
        };
        memory.refused("a", "one", Some(refusal.clone()));
        assert_eq!(memory.refusal("a", Some("one")), Some(refusal));
        assert_eq!(memory.refusal("a", Some("two")), None);
        assert_eq!(memory.refusal("a", None), None);
    }

    #[test]
    fn who_is_gone_is_forgotten() {
        let memory = Memory::default();
        (0..100).for_each(|number| memory.succeeded(&number.to_string()));
        memory.forget_all_but(|| HashSet::from(["7".to_owned()]), 1);
        assert_eq!(memory.0.lock().unwrap().len(), 1);
    }
}
