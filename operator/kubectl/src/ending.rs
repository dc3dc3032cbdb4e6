//! How a build of a number ended, as the status tells it: what `logs` and `build --wait` end with.

use robotimage_crds::api::{BuildPhase, LastFailure};
use robotimage_crds::reason::Reason;
use serde::Serialize;

use crate::advice;
use crate::out::Out;
use crate::resource::Resource;
use crate::screen::{Tone, clean_lines};

/// Where a build is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    /// It has not ended.
    Running {
        /// Its attempt.
        attempt: u32,
    },
    /// An attempt failed; the same is tried again.
    WillRetry {
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        failure: Box<LastFailure>,
    },
    /// It made or confirmed an image.
    Succeeded {
        /// What to deploy; `None` when a newer image has taken its place.
        reference: Option<String>,
        /// Whether nothing had to be made.
        noop: bool,
    },
    /// It failed for good.
    Failed(Box<LastFailure>),
    /// It was ended: Canceled, Superseded or Suspended.
    GivenUp(String),
    /// It is over, and of how it ended only a word is left.
    Over {
        /// The outcome in the history.
        outcome: String,
    },
    /// The status says nothing of it any more.
    Forgotten,
    /// It was not waited for any longer.
    TimedOut {
        /// What was last known.
        told: String,
    },
}

/// The same for machines.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Outcome<'a> {
    build: i64,
    result: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a LastFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
}

impl Ending {
    /// Of a build number.
    pub(crate) fn of(resource: &Resource, number: i64) -> Self {
        let latest = resource.status.latest_build.as_ref().filter(|build| build.number == number);
        let Some(build) = latest else {
            return match resource.history(number).map(|entry| entry.outcome.clone()) {
                Some(outcome) if outcome == "Succeeded" => Self::Succeeded {
                    reference: None,
                    noop: false,
                },
                Some(outcome) if given_up(&outcome) => Self::GivenUp(outcome),
                Some(outcome) => Self::Over { outcome },
                None => Self::Forgotten,
            };
        };
        match build.phase {
            BuildPhase::Pending | BuildPhase::Running => Self::Running { attempt: build.attempt },
            BuildPhase::Succeeded => Self::Succeeded {
                reference: resource.status.latest_image.as_ref().map(|image| image.reference.clone()),
                noop: build.plan.as_deref() == Some("Noop"),
            },
            BuildPhase::Canceled => {
                let outcome = resource.history(number).map(|entry| entry.outcome.clone());
                let stands = resource.status.last_failure.as_ref().map(|failure| failure.reason.clone());
                let reason = outcome
                    .or(stands.filter(|reason| given_up(reason)))
                    .unwrap_or_else(|| Reason::Canceled.to_string());
                Self::GivenUp(reason)
            }
            BuildPhase::Failed => {
                let failure = Box::new(resource.status.last_failure.clone().unwrap_or_default());
                if resource.retrying() {
                    Self::WillRetry {
                        attempt: build.attempt,
                        failure,
                    }
                } else {
                    Self::Failed(failure)
                }
            }
        }
    }

    /// The exit code of whoever waited for it; `None` while it goes on.
    pub(crate) fn exit_code(&self) -> Option<u8> {
        match self {
            Self::Running { .. } | Self::WillRetry { .. } | Self::TimedOut { .. } => None,
            Self::Succeeded { .. } => Some(0),
            Self::Failed(_) | Self::GivenUp(_) | Self::Over { .. } | Self::Forgotten => Some(1),
        }
    }

    /// Tells it as a remark.
    pub(crate) fn tell(&self, number: i64, out: Out) {
        match self {
            Self::Running { attempt } => out.note(&format!("build {number} goes on (attempt {attempt}); -f follows it")),
            Self::WillRetry { attempt, failure } => {
                out.remark(
                    Tone::Bad,
                    &format!("build {number}: attempt {attempt} failed: {}: {}", failure.reason, failure.message),
                );
                out.note(&match &failure.next_retry_at {
                    Some(time) => format!("it is tried again at {}", time.0),
                    None => "it is tried again".to_owned(),
                });
            }
            Self::Succeeded { reference, noop } => {
                let what = if *noop { "nothing had changed" } else { "published" };
                let image = reference.as_ref().map(|reference| format!(": {reference}")).unwrap_or_default();
                out.remark(Tone::Good, &format!("build {number} succeeded, {what}{image}"));
            }
            Self::Failed(failure) => {
                let (what, _) = advice::split(&failure.message);
                out.remark(Tone::Bad, &format!("build {number} failed: {}: {what}", failure.reason));
                out.remark(Tone::Plain, &format!("  {}", advice::of(failure)));
            }
            Self::GivenUp(reason) => out.remark(Tone::Bad, &format!("build {number} was given up: {reason}")),
            Self::Over { outcome } => out.remark(Tone::Bad, &format!("build {number} failed: {outcome}")),
            Self::Forgotten => out.note(&format!("the status says nothing of build {number} any more")),
            Self::TimedOut { told } => {
                out.remark(Tone::Bad, &format!("time is over; last: {told}"));
                out.note("what was asked for goes on in the cluster");
            }
        }
    }

