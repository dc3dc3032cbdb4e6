//! How a build stands, read from its Job and pods.
//!
//! Invariant: a success is believed from publish alone, ended with 0, of a pod that our Job controls, with our build id;
//! a failure from the container that ended with another code; from resolve only the reasons that packages can cause.
//! Whatever else a pod says is [`Reason::ResultUnreadable`] and does not count as an attempt.

use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::api::{BuildPhase, LatestBuild, StepStatus};
use robotimage_crds::build::{BuildReport, Failure, Fetched, Outcome, Published, Step};
use robotimage_crds::duration;
use robotimage_crds::reason::Reason;

use crate::observe::{ContainerState, JobView, Observed, PodView, Refusal};
use crate::text;

/// Most bytes of a failure's message in the status.
const MESSAGE: usize = 400;

/// How a build stands.
#[derive(Clone, Debug, PartialEq)]
pub enum Progress {
    /// Its Job was not made yet.
    Unborn {
        /// Why the API server did not take it.
        blocked: Option<Hindrance>,
    },
    /// Nothing of it has run.
    Waiting {
        /// Why, when something is in the way.
        blocked: Option<Hindrance>,
        /// Its Job has no pod.
        podless: bool,
    },
    /// A step runs.
    Running {
        /// Which, and since when.
        step: Option<(Step, Timestamp)>,
        /// What fetch found, once it has ended.
        fetched: Option<Box<Fetched>>,
        /// The steps so far.
        steps: Vec<StepStatus>,
    },
    /// It is over.
    Ended(Box<Verdict>),
}

/// What keeps a build from starting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// What it is.
    pub refusal: Refusal,
    /// When it was seen first. Neither the age of a pod nor that of a condition tells it; the status does, also after a restart.
    pub since: Timestamp,
}

/// The end of a build.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What fetch found, if it came so far.
    pub fetched: Option<Fetched>,
    /// What publish made, or why there is nothing.
    pub result: Result<Published, Failed>,
    /// Its steps.
    pub steps: Vec<StepStatus>,
}

/// A failed build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// End of the step's output.
    pub tail: String,
    /// What the other side asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether it is one of the attempts that count.
    pub counted: bool,
    /// The step that failed, when one did.
    pub step: Option<Step>,
}

impl Failed {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            tail: String::new(),
            retry_after: None,
            counted: true,
            step: None,
        }
    }

    fn unreadable(message: impl Into<String>) -> Self {
        Self {
            counted: false,
            ..Self::new(Reason::ResultUnreadable, message)
        }
    }

    fn at(self, step: Step) -> Self {
        Self { step: Some(step), ..self }
    }
}

/// How the live build stands. `queue_limit` bounds the wait for a node, a quota or an image.
pub(super) fn progress(observed: &Observed, build: &LatestBuild, queue_limit: Duration, now: Timestamp) -> Progress {
    let owner = observed.image.metadata.uid.as_deref().unwrap_or_default();
    let Some(job) = observed.jobs.iter().find(|job| job.name == build.job) else {
        // A Job whose UID is in the status existed; one that was never seen may still have to be made.
        return if build.phase == BuildPhase::Pending && build.uid.is_none() {
            unborn(build, observed, queue_limit, now)
        } else {
            failed(Failed::unreadable(
                "the build's Job is gone: somebody deleted it, or it expired unseen",
            ))
        };
    };
    if job.owner != owner {
        let message = format!(
            "Job {} exists and belongs to somebody else; delete it, or rename the RobotImage",
            job.name
        );
        return failed(Failed::new(Reason::InternalError, message));
    }
    // Another leader makes it anew that saw it gone before its UID stood in the status: its pod is told of this same build.
    let same = job.plan.as_ref().is_some_and(|plan| plan.build_id == build.build_id);
    if !same && build.uid.as_ref().is_some_and(|uid| *uid != job.uid) {
        return failed(Failed::unreadable("the build's Job was replaced by another of the same name"));
    }
    let pods: Vec<&PodView> = observed.pods.iter().filter(|pod| pod.owner == job.uid).collect();
    let judged: Vec<(&PodView, Result<Published, Failed>)> = pods
        .iter()
        .filter_map(|pod| judge(pod, job, build, now).map(|result| (*pod, result)))
        .collect();
    // The Job controller may make a second pod; a success of either is one.
    if let Some((pod, result)) = judged.iter().find(|(_, result)| result.is_ok()) {
        return ended(pod, build, result.clone());
    }
    if let Some(pod) = pods.iter().find(|pod| !pod.ended(now)) {
        return running(pod, build, queue_limit, observed, now);
    }
    if let Some((pod, result)) = judged.last() {
        return ended(pod, build, result.clone());
    }
    podless(job, build, queue_limit, observed, now)
}

