//! Conditions and summary: the rows of the table in docs/ARCHITECTURE.md, exactly as kstatus and `kubectl wait` read them.
//!
//! Invariant: every condition carries the observed generation; its transition time changes with its status only; no message
//! holds a time, a random name or a count that moves by itself, so that an unchanged state is an equal status.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use robotimage_crds::api::condition::{AVAILABLE, READY, RECONCILING, SOURCE_READY, STALLED, reasons};
use robotimage_crds::api::{LastFailure, RobotImageStatus};
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;

use super::looping;
use crate::observe::Refusal;
use crate::text;

/// Most bytes of a message in a condition.
const MESSAGE: usize = 300;

/// Which row of the table.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Stand {
    /// New generation, or first resolve.
    Resolving,
    /// A new revision is looked at; the image is still the newest that is known.
    Checking,
    /// Waits for its turn.
    Queued(String),
    /// The pod does not start.
    Blocked(Refusal),
    /// A build runs; the step, when it has lasted long.
    Building(Option<Step>),
    /// The image is the newest one asked for.
    UpToDate,
    /// Failed; the same is tried again, this often in all.
    Retrying(u32),
    /// Failed; only a change helps.
    Failed,
    /// Suspended, and the image is not what the spec asks for.
    Suspended,
    /// Builds ended in the same image again and again; no more are made.
    Looping,
}

/// State of the source, when this decision knows it; the condition stays as it is otherwise.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SourceStand {
    /// Resolved.
    Resolved(String),
    /// Resolved once; nobody looks again.
    NotPolled(String),
    /// Not resolved, and why.
    Failed(Reason, String),
    /// Being resolved.
    Unknown,
}

/// Writes conditions and summary. The status has everything else already; `before` are the conditions of the old one.
pub(super) fn write(
    status: &mut RobotImageStatus,
    before: &[Condition],
    stand: &Stand,
    source: Option<SourceStand>,
    generation: i64,
    now: Timestamp,
) {
    let mut writer = Writer {
        before,
        generation,
        now,
        conditions: Vec::new(),
    };
    let failure = status.last_failure.clone().unwrap_or_default();
    ready(&mut writer, stand, status, &failure);
    match &status.latest_image {
        Some(image) => writer.set(AVAILABLE, "True", reasons::IMAGE_PUBLISHED, &image.reference),
        None => writer.set(AVAILABLE, "False", reasons::NEVER_BUILT, "no image has been published yet"),
    }
    writer.source(source);
    status.summary = Some(summary(stand, status.summary.as_deref(), &failure));
    status.conditions = writer.conditions;
}

/// Ready, Reconciling and Stalled: one row.
fn ready(writer: &mut Writer<'_>, stand: &Stand, status: &RobotImageStatus, failure: &LastFailure) {
    let image = status.latest_image.as_ref().map_or("", |image| &image.reference);
    let number = status.latest_build.as_ref().map_or(0, |build| build.number);
    match stand {
        Stand::Resolving => {
            writer.set(READY, "Unknown", reasons::PROGRESSING, "the source's reference is being resolved");
            writer.set(
                RECONCILING,
                "True",
                reasons::RESOLVING_SOURCE,
                "the source's reference is being resolved",
            );
        }
        Stand::Checking => {
            writer.set(READY, "True", reasons::UP_TO_DATE, image);
            writer.set(
                RECONCILING,
                "True",
                reasons::CHECKING_SOURCE,
                &format!("build {number} looks whether a new revision makes another image"),
            );
        }
        Stand::Queued(message) => {
            writer.set(READY, "Unknown", reasons::PROGRESSING, message);
            writer.set(RECONCILING, "True", reasons::QUEUED, message);
        }
        Stand::Blocked(refusal) => {
            let reason = if refusal.reason == Reason::QuotaExceeded {
                reasons::QUEUED
            } else {
                refusal.reason.as_str()
            };
            writer.set(READY, "Unknown", reasons::PROGRESSING, &refusal.message);
            writer.set(RECONCILING, "True", reason, &refusal.message);
        }
        Stand::Building(_) => {
            let message = format!("build {number} is running");
            writer.set(READY, "Unknown", reasons::PROGRESSING, &message);
            writer.set(RECONCILING, "True", reasons::BUILDING, &message);
        }
        Stand::UpToDate => writer.set(READY, "True", reasons::UP_TO_DATE, image),
        Stand::Retrying(of) => {
            writer.set(READY, "False", &failure.reason, &failure.message);
            let message = match failure.attempts {
                0 => "it is tried again".to_owned(),
                failed => format!("{failed} of {of} attempts failed; it is tried again"),
            };
            writer.set(RECONCILING, "True", reasons::PROGRESSING_WITH_RETRY, &message);
        }
        Stand::Failed => {
            writer.set(READY, "False", &failure.reason, &failure.message);
            writer.set(STALLED, "True", &failure.reason, &failure.message);
        }
        Stand::Looping => {
            let reason = Reason::LoopDetected.as_str();
            let message = looping::message(status);
            writer.set(READY, "False", reason, message);
            writer.set(STALLED, "True", reason, message);
        }
        Stand::Suspended => {
            let reason = Reason::Suspended.as_str();
            let message = "suspended, and the image is not what the spec asks for";
            writer.set(READY, "False", reason, message);
            writer.set(STALLED, "True", reason, message);
        }
    }
}