    /// For machines; 0 is the number of a build that was not made.
    pub(crate) fn outcome(&self, build: i64) -> Outcome<'_> {
        let (result, reason, failure, reference) = match self {
            Self::Running { .. } => ("Running", None, None, None),
            Self::WillRetry { failure, .. } => ("WillRetry", Some(failure.reason.as_str()), Some(&**failure), None),
            Self::Succeeded { reference, .. } => ("Succeeded", None, None, reference.as_deref()),
            Self::Failed(failure) => ("Failed", Some(failure.reason.as_str()), Some(&**failure), None),
            Self::GivenUp(reason) => ("GivenUp", Some(reason.as_str()), None, None),
            Self::Over { outcome } => ("Failed", Some(outcome.as_str()), None, None),
            Self::Forgotten => ("Forgotten", None, None, None),
            Self::TimedOut { told } => ("TimedOut", Some(told.as_str()), None, None),
        };
        Outcome {
            build,
            result,
            reason,
            failure,
            reference,
        }
    }

    /// The last lines that the status kept of it.
    pub(crate) fn tail(&self) -> Option<String> {
        match self {
            Self::Failed(failure) | Self::WillRetry { failure, .. } => failure.log_tail.as_deref().map(clean_lines),
            _ => None,
        }
    }
}

/// Whether an outcome is an end by somebody's wish.
fn given_up(outcome: &str) -> bool {
    matches!(
        outcome.parse(),
        Ok(Reason::Canceled | Reason::Superseded | Reason::Suspended | Reason::LoopDetected)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::tests::resource;

    fn build(number: i64, phase: &str) -> Value {
        json!({"number": number, "attempt": 2, "buildId": "0", "job": "j", "requestKey": "k", "generation": 3, "phase": phase})
    }

    fn ending(status: Value) -> Ending {
        let mut status = status;
        status["observedGeneration"] = json!(3);
        Ending::of(&resource(&status), 7)
    }

    #[test]
    fn a_build_ends_as_its_status_says() {
        assert_eq!(ending(json!({"latestBuild": build(7, "Pending")})), Ending::Running { attempt: 2 });
        assert_eq!(ending(json!({"latestBuild": build(7, "Running")})).exit_code(), None);
        assert_eq!(ending(json!({"latestBuild": build(7, "Succeeded")})).exit_code(), Some(0));
        assert_eq!(
            ending(json!({"latestBuild": build(7, "Canceled")})),
            Ending::GivenUp("Canceled".to_owned())
        );
        let superseded = json!({"latestBuild": build(7, "Canceled"), "history": [{"number": 7, "outcome": "Superseded"}]});
        assert_eq!(ending(superseded), Ending::GivenUp("Superseded".to_owned()));
        assert_eq!(ending(json!({"latestBuild": build(8, "Running")})), Ending::Forgotten);
        assert_eq!(ending(json!({})).exit_code(), Some(1));
    }

    #[test]
    fn a_failure_that_is_tried_again_is_no_end() {
        let failure = json!({"reason": "OutOfMemory", "owner": "Infrastructure", "retryable": true, "message": "m", "attempts": 1, "logTail": "x\u{1b}[2Jy"});
        let retrying = json!([{"type": "Reconciling", "status": "True", "reason": "ProgressingWithRetry", "message": "", "lastTransitionTime": "2026-03-01T09:00:00Z"}]);
        let again = ending(json!({"latestBuild": build(7, "Failed"), "lastFailure": failure, "conditions": retrying}));
        assert!(matches!(again, Ending::WillRetry { attempt: 2, .. }));
        assert_eq!((again.exit_code(), again.tail()), (None, Some("xy".to_owned())));
        let failed = ending(json!({"latestBuild": build(7, "Failed"), "lastFailure": failure}));
        assert!(matches!(failed, Ending::Failed(_)));
        assert_eq!(failed.exit_code(), Some(1));
    }

    #[test]
    fn older_builds_are_known_by_their_history() {
        let over = |outcome: &str| ending(json!({"latestBuild": build(9, "Running"), "history": [{"number": 7, "outcome": outcome}]}));
        assert_eq!(over("Succeeded").exit_code(), Some(0));
        assert_eq!(over("Superseded"), Ending::GivenUp("Superseded".to_owned()));
        assert_eq!(
            over("PushDenied"),
            Ending::Over {
                outcome: "PushDenied".to_owned()
            }
        );
    }
}
