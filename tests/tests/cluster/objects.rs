//! Robots, RobotImages and what belongs to them, as the suites make and read them.

use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use robotimage_crds::api::RobotImage;
use robotimage_tests::git::GitRepo;
use robotimage_tests::{Bed, Error, Namespace, Result, audit, install};
use serde_json::{Value, json};

use crate::setup::Setup;

/// A robot that needs no environment: its build takes seconds, where environments are not the point.
pub(crate) const SHELL_ROBOT: &[(&str, &[u8])] = &[
    ("robot.yaml", b"tasks:\n  Main:\n    shell: sh main.sh\nartifactsDir: output\n"),
    ("main.sh", b"echo robot says hello\n"),
];

/// The same with an environment of Python alone, and a command that is run once it is installed.
pub(crate) fn post_install_robot(command: &str) -> Vec<(&'static str, Vec<u8>)> {
    let conda = format!("channels: [conda-forge]\ndependencies: [python=3.11.7]\nrccPostInstall:\n  - {command}\n");
    let robot = b"tasks:\n  Main:\n    shell: python -V\ncondaConfigFile: conda.yaml\nartifactsDir: output\n".to_vec();
    vec![("robot.yaml", robot), ("conda.yaml", conda.into_bytes())]
}

/// JSON merge patch, RFC 7386.
pub(crate) fn merge(into: &mut Value, change: &Value) {
    let Value::Object(fields) = change else {
        *into = change.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in fields {
        if value.is_null() {
            into.as_object_mut().map(|object| object.remove(name));
        } else {
            merge(&mut into[name], value);
        }
    }
}

/// The repository of a suite's image in the private registry, without the host.
pub(crate) fn repository(namespace: &Namespace, name: &str) -> String {
    format!("robots/{}/{name}", namespace.name())
}

/// A private git repository with these files.
pub(crate) fn git_repository(bed: &Bed, namespace: &Namespace, name: &str, files: &[(&str, &[u8])]) -> Result<GitRepo> {
    let repo = bed
        .book()
        .git
        .create(&format!("{}-{name}", namespace.name()), Some(&bed.book().git_login))?;
    repo.commit(files, "Begin")?;
    Ok(repo)
}

/// A RobotImage over a git repository, changed by a merge patch.
pub(crate) fn robot_image(bed: &Bed, namespace: &Namespace, name: &str, url: &str, change: &Value) -> Value {
    let mut object = install::robot_image(bed.book(), name, url);
    object["spec"]["image"]["repository"] = json!(bed.book().registry.reference(&repository(namespace, name)));
    merge(&mut object, change);
    object
}

/// Whether nothing is under way: Ready for its newest generation, and not being looked at.
pub(crate) fn is_settled(object: &RobotImage) -> bool {
    install::is_ready(object) && install::condition(object, "Reconciling").is_none()
}

/// Whether the operator has given up until something changes.
pub(crate) fn is_stalled(object: &RobotImage) -> bool {
    matches!(install::condition(object, "Stalled"), Some(("True", ..)))
}

/// Waits for Ready; a stalled object is an error at once.
pub(crate) async fn wait_ready(namespace: &Namespace, name: &str, limit: Duration) -> Result<RobotImage> {
    let object = install::wait_for(namespace, name, limit, |_| {}, |object| is_settled(object) || is_stalled(object)).await?;
    if is_settled(&object) {
        return Ok(object);
    }
    let failure = object.status.and_then(|status| status.last_failure).unwrap_or_default();
    Err(Error::Other(format!(
        "{}/{name} failed: {}: {}\n{}",
        namespace.name(),
        failure.reason,
        failure.message,
        failure.log_tail.unwrap_or_default()
    )))
}

fn of(object: &RobotImage) -> ListParams {
    ListParams::default().labels(&format!(
        "robotimage.dev/uid={}",
        object.metadata.uid.as_deref().unwrap_or_default()
    ))
}

/// The Jobs of a RobotImage that are there, by name.
pub(crate) async fn jobs(namespace: &Namespace, object: &RobotImage) -> Result<Vec<Job>> {
    let list = namespace
        .api::<Job>()
        .list(&of(object))
        .await
        .map_err(Error::cluster("list of Jobs"))?;
    Ok(list.items)
}

/// How many Jobs were ever made for a RobotImage, those that are gone included: the audit log knows.
pub(crate) fn jobs_made(setup: &Setup, namespace: &Namespace, name: &str) -> Result<usize> {
    let log = audit::read(&setup.bed.node().audit_log(), setup.mark)?;
    let made = log.iter().filter(|entry| {
        let ours = entry.namespace == namespace.name() && entry.name.starts_with(&format!("{name}-"));
        ours && entry.resource == "jobs" && entry.verb == "create" && entry.is_success()
    });
    Ok(made.count())
}

/// The build pods of a RobotImage that are there.
pub(crate) async fn pods(namespace: &Namespace, object: &RobotImage) -> Result<Vec<Pod>> {
    let list = namespace
        .api::<Pod>()
        .list(&of(object))
        .await
        .map_err(Error::cluster("list of pods"))?;
    Ok(list.items)
}

/// The containers of a build pod that run or ran, by the names of their steps.
pub(crate) fn started(pod: &Pod) -> Vec<String> {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status
        .init_container_statuses
        .into_iter()
        .chain(status.container_statuses)
        .flatten();
    let ran = containers.filter(|container| {
        let state = container.state.clone().unwrap_or_default();
        state.running.is_some() || state.terminated.is_some()
    });
    ran.map(|container| container.name).collect()
}

/// Waits until a step of a build has started; gives its pod.
pub(crate) async fn wait_step(namespace: &Namespace, object: &RobotImage, step: &str, limit: Duration) -> Result<Pod> {
    let end = std::time::Instant::now() + limit;
    loop {
        if let Some(pod) = pods(namespace, object)
            .await?
            .into_iter()
            .find(|pod| started(pod).iter().any(|name| name == step))
        {
            return Ok(pod);
        }
        if std::time::Instant::now() > end {
            return Err(Error::Other(format!(
                "step {step} of {} did not start within {limit:?}",
                object.metadata.name.as_deref().unwrap_or_default()
            )));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
