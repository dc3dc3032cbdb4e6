//! What nobody wrote wrong: a pod that is taken away, a registry that goes down, a builder image that is nowhere. The table of
//! bad inputs shows them with the rest.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use robotimage_crds::api::{LastFailure, RobotImage};
use robotimage_tests::registry::{Registry, RegistryOptions};
use robotimage_tests::secret::Login;
use robotimage_tests::{Error, Namespace, Result, install};
use serde_json::json;

use crate::bad_inputs::{End, LIMIT, Seen, judge_conditions};
use crate::local::Local;
use crate::objects::{SHELL_ROBOT, git_repository, is_settled, is_stalled, jobs_made, repository, robot_image, wait_ready, wait_step};
use crate::setup::Setup;

/// A build pod that somebody deletes in the middle: nobody's fault, tried again, and there is an image.
pub(crate) async fn killed_pod(setup: &Setup, namespace: &Namespace) -> Result<Seen> {
    let (bed, name) = (&setup.bed, "killed-pod");
    let repo = git_repository(bed, namespace, name, SHELL_ROBOT)?;
    let image = repository(namespace, name);
    let before = bed.book().registry.tags(&image)?;
    let object = namespace
        .apply::<RobotImage>(robot_image(bed, namespace, name, repo.url(), &json!({})))
        .await?;
    let pod = wait_step(namespace, &object, "fetch", LIMIT).await?;
    let pod = pod.metadata.name.unwrap_or_default();
    let deleted = namespace.api::<Pod>().delete(&pod, &DeleteParams::default().grace_period(0)).await;
    deleted.map_err(Error::cluster(format!("deletion of pod {pod}")))?;
    let failed = |object: &RobotImage| has_failed(object, "ResultUnreadable") || is_settled(object);
    let between = install::wait_for(namespace, name, LIMIT, |_| {}, failed).await?;
    let object = wait_ready(namespace, name, LIMIT).await?;
    let failure = between
        .status
        .as_ref()
        .and_then(|status| status.last_failure.clone())
        .unwrap_or_default();
    let mut wrong = Vec::new();
    judge_conditions(&between, End::Retrying, "ResultUnreadable", &mut wrong);
    if (failure.owner.as_str(), failure.retryable, failure.attempts) != ("Infrastructure", true, 0) {
        wrong.push(format!("lastFailure is {failure:?}: not one of Infrastructure that does not count"));
    }
    if !failure.message.contains("deleted") {
        wrong.push("the message does not say \"deleted\"".to_owned());
    }
    let made = jobs_made(setup, namespace, name)?;
    let tags = (before, bed.book().registry.tags(&image)?);
    Ok(settle("a pod killed in the middle", made, &object, &failure, tags, wrong))
}

/// Whether this is the failure of now. A git server that was slow to answer may have failed the first look: that is another.
fn has_failed(object: &RobotImage, reason: &str) -> bool {
    let failure = object.status.as_ref().and_then(|status| status.last_failure.as_ref());
    failure.is_some_and(|failure| failure.reason == reason)
}

/// The end of a row that comes to an image by itself: two attempts of one build, one tag.
fn settle(
    row: &str,
    made: usize,
    object: &RobotImage,
    failure: &LastFailure,
    tags: (Vec<String>, Vec<String>),
    mut wrong: Vec<String>,
) -> Seen {
    let status = object.status.clone().unwrap_or_default();
    let (before, after) = tags;
    let attempts = status.latest_build.as_ref().map_or(0, |build| build.attempt);
    if status.build_counter != Some(1) || attempts < 2 || status.last_failure.is_some() {
        wrong.push(format!(
            "build {:?}, attempt {attempts}, last failure {:?}",
            status.build_counter, status.last_failure
        ));
    }
    let wanted: Vec<String> = status.latest_image.as_ref().map(|image| image.tags.clone()).unwrap_or_default();
    if !before.is_empty() || after != wanted || after.len() != 1 {
        wrong.push(format!(
            "tags {before:?} before and {after:?} after, and the status names {wanted:?}"
        ));
    }
    if u32::try_from(made) != Ok(attempts) {
        wrong.push(format!("{made} Jobs for {attempts} attempts"));
    }
    Seen {
        name: row.to_owned(),
        ready: format!("{}, then UpToDate", failure.reason),
        state: "Retrying, then Ready".to_owned(),
        owner: failure.owner.clone(),
        jobs: made,
        tags: format!("{} -> {}", before.len(), after.len()),
        message: failure.message.clone(),
        wrong,
    }
}

