//! `build`: asks for a build and, if wanted, waits for its end.
//!
//! Invariant: the build that is waited for is the one that the operator made for this very wish: `status.lastHandled` says so
//! in the same write that starts it. A newer build that takes its place is waited for in its stead.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use robotimage_crds::api::annotation;
use robotimage_crds::reason::Reason;
use serde::Serialize;

use crate::arguments::BuildArguments;
use crate::change;
use crate::cluster::Cluster;
use crate::ending::{Ending, Outcome};
use crate::error::Error;
use crate::out::Out;
use crate::report::Document;
use crate::resource::{Resource, State};
use crate::status::reasons;
use crate::watching::Watching;

/// Exit code when time is over, as that of timeout(1).
const TIME_IS_OVER: u8 = 124;
/// How often the time that has passed is looked at.
const RHYTHM: Duration = Duration::from_secs(5);
/// An operator that has not answered for so long is worth a remark, and a source that failed before a verdict.
const SILENT: Duration = Duration::from_secs(30);

/// The document of `-o json`.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Built<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(flatten)]
    outcome: Outcome<'a>,
}

/// Runs it; the exit code.
pub(crate) async fn run(cluster: &Cluster, arguments: &BuildArguments, out: Out) -> Result<u8, Error> {
    let began = Instant::now();
    let done = change::change(cluster, &arguments.name, |resource| change::force(resource, Timestamp::now())).await?;
    if !arguments.wait {
        let follow = format!("`kubectl robotimage logs -f {}` follows it", arguments.name);
        change::tell(&done, vec![follow], out)?;
        return Ok(0);
    }
    out.note(&done.told);
    let mut watching = Watching::new(cluster, &done.resource, out);
    let token = done.resource.annotation(annotation::FORCE_AT).unwrap_or_default().to_owned();
    let mut wait = Wait::new(token);
    let ending = {
        let ended = follow(&mut wait, &mut watching, out);
        match arguments.timeout {
            Some(limit) => tokio::time::timeout(limit.saturating_sub(began.elapsed()), ended).await,
            None => Ok(ended.await),
        }
    };
    let ending = match ending {
        Ok(ending) => ending?,
        Err(_) => Ending::TimedOut { told: wait.last.clone() },
    };
    let number = wait.number.unwrap_or_default();
    if out.json_wanted() {
        Out::json(&Document::new(
            "Build",
            Built {
                namespace: done.resource.namespace(),
                name: done.resource.name(),
                outcome: ending.outcome(number),
            },
        ))?;
    }
    ending.tell(number, out);
    if let (
        false,
        Ending::Succeeded {
            reference: Some(reference),
            ..
        },
    ) = (out.json_wanted(), &ending)
    {
        Out::text(&format!("{reference}\n"))?;
    }
    Ok(match ending {
        Ending::TimedOut { .. } => TIME_IS_OVER,
        ending => ending.exit_code().unwrap_or(1),
    })
}

/// Waits for the end.
async fn follow(wait: &mut Wait, watching: &mut Watching, out: Out) -> Result<Ending, Error> {
    let began = Instant::now();
    let mut resource = watching.next().await?;
    loop {
        let (remarks, ending) = wait.see(&resource, began.elapsed());
        for remark in remarks {
            out.note(&remark);
        }
        if let Some(ending) = ending {
            return Ok(ending);
        }
        tokio::select! {
            next = watching.next() => resource = next?,
            () = tokio::time::sleep(RHYTHM) => {}
        }
    }
}

/// What is waited for.
#[derive(Clone, Debug, Default)]
struct Wait {
    token: String,
    /// The build that was made for it.
    number: Option<i64>,
    /// The last remark, which is not repeated.
    last: String,
    warned: bool,
}

impl Wait {
    fn new(token: String) -> Self {
        Self { token, ..Self::default() }
    }

