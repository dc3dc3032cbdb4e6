//! When the operator asks a git server again, and when a build pod looks for it.

use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::api::{BuildPhase, LastFailure, RobotImage, RobotImageStatus};

use super::defaults::{Finder, Settings};
use super::request_key::unresolved_key;
use super::resolution::{is_outdated, known_revision};
use super::retry::{doubled, longest};
use super::wishes::Wishes;
use crate::observe::{Check, Checks, ImageCheck, SourceKnowledge};
use crate::registry::LookupFailure;

/// Time after the first of look-ups that fail, however long the interval: an outage of seconds is no reason to wait for a day.
const SOON: Duration = Duration::from_secs(30);
/// Longest time between two look-ups that fail.
const LONGEST: Duration = Duration::from_hours(1);
/// An image that is said to be gone is asked for again after this.
const GONE_AGAIN: Duration = Duration::from_mins(1);
/// Refreshes of one time are begun within this.
const REFRESH_SPREAD: Duration = Duration::from_mins(1);
/// Time between two look-ups of what a registry does not show without credentials.
const REFUSED: Duration = Duration::from_hours(6);

/// Shortest time between two look-ups where another operator has found something newer than the first.
const AGAIN: Duration = Duration::from_secs(10);

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
        return next_retry(failure, settings.retries, now).map_or(Look::Never, Look::At);
    }
    match &knowledge.answer {
        // The first poll of a resource that has nothing to wait for: anywhere in its interval, lest a restart asks for all at once.
        None if observed(image, generation) && known_revision(image, platform_hash).is_some() => {
            Look::At(later(knowledge.seen_at, settings.interval.mul_f64(knowledge.seen_chance)))
        }
        None => Look::At(now),
        // The clock was set back: nobody knows how old it is.
        Some(answer) if answer.at > now => Look::At(now),
        Some(answer) if is_outdated(image, answer, platform_hash) => Look::At(later(answer.at, AGAIN)),
        Some(answer) if answer.result.is_err() && answer.generation != generation => Look::At(now),
        Some(answer) => {
            let interval = unless_failed(settings.interval, answer.failures);
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

/// When the digest behind a moving reference is asked for again. `seen_chance` spreads the resources that share one: the
/// first of them asks, and the others find its answer.
pub fn next_digest_look(image: &RobotImage, settings: &Settings, knowledge: &SourceKnowledge, check: Option<&Check>) -> Look {
    if settings.suspended {
        return Look::Never;
    }
    let built = image.status.as_ref().is_some_and(|status| status.latest_build.is_some());
    let Some(check) = check else {
        // Nothing is known yet: before a first build at once, after a restart some time.
        let wait = if built {
            settings.base_interval.mul_f64(knowledge.seen_chance)
        } else {
            Duration::ZERO
        };
        return Look::At(later(knowledge.seen_at, wait));
    };
    let wait = match &check.failure {
        Some(LookupFailure::Refused { .. }) => REFUSED,
        failure => {
            let interval = unless_failed(settings.base_interval, check.failures);
            let asked = failure.as_ref().and_then(LookupFailure::retry_after).unwrap_or_default();
            interval.max(asked.min(LONGEST))
        }
    };
    Look::At(later(check.at, jittered(wait, knowledge.seen_chance)))
}

/// When base and rcc are looked at again, as far as they are.
pub(super) fn digest_looks(
    image: &RobotImage,
    settings: &Settings,
    knowledge: &SourceKnowledge,
    checks: &Checks,
) -> impl Iterator<Item = Timestamp> {
    let look = |check: &Option<Check>| match next_digest_look(image, settings, knowledge, check.as_ref()) {
        Look::At(time) => Some(time),
        Look::Never => None,
    };
    let base = settings.moving_base().and_then(|_| look(&checks.base));
    let rcc = settings.moving_rcc().and_then(|_| look(&checks.rcc));
    [base, rcc].into_iter().flatten()
}

/// When the published image is looked for again.
pub fn next_image_look(image: &RobotImage, settings: &Settings, knowledge: &SourceKnowledge, check: Option<&ImageCheck>) -> Look {
    let status = image.status.as_ref();
    let build = status.and_then(|status| status.latest_build.as_ref());
    let live = build.is_some_and(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running));
    if settings.suspended || !settings.polls_registries || live || status.is_none_or(|status| status.latest_image.is_none()) {
        return Look::Never;
    }
    let interval = jittered(settings.image_interval, knowledge.seen_chance);
    let Some(check) = check else {
        return Look::At(later(knowledge.seen_at, settings.image_interval.mul_f64(knowledge.seen_chance)));
    };
    let asked_since = build.is_none_or(|build| build.number == check.build);
    let wait = match check {
        ImageCheck { gone: 1, .. } if asked_since => GONE_AGAIN,
        ImageCheck { refused: Some(true), .. } => jittered(REFUSED, knowledge.seen_chance).max(interval),
        _ => interval,
    };
    Look::At(later(check.at, wait))
}

/// When the next refresh is due: resources with one schedule a little apart.
pub(super) fn next_refresh(settings: &Settings, knowledge: &SourceKnowledge, now: Timestamp) -> Option<Timestamp> {
    let next = settings.refresh?.next(now)?;
    Some(later(next, REFRESH_SPREAD.mul_f64(knowledge.seen_chance.clamp(0.0, 1.0))))
}

/// When a failure says that the same is tried again; `None` for never.
pub(super) fn next_retry(failure: &LastFailure, retries: u32, now: Timestamp) -> Option<Timestamp> {
    let due = failure.next_retry_at.as_ref()?.0;
    Some(believed(due, longest(failure, retries), now).unwrap_or(now))
}

/// When a build pod looks for a new revision of a source that the operator does not ask for; `None` for never.
pub fn next_check(status: &RobotImageStatus, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
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
    let due = later(started.0, jittered(poll, f64::from(drawn) / 65536.0));
    Some(believed(due, jittered(poll, 1.0), now).unwrap_or(now))
}

/// A time in a status, unless no clock that is right can have set it, because nobody ever waits for so long: a leader before this
/// one had a clock that was ahead.
pub(super) fn believed(due: Timestamp, longest: Duration, now: Timestamp) -> Option<Timestamp> {
    (due <= later(now, longest)).then_some(due)
}

/// When the next of looks that come in this interval is due at the latest, as long as none fails.
pub fn latest_look(interval: Duration, now: Timestamp) -> Timestamp {
    later(now, jittered(interval, 1.0))
}

/// The interval; after so many failures one that begins short and grows beyond it.
fn unless_failed(interval: Duration, failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => interval,
        Some(before) => doubled(interval.min(SOON), before, LONGEST.max(interval)),
    }
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
