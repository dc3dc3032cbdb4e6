//! Why things are as they are: sentences, from the resource, what was observed of its build, and the operator's own decision.
//!
//! Invariant: what is computed by the operator's functions is told as such, what is not known is told in `unknown`, and
//! nothing is guessed.

use jiff::Timestamp;
use robotimage_crds::api::condition::{RECONCILING, SOURCE_READY};
use robotimage_crds::api::{BuildPhase, annotation};
use robotimage_operator::config::Platform;
use robotimage_operator::observe::{ContainerState, Observed};
use serde::Serialize;

use super::coming::{Coming, coming};
use crate::advice;
use crate::resource::{Resource, State};
use crate::screen::clean;
use crate::status::reasons;

/// What is known.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The resource.
    pub(super) resource: Resource,
    /// Its Jobs and pods, or why they are not known.
    pub(super) observed: Result<Observed, String>,
    /// The platform's configuration, or why it is not known.
    pub(super) platform: Result<Platform, String>,
    /// Now.
    pub(super) now: Timestamp,
}

/// The explanation.
#[derive(Serialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    /// How it stands.
    pub(super) state: Option<State>,
    /// Why the last build was made, and how it ended.
    pub(super) last: Vec<String>,
    /// What happens now, or why nothing does.
    pub(super) now: Vec<String>,
    /// What comes next by itself, in the order of time.
    pub(super) next: Vec<Coming>,
    /// What would make the operator try again, where it has given up.
    pub(super) helps: Vec<String>,
    /// What cannot be known from here.
    pub(super) unknown: Vec<String>,
}

/// Explains.
pub(super) fn explain(facts: &Facts) -> Explanation {
    let mut explanation = Explanation {
        state: Some(facts.resource.state()),
        last: last(&facts.resource),
        now: now(facts),
        ..Explanation::default()
    };
    explanation.next = coming(facts);
    if matches!(facts.resource.state(), State::Failed | State::Canceled | State::Suspended) {
        explanation.helps = helps(&facts.resource);
    }
    unknown(facts, &mut explanation);
    explanation
}

fn last(resource: &Resource) -> Vec<String> {
    let Some(build) = &resource.status.latest_build else {
        return vec!["There was no build yet.".to_owned()];
    };
    let number = build.number;
    let mut told = vec![format!("Build {number} was made because of: {}.", reasons(&build.reasons))];
    let plan = build.plan.as_deref().map(plan).unwrap_or_default();
    let took = build.duration.as_deref().map(|took| format!(" after {took}")).unwrap_or_default();
    let attempts = if build.attempt > 1 {
        format!(" in attempt {}", build.attempt)
    } else {
        String::new()
    };
    told.push(match build.phase {
        BuildPhase::Pending => "It is decided; its Job may not be there yet.".to_owned(),
        BuildPhase::Running => format!("It has not ended.{plan}"),
        BuildPhase::Succeeded => format!("It succeeded{attempts}{took}.{plan}"),
        BuildPhase::Failed => {
            let failure = resource.status.last_failure.clone().unwrap_or_default();
            format!("It failed{attempts}{took}: {}.", failure.reason)
        }
        BuildPhase::Canceled => {
            let outcome = resource.history(number).map_or("Canceled", |entry| entry.outcome.as_str());
            format!("It was given up{took}: {outcome}.")
        }
    });
    told.iter().map(|line| clean(line)).collect()
}

/// What a plan means.
fn plan(name: &str) -> &'static str {
    match name {
        "Noop" => " Nothing had to be made: the image that was there is the one wanted (Noop).",
        "RebaseOnly" => " Environment and code were taken over; base, rcc or configuration are new (RebaseOnly).",
        "CodeOnly" => " The code was packed, the environment taken over (CodeOnly).",
        "Full" => " Environment and code were made (Full).",
        _ => "",
    }
}

