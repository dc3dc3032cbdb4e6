//! `logs`: the log of a build, step after step.
//!
//! Invariant: each line is printed once. Lines carry the node's time, so a stream that breaks goes on after the last line
//! that was printed.

mod line;
mod pieces;
mod stream;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use robotimage_crds::build::Step;
use robotimage_operator::labels;
use robotimage_operator::observe::{ContainerState, PodView};

use crate::arguments::LogsArguments;
use crate::cluster::Cluster;
use crate::ending::Ending;
use crate::error::Error;
use crate::out::Out;
use crate::resource::{Resource, State};
use crate::screen::clean;
use crate::watching::Watching;
use stream::Printer;

/// How often a pod is looked at while it is waited for.
const RHYTHM: Duration = Duration::from_millis(500);

/// Runs it; the exit code.
pub(crate) async fn run(cluster: &Cluster, arguments: &LogsArguments, out: Out) -> Result<u8, Error> {
    let resource = cluster.get(&arguments.name).await?;
    let mut follower = Follower {
        watching: Watching::new(cluster, &resource, out),
        cluster,
        arguments,
        out,
        resource,
        told: String::new(),
    };
    let number = follower.number().await?;
    loop {
        let before = Ending::of(&follower.resource, number);
        let attempt = match &before {
            Ending::Running { attempt } | Ending::WillRetry { attempt, .. } => Some(*attempt),
            _ => None,
        };
        let printed = follower.attempt(number, attempt).await?;
        let ending = follower.settle(number, attempt).await?;
        if !printed {
            follower.lost(number, &ending)?;
        }
        ending.tell(number, out);
        if out.json_wanted() {
            Out::json_line(&ending.outcome(number))?;
        }
        if let Some(code) = ending.exit_code() {
            return Ok(code);
        }
        if !arguments.follow {
            return Ok(0);
        }
        follower.next_attempt(number, &ending).await?;
    }
}

struct Follower<'a> {
    cluster: &'a Cluster,
    arguments: &'a LogsArguments,
    out: Out,
    watching: Watching,
    resource: Resource,
    /// The last remark, which is not repeated.
    told: String,
}

