//! A mock of what runs Jobs: Job controller, scheduler and kubelet in one. It makes the pod of each Job and writes what they
//! would write into the status of both, in their order and number; no container is ever started.
//!
//! Invariant: the writes of one Job are those of a cluster where every step succeeds: eight, of which the operator sees each.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{Method, Request, header};
use futures::TryStreamExt;
use jiff::Timestamp;
use kube::Client;
use kube::core::WatchEvent;
use robotimage_crds::build::{BuildPlan, BuildReport, Fetched, LayerReport, Outcome, PLAN_VARIABLE, Published, Resolved, Step, Want};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

const JOBS: &str = "/apis/batch/v1/jobs?watch=true&labelSelector=app.kubernetes.io%2Fmanaged-by%3Drobotimage-operator";
const NAME_LABEL: &str = "robotimage.dev/name";
const MERGE: &str = "application/merge-patch+json";
/// The kubelets' writes under way at the same time: a connection each.
static WRITES: Semaphore = Semaphore::const_new(16);

/// As much of a Job as the mock reads.
#[derive(Deserialize, Clone, Debug)]
struct Job {
    metadata: Metadata,
    spec: Value,
}

#[derive(Deserialize, Clone, Debug)]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    #[serde(default)]
    labels: HashMap<String, String>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How long a step lasts.
    pace: Duration,
    /// When the first Job of a RobotImage came, by the resource's name.
    arrived: HashMap<String, Instant>,
    failed: Option<String>,
}

/// The running mock; dropping it ends it.
#[derive(Debug)]
pub(super) struct MockJobRunner {
    shared: Arc<Mutex<Shared>>,
    task: JoinHandle<()>,
}

impl MockJobRunner {
    /// Starts it. Every image that it "publishes" has this digest.
    pub(super) fn start(client: Client, digest: String) -> Self {
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let state = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            let mut known = HashSet::new();
            loop {
                if let Err(error) = follow(&client, &state, &digest, &mut known).await {
                    locked(&state).failed = Some(error.to_string());
                    return;
                }
            }
        });
        Self { shared, task }
    }

    /// From now on a step lasts so long.
    pub(super) fn pace(&self, step: Duration) {
        locked(&self.shared).pace = step;
    }

    /// When the first Job of the RobotImage of this name came; an error when the mock has failed.
    pub(super) fn arrived(&self, name: &str) -> Result<Option<Instant>> {
        let shared = locked(&self.shared);
        match &shared.failed {
            Some(error) => Err(Error::Other(format!("the mock that runs Jobs: {error}"))),
            None => Ok(shared.arrived.get(name).copied()),
        }
    }
}

impl Drop for MockJobRunner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One watch, until the API server ends it; a new one begins with what is there.
async fn follow(client: &Client, shared: &Arc<Mutex<Shared>>, digest: &str, known: &mut HashSet<String>) -> Result<()> {
    let request = Request::get(JOBS)
        .body(Vec::new())
        .expect("invariant: a constant path is a valid address");
    let wrong = Error::cluster("watch of Jobs");
    let events = client.request_events::<Job>(request).await.map_err(wrong)?;
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.try_next().await.map_err(Error::cluster("watch of Jobs"))? {
        let WatchEvent::Added(job) = event else { continue };
        let now = Instant::now();
        if !known.insert(job.metadata.uid.clone()) {
            continue;
        }
        let pace = {
            let mut shared = locked(shared);
            let name = job.metadata.labels.get(NAME_LABEL).cloned().unwrap_or_default();
            shared.arrived.entry(name).or_insert(now);
            shared.pace
        };
        let (client, digest, shared) = (client.clone(), digest.to_owned(), Arc::clone(shared));
        tokio::spawn(async move {
            if let Err(error) = run(&client, &job, &digest, pace).await {
                locked(&shared).failed = Some(error.to_string());
            }
        });
    }
    Ok(())
}

