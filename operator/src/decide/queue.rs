//! Who builds next, where builds wait for one another.
//!
//! Invariant: what people asked for goes before what befalls the whole fleet; among equals the namespace with the fewest
//! builds, then whoever has waited longest. Nobody waits for ever: after [`PATIENCE`] a place in the queue counts more than
//! what is asked for, so only those who came before are still ahead.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::api::ChangeReason;

use super::schedule::later;

/// Whoever has waited so long goes with those that people asked for.
const PATIENCE: Duration = Duration::from_mins(10);

/// How urgent a build is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Somebody changed something and waits for it.
    User,
    /// Something changed for many: base, rcc, platform, the time. Or it is tried again, or looked after.
    Fleet,
}

impl Lane {
    /// The lane of a build with these reasons.
    pub fn of(reasons: &[ChangeReason]) -> Self {
        let by_users = ["Initial", "SourceChanged", "ConfigChanged", "Requested"];
        if reasons.iter().any(|reason| by_users.contains(&reason.kind.as_str())) {
            Self::User
        } else {
            Self::Fleet
        }
    }
}

/// One that wants to build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// UID of the resource.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// How urgent it is.
    pub lane: Lane,
    /// Since when it waits.
    pub since: Timestamp,
}

/// Builds at once; 0 for as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all namespaces.
    pub total: usize,
    /// In each namespace.
    pub per_namespace: usize,
}

impl Limits {
    /// Whether nothing ever waits.
    pub fn are_none(self) -> bool {
        self.total == 0 && self.per_namespace == 0
    }
}

