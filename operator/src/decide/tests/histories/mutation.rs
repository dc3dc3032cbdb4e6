//! Bugs, each of which one of the invariants has to catch.

use robotimage_crds::api::condition::{AVAILABLE, READY, RECONCILING};

use crate::decide::{Action, Decision, Next};
use crate::observe::Observed;

/// A bug between the observation and what is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    None,
    /// Nobody looks whether another build still runs.
    OthersUnseen,
    /// Ended builds are not told.
    HistoryForgotten,
    /// A success is not believed.
    SuccessUnseen,
    /// What the image was built for is not kept, and nobody counts.
    RequestForgotten,
    /// Ready is True as soon as there is an image.
    ReadyWithAnyImage,
    /// The generation after the one that was seen is told.
    GenerationAhead,
    /// Nothing is made after a failure.
    NoRetry,
    /// A status is written whatever it was decided on.
    VersionIgnored,
    /// A build is given up by what the watches have told.
    IndexBelieved,
    /// A wish by annotation is noted and nothing else.
    WishDropped,
}

impl Mutation {
    pub(super) fn observed(self, observed: &mut Observed) {
        let build = observed.image.status.as_ref().and_then(|status| status.latest_build.as_ref());
        match self {
            Self::OthersUnseen => {
                let name = build.map(|build| build.job.clone()).unwrap_or_default();
                observed.jobs.retain(|job| job.name == name);
                let own: Vec<_> = observed.jobs.iter().map(|job| job.uid.clone()).collect();
                observed.pods.retain(|pod| own.contains(&pod.owner));
            }
            Self::SuccessUnseen => observed.pods.retain(|pod| pod.phase != "Succeeded"),
            _ => {}
        }
    }

    pub(super) fn decision(self, observed: &Observed, decision: &mut Decision) {
        let failed = observed.image.status.as_ref().is_some_and(|status| status.last_failure.is_some());
        match (self, &mut decision.next) {
            (Self::HistoryForgotten, Next::Write(status)) => status.history.clear(),
            (Self::RequestForgotten, Next::Write(status)) => {
                status.repeated = None;
                if let Some(image) = status.latest_image.as_mut() {
                    image.request_key = String::new();
                    let mut conditions = std::mem::take(&mut status.conditions);
                    conditions.retain(|condition| condition.type_ == READY || condition.type_ == AVAILABLE);
                    for (condition, kind) in conditions.iter_mut().zip([READY, RECONCILING]) {
                        kind.clone_into(&mut condition.type_);
                        if kind == READY { "Unknown" } else { "True" }.clone_into(&mut condition.status);
                    }
                    status.conditions = conditions;
                }
            }
            (Self::ReadyWithAnyImage, Next::Write(status)) if status.latest_image.is_some() => {
                for ready in status.conditions.iter_mut().filter(|condition| condition.type_ == READY) {
                    "True".clone_into(&mut ready.status);
                }
                status
                    .conditions
                    .retain(|condition| condition.type_ != "Reconciling" && condition.type_ != "Stalled");
            }
            (Self::GenerationAhead, Next::Write(status)) => {
                status.observed_generation = status.observed_generation.map(|generation| generation + 1);
            }
            (Self::NoRetry, next) if failed => {
                if matches!(next, Next::Act(actions) if actions.iter().any(|action| matches!(action, Action::CreateJob(_)))) {
                    *next = Next::Rest;
                }
            }
            (Self::WishDropped, Next::Write(status)) => {
                let annotations = observed.image.metadata.annotations.clone().unwrap_or_default();
                if let Some(value) = annotations.get(robotimage_crds::api::annotation::FORCE_AT) {
                    status.last_handled.get_or_insert_default().force_at = Some(value.clone());
                }
            }
            _ => {}
        }
    }
}
