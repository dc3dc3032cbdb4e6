//! What may change behind an unchanged spec and source: the digests of base and rcc, and the age of the environment.
//!
//! Invariant: a part of the request key changes only when a look-up says something else than what the last image was made
//! with, or the time for a refresh has come. A look-up that fails, a restart, or the first look-up of an image that was made
//! without one changes nothing; nothing that moves here takes a running build's place, or moves while a resource is suspended.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use robotimage_crds::api::condition::SOURCE_READY;
use robotimage_crds::api::{BaseUpdate, BuildPhase, ChangeReason, Inputs, RobotImageStatus};

use robotimage_crds::build::PlanEnvironment;
use robotimage_crds::reason::Reason;

use super::defaults::Settings;
use super::request_key::{Part, Parts};
use crate::observe::{Check, Checks};
use crate::registry::LookupFailure;

/// Their names in a status.
const BASE: &str = "base";
const RCC: &str = "rcc";
const IMAGE: &str = "image";
/// Reason of a build for an image that is gone.
pub(super) const IMAGE_MISSING: &str = "ImageMissing";
/// Digits of a digest that people see.
const SHOWN: usize = 12;

/// The parts of the request key that move by themselves.
pub(super) fn parts(status: &RobotImageStatus, settings: &Settings, checks: &Checks, now: Timestamp) -> Parts {
    let build = status.latest_build.as_ref();
    let image = status.latest_image.as_ref().map(|image| Parts::of(&image.request_key));
    let last = build
        .map(|build| Parts::of(&build.request_key))
        .or(image.clone())
        .unwrap_or_default();
    if build.is_some_and(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running)) {
        return last;
    }
    if settings.suspended {
        return image.unwrap_or(last);
    }
    let inputs = status.inputs.as_ref();
    let of = |part: Part, check: Option<&Check>, made_with: Option<&str>| {
        let before = last.get(part);
        let Some(found) = check.and_then(|check| check.digest.as_deref()) else {
            return before.cloned();
        };
        match (&image, build) {
            (Some(image), _) if made_with.is_none() || made_with == Some(found) => image.get(part).cloned(),
            // A build that began before anything was known cannot be told from one of this digest.
            (None, Some(_)) if before.is_none() => None,
            _ => Some(short(found)),
        }
    };
    let mut parts = Parts::default();
    parts.set(Part::Base, of(Part::Base, checks.base.as_ref(), inputs.and_then(base_digest)));
    let rcc = inputs.and_then(|inputs| inputs.rcc_image.as_deref());
    parts.set(Part::Rcc, of(Part::Rcc, checks.rcc.as_ref(), rcc));
    let before = last.get(Part::Refresh).cloned();
    parts.set(Part::Refresh, refresh(status, settings, before.as_deref(), now).or(before));
    parts
}

/// The time of a refresh that is due. Without a status that tells of an earlier one, the last time counts as such, so that
/// resources with one schedule share their environments.
fn refresh(status: &RobotImageStatus, settings: &Settings, before: Option<&str>, now: Timestamp) -> Option<String> {
    let due = settings.refresh?.last(now)?;
    let (image, environment) = (status.latest_image.as_ref(), status.environment.as_ref());
    if image.is_some() && environment.is_none() {
        // A robot without an environment.
        return None;
    }
    let resolved = environment.and_then(|environment| environment.resolved_at.as_ref());
    let published = image.map(|image| &image.published_at);
    let started = status.latest_build.as_ref().and_then(|build| build.started_at.as_ref());
    let last = before
        .and_then(|text| text.parse().ok())
        .or(resolved.or(published).or(started).map(|time| time.0.as_second()));
    (last.is_none_or(|last| due.as_second() > last)).then(|| due.as_second().to_string())
}

/// Whether the published image is gone: its registry has said so twice. Once it was made again for that reason, only an image
/// that was seen since can be gone again: some registries deny what they hide.
pub(super) fn image_is_gone(status: &RobotImageStatus, checks: &Checks) -> bool {
    let (Some(check), Some(build)) = (&checks.image, &status.latest_build) else {
        return false;
    };
    let made_again = build.phase == BuildPhase::Succeeded && build.reasons.iter().any(|reason| reason.kind == IMAGE_MISSING);
    check.gone > 1 && check.build == build.number && (check.seen || !made_again)
}

/// What tells the environment of a build of this key from others.
pub(super) fn environment(key: &str, settings: &Settings) -> PlanEnvironment {
    PlanEnvironment {
        of_base: settings.image.base_update == BaseUpdate::Rebuild,
        refresh: Parts::of(key)
            .get(Part::Refresh)
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
    }
}

/// The digests that a build of this key takes, where the operator knows them; the pod finds the others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Digests {
    /// Of the base.
    pub(super) base: Option<String>,
    /// Of the image with rcc.
    pub(super) rcc: Option<String>,
}

