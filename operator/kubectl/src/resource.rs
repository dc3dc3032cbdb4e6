//! A RobotImage as the API server gives it, and how it stands, in one word.
//!
//! Invariant: reasons are open strings, so a newer operator's words are passed on and never an error.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::DynamicObject;
use robotimage_crds::api::condition::{READY, RECONCILING, SOURCE_READY, STALLED, reasons};
use robotimage_crds::api::{BuildPhase, HistoryEntry, LatestBuild, RobotImage, RobotImageStatus};
use robotimage_crds::reason::Reason;
use serde::Serialize;

use crate::screen::Tone;

/// A RobotImage.
#[derive(Clone, Debug)]
pub(crate) struct Resource {
    /// As it was read.
    pub(crate) image: RobotImage,
    /// Its status; empty when there is none.
    pub(crate) status: RobotImageStatus,
}

/// How a RobotImage stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// No operator has seen it, or not its newest generation.
    Unseen,
    /// It is being deleted.
    Deleting,
    /// The source is being resolved.
    Resolving,
    /// Up to date; a new revision is being looked at.
    Checking,
    /// It waits for its turn.
    Queued,
    /// The build pod does not start.
    Blocked,
    /// A build runs.
    Building,
    /// The image is the newest one asked for.
    UpToDate,
    /// Up to date, but the source could not be asked the last time.
    SourceFailing,
    /// Failed; the same is tried again.
    Retrying,
    /// Failed; only a change helps.
    Failed,
    /// Somebody canceled it.
    Canceled,
    /// Suspended, and the image is not what the spec asks for.
    Suspended,
    /// Words of a newer operator.
    Other,
}

impl State {
    /// Its colour.
    pub(crate) fn tone(self) -> Tone {
        match self {
            Self::UpToDate => Tone::Good,
            Self::Resolving | Self::Checking | Self::Queued | Self::Building => Tone::Busy,
            Self::Blocked | Self::SourceFailing | Self::Retrying | Self::Failed | Self::Canceled => Tone::Bad,
            Self::Unseen | Self::Deleting | Self::Suspended | Self::Other => Tone::Quiet,
        }
    }
}