/// Announced, and not made yet: at once, or as soon as the API server takes it.
fn unborn(build: &LatestBuild, observed: &Observed, queue_limit: Duration, now: Timestamp) -> Progress {
    match hindrance(build, observed.refusal.as_ref(), queue_limit, now) {
        Ok(blocked) => Progress::Unborn { blocked },
        Err(over) => failed(over),
    }
}

/// A Job without any pod: not made yet, refused, or taken away.
fn podless(job: &JobView, build: &LatestBuild, queue_limit: Duration, observed: &Observed, now: Timestamp) -> Progress {
    match job.ended.as_deref() {
        Some("DeadlineExceeded") => failed(Failed::new(Reason::BuildTimeout, "the build's Job ran into its last deadline")),
        Some(_) => failed(Failed::unreadable("the build ended and its pod is gone: somebody deleted it")),
        None if job.deleting => failed(Failed::unreadable("the build's Job was deleted by somebody")),
        None => waiting(build, observed.refusal.as_ref(), true, queue_limit, now),
    }
}

fn running(pod: &PodView, build: &LatestBuild, queue_limit: Duration, observed: &Observed, now: Timestamp) -> Progress {
    if !pod.started() {
        return waiting(build, pod.refusal.as_ref().or(observed.refusal.as_ref()), false, queue_limit, now);
    }
    let step = pod.containers.iter().rev().find_map(|container| match container.state {
        ContainerState::Running { started } => Some((container.step, started?)),
        _ => None,
    });
    Progress::Running {
        step,
        fetched: fetched(pod, build).map(Box::new),
        steps: steps(pod),
    }
}

fn waiting(build: &LatestBuild, refusal: Option<&Refusal>, podless: bool, queue_limit: Duration, now: Timestamp) -> Progress {
    match hindrance(build, refusal, queue_limit, now) {
        Ok(blocked) => Progress::Waiting { blocked, podless },
        Err(over) => failed(over),
    }
}

/// What is in the way, until the limit makes a failure of it. Without anything in the way (a slow pull, a slow node) the
/// deadlines of pod and Job end it. What goes away and comes back is one hindrance, another reason is another.
fn hindrance(build: &LatestBuild, refusal: Option<&Refusal>, queue_limit: Duration, now: Timestamp) -> Result<Option<Hindrance>, Failed> {
    let Some(refusal) = refusal else { return Ok(None) };
    let known = build.blocked.as_ref().filter(|blocked| blocked.reason == refusal.reason.as_str());
    let since = known.map_or(now, |blocked| blocked.since.0);
    let waited = now.duration_since(since).unsigned_abs();
    if now > since && waited >= queue_limit {
        let message = format!("waited {}: {}", duration::format(waited), refusal.message);
        return Err(Failed::new(refusal.reason, message));
    }
    let refusal = refusal.clone();
    Ok(Some(Hindrance { refusal, since }))
}

fn failed(failed: Failed) -> Progress {
    Progress::Ended(Box::new(Verdict {
        fetched: None,
        result: Err(failed),
        steps: Vec::new(),
    }))
}

fn ended(pod: &PodView, build: &LatestBuild, result: Result<Published, Failed>) -> Progress {
    Progress::Ended(Box::new(Verdict {
        fetched: fetched(pod, build),
        result,
        steps: steps(pod),
    }))
}

/// The facts of fetch: its own report, once it has ended with 0.
fn fetched(pod: &PodView, build: &LatestBuild) -> Option<Fetched> {
    let Some(ContainerState::Ended { code: 0, message, .. }) = pod.container(Step::Fetch) else {
        return None;
    };
    match BuildReport::from_message(message, &build.build_id, Step::Fetch).ok()?.outcome {
        Outcome::Fetched(facts) => Some(*facts),
        _ => None,
    }
}

fn steps(pod: &PodView) -> Vec<StepStatus> {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    pod.containers
        .iter()
        .filter_map(|container| {
            let (started, finished) = match &container.state {
                ContainerState::Waiting { .. } => return None,
                ContainerState::Running { started } => (*started, None),
                ContainerState::Ended { started, finished, .. } => (*started, *finished),
            };
            let ran = started
                .zip(finished)
                .map(|(from, to)| duration::format(to.duration_since(from).unsigned_abs()));
            Some(StepStatus {
                name: container.step.as_str().to_owned(),
                started_at: started.map(Time),
                duration: ran,
                cache: None,
            })
        })
        .collect()
}