impl Digests {
    /// Those that fit the key.
    pub(super) fn of(key: &str, status: &RobotImageStatus, settings: &Settings, checks: &Checks) -> Self {
        let parts = Parts::of(key);
        let inputs = status.inputs.as_ref();
        let fitting = |part: Part, check: Option<&Check>, made_with: Option<&str>| {
            let found = check.and_then(|check| check.digest.as_deref())?;
            (made_with == Some(found) || parts.get(part) == Some(&short(found))).then(|| found.to_owned())
        };
        let made_with = inputs.and_then(base_digest);
        let base = if settings.image.base_update == BaseUpdate::Pin {
            let same = inputs.is_some_and(|inputs| inputs.base.split('@').next() == Some(&*settings.image.base));
            made_with.filter(|_| same).map(str::to_owned)
        } else {
            fitting(Part::Base, checks.base.as_ref(), made_with)
        };
        let rcc = inputs.and_then(|inputs| inputs.rcc_image.as_deref());
        Self {
            base,
            rcc: fitting(Part::Rcc, checks.rcc.as_ref(), rcc),
        }
    }
}

/// Puts what people can read in place of the digits of keys.
pub(super) fn describe(reasons: &mut [ChangeReason], inputs: Option<&Inputs>) {
    for reason in reasons {
        let made_with = match reason.kind.as_str() {
            "BaseChanged" => inputs.and_then(base_digest),
            "RccChanged" => inputs.and_then(|inputs| inputs.rcc_image.as_deref()),
            "Refresh" => {
                for text in [&mut reason.from, &mut reason.to] {
                    let time = text.as_deref().and_then(|text| Timestamp::from_second(text.parse().ok()?).ok());
                    *text = time.map(|time| time.to_string());
                }
                continue;
            }
            _ => continue,
        };
        if let Some(digest) = made_with {
            reason.from = Some(short(digest));
        }
    }
}

/// Notes which of base, rcc and published image the operator may not look at. What it has not asked yet, or got no answer about,
/// stays as it is.
pub(super) fn note_unchecked(inputs: Option<&mut Inputs>, checks: &Checks) {
    let Some(inputs) = inputs else { return };
    let digest = |check: &Option<Check>| match &check.as_ref()?.failure {
        None | Some(LookupFailure::Missing { .. }) => Some(false),
        Some(LookupFailure::Refused { .. }) => Some(true),
        Some(LookupFailure::Failed { .. }) => None,
    };
    let image = checks.image.as_ref().and_then(|check| check.refused);
    for (name, refused) in [(BASE, digest(&checks.base)), (IMAGE, image), (RCC, digest(&checks.rcc))] {
        let Some(refused) = refused else { continue };
        if refused != inputs.unchecked.iter().any(|noted| noted == name) {
            inputs.unchecked.retain(|noted| noted != name);
            inputs.unchecked.extend(refused.then(|| name.to_owned()));
            inputs.unchecked.sort();
        }
    }
}

/// Why the digest of base or rcc could not be had, once that has happened twice: one lost answer is nothing to tell.
pub(super) fn standing_failure(settings: &Settings, checks: &Checks) -> Option<(Reason, String)> {
    let tell = |name: &str, reference: &str, check: &Option<Check>| {
        let check = check.as_ref().filter(|check| check.failures > 1)?;
        let failure = check.failure.as_ref()?;
        let told = !matches!(failure, LookupFailure::Refused { .. });
        told.then(|| (failure.reason(), format!("{name} {reference}: {failure}")))
    };
    let base = settings.moving_base().and_then(|base| tell(BASE, base, &checks.base));
    base.or_else(|| settings.moving_rcc().and_then(|rcc| tell(RCC, rcc, &checks.rcc)))
}

/// Whether such a failure was told before, and no answer has come since, as after a restart: it stands.
pub(super) fn failure_stands<'a>(settings: &Settings, checks: &Checks, before: impl IntoIterator<Item = &'a Condition>) -> bool {
    let unknown = |name: &str, moving: Option<&str>, check: &Option<Check>| {
        let answered = check
            .as_ref()
            .is_some_and(|check| matches!(check.failure, None | Some(LookupFailure::Refused { .. })));
        (moving.is_some() && !answered).then(|| format!("{name} "))
    };
    let names = [
        unknown(BASE, settings.moving_base(), &checks.base),
        unknown(RCC, settings.moving_rcc(), &checks.rcc),
    ];
    let told = |condition: &Condition| {
        let of = |name: &String| condition.message.starts_with(name);
        condition.type_ == SOURCE_READY && condition.status == "False" && names.iter().flatten().any(of)
    };
    before.into_iter().any(told)
}

fn base_digest(inputs: &Inputs) -> Option<&str> {
    inputs.base.split_once('@').map(|(_, digest)| digest)
}

/// The first digits of a digest.
fn short(digest: &str) -> String {
    let digits = digest.split_once(':').map_or(digest, |(_, digits)| digits);
    crate::text::cut(digits, SHOWN).to_owned()
}