    /// Takes in a state, seen so long after the wish: what is new in it for a person, and the end.
    fn see(&mut self, resource: &Resource, waited: Duration) -> (Vec<String>, Option<Ending>) {
        let mut remarks = Vec::new();
        if self.number.is_none()
            && let Some(ending) = self.answer(resource, waited, &mut remarks)
        {
            return (remarks, Some(ending));
        }
        let Some(mut number) = self.number else { return (remarks, None) };
        let mut ending = Ending::of(resource, number);
        let newest = resource.status.latest_build.as_ref().map_or(number, |build| build.number);
        if ending == Ending::GivenUp(Reason::Superseded.to_string()) && newest > number {
            self.say(
                format!("build {number} was superseded; build {newest} takes its place"),
                &mut remarks,
            );
            number = newest;
            self.number = Some(newest);
            ending = Ending::of(resource, newest);
        }
        match &ending {
            Ending::Running { attempt } => {
                let build = resource.status.latest_build.as_ref();
                let plan = build.and_then(|build| build.plan.as_deref());
                let kind = plan.map(|plan| format!(", {plan}")).unwrap_or_default();
                let what = match (resource.state(), resource.condition("Reconciling")) {
                    (State::Queued | State::Blocked, Some(condition)) => format!("waits: {}", condition.message),
                    _ => resource.summary(),
                };
                let attempt = if *attempt > 1 {
                    format!(", attempt {attempt}")
                } else {
                    String::new()
                };
                self.say(format!("build {number}{attempt}: {what}{kind}"), &mut remarks);
            }
            Ending::WillRetry { attempt, failure } => {
                let when = failure
                    .next_retry_at
                    .as_ref()
                    .map(|time| format!(" at {}", time.0))
                    .unwrap_or_default();
                let text = format!(
                    "build {number}: attempt {attempt} failed: {}: {}; it is tried again{when}",
                    failure.reason, failure.message
                );
                self.say(text, &mut remarks);
            }
            _ => return (remarks, Some(ending)),
        }
        (remarks, None)
    }

    /// Whether the operator has acted on the wish, and why not yet.
    fn answer(&mut self, resource: &Resource, waited: Duration, remarks: &mut Vec<String>) -> Option<Ending> {
        let handled = resource
            .status
            .last_handled
            .as_ref()
            .and_then(|handled| handled.force_at.as_deref());
        if handled == Some(&self.token)
            && let Some(build) = &resource.status.latest_build
        {
            self.number = Some(build.number);
            self.say(format!("build {} was made: {}", build.number, reasons(&build.reasons)), remarks);
            return None;
        }
        match resource.annotation(annotation::FORCE_AT) {
            Some(token) if token == self.token => {}
            Some(token) => {
                token.clone_into(&mut self.token);
                self.say(
                    "somebody else asked for a build as well; that one is waited for".to_owned(),
                    remarks,
                );
            }
            None => return Some(Ending::GivenUp("the wish was taken back: the annotation is gone".to_owned())),
        }
        if resource.suspended() {
            return Some(Ending::GivenUp(Reason::Suspended.to_string()));
        }
        let failure = resource.status.last_failure.as_ref();
        match (resource.state(), resource.live(), failure) {
            (_, Some(build), _) => self.say(format!("waits for build {} to end: {}", build.number, resource.summary()), remarks),
            // Nothing can be built from a source that cannot be resolved.
            (State::Failed, None, Some(failure)) if waited >= SILENT => {
                return Some(Ending::Failed(Box::new(failure.clone())));
            }
            (State::Retrying | State::Failed, None, Some(failure)) => {
                self.say(format!("{}: {}", resource.summary(), failure.message), remarks);
            }
            _ => {}
        }
        if waited >= SILENT && !self.warned {
            self.warned = true;
            let text = format!(
                "the operator has not acted on it for {} s: see whether it runs, and whether it watches namespace {}",
                waited.as_secs(),
                resource.namespace()
            );
            self.say(text, remarks);
        }
        None
    }