/// The end of one pod; `None` while it may still come to a better one.
fn judge(pod: &PodView, job: &JobView, build: &LatestBuild, now: Timestamp) -> Option<Result<Published, Failed>> {
    if let Some(ContainerState::Ended { code: 0, message, .. }) = pod.container(Step::Publish) {
        return Some(match BuildReport::from_message(message, &build.build_id, Step::Publish) {
            Ok(BuildReport {
                outcome: Outcome::Published(published),
                ..
            }) => Ok(published),
            Ok(_) => Err(Failed::unreadable("step publish ended well with a report of something else").at(Step::Publish)),
            Err(error) => Err(Failed::unreadable(format!("step publish ended well, but {error}")).at(Step::Publish)),
        });
    }
    if !pod.ended(now) {
        return None;
    }
    // What the kubelet says of the whole pod explains the exit codes of its containers.
    if let Some(failed) = of_pod(pod) {
        return Some(Err(failed));
    }
    let broken = pod.containers.iter().find_map(|container| match &container.state {
        ContainerState::Ended { code, reason, message, .. } if *code != 0 => Some((container.step, *code, reason, message)),
        _ => None,
    });
    let deleted = pod.deletion.is_some() || job.deleting;
    Some(Err(match broken {
        Some((step, code, reason, message)) => of_container(step, code, reason, message, build, deleted),
        None if pod.lost(now) => Failed::new(Reason::NodeLost, "the node of the build pod does not answer"),
        None => Failed::unreadable("the build pod ended without a result"),
    }))
}

fn of_pod(pod: &PodView) -> Option<Failed> {
    if pod.phase != "Failed" && pod.disruption.is_none() {
        return None;
    }
    let told = |text: &str| {
        if pod.message.is_empty() {
            text.to_owned()
        } else {
            format!("{text}: {}", pod.message)
        }
    };
    let failed = match (pod.reason.as_str(), pod.disruption.as_deref()) {
        ("DeadlineExceeded", _) => Failed::new(
            Reason::BuildTimeout,
            "the build took longer than build.timeout and its pod was ended",
        ),
        ("Evicted", _)
            if ["ephemeral", "emptyDir", "EmptyDir", "disk"]
                .iter()
                .any(|word| pod.message.contains(word)) =>
        {
            Failed::new(Reason::StorageExceeded, told("the node evicted the build pod"))
        }
        ("Evicted", _) | (_, Some("EvictionByEvictionAPI" | "TerminationByKubelet" | "PreemptionByScheduler")) => {
            Failed::new(Reason::Evicted, told("the node evicted the build pod"))
        }
        ("NodeLost", _) | (_, Some("DeletionByTaintManager" | "DeletionByPodGC")) => {
            Failed::new(Reason::NodeLost, told("the node of the build pod went away"))
        }
        ("Shutdown" | "NodeShutdown" | "Terminated", _) => Failed::new(Reason::NodeLost, told("the node of the build pod shut down")),
        ("Preempting", _) => Failed::new(Reason::Evicted, told("the build pod was preempted")),
        ("UnexpectedAdmissionError" | "OutOfcpu" | "OutOfmemory" | "OutOfpods" | "OutOfephemeral-storage" | "NodeAffinity", _) => {
            Failed::new(Reason::Evicted, told("the node refused the build pod after all"))
        }
        _ => return None,
    };
    Some(failed)
}

fn of_container(step: Step, code: i32, reason: &str, message: &str, build: &LatestBuild, deleted: bool) -> Failed {
    if reason == "OOMKilled" {
        return Failed::new(
            Reason::OutOfMemory,
            format!("step {step} used more memory than its limit", step = step.as_str()),
        )
        .at(step);
    }
    let told = BuildReport::from_message(message, &build.build_id, step).map(|report| report.outcome);
    match told {
        Ok(Outcome::Failed(failure)) => of_report(step, &failure, deleted),
        _ if deleted => Failed::unreadable("the build pod was deleted by somebody").at(step),
        Ok(_) => Failed::unreadable(format!("step {} ended with {code} and reported a success", step.as_str())).at(step),
        Err(_) if matches!(reason, "StartError" | "ContainerCannotRun") => {
            let message = format!("the builder image cannot be started: {}", text::line(message, 200));
            Failed::new(Reason::BuilderImagePullFailed, message).at(step)
        }
        Err(error) => Failed::unreadable(format!("step {} ended with {code}, and {error}", step.as_str())).at(step),
    }
}

fn of_report(step: Step, failure: &Failure, deleted: bool) -> Failed {
    let reason = match failure.reason.parse::<Reason>() {
        Ok(Reason::Canceled) if deleted => return Failed::unreadable("the build pod was deleted by somebody").at(step),
        Ok(Reason::Canceled) => return Failed::unreadable(format!("step {} was ended from outside", step.as_str())).at(step),
        Ok(reason) if step.may_report(reason) => reason,
        Ok(reason) => {
            return Failed::new(
                Reason::InternalError,
                format!("step {} reported {reason}, which it cannot know", step.as_str()),
            )
            .at(step);
        }
        Err(_) => {
            let message = format!(
                "step {} reported the unknown reason \"{}\"",
                step.as_str(),
                text::line(&failure.reason, 60)
            );
            return Failed::new(Reason::InternalError, message).at(step);
        }
    };
    Failed {
        reason,
        message: text::line(&failure.message, MESSAGE),
        tail: text::tail(&failure.tail, 1024),
        retry_after: failure.retry_after.map(Duration::from_secs),
        counted: true,
        step: Some(step),
    }
}
