//! What holds after every write and every call, whatever has happened.

use std::collections::{BTreeMap, BTreeSet};

use robotimage_crds::api::{BuildPhase, RobotImageStatus};
use robotimage_crds::build::Want;

use super::super::world::World;
use crate::decide::request_key::{differences, request_key, stem};
use crate::decide::{Finder, Settings};
use crate::observe::Revision;

pub(super) const ONE_BUILD: &str = "at most one running build";
pub(super) const NO_LOSS: &str = "no build lost";
pub(super) const NO_LOOP: &str = "no endless rebuild";
pub(super) const TRUE_READY: &str = "Ready never True for inputs not built";
pub(super) const GENERATION: &str = "observedGeneration never ahead";
pub(super) const CONVERGES: &str = "converges after faults stop";
pub(super) const ROW: &str = "always a row of the table";
pub(super) const NUMBERS: &str = "no number used twice";

/// An invariant that did not hold.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) invariant: &'static str,
    pub(super) told: String,
}

/// Holds, or is a violation.
pub(super) fn holds(condition: bool, invariant: &'static str, told: impl FnOnce() -> String) -> Result<(), Violation> {
    if condition {
        Ok(())
    } else {
        Err(Violation { invariant, told: told() })
    }
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Seen {
    /// Build ids by number and attempt.
    ids: BTreeMap<(i64, u32), String>,
    counter: i64,
    generation: i64,
    /// Names of Jobs whose publish ended well.
    pub(super) succeeded: BTreeSet<String>,
    /// Builds that were looks: they leave no entry when they found nothing.
    pub(super) looks: BTreeSet<i64>,
}

impl Seen {
    /// The invariants of one status write.
    pub(super) fn written(&mut self, world: &World, before: &RobotImageStatus) -> Result<(), Violation> {
        let status = world.status();
        self.generations(world, &status)?;
        self.numbers(&status)?;
        self.losses(before, &status)?;
        rows(&status)?;
        ready(world, &status)
    }

    fn generations(&mut self, world: &World, status: &RobotImageStatus) -> Result<(), Violation> {
        let (observed, generation) = (
            status.observed_generation.unwrap_or(-1),
            world.image.metadata.generation.unwrap_or_default(),
        );
        let known = self.generation.max(-1);
        holds(observed >= known && observed <= generation, GENERATION, || {
            format!("{observed} observed after {known}, of generation {generation}")
        })?;
        self.generation = observed;
        let same = status
            .conditions
            .iter()
            .all(|condition| condition.observed_generation == Some(observed));
        holds(same, GENERATION, || format!("of conditions: {:?}", status.conditions))
    }

    fn numbers(&mut self, status: &RobotImageStatus) -> Result<(), Violation> {
        let counter = status.build_counter.unwrap_or_default();
        holds(counter >= self.counter, NUMBERS, || format!("the counter went back to {counter}"))?;
        self.counter = counter;
        let Some(build) = &status.latest_build else { return Ok(()) };
        holds(build.number <= counter, NUMBERS, || {
            format!("build {} was not counted", build.number)
        })?;
        let id = self
            .ids
            .entry((build.number, build.attempt))
            .or_insert_with(|| build.build_id.clone());
        holds(*id == build.build_id, NUMBERS, || {
            format!("build {} attempt {}", build.number, build.attempt)
        })
    }

    /// Every build that was announced comes to an end that is told, every success is taken, every wish for a build is one.
    fn losses(&self, before: &RobotImageStatus, status: &RobotImageStatus) -> Result<(), Violation> {
        let now = status.latest_build.as_ref();
        if let Some(old) = &before.latest_build {
            let over = |phase| matches!(phase, BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Canceled);
            let same = now.filter(|build| build.number == old.number);
            let told = status.history.iter().find(|entry| entry.number == old.number);
            // Given up before anything was made of it, by a suspension.
            let nothing = old.uid.is_none() && old.phase == BuildPhase::Canceled;
            let known = before.history.iter().any(|entry| entry.number == old.number) || nothing || self.looks.contains(&old.number);
            // What was told once may be trimmed away; what was not must be there now, newest first.
            holds(same.is_some() || told.is_some() || known, NO_LOSS, || {
                format!("build {} was replaced and is not told: {:?}", old.number, status.history)
            })?;
            let attempt = same.filter(|build| build.attempt == old.attempt);
            let gone = attempt.is_none_or(|build| matches!(build.phase, BuildPhase::Failed | BuildPhase::Canceled));
            let taken = told.is_some_and(|entry| entry.outcome == "Succeeded") || self.looks.contains(&old.number);
            let lost = !over(old.phase) && gone && !taken && self.succeeded.contains(&old.job);
            holds(!lost, NO_LOSS, || {
                format!(
                    "build {} made an image and counts as given up: {:?}",
                    old.number, status.last_failure
                )
            })?;
        }
        let forced = |status: &RobotImageStatus| status.last_handled.as_ref().and_then(|handled| handled.force_at.clone());
        let begun = || {
            let number = before.latest_build.as_ref().map_or(0, |build| build.number);
            now.is_some_and(|build| build.number > number && build.reasons.iter().any(|reason| reason.kind == "Requested"))
        };
        holds(forced(before) == forced(status) || begun(), NO_LOSS, || {
            format!("a forced build is noted and none is begun: {now:?}")
        })
    }
}

fn condition<'a>(status: &'a RobotImageStatus, kind: &str) -> Option<&'a str> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind);
    condition.map(|condition| condition.status.as_str())
}

/// The combinations of conditions that the table has.
fn rows(status: &RobotImageStatus) -> Result<(), Violation> {
    let (reconciling, stalled) = (condition(status, "Reconciling").is_some(), condition(status, "Stalled").is_some());
    let fits = match condition(status, "Ready") {
        Some("True") => !stalled,
        Some("False") => reconciling != stalled,
        Some("Unknown") => reconciling && !stalled,
        _ => false,
    };
    holds(fits, ROW, || format!("{:?}", status.conditions))?;
    let bytes = serde_json::to_vec(status).expect("plain data").len();
    holds(bytes <= 6 * 1024, ROW, || format!("{bytes} bytes"))
}

/// Ready says that the image is what the spec and the newest known revision ask for; while a look goes on, but for the revision.
fn ready(world: &World, status: &RobotImageStatus) -> Result<(), Violation> {
    if condition(status, "Ready") != Some("True") {
        return Ok(());
    }
    let told = || format!("{:?} {:?} {:?}", status.source, status.latest_image, status.latest_build);
    let Some(image) = &status.latest_image else {
        return holds(false, TRUE_READY, told);
    };
    let settings = Settings::of(&world.image.spec, "finance", &world.platform).expect("a source");
    let revision = status.source.as_ref().and_then(|source| Revision::parse(&source.revision));
    let want = match (&settings.finder, revision) {
        (Finder::Fetch { .. }, _) => Want::Reference(settings.reference().cloned()),
        (_, Some(revision)) => Want::Commit {
            id: revision.commit,
            reference: revision.reference,
        },
        (_, None) => return holds(false, TRUE_READY, told),
    };
    let key = request_key(&world.image.spec, &want, &world.platform.hash);
    let looking = condition(status, "Reconciling").is_some();
    let differ = differences(stem(&image.request_key), &key);
    holds(
        differ.iter().all(|difference| looking && difference.kind == "SourceChanged"),
        TRUE_READY,
        told,
    )
}
