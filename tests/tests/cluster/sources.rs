//! Sources that are no git repositories, on a real cluster: an archive that changes behind its address, and a ConfigMap, which
//! only the kubelet reads.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use robotimage_crds::api::{LatestImage, RobotImage};
use robotimage_tests::{Bed, Namespace, install};
use serde_json::{Value, json};

use crate::objects::{SHELL_ROBOT, is_settled, is_stalled, robot_image, wait_ready};
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(5);

fn latest(object: &RobotImage) -> LatestImage {
    object.status.clone().and_then(|status| status.latest_image).unwrap()
}

fn revision(object: &RobotImage) -> String {
    object.status.clone().and_then(|status| status.source).unwrap().revision
}

/// The folder of the bed's file servers, beside that of its git server.
fn shelf(bed: &Bed, namespace: &Namespace) -> PathBuf {
    let folder = bed.book().git.folder.with_file_name("www").join(namespace.name());
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Puts an archive of these files there at once, as an upload that is whole or not at all.
fn pack(archive: &Path, files: &[(&str, &[u8])]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let part = archive.with_extension("part");
    let status = Command::new("tar")
        .arg("-czf")
        .arg(&part)
        .arg("-C")
        .arg(folder.path())
        .arg(".")
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::rename(part, archive).unwrap();
}

async fn wait(namespace: &Namespace, name: &str, done: impl Fn(&RobotImage) -> bool) -> RobotImage {
    install::wait_for(namespace, name, LIMIT, |_| {}, done).await.unwrap()
}

async fn look_now(namespace: &Namespace, name: &str, when: &str) {
    let patch = json!({"metadata": {"annotations": {"robotimage.dev/requestedAt": when}}});
    let api = namespace.api::<RobotImage>();
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
}

async fn set_files(namespace: &Namespace, name: &str, files: &[(&str, &[u8])]) {
    let data: BTreeMap<&str, String> = files
        .iter()
        .map(|(name, content)| (*name, String::from_utf8(content.to_vec()).unwrap()))
        .collect();
    let object: Value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let params = PatchParams::apply("sources").force();
    namespace
        .api::<ConfigMap>()
        .patch(name, &params, &Patch::Apply(&object))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn archives_and_config_maps_become_images() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.namespace("sources").await.unwrap());
    let archive = shelf(bed, &namespace).join("robot.tar.gz");
    pack(&archive, SHELL_ROBOT);
    let url = format!("{}/{}/robot.tar.gz", bed.book().files.https, namespace.name());
    let http = json!({"spec": {"source": {"git": null, "http": {"url": url}}}});
    let map = json!({"spec": {"source": {"git": null, "configMap": {"name": "robot"}}}});
    for (name, change) in [("archive", &http), ("map", &map)] {
        let object = robot_image(bed, &namespace, name, "https://git.example.com/a.git", change);
        namespace.apply::<RobotImage>(object).await.unwrap();
    }

    // A ConfigMap that is not there is told, and looked for when somebody says so.
    let missing = wait(&namespace, "map", is_stalled).await;
    let failure = missing.status.unwrap().last_failure.unwrap();
    assert_eq!(failure.reason, "SourceNotFound", "{failure:?}");
    assert!(failure.message.contains("ConfigMap robot"), "{failure:?}");
    set_files(&namespace, "robot", SHELL_ROBOT).await;
    look_now(&namespace, "map", "1").await;
    let mapped = wait(&namespace, "map", is_settled).await;
    assert!(revision(&mapped).starts_with("robot@sha256:"), "{}", revision(&mapped));

    // The same files are the same image.
    let packed = wait_ready(&namespace, "archive", LIMIT).await.unwrap();
    assert!(revision(&packed).starts_with("archive@sha256:"), "{}", revision(&packed));
    assert_eq!(latest(&mapped).digest, latest(&packed).digest);

    // Another archive behind the address is seen by itself; another content of the ConfigMap when somebody says so.
    let changed = [SHELL_ROBOT[0], ("main.sh", b"echo robot says goodbye\n")];
    pack(&archive, &changed);
    set_files(&namespace, "robot", &changed).await;
    let newer = |before: &RobotImage| {
        let digest = latest(before).digest;
        move |object: &RobotImage| is_settled(object) && latest(object).digest != digest
    };
    let packed = wait(&namespace, "archive", newer(&packed)).await;
    look_now(&namespace, "map", "2").await;
    let mapped = wait(&namespace, "map", newer(&mapped)).await;
    assert_eq!(latest(&mapped).digest, latest(&packed).digest);
    namespace.delete().await.unwrap();
}
