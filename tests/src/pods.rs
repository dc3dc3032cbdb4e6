//! Pods that a test or the demo runs to their end, and what a person would want to know of them.
//!
//! Invariant: waiting is bounded, and a pod that does not end says why in the error.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use serde_json::{Value, json};

use crate::error::{Error, Result};

/// How often the API server is asked.
const POLL: Duration = Duration::from_millis(100);

/// A finished pod of one container.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What it printed.
    pub log: String,
    /// Its exit code.
    pub exit_code: i32,
    /// From creation to the end, pull included.
    pub took: Duration,
}

/// How to run an image.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Arguments that replace the image's Cmd.
    pub args: Vec<String>,
    /// `runAsUser`; the image's own user where this is none.
    pub user: Option<i64>,
    /// A read-only root with emptyDirs at these paths.
    pub read_only: Option<Vec<String>>,
    /// Secret to pull with.
    pub pull_secret: Option<String>,
    /// Environment to add.
    pub env: Vec<(String, String)>,
}

/// A pod that passes Pod Security `restricted` and runs `image` once.
pub fn pod(name: &str, image: &str, options: &RunOptions) -> Value {
    let mut container = json!({
        "name": "robot",
        "image": image,
        "args": options.args,
        "env": options.env.iter().map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "runAsNonRoot": true,
            "seccompProfile": {"type": "RuntimeDefault"},
            "readOnlyRootFilesystem": options.read_only.is_some(),
        },
    });
    if let Some(user) = options.user {
        container["securityContext"]["runAsUser"] = user.into();
    }
    let paths = options.read_only.as_deref().unwrap_or_default();
    let volume = |number: usize| format!("writable-{number}");
    container["volumeMounts"] = paths
        .iter()
        .enumerate()
        .map(|(n, path)| json!({"name": volume(n), "mountPath": path}))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "imagePullSecrets": options.pull_secret.iter().map(|name| json!({"name": name})).collect::<Vec<_>>(),
            "volumes": (0..paths.len()).map(|n| json!({"name": volume(n), "emptyDir": {}})).collect::<Vec<_>>(),
            "containers": [container],
        },
    })
}

/// Creates the pod, waits for its end, and removes it.
pub async fn run(client: &Client, namespace: &str, pod: &Value, limit: Duration) -> Result<Finished> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let began = Instant::now();
    let pod: Pod = serde_json::from_value(pod.clone()).map_err(|error| Error::Other(format!("pod of a test: {error}")))?;
    let name = create(&api, &pod).await?;
    let finished = loop {
        let pod = api.get(&name).await.map_err(Error::cluster(format!("get pod {name}")))?;
        if let Some(code) = exit_code(&pod) {
            let log = api
                .logs(&name, &LogParams::default())
                .await
                .map_err(Error::cluster(format!("logs of pod {name}")))?;
            break Finished {
                log,
                exit_code: code,
                took: began.elapsed(),
            };
        }
        if began.elapsed() > limit {
            let status = serde_json::to_string(&pod.status).unwrap_or_default();
            let log = api.logs(&name, &LogParams::default()).await.unwrap_or_default();
            return Err(Error::Other(format!(
                "pod {namespace}/{name} did not end within {limit:?}: {status}\nlog: {log}"
            )));
        }
        tokio::time::sleep(POLL).await;
    };
    api.delete(&name, &DeleteParams::default().grace_period(0))
        .await
        .map_err(Error::cluster(format!("delete pod {name}")))?;
    Ok(finished)
}

async fn create(api: &Api<Pod>, pod: &Pod) -> Result<String> {
    let name = pod.metadata.name.clone().unwrap_or_default();
    api.create(&PostParams::default(), pod)
        .await
        .map_err(Error::cluster(format!("create pod {name}")))?;
    Ok(name)
}

fn exit_code(pod: &Pod) -> Option<i32> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    Some(status.state.as_ref()?.terminated.as_ref()?.exit_code)
}
