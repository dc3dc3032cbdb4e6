//! What a decision is made of.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use robotimage_crds::api::RobotImageStatus;

use super::queue::Lane;

/// Randomness for one decision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance {
    /// 128 random bits: the id of a build that starts now.
    pub id: [u8; 16],
    /// In 0..1: the jitter of a retry.
    pub unit: f64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The next step.
    pub next: Next,
    /// Events to tell once the write of the status has succeeded.
    pub notes: Vec<Note>,
    /// When to decide again, if nothing happens before. `None`: when something happens.
    pub again: Option<Duration>,
    /// A build would begin now if there were a slot for it.
    pub wants: Option<Lane>,
}

/// The next step.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Write this status, then decide again at once.
    Write(Box<RobotImageStatus>),
    /// Do all of this; the status already announces it.
    Act(Vec<Action>),
    /// Nothing.
    Rest,
}

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the live build's Job, and before it the platform's ConfigMap of its namespace.
    CreateJob(Box<Job>),
    /// Write the image into the ConfigMap of `image.publishTo`.
    Announce {
        /// Its name.
        name: String,
        /// Its keys.
        data: BTreeMap<String, String>,
    },
    /// Delete a Job with its pods.
    DeleteJob {
        /// Its name.
        name: String,
        /// Its UID; another Job of that name stays.
        uid: String,
    },
}

/// An event to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Normal or warning.
    pub kind: NoteKind,
    /// For example BuildStarted.
    pub reason: &'static str,
    /// For people.
    pub message: String,
}

/// Severity of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKind {
    /// As it should be.
    Normal,
    /// Somebody may have to look.
    Warning,
}

impl Note {
    pub(super) fn normal(reason: &'static str, message: String) -> Self {
        Self {
            kind: NoteKind::Normal,
            reason,
            message,
        }
    }

    pub(crate) fn warning(reason: &'static str, message: String) -> Self {
        Self {
            kind: NoteKind::Warning,
            reason,
            message,
        }
    }
}

/// Whole seconds, as API times are.
pub(super) fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