/// The life of one Job.
async fn run(client: &Client, job: &Job, digest: &str, pace: Duration) -> Result<()> {
    let Metadata { name, namespace, uid, .. } = &job.metadata;
    let pod = format!("{name}-mock");
    let pods = format!("/api/v1/namespaces/{namespace}/pods");
    let (pod_status, job_status) = (
        format!("{pods}/{pod}/status"),
        format!("/apis/batch/v1/namespaces/{namespace}/jobs/{name}/status"),
    );
    let plan = plan(job)?;
    let (began, template) = (Timestamp::now(), &job.spec["template"]);
    let active = json!({"startTime": began, "active": 1, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {}});
    let object = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": pod, "namespace": namespace, "labels": template["metadata"]["labels"],
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid, "controller": true}],
        },
        "spec": template["spec"],
    });
    write(client, Method::POST, &pods, "application/json", &object).await?;
    write(client, Method::PATCH, &job_status, MERGE, &json!({"status": active})).await?;
    let mut ended: Vec<(Step, Value)> = Vec::new();
    for step in Step::ALL {
        let started = Timestamp::now();
        let running = state(step, &json!({"running": {"startedAt": started}}));
        let phase = if step == Step::Publish { "Running" } else { "Pending" };
        send(
            client,
            Method::PATCH,
            &pod_status,
            MERGE,
            &told(phase, &ended, Some((step, running))),
        )
        .await?;
        tokio::time::sleep(pace).await;
        let message = BuildReport::new(&plan.build_id, step, outcome(step, &plan, digest)).to_message();
        let over = json!({"terminated": {
            "exitCode": 0, "reason": "Completed", "message": message, "startedAt": started, "finishedAt": Timestamp::now()}});
        ended.push((step, state(step, &over)));
    }
    write(client, Method::PATCH, &pod_status, MERGE, &told("Succeeded", &ended, None)).await?;
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "CompletionsReached", "lastTransitionTime": Timestamp::now(), "lastProbeTime": Timestamp::now(), "message": ""});
    let done = json!({"status": {
        "active": 0, "ready": 0, "terminating": 0, "succeeded": 1, "completionTime": Timestamp::now(), "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]}});
    write(client, Method::PATCH, &job_status, MERGE, &done).await
}

/// One write of a kubelet or controller.
async fn write(client: &Client, method: Method, path: &str, kind: &str, body: &Value) -> Result<()> {
    let _turn = WRITES.acquire().await;
    send(client, method, path, kind, body).await
}

fn plan(job: &Job) -> Result<BuildPlan> {
    let variables = job.spec["template"]["spec"]["containers"][0]["env"].as_array();
    let plan = variables.and_then(|variables| variables.iter().find(|variable| variable["name"] == PLAN_VARIABLE));
    plan.and_then(|plan| serde_json::from_str(plan["value"].as_str()?).ok())
        .ok_or_else(|| Error::Other(format!("Job {} carries no plan", job.metadata.name)))
}

fn state(step: Step, state: &Value) -> Value {
    json!({
        "name": step.as_str(), "image": "builder", "imageID": "builder", "ready": false, "restartCount": 0,
        "containerID": "mock://container", "started": state.get("running").is_some(), "state": state})
}

/// The status of the pod, as the kubelet patches it.
fn told(phase: &str, ended: &[(Step, Value)], running: Option<(Step, Value)>) -> Value {
    let all = ended.iter().cloned().chain(running);
    let (main, init): (Vec<_>, Vec<_>) = all.partition(|(step, _)| *step == Step::Publish);
    let values = |list: Vec<(Step, Value)>| list.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
    json!({"status": {"phase": phase, "startTime": Timestamp::now(), "initContainerStatuses": values(init), "containerStatuses": values(main)}})
}

/// What each step reports: as large as a real one.
fn outcome(step: Step, plan: &BuildPlan, digest: &str) -> Outcome {
    let key = "0123456789abcdef".repeat(4);
    match step {
        Step::Fetch => {
            let (commit, reference) = match &plan.source.want {
                Want::Commit { id, reference } => (id.clone(), reference.clone()),
                Want::Reference(_) => (key[..40].to_owned(), "main".to_owned()),
            };
            Outcome::Fetched(Box::new(Fetched {
                tree: commit.clone(),
                commit,
                reference,
                author: "A. Developer".to_owned(),
                message: "robots: read the new kind of invoice".to_owned(),
                base: digest.to_owned(),
                rcc: "v19.0.2".to_owned(),
                rcc_digest: format!("sha256:{key}"),
                build_key: key.clone(),
                environment_key: key,
                blueprint: "493f813dad24d3a1".to_owned(),
                ..Fetched::default()
            }))
        }
        Step::Resolve => Outcome::Resolved(Resolved { packages: 143 }),
        Step::Publish => {
            let layers = ["base", "rcc", "environment", "home", "code"].map(|role| LayerReport {
                role: role.to_owned(),
                count: 1,
                size: 48_123_456,
                up: 48_123_456,
            });
            Outcome::Published(Published {
                digest: digest.to_owned(),
                size: 240_617_280,
                uploaded: 192_493_824,
                layers: layers.to_vec(),
                packages: 143,
                noop: false,
            })
        }
    }
}

/// One write as the administrator.
pub(super) async fn send(client: &Client, method: Method, path: &str, kind: &str, body: &Value) -> Result<()> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, kind)
        .body(body.to_string().into_bytes())
        .map_err(|error| Error::Other(format!("{path}: {error}")))?;
    let sent = client.request_text(request).await;
    sent.map(drop).map_err(Error::cluster(format!("write to {path}")))
}
