//! The next build: its number, its attempt, its reasons. It is written into the status before its Job is made.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{BuildPhase, ChangeReason, LatestBuild, RobotImage, RobotImageStatus};
use sha2::{Digest, Sha256};

use super::failure;
use super::outcome::{Chance, Note};
use super::request_key::differences;
use crate::observe::Revision;
use crate::text;

/// Reason of a build that nothing but an earlier failure asks for.
const RETRY: &str = "Retry";

/// Puts the next build into the status and answers the events to tell.
pub(super) fn start(
    status: &mut RobotImageStatus,
    image: &RobotImage,
    key: &str,
    revision: Option<&Revision>,
    now: Timestamp,
    chance: Chance,
) -> Vec<Note> {
    let generation = image.metadata.generation.unwrap_or_default();
    let before = status.latest_build.take();
    let failed = failure::standing(status, key, generation).cloned();
    let retried = before
        .as_ref()
        .filter(|build| build.phase == BuildPhase::Failed && build.request_key == key && build.generation == generation)
        .filter(|build| failed.as_ref().is_some_and(|failed| failure::again(failed, build.attempt)));
    let (number, attempt, reasons) = if let Some(build) = retried {
        (build.number, build.attempt + 1, build.reasons.clone())
    } else {
        let last = before.as_ref().map_or(0, |build| build.number);
        let number = status.build_counter.unwrap_or_default().max(last) + 1;
        (number, 1, reasons(status, before.as_ref(), key, revision))
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
        build_id: hex::encode(chance.id),
        job: job_name(image, number, attempt),
        uid: None,
        request_key: key.to_owned(),
        generation,
        phase: BuildPhase::Pending,
        plan: None,
        reasons,
        steps: Vec::new(),
        started_at: Some(Time(now)),
        duration: None,
        revision: revision.map(ToString::to_string),
    });
    vec![Note::normal("BuildStarted", told)]
}

/// Why: that there is no image yet, what differs from the request of the last image (of the last build, while there is none),
/// or an earlier failure. Empty for a look by a build pod.
fn reasons(status: &RobotImageStatus, before: Option<&LatestBuild>, key: &str, revision: Option<&Revision>) -> Vec<ChangeReason> {
    let plain = |kind: &str| ChangeReason {
        kind: kind.to_owned(),
        from: None,
        to: None,
    };
    let mut reasons = Vec::new();
    if status.latest_image.is_none() {
        reasons.push(plain("Initial"));
    }
    let image = status.latest_image.as_ref().map(|image| image.request_key.as_str());
    if let Some(since) = image.or(before.map(|build| build.request_key.as_str())) {
        reasons.extend(differences(since, key));
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
    reasons
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