fn now(facts: &Facts) -> Vec<String> {
    let resource = &facts.resource;
    let status = &resource.status;
    let number = status.latest_build.as_ref().map_or(0, |build| build.number);
    let failure = status.last_failure.clone().unwrap_or_default();
    let (what, _) = advice::split(&failure.message);
    let waits = || resource.condition(RECONCILING).map(|c| c.message.clone()).unwrap_or_default();
    let revision = status.source.as_ref().map_or("its revision", |source| source.short.as_str());
    let mut told = vec![match resource.state() {
        State::Deleting => "It is being deleted: the operator makes nothing of it any more.".to_owned(),
        State::Unseen if status.observed_generation.unwrap_or(-1) < 0 => format!(
            "No operator has looked at it yet: none runs, or none watches namespace {}.",
            resource.namespace()
        ),
        State::Unseen => format!(
            "The operator has not looked at the newest spec yet: it knows generation {} of {}.",
            status.observed_generation.unwrap_or_default(),
            resource.generation()
        ),
        State::Resolving => "No build runs: the source's reference is being resolved first.".to_owned(),
        State::Checking => format!("Build {number} looks whether a new revision makes another image; the one that is there stays valid."),
        State::Queued | State::Blocked => format!("Build {number} waits: {}.", waits()),
        State::Building => format!("Build {number} runs."),
        State::UpToDate => format!("No build is needed: the image is that of {revision} and of the present spec."),
        State::SourceFailing => {
            let problem = resource
                .condition(SOURCE_READY)
                .map(|c| format!("{}: {}", c.reason, c.message))
                .unwrap_or_default();
            format!("No build is needed for {revision}, the last revision that is known; the source could not be asked since: {problem}.")
        }
        State::Retrying => format!(
            "No build runs: build {number} failed with {} ({what}) and waits for its next attempt.",
            failure.reason
        ),
        State::Failed => format!("No build runs: {} ({what}), and the same again would fail again.", failure.reason),
        State::Canceled => format!("No build runs: build {number} was canceled."),
        State::Suspended => "No build runs: it is suspended, and its image is not what the spec asks for.".to_owned(),
        State::Other => format!("The operator says: {}.", resource.summary()),
    }];
    if let (Some(_), Ok(observed)) = (resource.live(), &facts.observed) {
        told.extend(pods(facts, observed));
    }
    if resource.suspended() && resource.state() != State::Suspended {
        told.push("It is suspended: nothing is polled and no further build is made.".to_owned());
    }
    told.extend(wishes(resource));
    told.iter().map(|line| clean(line)).collect()
}

/// What the build pod is at.
fn pods(facts: &Facts, observed: &Observed) -> Vec<String> {
    let Some(build) = facts.resource.live() else { return Vec::new() };
    let Some(job) = observed.jobs.iter().find(|job| job.name == build.job) else {
        return vec![format!("Its Job {} is not there.", build.job)];
    };
    let Some(pod) = observed.pods.iter().rfind(|pod| pod.owner == job.uid) else {
        let refusal = observed
            .refusal
            .as_ref()
            .map(|refusal| format!(": {}", refusal.message))
            .unwrap_or_default();
        return vec![format!("Its Job {} has no pod{refusal}.", job.name)];
    };
    if let Some(refusal) = &pod.refusal {
        return vec![format!("Its pod {} does not start: {}.", pod.name, refusal.message)];
    }
    let running = pod.containers.iter().find_map(|container| match &container.state {
        ContainerState::Running { started } => Some((container.step, *started)),
        _ => None,
    });
    let step = running.map(|(step, started)| {
        let since = started
            .map(|started| format!(", for {}", crate::words::age(started, facts.now)))
            .unwrap_or_default();
        format!(" is at {}{since}", step.as_str())
    });
    vec![format!(
        "Its pod {}{}.",
        pod.name,
        step.unwrap_or_else(|| format!(" is {}", pod.phase))
    )]
}

/// What was asked for by annotation and not acted on yet.
fn wishes(resource: &Resource) -> Vec<String> {
    let handled = resource.status.last_handled.clone().unwrap_or_default();
    let wishes = [
        (annotation::FORCE_AT, handled.force_at, "a build"),
        (annotation::REQUESTED_AT, handled.requested_at, "a look at the source"),
        (annotation::CANCEL, handled.cancel, "the end of a build"),
        (
            annotation::FLUX_REQUESTED_AT,
            resource.status.last_handled_reconcile_at.clone(),
            "a look at the source",
        ),
    ];
    let open = wishes.into_iter().filter_map(|(key, handled, what)| {
        let value = resource.annotation(key).filter(|value| !value.is_empty())?;
        (handled.as_deref() != Some(value))
            .then(|| format!("Somebody asked for {what} ({key}: {value}); the operator has not acted on it yet."))
    });
    open.collect()
}

fn helps(resource: &Resource) -> Vec<String> {
    let name = resource.name();
    if resource.suspended() {
        return vec![format!("Resume it: kubectl robotimage resume {name}.")];
    }
    let mut helps: Vec<String> = Vec::new();
    if let Some(failure) = resource.status.last_failure.as_ref().filter(|failure| failure.reason != "Canceled") {
        helps.push(format!("For this failure: {}", clean(&advice::of(failure))));
    }
    helps.extend([
        "A change of the spec.".to_owned(),
        "A new revision of the source, or a new digest behind its base or rcc.".to_owned(),
        "A change of the platform's configuration.".to_owned(),
        format!("Asking for a build: kubectl robotimage build {name}."),
    ]);
    helps
}

fn unknown(facts: &Facts, explanation: &mut Explanation) {
    if let Err(why) = &facts.platform {
        explanation.unknown.push(format!(
            "The platform's configuration: {why}. So the least interval, the way private sources are polled, when the next looks are due, and whether a change of base or rcc is, are not known."
        ));
    }
    if let Err(why) = &facts.observed {
        explanation.unknown.push(format!("Jobs and pods of its builds: {why}."));
    }
    if explanation.next.iter().any(|coming| coming.by.is_some()) {
        explanation.unknown.push(
            "When git server and registries were asked last: the operator keeps that in its memory, so each next look may come at any time \
             until the one told, and later where the last one failed."
                .to_owned(),
        );
    }
}

#[cfg(test)]
mod tests;
