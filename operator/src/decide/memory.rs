//! Memory for the attempt after one that ran out of it: twice as much, as far as the platform allows.

use std::collections::BTreeMap;

use robotimage_crds::api::LatestBuild;
use robotimage_crds::reason::Reason;

use super::defaults::Settings;
use super::verdict::Failed;
use crate::quantity::{doubled, larger};

/// Name of the resource.
const MEMORY: &str = "memory";

/// Memory limit of an attempt's steps.
pub(super) fn limit<'a>(build: &'a LatestBuild, settings: &'a Settings) -> &'a str {
    let own = settings.limits.get(MEMORY).map_or("", String::as_str);
    build.memory.as_deref().map_or(own, |grown| larger(grown, own))
}

/// The limit after this attempt's; `None` when the platform gives no more.
pub(super) fn grown(build: &LatestBuild, settings: &Settings) -> Option<String> {
    doubled(limit(build, settings), &settings.max_memory)
}

/// Requests and limits of an attempt's steps. A request that was the limit stays the limit: that is a class of service.
pub(crate) fn resources(build: &LatestBuild, settings: &Settings) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut requests, mut limits) = (settings.requests.clone(), settings.limits.clone());
    let grown = limit(build, settings).to_owned();
    if requests.get(MEMORY) == limits.get(MEMORY) {
        requests.insert(MEMORY.to_owned(), grown.clone());
    }
    limits.insert(MEMORY.to_owned(), grown);
    (requests, limits)
}

/// What follows from a lack of memory: the failure with what comes next in its message, and whether it is the last word.
pub(super) fn judged(failed: Failed, build: &LatestBuild, settings: &Settings) -> (Failed, bool) {
    if failed.reason != Reason::OutOfMemory {
        return (failed, false);
    }
    let had = limit(build, settings);
    let grown = grown(build, settings);
    let then = match &grown {
        Some(next) => format!("it had {had}, the next attempt has {next}"),
        None => format!(
            "it had {had}, and the platform raises it to {} at most: set build.resources.limits.memory, or make the environment smaller",
            settings.max_memory
        ),
    };
    let message = format!("{}; {then}", failed.message);
    (Failed { message, ..failed }, grown.is_none())
}