/// A registry that goes away while publish speaks to it, and comes back.
pub(crate) async fn registry_down(setup: &Setup, namespace: &Namespace) -> Result<Seen> {
    let (bed, name) = (&setup.bed, "registry-down");
    let login = Login::new("pusher", "only-for-tests");
    let options = RegistryOptions::private(&format!("down-{}", std::process::id()), login);
    let mut registry = Registry::start(bed.cache(), &bed.node().site().of_harness(), options).await?;
    let config = registry.at().docker_config().to_string();
    namespace
        .secret("registry-down", "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", &config)])
        .await?;
    let repo = git_repository(bed, namespace, name, SHELL_ROBOT)?;
    let before = registry.at().tags("robots/down")?;
    let target = json!({"spec": {"image": {"repository": registry.at().reference("robots/down"), "secretRef": {"name": "registry-down"}}}});
    // Frozen, it takes the connection and keeps publish waiting, so that it can be killed in the middle of a request.
    registry.freeze();
    let object = namespace
        .apply::<RobotImage>(robot_image(bed, namespace, name, repo.url(), &target))
        .await?;
    wait_step(namespace, &object, "publish", LIMIT).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    registry.stop();
    let failed = |object: &RobotImage| has_failed(object, "RegistryUnavailable") || is_settled(object);
    let between = install::wait_for(namespace, name, LIMIT, |_| {}, failed).await?;
    registry.start_again().await?;
    let object = wait_ready(namespace, name, LIMIT).await?;
    let failure = between
        .status
        .as_ref()
        .and_then(|status| status.last_failure.clone())
        .unwrap_or_default();
    let mut wrong = Vec::new();
    judge_conditions(&between, End::Retrying, "RegistryUnavailable", &mut wrong);
    if (failure.owner.as_str(), failure.retryable) != ("Infrastructure", true) || !failure.message.contains(registry.address()) {
        wrong.push(format!(
            "lastFailure is {failure:?}: not one of Infrastructure that names {}",
            registry.address()
        ));
    }
    let tags = (before, registry.at().tags("robots/down")?);
    let made = jobs_made(setup, namespace, name)?;
    Ok(settle("registry down during the push", made, &object, &failure, tags, wrong))
}

/// A builder image that is nowhere: a failure of the platform, said while it waits and after the limit.
pub(crate) async fn no_builder(setup: &Setup) -> Result<Seen> {
    let bed = &setup.bed;
    let namespace = setup.unserved("no-builder").await?;
    let missing = bed.book().public.reference("robotimage/no-such-builder:1");
    let mut local = Local::prepare(
        setup,
        &namespace,
        &json!({"builder": {"image": missing}, "builds": {"queueLimit": "60s"}}),
    )
    .await?;
    local.start()?;
    let name = "no-builder";
    let repo = git_repository(bed, &namespace, name, SHELL_ROBOT)?;
    namespace
        .apply::<RobotImage>(robot_image(bed, &namespace, name, repo.url(), &json!({})))
        .await?;
    let waits = |object: &RobotImage| {
        matches!(
            install::condition(object, "Reconciling"),
            Some(("True", "BuilderImagePullFailed", _))
        )
    };
    let waiting = install::wait_for(&namespace, name, LIMIT, |_| {}, waits).await?;
    let mut wrong = Vec::new();
    if !matches!(install::condition(&waiting, "Ready"), Some(("Unknown", "Progressing", _))) {
        wrong.push(format!("while it waits Ready is {:?}", install::condition(&waiting, "Ready")));
    }
    let object = install::wait_for(&namespace, name, LIMIT, |_| {}, is_stalled).await?;
    judge_conditions(&object, End::Stalled, "BuilderImagePullFailed", &mut wrong);
    let failure = object
        .status
        .as_ref()
        .and_then(|status| status.last_failure.clone())
        .unwrap_or_default();
    if (failure.owner.as_str(), failure.retryable) != ("Platform", false)
        || !failure.message.contains("robotimage/no-such-builder:1")
        || !failure.message.contains("waited 1m")
    {
        wrong.push(format!("lastFailure is {failure:?}"));
    }
    local.stop();
    let tags = bed.book().registry.tags(&repository(&namespace, name))?;
    if !tags.is_empty() {
        wrong.push(format!("tags {tags:?}"));
    }
    let made = jobs_made(setup, &namespace, name)?;
    if made != 1 {
        wrong.push(format!("{made} Jobs"));
    }
    namespace.delete().await?;
    Ok(Seen {
        name: "no such builder image".to_owned(),
        ready: failure.reason.clone(),
        state: "Waiting, then Stalled".to_owned(),
        owner: failure.owner,
        jobs: made,
        tags: format!("0 -> {}", tags.len()),
        message: failure.message,
        wrong,
    })
}
