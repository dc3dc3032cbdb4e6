//! The judge: what must hold of a [`Trace`] whatever was broken meanwhile.
//!
//! Invariant: it knows the right digest of every input from builds without a fault, and trusts no status for it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use robotimage_crds::api::{RobotImage, RobotImageStatus};
use robotimage_tests::install;

use super::trace::{Seen, Trace};

/// The label by which a change of the spec makes another image.
pub(crate) const ROUND: &str = "round";

/// What an image is made of, as far as people change it here: the commit, and the label in the spec.
pub(crate) type Input = (String, String);

/// Right digests by input.
pub(crate) type Known = BTreeMap<Input, String>;

/// What a status says it is Ready for.
pub(crate) fn input(image: &RobotImage) -> Input {
    let revision = image.status.as_ref().and_then(|status| status.source.as_ref());
    let commit = revision
        .and_then(|source| source.revision.rsplit_once(':'))
        .map(|(_, commit)| commit);
    let labels = image.spec.image.labels.as_ref();
    let round = labels.and_then(|labels| labels.get(ROUND)).cloned();
    (commit.unwrap_or_default().to_owned(), round.unwrap_or_default())
}

/// Whether it is looked whether a new revision makes another image.
pub(crate) fn is_looking(image: &RobotImage) -> bool {
    matches!(install::condition(image, "Reconciling"), Some(("True", "CheckingSource", _)))
}

/// Everything that is wrong; empty when all holds.
pub(crate) fn judge(trace: &Trace, known: &Known) -> Vec<String> {
    let mut wrong = Vec::new();
    for image in &trace.images {
        judge_version(image, known, &mut wrong);
    }
    judge_numbers(trace, &mut wrong);
    judge_pods(trace, &mut wrong);
    judge_tag(trace, known, &mut wrong);
    wrong.sort();
    wrong.dedup();
    wrong
}

/// observedGeneration is never ahead, and Ready is True for nothing that was not built.
fn judge_version(image: &RobotImage, known: &Known, wrong: &mut Vec<String>) {
    let Some(status) = &image.status else { return };
    let generation = image.metadata.generation;
    let observed = status.conditions.iter().map(|condition| condition.observed_generation);
    if observed.chain([status.observed_generation]).any(|observed| observed > generation) {
        wrong.push(format!("observedGeneration is ahead of generation {generation:?}"));
    }
    if install::is_ready(image) {
        let digest = status.latest_image.as_ref().map(|image| &image.digest);
        let input = input(image);
        let right = match digest {
            // While a new revision is looked at, the source is the new one and the image is that of an earlier one.
            Some(digest) if is_looking(image) => known.iter().any(|((_, round), known)| *round == input.1 && known == digest),
            digest => digest.is_some() && digest == known.get(&input),
        };
        if !right {
            wrong.push(format!("Ready for {input:?} with {digest:?}, not {:?}", known.get(&input)));
        }
    }
}

/// A number is of one request, an attempt of one Job, and the counter never goes back.
fn judge_numbers(trace: &Trace, wrong: &mut Vec<String>) {
    let statuses = || trace.images.iter().filter_map(|image| image.status.as_ref());
    let mut counter = 0;
    let mut requests: BTreeMap<i64, &str> = BTreeMap::new();
    for status in statuses() {
        let next = status.build_counter.unwrap_or_default();
        if next < counter {
            wrong.push(format!("buildCounter goes back from {counter} to {next}"));
        }
        counter = next;
        if let Some(build) = &status.latest_build {
            let request = requests.entry(build.number).or_insert(&build.request_key);
            if *request != build.request_key {
                wrong.push(format!("number {} is of two requests", build.number));
            }
            if build.number > counter {
                wrong.push(format!("build {} was begun, and the counter is {counter}", build.number));
            }
        }
        let numbers: BTreeSet<i64> = status.history.iter().map(|entry| entry.number).collect();
        if numbers.len() != status.history.len() {
            wrong.push("a number twice in the history".to_owned());
        }
    }
    let mut names = BTreeSet::new();
    for job in trace.jobs.values().map(|seen| &seen.object) {
        let label = |name: &str| job.labels().get(name).cloned().unwrap_or_default();
        let (number, attempt) = (label("robotimage.dev/build"), label("robotimage.dev/attempt"));
        if number.parse().is_ok_and(|number: i64| number > counter) {
            wrong.push(format!("a Job has number {number}, and the counter is {counter}"));
        }
        if !names.insert((number.clone(), attempt.clone())) {
            wrong.push(format!("two Jobs for build {number} attempt {attempt}"));
        }
    }
}

