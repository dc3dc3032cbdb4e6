//! The ConfigMap of `image.publishTo`: what it says, and when it is written.
//!
//! Invariant: it says what the status says. It is written after each new image, and again every ten minutes, in case somebody
//! has edited it or taken it away.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::api::LatestImage;

use super::defaults::Settings;
use super::outcome::Action;
use super::schedule::later;
use crate::observe::Announced;

/// Time between two writes of the same.
const REAPPLY: Duration = Duration::from_mins(10);

/// What is to be done about it now, and else when.
pub(super) fn announce(
    settings: &Settings,
    image: Option<&LatestImage>,
    known: Option<&Announced>,
    now: Timestamp,
) -> (Option<Action>, Option<Timestamp>) {
    let (Some(name), Some(image)) = (&settings.image.publish_to, image) else {
        return (None, None);
    };
    let data = data(image);
    let due = known
        .filter(|known| known.name == *name && known.data == data)
        .map(|known| later(known.at, REAPPLY));
    if let Some(due) = due.filter(|due| *due > now) {
        return (None, Some(due));
    }
    let action = Action::Announce { name: name.clone(), data };
    (Some(action), None)
}

fn data(image: &LatestImage) -> BTreeMap<String, String> {
    let tag = image.tags.first().cloned().unwrap_or_default();
    [("ref", image.reference.clone()), ("digest", image.digest.clone()), ("tag", tag)]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