impl Resource {
    /// Reads an object; the error says what this version does not understand.
    pub(crate) fn of(object: DynamicObject) -> Result<Self, String> {
        let image: RobotImage = object.try_parse().map_err(|error| error.to_string())?;
        let status = image.status.clone().unwrap_or_default();
        Ok(Self { image, status })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.image.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace.
    pub(crate) fn namespace(&self) -> &str {
        self.image.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// Its UID.
    pub(crate) fn uid(&self) -> &str {
        self.image.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Generation of its spec.
    pub(crate) fn generation(&self) -> i64 {
        self.image.metadata.generation.unwrap_or_default()
    }

    /// Whether the spec says so.
    pub(crate) fn suspended(&self) -> bool {
        self.image.spec.suspend == Some(true)
    }

    /// Value of an annotation.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.image.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// A condition.
    pub(crate) fn condition(&self, kind: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == kind)
    }

    fn holds(&self, kind: &str) -> Option<&Condition> {
        self.condition(kind).filter(|condition| condition.status == "True")
    }

    /// Whether the status speaks of the newest spec.
    pub(crate) fn observed(&self) -> bool {
        self.status.observed_generation == Some(self.generation())
    }

    /// The build that is decided and has not ended.
    pub(crate) fn live(&self) -> Option<&LatestBuild> {
        self.status
            .latest_build
            .as_ref()
            .filter(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running))
    }

    /// Whether a failure is tried again soon.
    pub(crate) fn retrying(&self) -> bool {
        self.holds(RECONCILING)
            .is_some_and(|condition| condition.reason == reasons::PROGRESSING_WITH_RETRY)
    }

    /// The entry of an ended build.
    pub(crate) fn history(&self, number: i64) -> Option<&HistoryEntry> {
        self.status.history.iter().find(|entry| entry.number == number)
    }

    /// How it stands.
    pub(crate) fn state(&self) -> State {
        if self.image.metadata.deletion_timestamp.is_some() {
            return State::Deleting;
        }
        if !self.observed() {
            return State::Unseen;
        }
        if let Some(stalled) = self.holds(STALLED) {
            return match stalled.reason.parse() {
                Ok(Reason::Suspended) => State::Suspended,
                Ok(Reason::Canceled) => State::Canceled,
                _ => State::Failed,
            };
        }
        if let Some(at_work) = self.holds(RECONCILING) {
            return match at_work.reason.as_str() {
                reasons::RESOLVING_SOURCE => State::Resolving,
                reasons::CHECKING_SOURCE => State::Checking,
                reasons::QUEUED => State::Queued,
                reasons::BUILDING => State::Building,
                reasons::PROGRESSING_WITH_RETRY => State::Retrying,
                other if other.parse::<Reason>().is_ok() => State::Blocked,
                _ => State::Other,
            };
        }
        let ready = self.holds(READY).is_some();
        let failing = self.condition(SOURCE_READY).is_some_and(|source| source.status == "False");
        match (ready, failing) {
            (true, true) => State::SourceFailing,
            (true, false) => State::UpToDate,
            (false, _) => State::Other,
        }
    }

    /// The same for people: the operator's own summary where it speaks of the newest spec.
    pub(crate) fn summary(&self) -> String {
        match self.state() {
            State::Deleting => "Being deleted".to_owned(),
            State::Unseen if self.status.observed_generation.unwrap_or(-1) < 0 => "Not seen by an operator yet".to_owned(),
            State::Unseen => "Newest spec not seen by the operator yet".to_owned(),
            state => match self.status.summary.clone() {
                Some(summary) if self.suspended() && state == State::UpToDate => format!("{summary}, suspended"),
                Some(summary) => summary,
                None => format!("{state:?}"),
            },
        }
    }
}

/// Whether a build is over.
pub(crate) fn is_over(phase: BuildPhase) -> bool {
    matches!(phase, BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Canceled)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A RobotImage with this status.
    pub(crate) fn resource(status: &Value) -> Resource {
        changed(status, &json!({}))
    }

    /// The same with a changed spec.
    pub(crate) fn changed(status: &Value, spec: &Value) -> Resource {
        let mut object = json!({
            "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage",
            "metadata": {
                "name": "invoice-reader", "namespace": "finance", "uid": "0b6f2f62-1f0e-4bb0-8d2c-7a6b1f0a5c11", "generation": 3,
                "creationTimestamp": "2026-03-01T08:00:00Z",
            },
            "spec": {
                "source": {"git": {"url": "https://git.example.com/rpa/invoices.git", "ref": {"branch": "main"}}},
                "image": {"repository": "registry.example.com/robots/invoice-reader"},
            },
            "status": status,
        });
        for (name, value) in spec.as_object().into_iter().flatten() {
            object["spec"][name] = value.clone();
        }
        Resource::of(serde_json::from_value(object).unwrap()).unwrap()
    }

    fn state(conditions: &[(&str, &str, &str)]) -> State {
        let conditions: Vec<Value> = conditions
            .iter()
            .map(|(kind, status, reason)| {
                json!({"type": kind, "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-03-01T09:00:00Z"})
            })
            .collect();
        resource(&json!({"observedGeneration": 3, "conditions": conditions})).state()
    }

    #[test]
    fn the_rows_of_the_table_have_their_names() {
        let cases = [
            (vec![("Ready", "True", "UpToDate")], State::UpToDate),
            (
                vec![("Ready", "True", "UpToDate"), ("SourceReady", "False", "SourceUnreachable")],
                State::SourceFailing,
            ),
            (
                vec![("Ready", "True", "UpToDate"), ("Reconciling", "True", "CheckingSource")],
                State::Checking,
            ),
            (
                vec![("Ready", "Unknown", "Progressing"), ("Reconciling", "True", "Building")],
                State::Building,
            ),
            (
                vec![("Ready", "Unknown", "Progressing"), ("Reconciling", "True", "Unschedulable")],
                State::Blocked,
            ),
            (
                vec![("Ready", "False", "OutOfMemory"), ("Reconciling", "True", "ProgressingWithRetry")],
                State::Retrying,
            ),
            (
                vec![("Ready", "False", "PushDenied"), ("Stalled", "True", "PushDenied")],
                State::Failed,
            ),
            (
                vec![("Ready", "False", "Suspended"), ("Stalled", "True", "Suspended")],
                State::Suspended,
            ),
            (
                vec![("Ready", "False", "Canceled"), ("Stalled", "True", "Canceled")],
                State::Canceled,
            ),
            (vec![("Reconciling", "True", "PolishingTheChrome")], State::Other),
            (vec![], State::Other),
        ];
        for (conditions, expected) in cases {
            assert_eq!(state(&conditions), expected, "{conditions:?}");
        }
        assert_eq!(resource(&json!({"observedGeneration": -1})).state(), State::Unseen);
        assert_eq!(resource(&json!({"observedGeneration": 2})).state(), State::Unseen);
    }

    #[test]
    fn what_this_version_does_not_understand_is_said() {
        let object = json!({
            "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage", "metadata": {"name": "x"},
            "spec": {"source": {"git": {"url": "https://git.example.com/a.git"}}, "image": {"repository": "r/x", "compression": "brotli"}},
        });
        let error = Resource::of(serde_json::from_value(object).unwrap()).unwrap_err();
        assert!(error.contains("brotli"), "{error}");
    }
}
