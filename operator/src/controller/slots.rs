//! Slots for builds: who has one, and who waits.
//!
//! Invariant: a slot is taken by what is seen of an object, its status and its Jobs, and for a moment by the word that was
//! given to it. All is counted anew every few seconds, and no word is given before it was counted once: a restart forgets
//! nothing but who came first.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use robotimage_crds::api::{BuildPhase, RobotImage};
use tokio::sync::mpsc;

use crate::config::BuildSlots;
use crate::decide::{Lane, Limits, Waiter, next_in_queue};
use crate::observe::{JobView, Turn};

/// How long a word holds: the status that says so is written within a reconcile's time.
const WORD: Duration = Duration::from_mins(2);
/// How long a cache may lag behind what a reconcile has seen.
const LAG: Duration = Duration::from_secs(30);

struct Waiting {
    waiter: Waiter,
    object: ObjectRef<RobotImage>,
    wake: mpsc::UnboundedSender<ObjectRef<RobotImage>>,
}

#[derive(Default)]
struct Inner {
    counted: bool,
    /// Namespace, and when a reconcile saw it, by UID.
    running: HashMap<String, (String, Option<Instant>)>,
    /// Namespace, and when the word was given, by UID.
    given: HashMap<String, (String, Instant)>,
    waiting: HashMap<String, Waiting>,
}

/// The slots of the whole operator.
pub(super) struct Slots {
    limits: Limits,
    inner: Mutex<Inner>,
}

/// Whether an object takes a slot: a live build, or a Job that has not ended.
pub(super) fn takes_a_slot(image: &RobotImage, jobs: &[JobView]) -> bool {
    let build = image.status.as_ref().and_then(|status| status.latest_build.as_ref());
    build.is_some_and(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running))
        || jobs.iter().any(|job| job.ended.is_none())
}

impl Slots {
    pub(super) fn new(slots: BuildSlots) -> Self {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Self {
            limits: Limits {
                total: number(slots.total),
                per_namespace: number(slots.per_namespace),
            },
            inner: Mutex::default(),
        }
    }

    /// Whether there is anything to count.
    pub(super) fn are_limited(&self) -> bool {
        !self.limits.are_none()
    }

