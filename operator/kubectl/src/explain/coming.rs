//! What comes next by itself: what the operator decides now, a retry.
//!
//! Invariant: a time is the operator's own, or there is none.

use jiff::Timestamp;
use robotimage_crds::api::LastFailure;
use robotimage_crds::reason::{Reason, Retry};
use robotimage_operator::config::Platform;
use robotimage_operator::decide::{Action, Chance, Decision, Next, decide};
use robotimage_operator::observe::Observed;
use serde::Serialize;

use super::looks::looks;
use super::reasoning::Facts;
use crate::resource::{Resource, State, is_over};
use crate::screen::clean;
use crate::status::reasons;

/// Something that comes.
#[derive(Serialize, Clone, Debug, PartialEq)]
pub(super) struct Coming {
    /// What.
    pub(super) what: String,
    /// When; absent where only the operator knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Timestamp>,
    /// When at the latest, where nothing that is asked fails; absent where it is never, or known better.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<Timestamp>,
}

impl Coming {
    /// At a time, if it is known.
    pub(super) fn at(what: &str, at: Option<Timestamp>) -> Self {
        Self {
            what: clean(what),
            at,
            by: None,
        }
    }

    /// Until a time.
    pub(super) fn by(what: &str, by: Timestamp) -> Self {
        Self {
            by: Some(by),
            ..Self::at(what, None)
        }
    }
}

/// All that comes, in the order of time.
pub(super) fn coming(facts: &Facts) -> Vec<Coming> {
    let resource = &facts.resource;
    let mut all = Vec::new();
    if matches!(resource.state(), State::Deleting | State::Unseen) {
        return all;
    }
    if let Ok(platform) = &facts.platform
        && let Ok(observed) = &facts.observed
    {
        all.extend(decided(resource, observed, platform, facts.now));
    }
    if resource.suspended() {
        return all;
    }
    let over = resource.status.latest_build.as_ref().is_none_or(|build| is_over(build.phase));
    if let Some(failure) = resource.status.last_failure.as_ref().filter(|_| over)
        && let Some(at) = &failure.next_retry_at
    {
        all.push(Coming::at(&format!("The same is tried again{}.", slowly(failure)), Some(at.0)));
    }
    all.extend(looks(facts));
    let time = |coming: &Coming| coming.at.or(coming.by);
    all.sort_by_key(|coming| (time(coming).is_none(), time(coming)));
    all
}

fn slowly(failure: &LastFailure) -> &'static str {
    match failure.reason.parse::<Reason>().map(Reason::retry) {
        Ok(Retry::Slowly) => ", slowly: the cure may be in a Secret, which the operator does not read",
        _ => "",
    }
}

/// What an operator that looked at it now would do: its own decision.
fn decided(resource: &Resource, observed: &Observed, platform: &Platform, now: Timestamp) -> Option<Coming> {
    // Neither a drawn id nor a jitter is told.
    let chance = Chance { id: [0; 16], unit: 0.5 };
    let decision: Decision = decide(observed, platform, now, chance);
    if decision.wants.is_some() {
        return Some(Coming::at("A build begins as soon as a build slot is free.", None));
    }
    let what = match decision.next {
        Next::Write(status) => {
            let before = resource.status.latest_build.as_ref().map(|build| (build.number, build.attempt));
            match status.latest_build.as_ref() {
                Some(build) if before != Some((build.number, build.attempt)) => {
                    format!(
                        "The operator starts build {}, attempt {}: {}.",
                        build.number,
                        build.attempt,
                        reasons(&build.reasons)
                    )
                }
                _ if status.summary != resource.status.summary => {
                    format!("The operator notes: {}.", status.summary.clone().unwrap_or_default())
                }
                // The rest of a status says the same in other words, or what only its memory knows.
                _ => return None,
            }
        }
        Next::Act(actions) => actions.iter().filter_map(action).collect::<Vec<_>>().join(" "),
        Next::Rest => return None,
    };
    (!what.is_empty()).then(|| Coming::at(&what, Some(now)))
}

fn action(action: &Action) -> Option<String> {
    match action {
        Action::CreateJob(job) => Some(format!(
            "The operator makes Job {}.",
            job.metadata.name.as_deref().unwrap_or_default()
        )),
        Action::DeleteJob { name, .. } => Some(format!("The operator removes Job {name}, which is not needed any more.")),
        // Only its memory knows when it wrote last.
        Action::Announce { .. } => None,
    }
}