impl Follower<'_> {
    /// The number of the build that is meant.
    async fn number(&mut self) -> Result<i64, Error> {
        let status = &self.resource.status;
        let latest = status.latest_build.as_ref().map_or(0, |build| build.number);
        let last = latest.max(status.build_counter.unwrap_or_default());
        if let Some(number) = self.arguments.build {
            if number > last {
                return Err(Error::NoSuchBuild {
                    name: self.arguments.name.clone(),
                    number,
                    last,
                });
            }
            return Ok(number);
        }
        loop {
            if let Some(build) = &self.resource.status.latest_build {
                return Ok(build.number);
            }
            let why = waits_for_a_build(&self.resource);
            if !self.arguments.follow {
                return Err(Error::NoBuild {
                    name: self.arguments.name.clone(),
                    why,
                });
            }
            self.tell(&why);
            self.resource = self.watching.next().await?;
        }
    }

    fn tell(&mut self, text: &str) {
        if self.told != text {
            self.out.note(text);
            text.clone_into(&mut self.told);
        }
    }

    /// Lets time pass; what becomes of the resource meanwhile is taken in.
    async fn pause(&mut self) -> Result<(), Error> {
        tokio::select! {
            resource = self.watching.next() => self.resource = resource?,
            () = tokio::time::sleep(RHYTHM) => {}
        }
        Ok(())
    }

    /// Prints the steps of an attempt, of the last one without a number; answers whether there was a log to read.
    async fn attempt(&mut self, number: i64, attempt: Option<u32>) -> Result<bool, Error> {
        let steps: Vec<Step> = match self.arguments.step {
            Some(step) => vec![step.into()],
            None => Step::ALL.to_vec(),
        };
        let mut printer = Printer::new(self.out, number, self.arguments);
        let mut seen = false;
        for step in steps {
            loop {
                let pod = self.pod(number, attempt).await?;
                let over = !self.goes_on(number, attempt);
                let Some(pod) = pod else {
                    if over || seen || !self.arguments.follow {
                        return Ok(seen && !printer.has_lost_all());
                    }
                    let why = waits_for_a_pod(&self.resource, number);
                    self.tell(&why);
                    self.pause().await?;
                    continue;
                };
                seen = true;
                let view = PodView::of(&pod);
                match view.container(step) {
                    Some(ContainerState::Running { .. } | ContainerState::Ended { .. }) => {
                        let ended = printer.step(self.cluster, &view, step).await?;
                        if ended || !self.arguments.follow {
                            break;
                        }
                    }
                    Some(ContainerState::Waiting { .. }) | None => {
                        if over || view.ended(Timestamp::now()) || !self.arguments.follow {
                            break;
                        }
                        let why = waits_in_a_pod(&view, step);
                        self.tell(&why);
                        self.pause().await?;
                    }
                }
            }
        }
        Ok(seen && !printer.has_lost_all())
    }

    /// Whether the attempt has not ended by the status.
    fn goes_on(&self, number: i64, attempt: Option<u32>) -> bool {
        matches!(Ending::of(&self.resource, number), Ending::Running { attempt: now } if Some(now) == attempt)
    }

    /// The pod of an attempt, of the last one there is without a number.
    async fn pod(&self, number: i64, attempt: Option<u32>) -> Result<Option<Pod>, Error> {
        let pods = self.cluster.build_pods(self.resource.uid()).await?;
        let label = |pod: &Pod, name: &str| -> Option<i64> { pod.metadata.labels.as_ref()?.get(name)?.parse().ok() };
        let ours = pods.into_iter().filter(|pod| label(pod, labels::BUILD) == Some(number));
        let ours = ours.filter(|pod| attempt.is_none_or(|attempt| label(pod, labels::ATTEMPT) == Some(i64::from(attempt))));
        // The list is by age: of one attempt the last pod counts.
        Ok(ours.max_by_key(|pod| label(pod, labels::ATTEMPT)))
    }

    /// The log's end comes before the status that tells of it.
    async fn settle(&mut self, number: i64, attempt: Option<u32>) -> Result<Ending, Error> {
        if self.arguments.follow {
            while self.goes_on(number, attempt) {
                self.resource = self.watching.next().await?;
            }
        } else {
            self.resource = self.cluster.get(&self.arguments.name).await?;
        }
        Ok(Ending::of(&self.resource, number))
    }

    /// Waits for the attempt after a failed one, or the end of trying.
    async fn next_attempt(&mut self, number: i64, ending: &Ending) -> Result<(), Error> {
        let Ending::WillRetry { attempt, .. } = ending else { return Ok(()) };
        while matches!(Ending::of(&self.resource, number), Ending::WillRetry { attempt: now, .. } if now == *attempt) {
            self.resource = self.watching.next().await?;
        }
        Ok(())
    }

    /// Says that there is no pod to read from, and prints what the status kept.
    fn lost(&self, number: i64, ending: &Ending) -> Result<(), Error> {
        if matches!(ending, Ending::Running { .. }) {
            self.out.note(&waits_for_a_pod(&self.resource, number));
            return Ok(());
        }
        match ending.tail() {
            Some(tail) => {
                self.out.note(&format!(
                    "the pod of build {number} is gone, and its log with it; these are the last lines that the status kept:"
                ));
                if !self.out.json_wanted() {
                    Out::text(&(tail.trim_end().to_owned() + "\n"))?;
                }
            }
            None => self.out.note(&format!(
                "the pod of build {number} is gone, and its log with it; the status kept no line of it"
            )),
        }
        Ok(())
    }
}

/// Why a resource has no build yet.
fn waits_for_a_build(resource: &Resource) -> String {
    let message = resource
        .condition("Stalled")
        .or_else(|| resource.condition("Reconciling"))
        .map(|condition| format!(": {}", condition.message))
        .unwrap_or_default();
    clean(&format!("no build yet: {}{message}", resource.summary()))
}

/// Why a build has no pod.
fn waits_for_a_pod(resource: &Resource, number: i64) -> String {
    let message = resource.condition("Reconciling").map(|condition| condition.message.as_str());
    match (resource.state(), message) {
        (State::Queued | State::Blocked, Some(message)) => clean(&format!("build {number} waits: {message}")),
        _ => format!("build {number} waits for its pod"),
    }
}

/// Why a step does not start.
fn waits_in_a_pod(pod: &PodView, step: Step) -> String {
    if let Some(refusal) = &pod.refusal {
        return clean(&format!("the pod {} waits: {}", pod.name, refusal.message));
    }
    let running = pod
        .containers
        .iter()
        .any(|container| matches!(container.state, ContainerState::Running { .. }));
    if running {
        return format!("{} waits for the step before it", step.as_str());
    }
    match pod.container(step) {
        Some(ContainerState::Waiting { reason }) if !reason.is_empty() => clean(&format!("the pod {} starts: {reason}", pod.name)),
        _ => clean(&format!("the pod {} waits for a node", pod.name)),
    }
}

#[cfg(test)]
mod tests;
