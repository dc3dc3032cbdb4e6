//! The status fits into 6 KiB, whatever was reported.

use robotimage_crds::api::RobotImageStatus;

use crate::text;

/// Most bytes of a status as JSON.
pub(super) const MOST: usize = 6 * 1024;
/// What the last log lines are cut to before history is given up.
const TAIL: usize = 400;
/// What a message is cut to when nothing else is left.
const MESSAGE: usize = 100;

/// What can be given up, the least missed first; each answers whether it found something.
const STAGES: [fn(&mut RobotImageStatus) -> bool; 13] = [
    |status| {
        let tail = status
            .last_failure
            .as_mut()
            .and_then(|failure| failure.log_tail.as_mut())
            .filter(|tail| tail.len() > TAIL);
        tail.map(|tail| *tail = text::tail(tail, TAIL)).is_some()
    },
    |status| status.history.len() > 2 && status.history.pop().is_some(),
    |status| status.last_failure.as_mut().and_then(|failure| failure.log_tail.take()).is_some(),
    |status| {
        status
            .latest_image
            .as_mut()
            .is_some_and(|image| image.tags.len() > 1 && image.tags.pop().is_some())
    },
    |status| {
        let reasons = status.latest_build.iter_mut().flat_map(|build| &mut build.reasons);
        reasons.fold(false, |cut, reason| cut | reason.from.take().is_some() | reason.to.take().is_some())
    },
    |status| {
        let messages = status
            .conditions
            .iter_mut()
            .map(|condition| &mut condition.message)
            .filter(|message| message.len() > MESSAGE);
        messages.fold(false, |_, message| {
            *message = text::line(message, MESSAGE);
            true
        })
    },
    |status| {
        let steps = status.latest_build.iter_mut().flat_map(|build| &mut build.steps);
        steps.fold(false, |cut, step| cut | step.cache.take().is_some())
    },
    |status| status.latest_build.as_mut().and_then(|build| build.revision.take()).is_some(),
    |status| {
        let source = status.source.as_mut();
        source.is_some_and(|source| source.message.take().is_some() | source.author.take().is_some())
    },
    |status| {
        let environment = status.environment.as_mut();
        environment.is_some_and(|environment| environment.blueprint.take().is_some())
    },
    |status| {
        let message = status.last_failure.as_mut().map(|failure| &mut failure.message);
        message
            .filter(|message| message.len() > MESSAGE)
            .map(|message| *message = text::line(message, MESSAGE))
            .is_some()
    },
    |status| {
        let steps = status.latest_build.as_mut().map(|build| &mut build.steps);
        steps.is_some_and(|steps| steps.pop().is_some())
    },
    |status| status.history.pop().is_some(),
];

/// Cuts until the status fits.
pub(super) fn fit(status: &mut RobotImageStatus) {
    while size(status) > MOST {
        if !STAGES.iter().any(|cut| cut(status)) {
            return;
        }
    }
}