    fn say(&mut self, text: String, remarks: &mut Vec<String>) {
        if self.last != text {
            self.last.clone_from(&text);
            remarks.push(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::resource::tests::resource;

    const SOON: Duration = Duration::from_secs(1);

    fn seen(wait: &mut Wait, status: &Value, annotation: Option<&str>, waited: Duration) -> (Vec<String>, Option<Ending>) {
        let mut status = status.clone();
        status["observedGeneration"] = json!(3);
        let mut resource = resource(&status);
        resource.image.metadata.annotations = annotation.map(|value| [(annotation::FORCE_AT.to_owned(), value.to_owned())].into());
        wait.see(&resource, waited)
    }

    fn build(number: i64, phase: &str) -> Value {
        json!({"number": number, "attempt": 1, "buildId": "0", "job": "j", "requestKey": "k", "generation": 3, "phase": phase,
            "reasons": [{"type": "Requested"}]})
    }

    fn handled(number: i64, phase: &str) -> Value {
        json!({"lastHandled": {"forceAt": "now"}, "latestBuild": build(number, phase), "summary": "Building"})
    }

    #[test]
    fn the_build_that_was_made_for_the_wish_is_waited_for() {
        let mut wait = Wait::new("now".to_owned());
        let before = json!({"latestBuild": build(4, "Running"), "summary": "Building"});
        let (remarks, ending) = seen(&mut wait, &before, Some("now"), SOON);
        assert_eq!((remarks, ending), (vec!["waits for build 4 to end: Building".to_owned()], None));
        assert_eq!(seen(&mut wait, &before, Some("now"), SOON), (vec![], None), "the same is said once");
        let (remarks, ending) = seen(&mut wait, &handled(5, "Pending"), Some("now"), SOON);
        assert_eq!(remarks[0], "build 5 was made: Requested");
        assert_eq!(ending, None);
        let (_, ending) = seen(&mut wait, &handled(5, "Succeeded"), Some("now"), SOON);
        assert_eq!(ending.and_then(|ending| ending.exit_code()), Some(0));
    }

    #[test]
    fn a_build_that_was_superseded_has_a_successor() {
        let mut wait = Wait::new("now".to_owned());
        seen(&mut wait, &handled(5, "Running"), Some("now"), SOON);
        let mut status = handled(6, "Running");
        status["history"] = json!([{"number": 5, "outcome": "Superseded"}]);
        let (remarks, ending) = seen(&mut wait, &status, Some("now"), SOON);
        assert_eq!(remarks[0], "build 5 was superseded; build 6 takes its place");
        assert_eq!((wait.number, ending), (Some(6), None));
        let mut status = handled(7, "Running");
        status["history"] = json!([{"number": 6, "outcome": "Canceled"}]);
        let (_, ending) = seen(&mut wait, &status, Some("now"), SOON);
        assert_eq!(ending, Some(Ending::GivenUp("Canceled".to_owned())));
    }

    #[test]
    fn wishes_of_others_are_waited_for_and_lost_ones_are_not() {
        let mut wait = Wait::new("now".to_owned());
        let (remarks, ending) = seen(&mut wait, &json!({}), Some("later"), SOON);
        assert!(remarks[0].starts_with("somebody else") && ending.is_none());
        assert_eq!(wait.token, "later");
        let (_, ending) = seen(&mut wait, &json!({}), None, SOON);
        assert!(matches!(ending, Some(Ending::GivenUp(_))));
    }

    #[test]
    fn a_source_that_cannot_be_resolved_is_a_failure_and_a_silent_operator_a_remark() {
        let stalled = json!([{"type": "Stalled", "status": "True", "reason": "GitAuthFailed", "message": "", "lastTransitionTime": "2026-03-01T09:00:00Z"}]);
        let failure = json!({"reason": "GitAuthFailed", "owner": "User", "retryable": false, "message": "m", "attempts": 1});
        let status = json!({"conditions": stalled, "lastFailure": failure, "summary": "Failed: GitAuthFailed"});
        let mut wait = Wait::new("now".to_owned());
        let (remarks, ending) = seen(&mut wait, &status, Some("now"), SOON);
        assert_eq!((remarks, ending), (vec!["Failed: GitAuthFailed: m".to_owned()], None));
        let (_, ending) = seen(&mut wait, &status, Some("now"), SILENT);
        assert!(matches!(ending, Some(Ending::Failed(_))));
        let mut wait = Wait::new("now".to_owned());
        let (remarks, _) = seen(&mut wait, &json!({}), Some("now"), SILENT);
        assert!(remarks[0].contains("has not acted on it for 30 s"), "{remarks:?}");
        assert_eq!(seen(&mut wait, &json!({}), Some("now"), SILENT * 2).0, Vec::<String>::new());
    }
}
