//! What is promised: a robot goes from a private repository to a running image, and a commit to the next one by itself.

use std::process::Stdio;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, PostParams};
use robotimage_crds::api::{LatestImage, LayerStatus, RobotImage};
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::namespace::REGISTRY_SECRET;
use robotimage_tests::pods::{self, RunOptions};
use robotimage_tests::{Bed, Namespace, demo, laptop};
use serde_json::{Value, json};

use crate::objects::{SHELL_ROBOT, git_repository, is_settled, jobs, repository, robot_image, wait_ready};
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(15);
/// A user that no image knows: what OpenShift gives a pod.
const RANDOM_USER: i64 = 1_000_770_042;

fn image(object: &RobotImage) -> &LatestImage {
    object
        .status
        .as_ref()
        .and_then(|status| status.latest_image.as_ref())
        .expect("a Ready RobotImage has an image")
}

fn layer<'a>(image: &'a LatestImage, role: &str) -> &'a LayerStatus {
    image.layers.iter().find(|layer| layer.role == role).expect("a layer of that role")
}

/// The paths that need an emptyDir on a read-only root, as the image itself says.
fn writable_paths(bed: &Bed, image: &LatestImage) -> Vec<String> {
    let config = bed
        .book()
        .registry
        .crane(&["config", &image.reference])
        .expect("the image's configuration");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    let label = config["config"]["Labels"]["robotimage.dev/writable"].as_str().expect("the label");
    label.split(',').map(str::to_owned).collect()
}

async fn run(namespace: &Namespace, name: &str, image: &LatestImage, options: &RunOptions) -> String {
    let options = RunOptions {
        pull_secret: Some(REGISTRY_SECRET.to_owned()),
        ..options.clone()
    };
    let pod = pods::pod(name, &image.reference, &options);
    let finished = pods::run(namespace.client(), namespace.name(), &pod, Duration::from_mins(2))
        .await
        .expect("the pod ends");
    assert_eq!(finished.exit_code, 0, "{name}:\n{}", finished.log);
    finished.log
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_robot_becomes_an_image_and_a_commit_the_next() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.namespace("happy").await.unwrap());
    let repo = bed
        .book()
        .git
        .create(&format!("{}-invoices", namespace.name()), Some(&bed.book().git_login))
        .unwrap();
    let commit = demo::commit_example(&repo, &[], "Read the invoices").unwrap();
    let object = robot_image(bed, &namespace, "invoices", repo.url(), &json!({}));
    let (kubectl, began) = (Kubectl::within(bed, namespace.name()), Instant::now());
    kubectl.apply(&object.to_string()).unwrap();
    kubectl
        .run(&["wait", "--for=condition=Ready", "rimg/invoices", "--timeout=900s"])
        .unwrap();
    let first = wait_ready(&namespace, "invoices", LIMIT).await.unwrap();
    println!(
        "first image after {:.1} s\n{}",
        began.elapsed().as_secs_f64(),
        kubectl.run(&["get", "rimg", "-o", "wide"]).unwrap()
    );
    let made = image(&first);
    let repository = repository(&namespace, "invoices");
    assert_eq!(
        made.reference,
        format!("{}@{}", bed.book().registry.reference(&repository), made.digest)
    );
    assert_eq!(made.tags, [&commit[..12]]);
    let kept = first
        .status
        .as_ref()
        .and_then(|status| status.environment.as_ref())
        .map(|environment| format!("env-{}", environment.key));
    let tags: Vec<String> = made.tags.iter().cloned().chain(kept).collect();
    assert_eq!(
        bed.book().registry.tags(&repository).unwrap(),
        tags,
        "the image and its environment"
    );
    assert_eq!(
        bed.book().registry.digest(&format!("{repository}:{}", &commit[..12])).unwrap(),
        made.digest
    );
    let roles: Vec<&str> = made.layers.iter().map(|layer| layer.role.as_str()).collect();
    assert_eq!(roles, ["base", "rcc", "environment", "home", "code"]);
    assert!(layer(made, "environment").uploaded > 0);
    let described = kubectl.run(&["describe", "rimg", "invoices"]).unwrap();
    for event in ["BuildStarted", "BuildSucceeded", "ImageUpdated"] {
        assert!(described.contains(event), "no event {event}:\n{described}");
    }
    println!("{described}");
    runs_anywhere(bed, &namespace, made).await;
    let home = tempfile::tempdir().unwrap();
    let laptop = laptop::cli_digest(bed, &demo::example(), home.path()).await.unwrap();
    assert_eq!(laptop, made.digest, "the command line makes the same image of the same files");

    // A commit, and nobody touches the cluster.
    let code = std::fs::read_to_string(demo::example().join("invoices.py"))
        .unwrap()
        .replace("VERSION = 1", "VERSION = 2");
    let began = Instant::now();
    let commit = demo::commit_example(&repo, &[("invoices.py", code.as_bytes())], "Say the version").unwrap();
    let newer = |object: &RobotImage| is_settled(object) && image(object).digest != made.digest;
    let second = robotimage_tests::install::wait_for(&namespace, "invoices", LIMIT, |_| {}, newer)
        .await
        .unwrap();
    println!("second image after {:.1} s", began.elapsed().as_secs_f64());
    let next = image(&second);
    assert_eq!(next.tags, [&commit[..12]]);
    let untouched: Vec<(&str, i64)> = ["base", "rcc", "environment"]
        .map(|role| (role, layer(next, role).uploaded))
        .to_vec();
    assert_eq!(untouched, [("base", 0), ("rcc", 0), ("environment", 0)]);
    assert!(layer(next, "code").uploaded > 0);
    let status = second.status.clone().unwrap();
    let build = status.latest_build.clone().unwrap();
    assert_eq!(
        (status.build_counter, build.number, build.plan.as_deref()),
        (Some(2), 2, Some("CodeOnly"))
    );
    assert_eq!(
        build.reasons.iter().map(|reason| reason.kind.as_str()).collect::<Vec<_>>(),
        ["SourceChanged"]
    );
    assert_eq!(jobs(&namespace, &second).await.unwrap().len(), 2);
    let said = run(&namespace, "second", next, &RunOptions::default()).await;
    assert!(said.contains("robot version 2") && said.contains("due: 435 EUR"), "{said}");
}

