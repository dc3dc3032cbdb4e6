//! Fetch, resolve and publish, as a build pod runs them.
//!
//! A step reads its plan from the environment, works between the fixed folders of the pod, and leaves one report. All of
//! them end at the plan's deadline, and at SIGTERM within two seconds.
//!
//! Invariant: a step ends with exactly one report, whatever happens to its work, and nothing of the work goes on after it.

mod access;
mod binary;
mod facts;
mod fetch;
mod keep;
pub mod prepare;
mod publish;
mod rcc;
mod resolve;
mod root;
mod source;
mod standing;

pub use access::{Side, client, client_options, failure, pull_failure, store_failure};
pub use binary::{digest, from_web};
pub use facts::Facts;
pub use fetch::base_reference;
pub use root::{Root, make_empty, read_small};

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use robotimage_crds::build::{self, BuildPlan, BuildReport, Outcome, PLAN_VARIABLE, Step, paths};
use robotimage_crds::reason::Reason;
use robotimage_registry::ClientOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::failure::Failure;

/// Requests to registries end this long before the deadline, so that what kept them is told instead of a timeout.
const MARGIN: Duration = Duration::from_secs(5);

/// How long the work of a step is waited for once it was told to stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// How a step is run.
#[derive(Clone, Debug)]
pub struct StepOptions {
    /// Where `/` is.
    pub root: PathBuf,
    /// Where the report goes.
    pub report: PathBuf,
}

impl Default for StepOptions {
    fn default() -> Self {
        Self {
            root: "/".into(),
            report: paths::TERMINATION.into(),
        }
    }
}

/// What every step has.
#[derive(Clone, Debug)]
pub struct Context {
    /// The plan.
    pub plan: BuildPlan,
    /// The pod's folders.
    pub root: Root,
    /// When the step must have ended.
    pub deadline: Instant,
    /// Ends waiting work.
    pub cancel: CancellationToken,
    /// Ends blocking work.
    pub interrupt: Arc<AtomicBool>,
}

impl Context {
    /// The settings of registry clients.
    fn registry(&self) -> Result<ClientOptions, Failure> {
        let platform = &self.plan.platform;
        Ok(client_options(
            platform,
            access::roots(&self.root)?,
            access::policy(platform)?,
            Some(self.deadline.checked_sub(MARGIN).unwrap_or(self.deadline)),
            &self.cancel,
        ))
    }
}

/// Runs a step to its report; the exit code.
pub async fn run(step: Step, options: &StepOptions) -> u8 {
    let plan = match plan() {
        Ok(plan) => plan,
        Err(problem) => {
            tracing::error!(step = step.as_str(), problem, "no plan");
            return 2;
        }
    };
    // What a step writes is for itself and the group of the pod.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o027));
    let context = Context {
        deadline: deadline(plan.deadline, SystemTime::now()),
        root: Root::new(&options.root),
        cancel: CancellationToken::new(),
        interrupt: Arc::default(),
        plan,
    };
    tracing::info!(
        step = step.as_str(),
        namespace = context.plan.namespace,
        name = context.plan.name,
        number = context.plan.number,
        attempt = context.plan.attempt,
        "start"
    );
    let began = Instant::now();
    let work = context.clone();
    let outcome = supervise(&context, async move {
        match step {
            Step::Fetch => Box::pin(fetch::run(&work)).await.map(|found| Outcome::Fetched(Box::new(found))),
            Step::Resolve => Box::pin(resolve::run(&work)).await.map(Outcome::Resolved),
            Step::Publish => Box::pin(publish::run(&work)).await.map(Outcome::Published),
        }
    })
    .await;
    let (outcome, code) = match outcome {
        Ok(outcome) => {
            tracing::info!(step = step.as_str(), seconds = began.elapsed().as_secs_f32(), "done");
            (outcome, 0)
        }
        Err(failure) => {
            tracing::error!(
                step = step.as_str(),
                reason = failure.reason.as_str(),
                message = failure.message,
                "failed"
            );
            if let Some(tail) = &failure.tail {
                tracing::info!(tail, "the last of the child's output");
            }
            (Outcome::Failed(reported(&failure)), failure.reason.exit_code())
        }
    };
    let report = BuildReport::new(&context.plan.build_id, step, outcome).to_message();
    if let Err(error) = std::fs::write(&options.report, report) {
        tracing::error!(path = %options.report.display(), %error, "the report cannot be written");
        return Reason::InternalError.exit_code();
    }
    code
}

fn reported(failure: &Failure) -> build::Failure {
    build::Failure {
        reason: failure.reason.as_str().to_owned(),
        message: failure.message.clone(),
        retry_after: failure.retry_after,
        tail: failure.tail.clone().unwrap_or_default(),
    }
}

fn plan() -> Result<BuildPlan, String> {
    let text = std::env::var(PLAN_VARIABLE).map_err(|_| format!("the environment variable {PLAN_VARIABLE} holds no plan"))?;
    let plan: BuildPlan = serde_json::from_str(&text).map_err(|error| format!("{PLAN_VARIABLE}: {error}"))?;
    if plan.version == 1 {
        Ok(plan)
    } else {
        Err(format!("{PLAN_VARIABLE}: version {} is not known, only 1", plan.version))
    }
}

/// The plan's deadline on the clock that does not jump.
fn deadline(seconds: i64, now: SystemTime) -> Instant {
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let left = at.duration_since(now).unwrap_or_default();
    // A deadline in the far future must not overflow the clock.
    Instant::now() + left.min(Duration::from_hours(7 * 24))
}

/// Does the work until it ends, the deadline passes, or a signal comes. A panic in it is a bug that is reported.
async fn supervise<T: Send + 'static>(
    context: &Context,
    work: impl Future<Output = Result<T, Failure>> + Send + 'static,
) -> Result<T, Failure> {
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else {
        return Err(Failure::new(Reason::InternalError, "signals cannot be received"));
    };
    let mut task = tokio::spawn(work);
    let failure = tokio::select! {
        biased;
        _ = terminate.recv() => Failure::new(Reason::Canceled, "the build was told to stop"),
        _ = interrupt.recv() => Failure::new(Reason::Canceled, "the build was told to stop"),
        ended = &mut task => return ended.unwrap_or_else(|error| {
            Err(Failure::new(Reason::InternalError, format!("a step broke off: {error}; please report this bug")))
        }),
        () = tokio::time::sleep_until(context.deadline.into()) => {
            Failure::new(Reason::BuildTimeout, "the build did not end within build.timeout; raise it, or make the environment smaller")
        }
    };
    context.cancel.cancel();
    context.interrupt.store(true, Ordering::Relaxed);
    task.abort();
    // Its end removes what it has on disk; one that does not end is left to the end of the process.
    tokio::time::timeout(PATIENCE, task).await.ok();
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_bounded() {
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        assert!(deadline(900, now) <= Instant::now());
        let soon = deadline(1060, now).duration_since(Instant::now());
        assert!(soon > Duration::from_secs(58) && soon <= Duration::from_mins(1));
        assert!(deadline(i64::MAX, now) < Instant::now() + Duration::from_hours(8 * 24));
        assert!(deadline(i64::MIN, now) <= Instant::now());
    }
}
