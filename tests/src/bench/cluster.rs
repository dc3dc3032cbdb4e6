//! The whole way on a real cluster: an edit of the resource that moves to another commit, until its digest is in the
//! status, beside what three containers that do nothing take on the same node.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams};
use robotimage_crds::api::RobotImage;
use serde_json::json;

use super::Bench;
use super::report::{Goal, Row, shown};
use super::stats::Sample;
use crate::audit;
use crate::bed::Bed;
use crate::demo;
use crate::error::{Error, Result};
use crate::git::GitRepo;
use crate::install;
use crate::namespace::Namespace;

/// From edit to digest, in seconds.
const GOAL: Goal = Goal::AtMost(5.0);
/// How often the API server is asked.
const POLL: Duration = Duration::from_millis(10);
/// The first build resolves an environment.
const LIMIT: Duration = Duration::from_mins(10);
const NAME: &str = "invoices";
/// Containers of a build pod in their order.
const STEPS: [&str; 3] = ["fetch", "resolve", "publish"];

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let bed = Bed::shared().await?;
    let (_, images) = Box::pin(install::images(&bed)).await?;
    let namespace = Namespace::fresh(&bed, "bench").await?;
    let values = install::values(bed.book(), &images, &[namespace.name()])?;
    install::chart(&bed, &values)?;
    let measured = edits(bench, &bed, &namespace, &images.builder).await;
    namespace.delete().await?;
    measured
}

async fn edits(bench: &Bench, bed: &Bed, namespace: &Namespace, builder: &str) -> Result<Vec<Row>> {
    let repository = bed.book().git.create("bench", Some(&bed.book().git_login))?;
    let commit = demo::commit_example(&repository, &[], "The first")?;
    let mut object = install::robot_image(bed.book(), NAME, repository.url());
    object["spec"]["source"]["git"]["ref"] = json!({"commit": commit});
    let began = Instant::now();
    namespace.apply::<RobotImage>(object).await?;
    let mut digest = wait(namespace, "").await?;
    println!("first build: {:.1} s", began.elapsed().as_secs_f64());
    let mut walls = Vec::new();
    let mut steps: BTreeMap<usize, (String, Vec<f64>)> = BTreeMap::new();
    let mut floors = Vec::new();
    // One more than is counted: the first goes without what the others find warm.
    for edition in 0..=bench.settings.runs {
        let floor = floor(namespace, builder, edition).await?;
        let edit = edit(bed, namespace, &repository, edition, &digest).await?;
        digest = edit.digest;
        if edition == 0 {
            continue;
        }
        println!(
            "  {edition} {:.2} s, three empty containers {floor:.2} s: {}",
            edit.wall,
            told(&edit.steps)
        );
        floors.push(floor);
        walls.push(edit.wall);
        for (at, (name, seconds)) in edit.steps.into_iter().enumerate() {
            steps.entry(at).or_insert_with(|| (name, Vec::new())).1.push(seconds);
        }
    }
    let (wall, floor) = (Sample::new("edit", walls)?, Sample::new("floor", floors)?);
    println!("edit to digest {} s, three empty containers {} s", shown(&wall), shown(&floor));
    let peer = ("Job of three empty containers", floor.median());
    let mut rows = vec![Row::beside(
        "edit of the code to digest in status, warm",
        wall.median(),
        "s",
        peer,
        GOAL,
    )];
    for (name, seconds) in steps.into_values() {
        let sample = Sample::new(&name, seconds)?;
        rows.push(Row::alone(format!("- {name}"), sample.median(), "s", Goal::None));
    }
    Ok(rows)
}

struct Edit {
    wall: f64,
    digest: String,
    /// One after another, without gaps.
    steps: Vec<(String, f64)>,
}

