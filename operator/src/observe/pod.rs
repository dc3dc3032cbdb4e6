//! A build pod, as far as decisions need it: the state of its three containers, and why it does not start.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;

use super::job::controller;
use crate::text;

/// How long past its grace period a pod may take to end before its node counts as lost.
const LOST_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// Why a pod does not come to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Unschedulable, BuilderImagePullFailed, QuotaExceeded or PodRejected.
    pub reason: Reason,
    /// The same text as long as the cause is the same.
    pub message: String,
}

impl Refusal {
    /// A refusal in one line, at most 300 bytes.
    pub fn new(reason: Reason, message: &str) -> Self {
        Self {
            reason,
            message: text::line(message, 300),
        }
    }

    /// What the pod's events tell in words that change with each try; ours must not, or every try would be a status write.
    pub(super) fn of_events(reason: Reason, problem: &str) -> Self {
        Self::new(reason, &format!("{problem}; the pod's events say why"))
    }

    /// The node cannot have the builder image.
    pub(super) fn of_pull(image: &str) -> Self {
        Self::of_events(
            Reason::BuilderImagePullFailed,
            &format!("the node cannot pull the builder image {image}"),
        )
    }
}

/// A build pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Name, for messages to the log.
    pub name: String,
    /// UID, by which its events are found.
    pub uid: String,
    /// UID of the Job that controls it.
    pub owner: String,
    /// Pending, Running, Succeeded, Failed or Unknown.
    pub phase: String,
    /// `status.reason`, for example Evicted or DeadlineExceeded.
    pub reason: String,
    /// `status.message`, one line.
    pub message: String,
    /// Reason of a DisruptionTarget condition.
    pub disruption: Option<String>,
    /// When it must be gone: deletion with its grace period. By the API server's clock, until [`Self::by_our_clock`].
    pub deletion: Option<Timestamp>,
    /// The grace period of its deletion.
    pub grace: SignedDuration,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Why it does not start.
    pub refusal: Option<Refusal>,
    /// The builder image, of all its containers.
    pub image: String,
    /// Its containers, in the order of the steps.
    pub containers: Vec<ContainerView>,
}

/// A container of a build pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerView {
    /// Its step.
    pub step: Step,
    /// Where it is.
    pub state: ContainerState,
}

/// State of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Not started yet.
    Waiting {
        /// The kubelet's reason, for example PodInitializing or ErrImagePull.
        reason: String,
    },
    /// Started.
    Running {
        /// When.
        started: Option<Timestamp>,
    },
    /// Ended.
    Ended {
        /// Exit code.
        code: i32,
        /// The kubelet's reason, for example Completed, Error or OOMKilled.
        reason: String,
        /// The termination message: the step's report, if it is one.
        message: String,
        /// When it started.
        started: Option<Timestamp>,
        /// When it ended.
        finished: Option<Timestamp>,
    },
}

