//! Specs of which nothing is built before they are changed: they name a source that this version does not know, or a schedule
//! that never comes.

use jiff::Timestamp;
use robotimage_crds::reason::Reason;

use super::conditions::{self, SourceStand, Stand};
use super::decision::Run;
use super::failure;
use super::failure::Terms;
use super::outcome::{Chance, Decision, Next};
use super::request_key::unresolved_key;
use crate::config::Platform;
use crate::observe::Observed;
use crate::source::SourceFailure;

/// The spec was written for a newer version, which knows more sources than this one.
pub(super) fn unknown_source(observed: &Observed, platform: &Platform, now: Timestamp, chance: Chance) -> Decision {
    let image = &observed.image;
    let before = image.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let generation = image.metadata.generation.unwrap_or_default();
    let failure = SourceFailure::new(
        Reason::NotAllowed,
        "spec.source names no source that this version of the operator knows",
    );
    status.observed_generation = Some(generation);
    let terms = Terms { retries: 0, now, chance };
    let key = unresolved_key(&image.spec, &platform.hash);
    failure::record_source(&mut status, &key, generation, &failure, now, terms);
    let source = SourceStand::Failed(failure.reason, failure.message);
    conditions::write(&mut status, &before.conditions, &Stand::Failed, Some(source), generation, now);
    let next = if status == before {
        Next::Rest
    } else {
        Next::Write(Box::new(status))
    };
    Decision {
        next,
        notes: Vec::new(),
        again: None,
        wants: None,
    }
}

impl Run<'_> {
    /// Why nothing is built of this spec, though it is not suspended.
    pub(super) fn refused(&self) -> Option<&str> {
        self.settings.refused.as_deref().filter(|_| !self.settings.suspended)
    }

    /// Records why nothing is built, once no build of an earlier spec runs.
    pub(super) fn record_refusal(&mut self) {
        if let (Some(message), None) = (self.refused(), self.live_build()) {
            let key = unresolved_key(&self.observed.image.spec, &self.platform.hash);
            self.status.last_failure = Some(failure::of_refusal(&key, self.generation, message, self.now));
        }
    }
}