/// Who builds next; none while there is no room for anybody. `running` are the builds by namespace.
pub fn next<'a, S: BuildHasher>(
    waiting: impl IntoIterator<Item = &'a Waiter>,
    running: &HashMap<String, usize, S>,
    limits: Limits,
    now: Timestamp,
) -> Option<&'a Waiter> {
    if limits.total > 0 && running.values().sum::<usize>() >= limits.total {
        return None;
    }
    let builds = |waiter: &Waiter| running.get(&waiter.namespace).copied().unwrap_or_default();
    waiting
        .into_iter()
        .filter(|waiter| limits.per_namespace == 0 || builds(waiter) < limits.per_namespace)
        .min_by_key(|waiter| {
            let patient = later(waiter.since, PATIENCE) > now;
            let lane = if patient { waiter.lane } else { Lane::User };
            (lane, builds(waiter), waiter.since, &waiter.uid)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn start() -> Timestamp {
        "2026-03-01T10:00:00Z".parse().unwrap()
    }

    fn waiter(uid: &str, namespace: &str, lane: Lane, since: u64) -> Waiter {
        Waiter {
            uid: uid.to_owned(),
            namespace: namespace.to_owned(),
            lane,
            since: later(start(), Duration::from_secs(since)),
        }
    }

    fn running(builds: &[(&str, usize)]) -> HashMap<String, usize> {
        builds.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    const LIMITS: Limits = Limits {
        total: 4,
        per_namespace: 2,
    };

    #[test]
    fn lanes() {
        let lane = |kinds: &[&str]| {
            let reasons: Vec<_> = kinds
                .iter()
                .map(|kind| ChangeReason {
                    kind: (*kind).to_owned(),
                    ..ChangeReason::default()
                })
                .collect();
            Lane::of(&reasons)
        };
        for kind in ["Initial", "SourceChanged", "ConfigChanged", "Requested"] {
            assert_eq!((lane(&[kind]), lane(&["BaseChanged", kind])), (Lane::User, Lane::User), "{kind}");
        }
        for kind in ["BaseChanged", "RccChanged", "PlatformChanged", "Refresh", "ImageMissing", "Retry"] {
            assert_eq!(lane(&[kind]), Lane::Fleet, "{kind}");
        }
        assert_eq!(lane(&[]), Lane::Fleet);
    }

    #[test]
    fn the_order() {
        let waiting = [
            waiter("fleet", "a", Lane::Fleet, 0),
            waiter("busy", "b", Lane::User, 1),
            waiter("first", "c", Lane::User, 2),
            waiter("second", "d", Lane::User, 3),
        ];
        let next = |running: &[(&str, usize)], seconds| {
            let now = later(start(), Duration::from_secs(seconds));
            next(&waiting, &self::running(running), LIMITS, now).map(|waiter| waiter.uid.as_str())
        };
        assert_eq!(next(&[("b", 1)], 5), Some("first"), "the namespace with the fewest builds");
        assert_eq!(next(&[("b", 1), ("c", 1), ("d", 1)], 5), Some("busy"));
        assert_eq!(next(&[("b", 2), ("c", 1)], 5), Some("second"), "no more than two in a namespace");
        assert_eq!(next(&[("x", 4)], 5), None, "no more than four in all");
        assert_eq!(next(&[], 599), Some("busy"));
        assert_eq!(next(&[], 600), Some("fleet"), "it has waited long enough");
    }

    /// A cluster in which builds come, wait, run and end.
    #[derive(Default)]
    struct Model {
        waiting: Vec<Waiter>,
        /// UID, namespace and second of the end.
        running: Vec<(String, String, u64)>,
        longest: u64,
    }

    impl Model {
        fn tick(&mut self, second: u64, limits: Limits, takes: u64) {
            self.running.retain(|(_, _, end)| *end > second);
            let now = later(start(), Duration::from_secs(second));
            loop {
                let mut counts: HashMap<String, usize> = HashMap::new();
                for (_, namespace, _) in &self.running {
                    *counts.entry(namespace.clone()).or_default() += 1;
                }
                assert!(limits.total == 0 || self.running.len() <= limits.total);
                assert!(limits.per_namespace == 0 || counts.values().all(|count| *count <= limits.per_namespace));
                let Some(chosen) = next(&self.waiting, &counts, limits, now).cloned() else {
                    return;
                };
                let waited = now.duration_since(chosen.since).unsigned_abs().as_secs();
                self.longest = self.longest.max(waited);
                self.waiting.retain(|waiter| waiter.uid != chosen.uid);
                self.running.push((chosen.uid, chosen.namespace, second + takes));
            }
        }
    }

    #[test]
    fn a_stream_of_urgent_builds_starves_nobody() {
        // One namespace asks for more than there is room for, for ever; another wants one build of the fleet, and one of its own.
        let limits = Limits {
            total: 2,
            per_namespace: 0,
        };
        let mut model = Model::default();
        model.waiting.push(waiter("fleet", "quiet", Lane::Fleet, 0));
        model
            .waiting
            .extend((0..4).map(|number| waiter(&format!("first-{number}"), "loud", Lane::User, 0)));
        let mut served = None;
        for second in 0..7200 {
            if second % 4 == 0 {
                model.waiting.push(waiter(&format!("urgent-{second}"), "loud", Lane::User, second));
            }
            if second == 3600 {
                model.waiting.push(waiter("own", "quiet", Lane::User, second));
            }
            model.tick(second, limits, 10);
            if served.is_none() && model.running.iter().any(|(uid, _, _)| uid == "fleet") {
                served = Some(second);
            }
            if model.running.iter().any(|(uid, _, _)| uid == "own") {
                assert!(second < 3620, "it waited until {second}: longer than one build");
                break;
            }
        }
        let served = served.expect("the fleet's build came");
        assert!((600..=620).contains(&served), "{served}");
    }

    #[test]
    fn namespaces_share_alike() {
        let limits = Limits {
            total: 3,
            per_namespace: 0,
        };
        let mut model = Model::default();
        for number in 0..300 {
            model.waiting.push(waiter(&format!("big-{number:03}"), "big", Lane::Fleet, 0));
        }
        for number in 0..10 {
            model.waiting.push(waiter(&format!("small-{number}"), "small", Lane::Fleet, 1));
        }
        let mut left = Vec::new();
        for second in (0..100).step_by(10) {
            model.tick(second, limits, 10);
            left.push(model.waiting.iter().filter(|waiter| waiter.namespace == "small").count());
        }
        assert_eq!(left[9], 0, "{left:?}");
    }

    proptest! {
        #[test]
        fn whoever_comes_is_served(
            arrivals in prop::collection::vec((0_u64..2000, 0_u8..6, any::<bool>()), 1..150),
            total in 0_usize..5, per_namespace in 0_usize..3, takes in 1_u64..60,
        ) {
            let limits = Limits { total, per_namespace };
            let mut model = Model::default();
            let count = u64::try_from(arrivals.len()).unwrap();
            for second in 0..=2000 + count * takes {
                for (number, (_, namespace, urgent)) in arrivals.iter().enumerate().filter(|(_, arrival)| arrival.0 == second) {
                    let lane = if *urgent { Lane::User } else { Lane::Fleet };
                    model.waiting.push(waiter(&number.to_string(), &namespace.to_string(), lane, second));
                }
                model.tick(second, limits, takes);
                // Whoever waits has no room.
                let full = total > 0 && model.running.len() == total;
                let builds = |namespace: &str| model.running.iter().filter(|(_, of, _)| of == namespace).count();
                prop_assert!(full || model.waiting.iter().all(|waiter| per_namespace > 0 && builds(&waiter.namespace) == per_namespace));
            }
            prop_assert!(model.waiting.is_empty());
            prop_assert!(model.longest <= count * takes, "{} of {}", model.longest, count * takes);
        }
    }
}