impl PodView {
    /// Reads a pod.
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let statuses: Vec<ContainerStatus> = status
            .init_container_statuses
            .unwrap_or_default()
            .into_iter()
            .chain(status.container_statuses.unwrap_or_default())
            .collect();
        let containers = Step::ALL
            .into_iter()
            .filter_map(|step| {
                let status = statuses.iter().find(|status| status.name == step.as_str())?;
                Some(ContainerView {
                    step,
                    state: state(status),
                })
            })
            .collect::<Vec<_>>();
        let image = spec_image(pod);
        let unscheduled = conditions
            .iter()
            .find(|c| c.type_ == "PodScheduled" && c.status == "False" && c.reason.as_deref() == Some("Unschedulable"));
        let refusal = unscheduled
            .map(|condition| {
                let told = condition.message.as_deref().unwrap_or("no reason is told");
                Refusal::new(Reason::Unschedulable, &format!("no node can take the build pod: {told}"))
            })
            .or_else(|| containers.iter().find_map(|container| waiting_refusal(&container.state, &image)));
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            owner: controller(pod.metadata.owner_references.as_deref()).unwrap_or_default(),
            phase: status.phase.unwrap_or_default(),
            reason: status.reason.unwrap_or_default(),
            message: text::line(&status.message.unwrap_or_default(), 300),
            disruption: conditions
                .iter()
                .find(|c| c.type_ == "DisruptionTarget" && c.status == "True")
                .and_then(|c| c.reason.clone()),
            deletion: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            grace: SignedDuration::from_secs(pod.metadata.deletion_grace_period_seconds.unwrap_or_default()),
            created: pod.metadata.creation_timestamp.as_ref().map(|time| time.0),
            refusal,
            image,
            containers,
        }
    }

    /// The same with a deletion that counts from when we saw it first: clocks differ, and by one that is ahead every pod that is
    /// ending would be lost at once, and the next build start beside it. `before` is what we knew of it.
    #[must_use]
    pub fn by_our_clock(self, before: Option<&Self>, now: Timestamp) -> Self {
        let known = before.filter(|before| before.uid == self.uid).and_then(|before| before.deletion);
        let latest = now.saturating_add(self.grace).unwrap_or(now);
        Self {
            deletion: self.deletion.map(|_| known.map_or(latest, |known| known.min(latest))),
            ..self
        }
    }

    /// Whether nothing more of the build runs in it: it ended, a step failed (the later ones do not start then), publish
    /// ended, or its node has not answered for a minute past its grace period.
    pub fn ended(&self, now: Timestamp) -> bool {
        let over = |container: &ContainerView| match container.state {
            ContainerState::Ended { code, .. } => code != 0 || container.step == Step::Publish,
            _ => false,
        };
        matches!(self.phase.as_str(), "Succeeded" | "Failed") || self.containers.iter().any(over) || self.lost(now)
    }

    /// Whether its node has not answered for a minute past its grace period.
    pub fn lost(&self, now: Timestamp) -> bool {
        self.deletion
            .is_some_and(|at| at.saturating_add(LOST_AFTER).is_ok_and(|limit| limit < now))
    }

    /// Whether any container has started.
    pub fn started(&self) -> bool {
        self.containers
            .iter()
            .any(|container| !matches!(container.state, ContainerState::Waiting { .. }))
    }

    /// The container of a step.
    pub fn container(&self, step: Step) -> Option<&ContainerState> {
        self.containers
            .iter()
            .find(|container| container.step == step)
            .map(|container| &container.state)
    }
}

fn state(status: &ContainerStatus) -> ContainerState {
    let state = status.state.clone().unwrap_or_default();
    if let Some(ended) = state.terminated {
        ContainerState::Ended {
            code: ended.exit_code,
            reason: ended.reason.unwrap_or_default(),
            message: ended.message.unwrap_or_default(),
            started: ended.started_at.map(|time| time.0),
            finished: ended.finished_at.map(|time| time.0),
        }
    } else if let Some(running) = state.running {
        ContainerState::Running {
            started: running.started_at.map(|time| time.0),
        }
    } else {
        ContainerState::Waiting {
            reason: state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default(),
        }
    }
}

/// The image of all steps.
fn spec_image(pod: &Pod) -> String {
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first());
    first.and_then(|container| container.image.clone()).unwrap_or_default()
}

fn waiting_refusal(state: &ContainerState, image: &str) -> Option<Refusal> {
    let ContainerState::Waiting { reason } = state else { return None };
    match reason.as_str() {
        "ErrImagePull"
        | "ImagePullBackOff"
        | "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImageInspectError"
        | "RegistryUnavailable"
        | "SignatureValidationFailed" => Some(Refusal::of_pull(image)),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => Some(Refusal::of_events(
            Reason::PodRejected,
            "the node cannot create the build pod's container",
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deleted(at: &str, grace: i64) -> PodView {
        let pod = json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": at, "deletionGracePeriodSeconds": grace}});
        PodView::of(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_pod_is_lost_by_how_long_we_have_seen_it_end_whatever_the_clocks_say() {
        let seconds = |time: Timestamp, seconds| time.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        for ours in ["2026-03-01T09:00:00Z", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"] {
            let now: Timestamp = ours.parse().unwrap();
            let pod = || deleted("2026-03-01T10:00:30Z", 30);
            let first = pod().by_our_clock(None, now);
            assert!(!first.lost(now) && !first.ended(now), "{ours}");
            // Seen again later, and read anew: it counts from the first time.
            let again = pod().by_our_clock(Some(&first), seconds(now, 80));
            assert!(!again.lost(seconds(now, 90)) && again.lost(seconds(now, 91)), "{ours}");
            // Somebody has less patience.
            let forced = deleted("2026-03-01T10:00:05Z", 0).by_our_clock(Some(&first), seconds(now, 5));
            assert!(!forced.lost(seconds(now, 65)) && forced.lost(seconds(now, 66)), "{ours}");
        }
    }

    #[test]
    fn another_pod_of_the_same_name_has_its_own_time() {
        let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
        let before = PodView {
            uid: "2".to_owned(),
            ..deleted("2026-03-01T08:00:00Z", 30)
        };
        assert!(!deleted("2026-03-01T10:00:30Z", 30).by_our_clock(Some(&before), now).lost(now));
    }
}
