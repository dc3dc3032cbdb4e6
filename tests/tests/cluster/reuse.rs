//! One environment for laptop and cluster, in both directions, and a base that is swapped under a finished robot.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use robotimage_crds::api::{LatestBuild, LatestImage, RobotImage};
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::laptop::{Laptop, Program};
use robotimage_tests::{Bed, Namespace, install};
use serde_json::json;

use crate::objects::{git_repository, is_settled, post_install_robot, repository, robot_image, wait_ready};
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(15);

/// Files of a robot whose environment has a command that is this suite's own, so that no other suite has kept it.
fn robot(code: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = post_install_robot("python -c \"print('of suite reuse')\"");
    files.push(("main.py", format!("print('{code}')\n").into_bytes()));
    files
}

fn write(folder: &Path, files: &[(&str, Vec<u8>)]) {
    fs::create_dir_all(folder).expect("a folder");
    for (name, content) in files {
        fs::write(folder.join(name), content).expect("a file");
    }
}

async fn person(bed: &Bed, home: &Path) -> Laptop {
    let program = Program::get(bed.cache()).await.expect("the program");
    Laptop::new(bed, &program, home).expect("a home")
}

/// Commits the robot, applies a RobotImage for it, and waits for the image.
async fn build(bed: &Bed, namespace: &Namespace, name: &str, code: &str) -> RobotImage {
    let files = robot(code);
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (*name, content.as_slice())).collect();
    let repo = git_repository(bed, namespace, name, &files).expect("a repository");
    let object = robot_image(bed, namespace, name, repo.url(), &json!({}));
    Kubectl::within(bed, namespace.name())
        .apply(&object.to_string())
        .expect("an object");
    wait_ready(namespace, name, LIMIT).await.expect("an image")
}

fn last(object: &RobotImage) -> (LatestBuild, LatestImage) {
    let status = object.status.clone().expect("a status");
    (status.latest_build.expect("a build"), status.latest_image.expect("an image"))
}

fn said(build: &LatestBuild) -> &str {
    let resolve = build.steps.iter().find(|step| step.name == "resolve");
    resolve.and_then(|step| step.cache.as_deref()).unwrap_or("not asked")
}

fn uploaded(image: &LatestImage, role: &str) -> i64 {
    image.layers.iter().find(|layer| layer.role == role).expect("a layer").uploaded
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn laptop_and_cluster_share_environments() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.namespace("reuse").await.expect("a namespace"));
    let folder = tempfile::tempdir().expect("a folder");
    let registry = &bed.book().registry;

    // The cluster resolves, a laptop takes over.
    let began = Instant::now();
    let first = build(bed, &namespace, "resolved-here", "first").await;
    let (made, image) = last(&first);
    assert_eq!((made.plan.as_deref(), said(&made)), (Some("Full"), "miss"));
    assert!(uploaded(&image, "environment") > 0);
    let packages = first
        .status
        .as_ref()
        .and_then(|status| status.environment.clone())
        .and_then(|e| e.packages);
    assert!(packages > Some(0));
    println!("{:>5.1} s  resolved in the cluster", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let laptop = person(bed, &folder.path().join("one")).await;
    let source = folder.path().join("laptop-robot");
    write(&source, &robot("laptop"));
    let place = registry.reference(&repository(&namespace, "resolved-here"));
    let desk = registry.reference(&repository(&namespace, "from-laptop"));
    let name = format!("{desk}:desk");
    let built = laptop
        .build(&source, &["--push", "-t", &name, "--environment-cache", &place])
        .expect("a build");
    assert_eq!(built.document["environmentCache"], "hit", "{}", built.document);
    assert_eq!(built.document["packages"].as_i64(), packages);
    assert!(!laptop.cache().join("builds").exists(), "the laptop resolved it");
    println!("{:>5.1} s  taken over by a laptop", began.elapsed().as_secs_f64());

    // A laptop keeps, the cluster takes over: no package is installed in the pod.
    let began = Instant::now();
    let resolving = person(bed, &folder.path().join("two")).await;
    let kept = registry.reference(&repository(&namespace, "taken-over"));
    let built = resolving
        .build(&source, &["--push", "-t", &format!("{kept}:desk")])
        .expect("a build");
    assert_eq!(built.document["environmentCache"], "miss", "{}", built.document);
    let second = build(bed, &namespace, "taken-over", "second").await;
    let (made, image) = last(&second);
    assert_eq!((made.plan.as_deref(), said(&made)), (Some("CodeOnly"), "hit"));
    assert_eq!((uploaded(&image, "environment"), uploaded(&image, "home")), (0, 0));
    let status = second.status.clone().expect("a status");
    assert_eq!(status.environment.as_ref().and_then(|environment| environment.packages), packages);
    println!(
        "{:>5.1} s  kept by a laptop, taken over by the cluster",
        began.elapsed().as_secs_f64()
    );

    // Another base with the same glibc: nothing of the robot is made, and its layers are not sent.
    let began = Instant::now();
    let base = format!("{}-{}", bed.book().base_image, namespace.name());
    let words = [
        "mutate",
        "--insecure",
        bed.book().base_image.as_str(),
        "--env",
        "OTHER=1",
        "--tag",
        &base,
    ];
    registry.crane(&words).expect("another base");
    let patch = json!({"spec": {"image": {"base": {"image": base}}}}).to_string();
    Kubectl::within(bed, namespace.name())
        .run(&["patch", "rimg", "taken-over", "--type=merge", "-p", &patch])
        .expect("a patch");
    let before = image.digest.clone();
    let newer = move |object: &RobotImage| is_settled(object) && last(object).1.digest != before;
    let third = install::wait_for(&namespace, "taken-over", LIMIT, |_| {}, newer)
        .await
        .expect("the next image");
    let (made, image) = last(&third);
    assert_eq!((made.plan.as_deref(), said(&made)), (Some("RebaseOnly"), "not asked"));
    assert_eq!(image.uploaded, 0, "{:?}", image.layers);
    println!("{:>5.1} s  base swapped", began.elapsed().as_secs_f64());
    namespace.delete().await.expect("its end");
}