/// Commits a change of code, moves the resource to it, and waits for the digest.
async fn edit(bed: &Bed, namespace: &Namespace, repository: &GitRepo, edition: usize, before: &str) -> Result<Edit> {
    let code = demo::example().join("invoices.py");
    let text = std::fs::read_to_string(&code).map_err(Error::io("read", &code))?;
    let text = text.replace("VERSION = 1", &format!("VERSION = {}", edition + 2));
    let commit = demo::commit_example(repository, &[("invoices.py", text.as_bytes())], &format!("Edition {edition}"))?;
    let mark = audit::mark(&bed.node().audit_log())?;
    let (began, patched) = (Instant::now(), Timestamp::now());
    let patch = json!({"spec": {"source": {"git": {"ref": {"commit": commit}}}}});
    let api = namespace.api::<RobotImage>();
    api.patch(NAME, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map_err(Error::cluster("edit of the RobotImage"))?;
    let digest = wait(namespace, before).await?;
    let (wall, seen) = (began.elapsed().as_secs_f64(), Timestamp::now());
    let steps = steps(bed, namespace, mark, patched, seen).await?;
    Ok(Edit { wall, digest, steps })
}

/// Waits until the status names an image other than `before`; its digest.
async fn wait(namespace: &Namespace, before: &str) -> Result<String> {
    let api = namespace.api::<RobotImage>();
    let began = Instant::now();
    loop {
        let object = api.get(NAME).await.map_err(Error::cluster("get the RobotImage"))?;
        let image = object.status.as_ref().and_then(|status| status.latest_image.as_ref());
        if let Some(image) = image.filter(|image| image.digest != before) {
            return Ok(image.digest.clone());
        }
        let stalled = install::condition(&object, "Stalled").is_some_and(|(status, ..)| status == "True");
        if stalled || began.elapsed() > LIMIT {
            let status = serde_json::to_string(&object.status).unwrap_or_default();
            return Err(Error::Other(format!("no new image after {:?}: {status}", began.elapsed())));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// When what happened: by the API server's log of requests and the time of each step's first and last line.
async fn steps(bed: &Bed, namespace: &Namespace, mark: u64, patched: Timestamp, seen: Timestamp) -> Result<Vec<(String, f64)>> {
    let entries = audit::read(&bed.node().audit_log(), mark)?;
    let job = entries
        .iter()
        .find(|entry| entry.verb == "create" && entry.resource == "jobs" && entry.namespace == namespace.name())
        .ok_or_else(|| Error::Other("no Job was created".to_owned()))?;
    let pods = namespace.api::<Pod>();
    let listed = pods
        .list(&ListParams::default().labels(&format!("robotimage.dev/name={NAME}")))
        .await
        .map_err(Error::cluster("list of build pods"))?;
    let newest = listed
        .items
        .into_iter()
        .max_by_key(|pod| pod.metadata.creation_timestamp.clone().map(|time| time.0));
    let pod = newest
        .and_then(|pod| pod.metadata.name)
        .ok_or_else(|| Error::Other("no build pod".to_owned()))?;
    let mut moments = vec![("edit to Job".to_owned(), job.completed)];
    let mut before = "Job";
    for step in STEPS {
        let params = LogParams {
            container: Some(step.to_owned()),
            timestamps: true,
            ..LogParams::default()
        };
        let log = pods.logs(&pod, &params).await.map_err(Error::cluster(format!("log of {step}")))?;
        let time = |line: Option<&str>| line.and_then(|line| line.split(' ').next()?.parse::<Timestamp>().ok());
        let (first, last) = time(log.lines().next())
            .zip(time(log.lines().last()))
            .ok_or_else(|| Error::Other(format!("the log of {step} has no times:\n{log}")))?;
        moments.push((format!("{before} to the first line of {step}"), first));
        moments.push((step.to_owned(), last));
        before = step;
    }
    moments.push(("last line of publish to digest in status".to_owned(), seen));
    let mut at = patched;
    Ok(moments
        .into_iter()
        .map(|(name, moment)| {
            let seconds = moment.duration_since(at).as_secs_f64();
            at = moment;
            (name, seconds)
        })
        .collect())
}

fn told(steps: &[(String, f64)]) -> String {
    steps
        .iter()
        .map(|(name, seconds)| format!("{name} {seconds:.2}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A Job of three containers one after another that end at once, of an image that the node has; from creation to its
/// pod's end, seconds.
async fn floor(namespace: &Namespace, image: &str, number: usize) -> Result<f64> {
    let container = |name: &str| {
        json!({
            "name": name, "image": image, "command": ["/bin/true"],
            "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
                "seccompProfile": {"type": "RuntimeDefault"}, "readOnlyRootFilesystem": true,
            },
        })
    };
    let name = format!("empty-{number}");
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"bench": name}}, "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            "initContainers": [container("one"), container("two")],
            "containers": [container("three")],
        }}},
    }))
    .map_err(|error| Error::Other(format!("Job of empty containers: {error}")))?;
    let (jobs, pods) = (namespace.api::<Job>(), namespace.api::<Pod>());
    let began = Instant::now();
    jobs.create(&PostParams::default(), &job)
        .await
        .map_err(Error::cluster("Job of empty containers"))?;
    let wall = loop {
        let listed = pods.list(&ListParams::default().labels(&format!("bench={name}"))).await;
        let listed = listed.map_err(Error::cluster("list of empty pods"))?;
        let phase = listed.items.first().and_then(|pod| pod.status.as_ref()?.phase.clone());
        match phase.as_deref() {
            Some("Succeeded") => break began.elapsed(),
            Some("Failed") => return Err(Error::Other("empty containers failed".to_owned())),
            _ if began.elapsed() > LIMIT => return Err(Error::Other(format!("empty containers did not end: {phase:?}"))),
            _ => tokio::time::sleep(POLL).await,
        }
    };
    jobs.delete(&name, &DeleteParams::background())
        .await
        .map_err(Error::cluster("removal of an empty Job"))?;
    Ok(wall.as_secs_f64())
}