    fn with<T>(&self, work: impl FnOnce(&mut Inner) -> T) -> T {
        work(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this object may begin a build, by the word that it has.
    pub(super) fn turn(&self, uid: &str) -> Turn {
        let given = |inner: &mut Inner| inner.given.get(uid).is_some_and(|(_, given)| given.elapsed() < WORD);
        if !self.are_limited() || self.with(given) {
            Turn::Now
        } else {
            Turn::Later
        }
    }

    /// An object wants to build. It has a slot at once, or a place in the queue; none at all before everything was counted.
    pub(super) fn ask(
        &self,
        image: &RobotImage,
        lane: Lane,
        since: Timestamp,
        wake: &mpsc::UnboundedSender<ObjectRef<RobotImage>>,
    ) -> Option<Turn> {
        let (uid, namespace) = (image.uid().unwrap_or_default(), image.namespace().unwrap_or_default());
        self.with(|inner| {
            if !inner.counted {
                return None;
            }
            if inner.running.contains_key(&uid) {
                // The slot of a build that it gives up for this one.
                inner.given.insert(uid, (namespace, Instant::now()));
                return Some(Turn::Now);
            }
            let since = inner.waiting.get(&uid).map_or(since, |before| before.waiter.since.min(since));
            let waiter = Waiter {
                uid: uid.clone(),
                namespace,
                lane,
                since,
            };
            let (object, wake) = (ObjectRef::from_obj(image), wake.clone());
            inner.waiting.insert(uid.clone(), Waiting { waiter, object, wake });
            inner.admit(self.limits, Some(&uid));
            Some(if inner.given.contains_key(&uid) { Turn::Now } else { Turn::Later })
        })
    }

    /// A reconcile has ended and left the object so.
    pub(super) fn seen(&self, uid: &str, namespace: &str, takes: bool, wants: bool) {
        if !self.are_limited() {
            return;
        }
        self.with(|inner| {
            if takes {
                inner.running.insert(uid.to_owned(), (namespace.to_owned(), Some(Instant::now())));
            } else {
                inner.running.remove(uid);
            }
            if takes || !wants {
                inner.given.remove(uid);
                inner.waiting.remove(uid);
            }
            inner.admit(self.limits, None);
        });
    }

    /// Counts anew: `running` are UID and namespace of all that take a slot, `all` the UIDs of all there are.
    pub(super) fn count(&self, running: impl IntoIterator<Item = (String, String)>, all: &HashSet<String>) {
        self.with(|inner| {
            let newer = |seen: &Option<Instant>| seen.is_some_and(|seen| seen.elapsed() < LAG);
            inner.running.retain(|uid, (_, seen)| all.contains(uid) && newer(seen));
            for (uid, namespace) in running {
                inner.running.entry(uid).or_insert((namespace, None));
            }
            inner.waiting.retain(|uid, _| all.contains(uid));
            inner.counted = true;
            inner.admit(self.limits, None);
        });
    }
}

impl Inner {
    /// Gives slots away while there are any; who gets one is woken, except `asking`, who is awake.
    fn admit(&mut self, limits: Limits, asking: Option<&str>) {
        self.given.retain(|_, (_, given)| given.elapsed() < WORD);
        if !self.counted || self.waiting.is_empty() {
            return;
        }
        let mut builds: HashMap<String, usize> = HashMap::new();
        let running = self.running.values().map(|(namespace, _)| namespace);
        let given = self.given.iter().filter(|(uid, _)| !self.running.contains_key(*uid));
        for namespace in running.chain(given.map(|(_, (namespace, _))| namespace)) {
            *builds.entry(namespace.clone()).or_default() += 1;
        }
        while let Some(chosen) = next_in_queue(
            self.waiting.values().map(|waiting| &waiting.waiter),
            &builds,
            limits,
            Timestamp::now(),
        ) {
            let uid = chosen.uid.clone();
            let Some(Waiting { waiter, object, wake }) = self.waiting.remove(&uid) else {
                return;
            };
            *builds.entry(waiter.namespace.clone()).or_default() += 1;
            if asking != Some(&uid) {
                // The receiver lives as long as the process.
                drop(wake.send(object));
            }
            self.given.insert(uid, (waiter.namespace, Instant::now()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str, namespace: &str) -> RobotImage {
        let spec = r#"{"source":{"git":{"url":"https://git.example.com/a.git"}},"image":{"repository":"registry.example.com/a"}}"#;
        let mut image = RobotImage::new(name, serde_json::from_str(spec).unwrap());
        image.metadata.namespace = Some(namespace.to_owned());
        image.metadata.uid = Some(name.to_owned());
        image
    }

    struct Bench {
        slots: Slots,
        wake: mpsc::UnboundedSender<ObjectRef<RobotImage>>,
        woken: mpsc::UnboundedReceiver<ObjectRef<RobotImage>>,
    }

    impl Bench {
        fn new(total: u32) -> Self {
            let (wake, woken) = mpsc::unbounded_channel();
            let slots = Slots::new(BuildSlots { total, per_namespace: 0 });
            Self { slots, wake, woken }
        }

        fn ask(&self, name: &str, lane: Lane) -> Option<Turn> {
            self.slots.ask(&image(name, "finance"), lane, Timestamp::now(), &self.wake)
        }

        fn woken(&mut self) -> Option<String> {
            self.woken.try_recv().ok().map(|object| object.name)
        }
    }

    #[test]
    fn a_slot_goes_from_one_to_the_next() {
        let mut bench = Bench::new(1);
        assert_eq!(bench.ask("a", Lane::User), None, "nothing was counted yet");
        bench.slots.count([], &HashSet::new());
        assert_eq!(bench.slots.turn("a"), Turn::Later);
        assert_eq!(bench.ask("a", Lane::Fleet), Some(Turn::Now));
        assert_eq!(bench.slots.turn("a"), Turn::Now, "the word holds");
        assert_eq!(bench.ask("b", Lane::Fleet), Some(Turn::Later));
        assert_eq!(bench.ask("c", Lane::User), Some(Turn::Later));
        bench.slots.seen("a", "finance", true, false);
        assert_eq!(bench.slots.turn("a"), Turn::Later, "it has begun");
        assert_eq!(bench.woken(), None);
        bench.slots.seen("a", "finance", false, false);
        assert_eq!((bench.woken().as_deref(), bench.woken()), (Some("c"), None));
        assert_eq!((bench.slots.turn("c"), bench.slots.turn("b")), (Turn::Now, Turn::Later));
        // It does not want to any more.
        bench.slots.seen("c", "finance", false, false);
        assert_eq!(bench.woken().as_deref(), Some("b"));
    }

    #[test]
    fn what_runs_is_counted_after_a_restart() {
        let mut bench = Bench::new(2);
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<HashSet<_>>();
        let running = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect::<Vec<_>>();
        bench.slots.count(running(&["a", "b"]), &all(&["a", "b", "c"]));
        assert_eq!(bench.ask("c", Lane::User), Some(Turn::Later));
        // One that was deleted gives its slot back with the next count.
        bench.slots.count(running(&["b"]), &all(&["b", "c"]));
        assert_eq!(bench.woken().as_deref(), Some("c"));
    }

    #[test]
    fn who_gives_a_build_up_keeps_its_slot() {
        let bench = Bench::new(1);
        bench
            .slots
            .count([("a".to_owned(), "finance".to_owned())], &HashSet::from(["a".to_owned()]));
        assert_eq!(bench.ask("b", Lane::User), Some(Turn::Later));
        assert_eq!(bench.ask("a", Lane::User), Some(Turn::Now));
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let bench = Bench::new(0);
        assert_eq!(bench.slots.turn("a"), Turn::Now);
        assert!(!bench.slots.are_limited());
    }
}