/// On a writable root, on a read-only one with the volumes that the image names, and under a user that nobody knows.
async fn runs_anywhere(bed: &Bed, namespace: &Namespace, image: &LatestImage) {
    let read_only = Some(writable_paths(bed, image));
    let options = |user, read_only| RunOptions {
        user,
        read_only,
        ..RunOptions::default()
    };
    let cases = [
        ("writable", options(None, None)),
        ("read-only", options(None, read_only.clone())),
        ("random-user", options(Some(RANDOM_USER), None)),
        ("random-user-read-only", options(Some(RANDOM_USER), read_only)),
    ];
    let runs = cases
        .iter()
        .map(async |(name, options)| (*name, options.user, run(namespace, name, image, options).await));
    for (name, user, said) in futures::future::join_all(runs).await {
        let user = user.unwrap_or(1000);
        assert!(said.contains("robot version 1"), "{name}:\n{said}");
        assert!(
            said.contains("due: 435 EUR, python 3.11.7") && said.contains(&format!("user {user}")),
            "{name}:\n{said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn tags_and_commits_are_followed_as_they_should_be() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.namespace("happy").await.unwrap());
    let repo = git_repository(bed, &namespace, "refs", SHELL_ROBOT).unwrap();
    let first = repo.id("main").unwrap();
    repo.tag("v1", &first).unwrap();
    let second = repo.commit(&[("main.sh", b"echo robot says bye\n")], "Bye").unwrap();
    let by = |reference: Value| json!({"spec": {"source": {"git": {"ref": reference}}}});
    let refs = [
        ("by-tag", json!({"branch": null, "tag": "v1"})),
        ("by-commit", json!({"branch": null, "commit": second})),
        ("by-default", Value::Null),
    ];
    for (name, reference) in refs {
        namespace
            .apply::<RobotImage>(robot_image(bed, &namespace, name, repo.url(), &by(reference)))
            .await
            .unwrap();
    }
    let ready = |name| wait_ready(&namespace, name, LIMIT);
    let (tag, commit, default) = tokio::try_join!(ready("by-tag"), ready("by-commit"), ready("by-default")).unwrap();
    let revision = |object: &RobotImage| {
        object
            .status
            .as_ref()
            .and_then(|status| status.source.as_ref())
            .map(|source| source.revision.clone())
    };
    assert_eq!(revision(&tag), Some(format!("v1@sha1:{first}")));
    assert!(revision(&commit).is_some_and(|revision| revision.ends_with(&second)));
    assert_eq!(
        image(&commit).digest,
        image(&default).digest,
        "the bytes depend on what is in them alone"
    );
    assert_ne!(image(&tag).digest, image(&commit).digest);
    // A tag that is moved is followed.
    repo.tag("v1", &second).unwrap();
    let moved = |object: &RobotImage| is_settled(object) && image(object).digest == image(&default).digest;
    let tag = robotimage_tests::install::wait_for(&namespace, "by-tag", LIMIT, |_| {}, moved)
        .await
        .unwrap();
    assert_eq!(revision(&tag), Some(format!("v1@sha1:{second}")));
    let still = ready("by-commit").await.unwrap();
    assert_eq!(still.status.and_then(|status| status.build_counter), Some(1));
}

/// Tells that it is ready, and cleans up when it is asked to end.
const PATIENT_ROBOT: &[(&str, &[u8])] = &[
    ("robot.yaml", b"tasks:\n  Main:\n    shell: sh main.sh\nartifactsDir: output\n"),
    (
        "main.sh",
        b"trap 'echo robot cleans up; exit 0' TERM\necho robot is ready\nwhile :; do sleep 0.2; done\n",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_deleted_pod_runs_the_clean_up_of_its_robot() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.namespace("signal").await.unwrap());
    let repo = git_repository(bed, &namespace, "patient", PATIENT_ROBOT).unwrap();
    namespace
        .apply::<RobotImage>(robot_image(bed, &namespace, "patient", repo.url(), &json!({})))
        .await
        .unwrap();
    let object = wait_ready(&namespace, "patient", LIMIT).await.unwrap();
    let options = RunOptions {
        pull_secret: Some(REGISTRY_SECRET.to_owned()),
        ..RunOptions::default()
    };
    let pod: Pod = serde_json::from_value(pods::pod("patient", &image(&object).reference, &options)).unwrap();
    let api = namespace.api::<Pod>();
    api.create(&PostParams::default(), &pod).await.unwrap();
    let kubectl = Kubectl::within(bed, namespace.name());
    let said = async |word: &str| {
        let end = Instant::now() + LIMIT;
        while !kubectl
            .output(&["logs", "patient"])
            .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(word))
        {
            assert!(Instant::now() < end, "the pod does not say {word:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    said("robot is ready").await;
    let follow = kubectl
        .command()
        .args(["logs", "--follow", "patient"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let follow = tokio::task::spawn_blocking(move || follow.wait_with_output());
    // Long enough that the follower has its connection.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    api.delete("patient", &DeleteParams::default().grace_period(20)).await.unwrap();
    let output = String::from_utf8_lossy(&follow.await.unwrap().unwrap().stdout).into_owned();
    while api.get_opt("patient").await.unwrap().is_some() {
        assert!(began.elapsed() < Duration::from_mins(1), "the pod does not go away");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = began.elapsed();
    assert!(output.contains("robot cleans up"), "{output}");
    assert!(took < Duration::from_secs(15), "the pod took {took:?} of its grace period of 20 s");
    println!("the pod was gone {:.1} s after its deletion", took.as_secs_f64());
}