fn size(status: &RobotImageStatus) -> usize {
    serde_json::to_vec(status).expect("invariant: a status is plain data").len()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use robotimage_crds::api::{
        Blocked, ChangeReason, EnvironmentStatus, HistoryEntry, Inputs, LastFailure, LastHandled, LatestBuild, LatestImage, LayerStatus,
        LoopStatus, SourceStatus, StepStatus,
    };

    use super::*;

    fn long(bytes: usize) -> String {
        "\"".repeat(bytes / 2)
    }

    /// Everything as large as the operator lets it become: its own cuts of foreign text, and the bounds of the spec. A build that
    /// is kept from starting has no plan, no steps and no end.
    fn fullest(is_blocked: bool) -> RobotImageStatus {
        let time = || Time("2026-03-01T10:00:00Z".parse().unwrap());
        let key = "0".repeat(62 + 2 * 14 + 12);
        let condition = |kind: &str| Condition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: "BuilderImagePullFailed".to_owned(),
            message: long(300),
            observed_generation: Some(i64::MAX),
            last_transition_time: time(),
        };
        let reason = || ChangeReason {
            kind: "PlatformChanged".to_owned(),
            from: Some(long(48)),
            to: Some(long(48)),
        };
        let step = |name: &str| StepStatus {
            name: name.to_owned(),
            started_at: Some(time()),
            duration: Some("23h59m59s".to_owned()),
            cache: (name == "resolve").then(|| long(120)),
        };
        let layer = |role: &str| LayerStatus {
            role: role.to_owned(),
            count: 99,
            size: i64::MAX,
            uploaded: i64::MAX,
        };
        let entry = |number| HistoryEntry {
            number,
            digest: Some("0".repeat(12)),
            revision: Some(long(48)),
            reasons: vec!["PlatformChanged".to_owned(); 4],
            outcome: "BuilderImagePullFailed".to_owned(),
            started_at: Some(time()),
            duration: Some("23h59m59s".to_owned()),
        };
        RobotImageStatus {
            observed_generation: Some(i64::MAX),
            conditions: ["Ready", "Stalled", "Available", "SourceReady"].map(condition).to_vec(),
            summary: Some("Building (resolve)".to_owned()),
            source: Some(SourceStatus {
                revision: long(300),
                short: long(48),
                tree_hash: Some(long(80)),
                author: Some(long(64)),
                message: Some(long(72)),
            }),
            environment: Some(EnvironmentStatus {
                key: "0".repeat(64),
                blueprint: Some("0".repeat(64)),
                packages: Some(i64::MAX),
                resolved_at: Some(time()),
            }),
            inputs: Some(Inputs {
                base: long(600),
                rcc: long(120),
                rcc_image: Some("0".repeat(71)),
                compatibility: 1,
                unchecked: vec!["base".to_owned(), "image".to_owned(), "rcc".to_owned()],
            }),
            latest_image: Some(LatestImage {
                reference: "r".repeat(327),
                digest: "0".repeat(71),
                short: "0".repeat(12),
                tags: vec!["t".repeat(128); 10],
                size: i64::MAX,
                uploaded: i64::MAX,
                layers: ["base", "rcc", "environment", "home", "code"].map(layer).to_vec(),
                platforms: vec!["linux/amd64".to_owned()],
                request_key: key.clone(),
                build_key: "0".repeat(64),
                published_at: time(),
            }),
            latest_build: Some(LatestBuild {
                number: i64::MAX,
                attempt: 10,
                build_id: "0".repeat(32),
                job: "j".repeat(63),
                uid: Some("0".repeat(36)),
                request_key: key.clone(),
                generation: i64::MAX,
                plan: (!is_blocked).then(|| "CodeOnly".to_owned()),
                reasons: vec![reason(), reason(), reason(), reason()],
                steps: if is_blocked {
                    Vec::new()
                } else {
                    ["fetch", "resolve", "publish"].map(step).to_vec()
                },
                started_at: Some(time()),
                duration: (!is_blocked).then(|| "23h59m59s".to_owned()),
                blocked: is_blocked.then(|| Blocked {
                    reason: "BuilderImagePullFailed".to_owned(),
                    since: time(),
                }),
                memory: Some("9223372036854775807".to_owned()),
                revision: Some(long(300)),
                ..LatestBuild::default()
            }),
            last_failure: Some(LastFailure {
                reason: "CredentialHostMismatch".to_owned(),
                owner: "Infrastructure".to_owned(),
                retryable: true,
                message: long(400),
                log_tail: Some(long(1024)),
                request_key: Some(key),
                attempts: u32::MAX,
                next_retry_at: Some(time()),
                generation: Some(i64::MAX),
            }),
            history: (0..20).map(entry).collect(),
            build_counter: Some(i64::MAX),
            last_handled: Some(LastHandled {
                requested_at: Some(long(64)),
                force_at: Some(long(64)),
                cancel: Some(long(64)),
            }),
            last_handled_reconcile_at: Some(long(64)),
            repeated: Some(LoopStatus {
                build_key: "0".repeat(64),
                count: 6,
                since: time(),
                platform: Some("0".repeat(8)),
            }),
        }
    }

    #[test]
    fn at_its_fullest_it_fits() {
        for is_blocked in [false, true] {
            let mut status = fullest(is_blocked);
            assert!(size(&status) > 2 * MOST, "the test does not fill it");
            fit(&mut status);
            assert!(size(&status) <= MOST, "{}", size(&status));
            assert_eq!(status.conditions.len(), 4);
            assert!(!status.latest_image.as_ref().unwrap().tags.is_empty());
            let again = status.clone();
            fit(&mut status);
            assert_eq!(status, again);
        }
    }

    #[test]
    fn what_fits_is_left_alone() {
        let mut status = RobotImageStatus {
            history: vec![HistoryEntry::default(); 20],
            ..RobotImageStatus::default()
        };
        let before = status.clone();
        fit(&mut status);
        assert_eq!(status, before);
    }
}
