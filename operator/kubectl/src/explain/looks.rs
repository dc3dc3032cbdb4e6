//! When the operator looks again at what moves behind an unchanged spec: source, base, rcc, published image, environment.
//!
//! Invariant: when it has looked last, only the operator knows; what is told is the latest time that follows from its periods.

use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::duration;
use robotimage_operator::decide::{Finder, Settings, latest_look, next_check};

use super::coming::Coming;
use super::reasoning::Facts;

/// The interval of a resource that names none.
const INTERVAL: Duration = Duration::from_mins(5);

/// All looks to come.
pub(super) fn looks(facts: &Facts) -> Vec<Coming> {
    let resource = &facts.resource;
    let spec = &resource.image.spec;
    let settings = facts
        .platform
        .as_ref()
        .ok()
        .and_then(|platform| Settings::of(spec, resource.namespace(), platform));
    let mut looks: Vec<Coming> = source(facts, settings.as_ref()).into_iter().collect();
    if let Some(settings) = &settings {
        looks.extend(registries(facts, settings));
        looks.extend(refresh(facts, settings));
    }
    looks
}

/// A look that comes again and again.
fn again(what: &str, interval: Duration, now: Timestamp) -> Coming {
    let what = format!("{what} every {} (10 % more or less).", duration::format(interval));
    Coming::by(&what, latest_look(interval, now))
}

fn source(facts: &Facts, settings: Option<&Settings>) -> Option<Coming> {
    let spec = &facts.resource.image.spec;
    let source = &spec.source;
    let reference = source.git.as_ref().and_then(|git| git.reference.as_ref());
    let named = if reference.is_some_and(|reference| reference.commit.is_some()) {
        Some("a commit")
    } else if source.http.as_ref().is_some_and(|http| http.sha256.is_some()) {
        Some("a checksum")
    } else if source.oci.as_ref().is_some_and(|oci| oci.image.contains('@')) {
        Some("a digest")
    } else {
        None
    };
    if let Some(named) = named {
        return Some(Coming::at(&format!("The source is never polled: the spec names {named}."), None));
    }
    // Who is asked, and whether only a build pod can.
    let (server, private) = match (&source.git, &source.http, &source.oci) {
        (Some(git), _, _) => ("git server", git.secret_ref.is_some()),
        (_, Some(http), _) => ("web server", http.secret_ref.is_some()),
        (_, _, Some(oci)) => ("registry of the source", oci.secret_ref.is_some()),
        (None, None, None) => ("ConfigMap", true),
    };
    let asked = spec.interval.as_deref().and_then(duration::parse).unwrap_or(INTERVAL);
    let told = |what: &str| Some(Coming::at(what, None));
    match settings.map(|settings| (settings, &settings.finder)) {
        Some((_, Finder::Pinned(_))) => None,
        Some((settings, Finder::Operator)) => Some(again(&format!("The operator asks the {server}"), settings.interval, facts.now)),
        Some((settings, Finder::Fetch { poll: Some(poll) })) => Some(Coming {
            at: next_check(&facts.resource.status, settings, facts.now),
            by: None,
            ..again("A build pod looks at the private source,", *poll, facts.now)
        }),
        Some((_, Finder::Fetch { poll: None })) => {
            told("This platform does not poll private sources: a change of the spec or of robotimage.dev/requestedAt looks anew.")
        }
        None if !private => told(&format!(
            "The operator asks the {server} every {}, or less often if the platform says so.",
            duration::format(asked)
        )),
        None => told(&format!(
            "The private source is looked at every {}, or less often, or not at all: the platform says which.",
            duration::format(asked)
        )),
    }
}

/// Base, rcc and the published image.
fn registries(facts: &Facts, settings: &Settings) -> Vec<Coming> {
    let resource = &facts.resource;
    if !settings.polls_registries {
        return vec![Coming::at(
            "This platform does not poll registries: only builds see a newer base or rcc, and nobody sees that the image is gone.",
            None,
        )];
    }
    let inputs = resource.status.inputs.as_ref();
    let hidden = |name: &str| inputs.is_some_and(|inputs| inputs.unchecked.iter().any(|noted| noted == name));
    let moving = [("base", settings.moving_base()), ("rcc", settings.moving_rcc())];
    let mut looks: Vec<Coming> = moving
        .into_iter()
        .filter_map(|(name, reference)| Some((name, reference?)))
        .map(|(name, reference)| {
            if hidden(name) {
                let told = format!(
                    "Only a build sees whether there is a newer {name} than before behind {reference}: without credentials its registry does not show it."
                );
                return Coming::at(&told, None);
            }
            again(&format!("The operator asks for the {name} {reference}"), settings.base_interval, facts.now)
        })
        .collect();
    if resource.status.latest_image.is_some() && resource.live().is_none() {
        looks.push(if hidden("image") {
            Coming::at(
                "Nobody looks whether the published image is still there: without credentials its registry does not show it.",
                None,
            )
        } else {
            again(
                "The operator looks whether the published image is still there",
                settings.image_interval,
                facts.now,
            )
        });
    }
    looks
}

/// The environment, where there is one.
fn refresh(facts: &Facts, settings: &Settings) -> Option<Coming> {
    let status = &facts.resource.status;
    let at = settings.refresh?.next(facts.now)?;
    let empty = status.latest_image.is_some() && status.environment.is_none();
    (!empty).then(|| Coming::at("The environment is solved anew (environment.refresh), within a minute.", Some(at)))
}
