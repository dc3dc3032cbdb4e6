//! When the operator asks a git server again, and when a build pod looks for it.

use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::api::{BuildPhase, RobotImage, RobotImageStatus};

use super::defaults::{Finder, Settings};
use super::request_key::unresolved_key;
use super::resolution::known_revision;
use super::retry::doubled;
use super::wishes::Wishes;
use crate::observe::SourceKnowledge;

/// Longest time between two look-ups that fail.
const LONGEST: Duration = Duration::from_hours(1);

/// When to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Not before something changes.
    Never,
    /// At this time; now, when it has passed.
    At(Timestamp),
}

/// When the operator's next look-up of the source is due.
pub fn next_look(image: &RobotImage, settings: &Settings, knowledge: &SourceKnowledge, platform_hash: &str, now: Timestamp) -> Look {
    if settings.finder != Finder::Operator || settings.suspended {
        return Look::Never;
    }
    let wishes = Wishes::of(image);
    if wishes.want_look_of(image) && knowledge.answer.as_ref().is_none_or(|answer| answer.wish != wishes.token()) {
        return Look::At(now);
    }
    let generation = image.metadata.generation.unwrap_or_default();
    // A source that failed to resolve is tried again when its failure says so, also after a restart.
    let failure = image
        .status
        .as_ref()
        .and_then(|status| status.last_failure.as_ref())
        .filter(|failure| {
            failure.generation == Some(generation) && failure.request_key.as_deref() == Some(&unresolved_key(&image.spec, platform_hash))
        });
    if let Some(failure) = failure
        && !matches!(&knowledge.answer, Some(answer) if answer.result.is_ok())
    {
        return failure.next_retry_at.as_ref().map_or(Look::Never, |time| Look::At(time.0));
    }
    match &knowledge.answer {
        // The first poll of a resource that has nothing to wait for: anywhere in its interval, lest a restart asks for all at once.
        None if observed(image, generation) && known_revision(image, platform_hash).is_some() => {
            Look::At(later(knowledge.seen_at, settings.interval.mul_f64(knowledge.seen_chance)))
        }
        None => Look::At(now),
        Some(answer) if answer.result.is_err() && answer.generation != generation => Look::At(now),
        Some(answer) => {
            let interval = doubled(settings.interval, answer.failures, LONGEST.max(settings.interval));
            let asked = answer
                .result
                .as_ref()
                .err()
                .and_then(|failure| failure.retry_after)
                .unwrap_or_default()
                .min(LONGEST);
            Look::At(later(answer.at, jittered(interval, answer.chance).max(asked)))
        }
    }
}

/// When a build pod looks for a new revision of a source that the operator does not ask for; `None` for never.
pub fn next_check(status: &RobotImageStatus, settings: &Settings) -> Option<Timestamp> {
    let Finder::Fetch { poll: Some(poll) } = settings.finder else {
        return None;
    };
    let build = status.latest_build.as_ref()?;
    let over = matches!(build.phase, BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Canceled);
    let started = build.started_at.as_ref().filter(|_| over)?;
    // The build id is random and stays: as good a jitter as one drawn anew, and the same at each decision.
    let drawn = build
        .build_id
        .get(..4)
        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
        .unwrap_or_default();
    Some(later(started.0, jittered(poll, f64::from(drawn) / 65536.0)))
}

/// 90 to 110 per cent.
fn jittered(interval: Duration, chance: f64) -> Duration {
    interval.mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0))
}

/// A time after another; the end of time when there is none.
pub(super) fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn observed(image: &RobotImage, generation: i64) -> bool {
    image.status.as_ref().and_then(|status| status.observed_generation) == Some(generation)
}
