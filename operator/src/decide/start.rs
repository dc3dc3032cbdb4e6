//! The next build: its number, its attempt, its reasons. It is written into the status before its Job is made.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{BuildPhase, ChangeReason, LastFailure, LatestBuild, RobotImage, RobotImageStatus};
use robotimage_crds::reason::Reason;
use sha2::{Digest, Sha256};

use super::defaults::Settings;
use super::outcome::{Chance, Note};
use super::request_key::differences;
use super::{failure, memory, moving};
use crate::observe::Revision;
use crate::text;

/// Reason of a build that nothing but an earlier failure asks for.
const RETRY: &str = "Retry";
/// Reason of a build that a person asks for whatever has changed.
const REQUESTED: &str = "Requested";

/// Whether a build was asked for whatever has changed: it takes nothing over from the image before.
pub(crate) fn is_forced(build: &LatestBuild) -> bool {
    build.reasons.iter().any(|reason| reason.kind == REQUESTED)
}

/// What the next build is made from.
pub(super) struct Start<'a> {
    pub(super) image: &'a RobotImage,
    pub(super) settings: &'a Settings,
    /// Request key.
    pub(super) key: &'a str,
    pub(super) revision: Option<&'a Revision>,
    /// A person wants it whatever has changed.
    pub(super) forced: bool,
    /// The image before is gone.
    pub(super) gone: bool,
    pub(super) now: Timestamp,
    pub(super) chance: Chance,
}

/// Puts the next build into the status and answers the events to tell.
pub(super) fn start(status: &mut RobotImageStatus, next: &Start<'_>) -> Vec<Note> {
    let generation = next.image.metadata.generation.unwrap_or_default();
    let before = status.latest_build.take();
    let failed = failure::standing(status, next.key, generation).cloned();
    let again = |build: &LatestBuild| {
        let planned = |failed| failure::again(failed, build.attempt, next.settings.retries);
        build.phase == BuildPhase::Failed && build.generation == generation && failed.as_ref().is_some_and(planned)
    };
    let retried = before
        .as_ref()
        .filter(|build| !next.forced && build.request_key == next.key && again(build));
    let (number, attempt, reasons) = if let Some(build) = retried {
        (build.number, build.attempt + 1, build.reasons.clone())
    } else {
        let last = before.as_ref().map_or(0, |build| build.number);
        let number = status.build_counter.unwrap_or_default().max(last) + 1;
        let mut reasons = reasons(status, before.as_ref(), next.key, next.revision, next.gone);
        if next.forced || before.as_ref().is_some_and(|build| is_owed(status, build)) {
            reasons.push(plain(REQUESTED));
        }
        (number, 1, reasons)
    };
    status.build_counter = Some(number);
    let names: Vec<&str> = reasons.iter().map(|reason| reason.kind.as_str()).collect();
    let why = if names.is_empty() {
        "a look for a new revision".to_owned()
    } else {
        names.join(", ")
    };
    let told = format!("build {number} attempt {attempt}: {why}");
    status.latest_build = Some(LatestBuild {
        number,
        attempt,
        build_id: hex::encode(next.chance.id),
        job: job_name(next.image, number, attempt),
        uid: None,
        request_key: next.key.to_owned(),
        generation,
        phase: BuildPhase::Pending,
        plan: None,
        reasons,
        steps: Vec::new(),
        blocked: None,
        memory: before
            .filter(|build| build.generation == generation)
            .and_then(|build| memory(&build, failed.as_ref(), next)),
        started_at: Some(Time(next.now)),
        duration: None,
        revision: next.revision.map(ToString::to_string),
    });
    vec![Note::normal("BuildStarted", told)]
}

/// The memory that a spec's builds have grown to stays; it grows on where the same request ran out of it.
fn memory(before: &LatestBuild, failed: Option<&LastFailure>, next: &Start<'_>) -> Option<String> {
    let lacked = failed.is_some_and(|failed| failed.reason == Reason::OutOfMemory.as_str());
    let grown = if lacked && before.phase == BuildPhase::Failed && before.request_key == next.key {
        memory::grown(before, next.settings)
    } else {
        None
    };
    grown.or_else(|| before.memory.clone())
}

/// A forced build that came to no end is still owed, unless a person has ended it.
fn is_owed(status: &RobotImageStatus, build: &LatestBuild) -> bool {
    matches!(build.phase, BuildPhase::Failed | BuildPhase::Canceled)
        && is_forced(build)
        && !status.last_failure.as_ref().is_some_and(failure::is_cancel)
}

/// Why: that there is no image yet, what differs from the request of the last image (of the last build, while there is none),
/// or an earlier failure. Empty for a look by a build pod.
fn reasons(
    status: &RobotImageStatus,
    before: Option<&LatestBuild>,
    key: &str,
    revision: Option<&Revision>,
    gone: bool,
) -> Vec<ChangeReason> {
    let mut reasons = Vec::new();
    if status.latest_image.is_none() {
        reasons.push(plain("Initial"));
    }
    let image = status.latest_image.as_ref().map(|image| image.request_key.as_str());
    if let Some(since) = image.or(before.map(|build| build.request_key.as_str())) {
        reasons.extend(differences(since, key));
        moving::describe(&mut reasons, status.inputs.as_ref());
        let known = before
            .filter(|build| build.request_key == since)
            .and_then(|build| build.revision.as_deref())
            .and_then(Revision::parse);
        for reason in reasons.iter_mut().filter(|reason| reason.kind == "SourceChanged") {
            (reason.from, reason.to) = (known.as_ref().map(Revision::short), revision.map(Revision::short));
        }
    }
    if status
        .last_failure
        .as_ref()
        .is_some_and(|failure| failure.request_key.as_deref() == Some(key))
    {
        reasons.push(plain(RETRY));
    }
    if gone {
        reasons.push(plain(moving::IMAGE_MISSING));
    }
    reasons
}

fn plain(kind: &str) -> ChangeReason {
    ChangeReason {
        kind: kind.to_owned(),
        from: None,
        to: None,
    }
}

/// Name of the Job of an attempt: the image's name, cut to fit, the beginning of a hash of its UID, number and attempt; at
/// most 63 bytes. A resource made anew under an old name never meets the Jobs of the old one.
pub(super) fn job_name(image: &RobotImage, number: i64, attempt: u32) -> String {
    let uid = image.metadata.uid.as_deref().unwrap_or_default();
    let mut hash = hex::encode(Sha256::digest(uid));
    hash.truncate(8);
    let tail = format!("-{hash}-{number}-{attempt}");
    let name = image.metadata.name.as_deref().unwrap_or_default();
    // A name of a resource may hold dots; that of a pod, which follows the Job's, is a host name and better has none.
    let name = text::cut(name, 63 - tail.len()).replace('.', "-");
    format!("{}{tail}", name.trim_end_matches('-'))
}