/// One line for the column STATUS.
fn summary(stand: &Stand, before: Option<&str>, failure: &LastFailure) -> String {
    match stand {
        Stand::Resolving => "Resolving source".to_owned(),
        Stand::Checking => "Ready, checking source".to_owned(),
        Stand::Queued(_) => "Queued".to_owned(),
        Stand::Blocked(refusal) => format!("Waiting: {}", refusal.reason),
        Stand::Building(Some(step)) => format!("Building ({})", step.as_str()),
        // The name of a step that has just ended stays until the next has lasted: one write a step at most.
        Stand::Building(None) => before.filter(|text| text.starts_with("Building")).unwrap_or("Building").to_owned(),
        Stand::UpToDate => "Ready".to_owned(),
        Stand::Retrying(_) => format!("Retrying: {}", failure.reason),
        Stand::Failed if failure.reason == Reason::Canceled.as_str() => "Canceled".to_owned(),
        Stand::Failed => format!("Failed: {}", failure.reason),
        Stand::Suspended => "Suspended".to_owned(),
        Stand::Looping => format!("Failed: {}", Reason::LoopDetected),
    }
}

struct Writer<'a> {
    before: &'a [Condition],
    generation: i64,
    now: Timestamp,
    conditions: Vec<Condition>,
}

impl Writer<'_> {
    fn set(&mut self, kind: &str, value: &str, reason: &str, message: &str) {
        let since = self
            .before
            .iter()
            .find(|old| old.type_ == kind && old.status == value)
            .map(|old| old.last_transition_time.clone());
        self.conditions.push(Condition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: reason.to_owned(),
            message: text::line(message, MESSAGE),
            observed_generation: Some(self.generation),
            last_transition_time: since.unwrap_or(Time(self.now)),
        });
    }

    fn source(&mut self, stand: Option<SourceStand>) {
        match stand {
            Some(SourceStand::Resolved(message)) => self.set(SOURCE_READY, "True", reasons::SOURCE_RESOLVED, &message),
            Some(SourceStand::NotPolled(message)) => self.set(SOURCE_READY, "True", reasons::POLLING_DISABLED, &message),
            Some(SourceStand::Failed(reason, message)) => self.set(SOURCE_READY, "False", reason.as_str(), &message),
            Some(SourceStand::Unknown) => self.set(
                SOURCE_READY,
                "Unknown",
                reasons::PROGRESSING,
                "the source's reference is being resolved",
            ),
            None => match self.before.iter().find(|old| old.type_ == SOURCE_READY).cloned() {
                Some(old) => self.set(SOURCE_READY, &old.status, &old.reason, &old.message),
                None => self.source(Some(SourceStand::Unknown)),
            },
        }
    }
}
