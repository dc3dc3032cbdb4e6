//! What `status -o json` prints: a shape of its own that stays, whatever becomes of the resource's version.
//!
//! Invariant: fields are added and never renamed or removed within [`VERSION`]; docs/kubectl.md lists them.

use jiff::Timestamp;
use robotimage_crds::api::{EnvironmentStatus, HistoryEntry, Inputs, LastFailure, LatestBuild, LatestImage, SourceStatus};
use serde::Serialize;

use crate::advice;
use crate::cluster::Listed;
use crate::resource::{Resource, State};

/// Version of all documents that the plugin prints.
pub const VERSION: &str = "kubectl.robotimage.dev/v1";

/// One RobotImage.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How it stands, one word of the list in docs/kubectl.md.
    pub state: State,
    /// The same for people.
    pub summary: String,
    /// Whether the spec says so.
    pub suspended: bool,
    /// Generation of the spec.
    pub generation: i64,
    /// Generation that the rest of this document speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_at: Option<Timestamp>,
    /// The conditions, as in the status.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionReport>,
    /// The revision that was resolved last, as in `status.source`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,
    /// As `status.latestImage`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<LatestImage>,
    /// As `status.environment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentStatus>,
    /// As `status.inputs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
    /// As `status.latestBuild`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<LatestBuild>,
    /// As `status.lastFailure`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<LastFailure>,
    /// What to do about the failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// As `status.history`, newest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,
}

/// A condition.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ConditionReport {
    /// Ready, Available, SourceReady, Reconciling or Stalled.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word.
    pub reason: String,
    /// For people.
    pub message: String,
    /// When the status changed last.
    pub since: Timestamp,
}

/// Something that this version of the plugin does not understand.
#[derive(Serialize, Clone, Debug)]
pub struct UnreadableReport {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What is not understood.
    pub problem: String,
}

/// All RobotImages that were asked for.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ReportList {
    /// [`VERSION`].
    pub api_version: &'static str,
    /// `StatusList`.
    pub kind: &'static str,
    /// By namespace and name.
    pub items: Vec<Report>,
    /// Those that cannot be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<UnreadableReport>,
}

/// A document about one RobotImage.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Document<T> {
    /// [`VERSION`].
    pub api_version: &'static str,
    /// Status, Build, Change or Explanation.
    pub kind: &'static str,
    /// The rest.
    #[serde(flatten)]
    pub content: T,
}

impl<T> Document<T> {
    /// A document of a kind.
    pub fn new(kind: &'static str, content: T) -> Self {
        Self {
            api_version: VERSION,
            kind,
            content,
        }
    }
}

impl Report {
    /// Of a resource.
    pub(crate) fn of(resource: &Resource) -> Self {
        let status = resource.status.clone();
        Self {
            namespace: resource.namespace().to_owned(),
            name: resource.name().to_owned(),
            state: resource.state(),
            summary: resource.summary(),
            suspended: resource.suspended(),
            generation: resource.generation(),
            observed_generation: status.observed_generation,
            created_at: resource.image.metadata.creation_timestamp.as_ref().map(|time| time.0),
            conditions: status
                .conditions
                .into_iter()
                .map(|condition| ConditionReport {
                    kind: condition.type_,
                    status: condition.status,
                    reason: condition.reason,
                    message: condition.message,
                    since: condition.last_transition_time.0,
                })
                .collect(),
            source: status.source,
            image: status.latest_image,
            environment: status.environment,
            inputs: status.inputs,
            build: status.latest_build,
            advice: status.last_failure.as_ref().map(advice::of),
            failure: status.last_failure,
            history: status.history,
        }
    }
}

impl ReportList {
    /// Of what was listed.
    pub(crate) fn of(listed: &[Listed]) -> Self {
        let (mut items, mut unreadable) = (Vec::new(), Vec::new());
        for one in listed {
            match one {
                Listed::Known(resource) => items.push(Report::of(resource)),
                Listed::Unreadable { namespace, name, problem } => unreadable.push(UnreadableReport {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    problem: problem.clone(),
                }),
            }
        }
        Self {
            api_version: VERSION,
            kind: "StatusList",
            items,
            unreadable,
        }
    }
}