/// When anything of a pod ran: from its first container's start to the end of its last, both in whole seconds.
pub(crate) fn ran(seen: &Seen<Pod>) -> Option<(Timestamp, Timestamp)> {
    let status = seen.object.status.as_ref()?;
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let (mut first, mut last) = (None::<Timestamp>, None::<Timestamp>);
    for state in containers.filter_map(|container| container.state.as_ref()) {
        let started = state.running.as_ref().and_then(|running| running.started_at.as_ref());
        let ended = state.terminated.as_ref();
        let started = started
            .or_else(|| ended.and_then(|ended| ended.started_at.as_ref()))
            .map(|time| time.0);
        let Some(started) = started else { continue };
        let end = match ended {
            Some(ended) => ended.finished_at.as_ref().map(|time| time.0),
            None => Some(seen.gone.unwrap_or(Timestamp::MAX)),
        };
        first = Some(first.map_or(started, |first| first.min(started)));
        last = last.max(end);
    }
    Some((first?, last?))
}

/// Never two pods at the same time, nor two Jobs that nobody has ended or deleted and whose pod has not ended.
fn judge_pods(trace: &Trace, wrong: &mut Vec<String>) {
    let times: Vec<(String, Timestamp, Timestamp)> = trace
        .pods
        .values()
        .filter_map(|seen| ran(seen).map(|(from, to)| (seen.object.name_any(), from, to)))
        .collect();
    for (number, (one, from, to)) in times.iter().enumerate() {
        for (other, other_from, other_to) in &times[number + 1..] {
            let (begin, end) = (from.max(other_from), to.min(other_to));
            // Times are cut to seconds: what began in the second in which the other ended came after it, for all one can know.
            if begin < end {
                wrong.push(format!("{one} and {other} ran at the same time, from {begin} to {end}"));
            }
        }
    }
    // The Job controller says so much later, after an outage of the API server.
    let ended = |seen: &&Seen<Pod>| {
        let phase = seen.object.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    };
    let jobs = |seen: &Seen<Pod>| seen.object.labels().get("batch.kubernetes.io/job-name").cloned();
    let over: BTreeSet<String> = trace.pods.values().filter(ended).filter_map(jobs).collect();
    let live = trace.jobs.values().filter(|seen| seen.gone.is_none() && is_live(&seen.object));
    let live = live.filter(|seen| !over.contains(&seen.object.name_any()));
    let names: Vec<String> = live.map(|seen| seen.object.name_any()).collect();
    if names.len() > 1 {
        wrong.push(format!("{names:?} live at the same time"));
    }
}

fn is_live(job: &Job) -> bool {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_ref());
    let over = |kind: &str| ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet"].contains(&kind);
    let ended = conditions.is_some_and(|all| all.iter().any(|c| c.status == "True" && over(&c.type_)));
    !ended && job.metadata.deletion_timestamp.is_none()
}

/// The tag led only to what a build made that succeeded, or that was given up for a newer one and ended before its Job could be
/// deleted; and never back.
fn judge_tag(trace: &Trace, known: &Known, wrong: &mut Vec<String>) {
    let built: BTreeSet<&String> = trace
        .images
        .iter()
        .filter_map(|image| image.status.as_ref())
        .flat_map(built)
        .collect();
    let superseded: BTreeSet<&str> = trace
        .images
        .iter()
        .filter_map(|image| image.status.as_ref())
        .flat_map(|status| &status.history)
        .filter(|entry| entry.outcome == "Superseded")
        .filter_map(|entry| entry.revision.as_deref()?.rsplit_once('@'))
        .map(|(_, commit)| commit)
        .collect();
    let late = |digest: &String| {
        let mut commits = known.iter().filter(|(_, right)| *right == digest).map(|((commit, _), _)| commit);
        commits.any(|commit| superseded.iter().any(|short| commit.starts_with(short)))
    };
    let mut seen = BTreeSet::new();
    for digest in &trace.tag {
        if !known.values().any(|right| right == digest) {
            wrong.push(format!("the tag led to {digest}, which no input makes"));
        } else if !late(digest) && !built.iter().any(|short| digest["sha256:".len()..].starts_with(short.as_str())) {
            wrong.push(format!("the tag led to {digest}, which no build that succeeded has made"));
        }
        if !seen.insert(digest) {
            wrong.push(format!("the tag went back to {digest}"));
        }
    }
}

/// Short digests of the builds that succeeded.
fn built(status: &RobotImageStatus) -> impl Iterator<Item = &String> {
    let succeeded = status.history.iter().filter(|entry| entry.outcome == "Succeeded");
    succeeded.filter_map(|entry| entry.digest.as_ref())
}
