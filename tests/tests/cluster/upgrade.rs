//! The chart over its life, with a RobotImage that lives through it: the previous version is installed, upgraded to this one in the
//! middle of a build, rolled back, upgraded again and uninstalled.
//!
//! `previous/` holds the packed chart of the version before, with its definition of RobotImage. The operator is always this one:
//! under the older definition it cannot write a whole status, which is what an upgrade has to mend.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use robotimage_crds::api::{RobotImage, RobotImageStatus};
use robotimage_tests::helm::Helm;
use robotimage_tests::install::{self, SYSTEM};
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::process::run;
use robotimage_tests::{Bed, Lifetime, Namespace};
use serde_json::json;

use crate::objects::{SHELL_ROBOT, merge, wait_ready};
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(10);

fn previous() -> PathBuf {
    install::work_tree().join("tests/tests/cluster/previous/robotimage-0.1.0.tgz")
}

/// Says what a step took.
fn said(began: &mut Instant, what: &str) {
    println!("{:>5.1} s  {what}", began.elapsed().as_secs_f64());
    *began = Instant::now();
}

/// The operator looks at the resource anew, and finds it as it was: same image, same build, no further Job.
async fn still_the_same(namespace: &Namespace, before: &RobotImageStatus, minutes: u32) {
    let change = json!({"spec": {"interval": format!("{minutes}m")}});
    let patch = kube::api::Patch::Merge(change);
    let api = namespace.api::<RobotImage>();
    api.patch("live", &kube::api::PatchParams::default(), &patch).await.unwrap();
    let after = wait_ready(namespace, "live", LIMIT).await.unwrap().status.unwrap();
    let facts = |status: &RobotImageStatus| {
        let digest = status.latest_image.as_ref().map(|image| image.digest.clone());
        (digest, status.build_counter)
    };
    assert_eq!(facts(&after), facts(before));
    assert_eq!(namespace.api::<Job>().list(&ListParams::default()).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_release_is_upgraded_rolled_back_and_removed_under_a_living_resource() {
    let mut began = Instant::now();
    // The definition belongs to the whole cluster: an old one must not meet the other suites.
    let shared = setup().await;
    let bed = Bed::start(shared.bed.cache(), Lifetime::Harness).await.unwrap();
    let (_, images) = install::images(&bed).await.unwrap();
    let namespace = Namespace::create(&bed, "live").await.unwrap();
    let mut values = install::values(bed.book(), &images, &["live"]).unwrap();
    // Its default was another one: a change of the platform builds anew, and that is not what is looked at here.
    values["compression"] = json!("zstd");
    let helm = Helm::of(&bed).unwrap();
    let chart = install::work_tree().join("charts/robotimage");
    let upgrade = |chart: &PathBuf, values: &serde_json::Value| helm.install("robotimage", SYSTEM, chart, values).unwrap();
    said(&mut began, "a cluster and our images");

    upgrade(&previous(), &values);
    let repo = bed.book().git.create("live", Some(&bed.book().git_login)).unwrap();
    repo.commit(SHELL_ROBOT, "Begin").unwrap();
    namespace
        .apply::<RobotImage>(install::robot_image(bed.book(), "live", repo.url()))
        .await
        .unwrap();
    let begun = |object: &RobotImage| object.status.as_ref().is_some_and(|status| status.latest_build.is_some());
    install::wait_for(&namespace, "live", LIMIT, |_| {}, begun).await.unwrap();
    said(&mut began, "the previous version installed, and a build begun");

    upgrade(&chart, &values);
    let before = wait_ready(&namespace, "live", LIMIT).await.unwrap().status.unwrap();
    assert_eq!(before.build_counter, Some(1), "{before:#?}");
    let client = namespace.client().clone();
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM);
    let (budgets, leases): (Api<PodDisruptionBudget>, Api<Lease>) =
        (Api::namespaced(client.clone(), SYSTEM), Api::namespaced(client.clone(), SYSTEM));
    let deployment = deployments.get("robotimage").await.unwrap();
    assert_eq!(deployment.status.unwrap().ready_replicas, Some(2));
    assert_eq!(budgets.get("robotimage").await.unwrap().status.unwrap().expected_pods, 2);
    still_the_same(&namespace, &before, 21).await;
    let holder = leases.get("robotimage").await.unwrap().spec.unwrap().holder_identity.unwrap();
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM);
    assert!(pods.get(holder.split('_').next().unwrap()).await.is_ok(), "{holder} is no pod");
    said(&mut began, "upgraded: two replicas, the build came to its end");

    // Everything that can be turned on without kinds of others.
    let mut full = values.clone();
    merge(
        &mut full,
        &json!({
            "metrics": {"service": {"enabled": true}, "dashboard": {"enabled": true}},
            "networkPolicy": {"operator": {"enabled": true}, "builds": {"enabled": true, "namespaces": ["live"]}},
        }),
    );
    upgrade(&chart, &full);
    let kubectl = Kubectl::within(&bed, SYSTEM);
    kubectl
        .run(&[
            "get",
            "networkpolicy/robotimage",
            "service/robotimage-metrics",
            "configmap/robotimage-dashboard",
        ])
        .unwrap();
    said(&mut began, "policies, service and dashboard taken by the API server");

    run(
        "rollback to the first revision",
        helm.command()
            .args(["rollback", "robotimage", "1", "--namespace", SYSTEM, "--wait", "--timeout", "120s"]),
    )
    .unwrap();
    let deployment = deployments.get("robotimage").await.unwrap();
    let strategy = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.strategy.as_ref())
        .and_then(|strategy| strategy.type_.clone());
    assert_eq!(
        (deployment.status.unwrap().ready_replicas, strategy.as_deref()),
        (Some(1), Some("Recreate"))
    );
    assert!(budgets.get_opt("robotimage").await.unwrap().is_none());
    let object = namespace.api::<RobotImage>().get("live").await.unwrap();
    let digest = |status: &RobotImageStatus| status.latest_image.as_ref().map(|image| image.digest.clone());
    assert!(install::is_ready(&object) && object.status.as_ref().and_then(digest) == digest(&before));
    said(&mut began, "rolled back: one replica, the same image");

    upgrade(&chart, &values);
    still_the_same(&namespace, &before, 23).await;
    said(&mut began, "upgraded again");

    helm.uninstall("robotimage", SYSTEM).unwrap();
    // Helm waits for what it made, and pods are the deployment's.
    kubectl
        .run(&[
            "wait",
            "--for=delete",
            "pod",
            "-l",
            "app.kubernetes.io/instance=robotimage",
            "--timeout=60s",
        ])
        .unwrap();
    let left = kubectl
        .run(&[
            "get",
            "all,configmap,networkpolicy,poddisruptionbudget,role,rolebinding",
            "-o",
            "name",
            "-l",
            "app.kubernetes.io/instance=robotimage",
        ])
        .unwrap();
    assert_eq!(left.trim(), "");
    let object = namespace.api::<RobotImage>().get("live").await.unwrap();
    assert!(install::is_ready(&object) && object.metadata.deletion_timestamp.is_none());
    said(&mut began, "uninstalled: the RobotImage and its definition are there");
    bed.stop().unwrap();
}
