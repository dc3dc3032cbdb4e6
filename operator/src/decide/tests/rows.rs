//! Each row of the table of states, and the ways between them, while nothing fails.

use robotimage_crds::api::{BuildPhase, LocalRef};
use robotimage_crds::build::{Outcome, Step};
use robotimage_crds::reason::Reason;
use serde_json::json;

use super::pods::{fetched, running, waiting};
use super::world::{A, B, BUILDING, UP_TO_DATE, World, image, platform, revision};
use crate::decide::Next;

#[test]
fn a_new_resource_is_resolved_and_built() {
    let mut world = World::new();
    world.slow = true;
    assert_eq!(world.settle(), 1);
    assert_eq!(
        world.row(),
        "Ready=Unknown/Progressing Reconciling=True/ResolvingSource Available=False/NeverBuilt SourceReady=Unknown/Progressing | Resolving source"
    );
    world.slow = false;
    // The number is in the status before the Job exists, and the Job's name follows from the status.
    assert!(world.step());
    assert!(world.jobs.is_empty());
    let build = world.build();
    assert_eq!(
        (build.number, build.attempt, build.phase, world.status().build_counter),
        (1, 1, BuildPhase::Pending, Some(1))
    );
    world.settle();
    assert_eq!(world.jobs.len(), 1);
    assert_eq!(world.jobs[0].metadata.name, Some(build.job));
    assert_eq!(world.row(), BUILDING);
    assert_eq!(world.build().reasons[0].kind, "Initial");
    assert_eq!(world.status().source.unwrap().short, "main@aaaaaaa");

    world.pass(30).succeed(A, 'd', false);
    assert_eq!(world.settle(), 1);
    assert_eq!(world.row(), UP_TO_DATE);
    let status = world.status();
    let image = status.latest_image.unwrap();
    assert_eq!(image.reference, format!("registry.example.com/robots/a@sha256:{}", "d".repeat(64)));
    assert_eq!(
        (image.short.as_str(), image.tags),
        ("dddddddddddd", vec!["aaaaaaaaaaaa".to_owned()])
    );
    assert_eq!(status.history[0].outcome, "Succeeded");
    assert_eq!(status.history[0].duration.as_deref(), Some("30s"));
    assert_eq!(status.inputs.unwrap().rcc, format!("v19.0.2@sha256:{}", "2".repeat(64)));
    assert_eq!(status.source.unwrap().author.as_deref(), Some("Ada"));
    let told: Vec<_> = world.notes.iter().map(|note| note.reason).collect();
    assert_eq!(told, ["BuildStarted", "ImageUpdated", "BuildSucceeded"]);
}

#[test]
fn a_poll_that_finds_nothing_writes_nothing() {
    let mut world = World::built();
    for _ in 0..5 {
        assert_eq!(world.pass(330).settle(), 0);
    }
    assert_eq!(world.polls, 6);
}

#[test]
fn a_new_commit_is_looked_at_while_ready_and_then_built() {
    let mut world = World::built();
    world.server = Ok(revision(B));
    world.pass(330).settle();
    let checking = "Ready=True/UpToDate Reconciling=True/CheckingSource Available=True/ImagePublished SourceReady=True/Resolved | Ready, checking source";
    assert_eq!(world.row(), checking);
    let reason = world.build().reasons[0].clone();
    assert_eq!(
        (reason.kind.as_str(), reason.from.as_deref(), reason.to.as_deref()),
        ("SourceChanged", Some("main@aaaaaaa"), Some("main@bbbbbbb"))
    );
    let fetched = world.done(Step::Fetch, Outcome::Fetched(Box::new(fetched(B))));
    world.pod("Running", [fetched, running(world.now), waiting("PodInitializing")]);
    world.settle();
    assert_eq!(
        world.row(),
        "Ready=Unknown/Progressing Reconciling=True/Building Available=True/ImagePublished SourceReady=True/Resolved | Building"
    );
    assert_eq!(world.build().plan.as_deref(), Some("Full"));
    assert_eq!(world.status().source.unwrap().message.as_deref(), Some("first line"));
    world.succeed(B, 'e', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    assert_eq!(world.status().history.iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 1]);
}

#[test]
fn a_commit_that_changes_nothing_is_one_write_and_no_history() {
    let mut world = World::built();
    let before = world.status();
    world.server = Ok(revision(B));
    world.pass(330).settle();
    world.succeed(B, 'd', true);
    assert_eq!(world.settle(), 1);
    assert_eq!(world.row(), UP_TO_DATE);
    let status = world.status();
    assert_eq!(status.history, before.history);
    let (old, new) = (before.latest_image.unwrap(), status.latest_image.unwrap());
    assert_eq!(
        (new.digest, &new.published_at, new.tags),
        (old.digest, &old.published_at, vec!["bbbbbbbbbbbb".to_owned()])
    );
    assert_ne!(new.request_key, old.request_key);
    assert_eq!(status.latest_build.unwrap().plan.as_deref(), Some("Noop"));
    assert_eq!(world.notes.iter().filter(|note| note.reason == "ImageUnchanged").count(), 1);
    assert_eq!(world.pass(330).settle(), 0);
}

#[test]
fn a_newer_request_supersedes_a_running_build() {
    let mut world = World::new();
    world.settle();
    world.pod(
        "Running",
        [running(world.now), waiting("PodInitializing"), waiting("PodInitializing")],
    );
    world.settle();
    world.server = Ok(revision(B));
    world.pass(330);
    // Written first, then deleted; the new Job only when the old pod is gone.
    assert!(world.step());
    assert_eq!((world.build().number, world.jobs.len()), (2, 1));
    let decision = world.decision();
    let Next::Act(actions) = decision.next else {
        panic!("{decision:?}")
    };
    assert!(matches!(&actions[..], [crate::decide::Action::DeleteJob { .. }]), "{actions:?}");
    // The Job waits for its pod, which takes its time.
    world.jobs[0].metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    world.settle();
    assert_eq!(
        world.row(),
        "Ready=Unknown/Progressing Reconciling=True/Queued Available=False/NeverBuilt SourceReady=True/Resolved | Queued"
    );
    assert_eq!(world.jobs.len(), 1);
    world.jobs.clear();
    assert_eq!(world.settle(), 0, "the pod alone is reason enough to wait");
    world.pods.clear();
    world.settle();
    assert_eq!(world.jobs.len(), 1);
    assert_eq!(world.jobs[0].metadata.name, Some(world.build().job));
    assert_eq!(world.row(), BUILDING);
    assert_eq!(world.status().history[0].outcome, "Superseded");
}

#[test]
fn suspended() {
    let mut world = World::built();
    world.edit(|spec| spec.suspend = Some(true));
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    let polls = world.polls;
    world.server = Ok(revision(B));
    assert_eq!((world.pass(86_400).settle(), world.polls), (0, polls));
    world.edit(|spec| spec.robot = Some(serde_json::from_value(json!({"task": "x"})).unwrap()));
    world.settle();
    let row = "Ready=False/Suspended Stalled=True/Suspended Available=True/ImagePublished SourceReady=True/Resolved | Suspended";
    assert_eq!((world.row().as_str(), world.jobs.len()), (row, 1));
    world.edit(|spec| spec.suspend = None);
    world.settle();
    assert!(world.row().contains("Reconciling=True/Building"), "{}", world.row());
    // A build that runs is left to end.
    world.edit(|spec| spec.suspend = Some(true));
    world.settle();
    assert!(world.row().contains("Reconciling=True/Building"), "{}", world.row());
    world.succeed(B, 'e', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);

    let mut world = World::new();
    world.image.spec.suspend = Some(true);
    world.settle();
    assert_eq!((world.polls, world.jobs.len()), (0, 0));
    assert!(
        world
            .row()
            .starts_with("Ready=False/Suspended Stalled=True/Suspended Available=False/NeverBuilt"),
        "{}",
        world.row()
    );
}

#[test]
fn a_change_that_makes_no_other_image_builds_nothing() {
    let mut world = World::built();
    world.edit(|spec| spec.interval = Some("1h".to_owned()));
    assert_eq!(world.settle(), 1);
    assert_eq!((world.row().as_str(), world.jobs.len()), (UP_TO_DATE, 1));
}

#[test]
fn another_platform_is_looked_at() {
    let mut world = World::built();
    world.platform = platform("index: {piprc: x}\n").into();
    world.restart();
    world.settle();
    assert_eq!(
        world.build().reasons.iter().map(|reason| reason.kind.as_str()).collect::<Vec<_>>(),
        ["PlatformChanged"]
    );
}

#[test]
fn a_private_source_is_left_to_fetch() {
    let mut image = image();
    image.spec.source.git.as_mut().unwrap().secret_ref = Some(LocalRef { name: "git".to_owned() });
    let mut world = World::with(image.clone(), platform(""));
    world.settle();
    assert_eq!((world.polls, world.jobs.len(), world.status().source), (0, 1, None));
    assert!(world.row().contains("SourceReady=Unknown/Progressing"), "{}", world.row());
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    assert_eq!(world.status().source.unwrap().revision, format!("main@sha1:{A}"));
    // A build pod looks again after a quarter of an hour.
    world.pass(800);
    assert_eq!(world.settle(), 0);
    world.pass(300).settle();
    assert!(
        world.row().starts_with("Ready=True/UpToDate Reconciling=True/CheckingSource"),
        "{}",
        world.row()
    );
    assert_eq!(world.build().reasons, []);
    world.succeed(A, 'd', true);
    assert_eq!(world.settle(), 1);
    assert_eq!((world.row().as_str(), world.status().history.len()), (UP_TO_DATE, 1));
    // A look that fails.
    world.pass(1100).settle();
    world.fail(Step::Fetch, Reason::SourceUnreachable);
    world.settle();
    assert_eq!(
        world.row(),
        "Ready=True/UpToDate Available=True/ImagePublished SourceReady=False/SourceUnreachable | Ready"
    );
    assert_eq!(world.status().last_failure, None);
    // A look that finds a commit which cannot be built.
    world.pass(1100).settle();
    let (fetch, resolve) = (
        world.done(Step::Fetch, Outcome::Fetched(Box::new(fetched(B)))),
        world.failed(Step::Resolve, "PackageNotFound", 10),
    );
    world.pod("Running", [fetch.clone(), running(world.now), waiting("PodInitializing")]);
    world.settle();
    assert!(
        world.row().starts_with("Ready=Unknown/Progressing Reconciling=True/Building"),
        "{}",
        world.row()
    );
    world.pod("Failed", [fetch, resolve, waiting("PodInitializing")]);
    world.settle();
    assert!(
        world.row().starts_with("Ready=False/PackageNotFound Stalled=True/PackageNotFound"),
        "{}",
        world.row()
    );
    // An edit that changes no image does not make it true again; the next look goes on.
    world.edit(|spec| spec.interval = Some("1h".to_owned()));
    world.settle();
    assert!(world.row().contains("Reconciling=True/Building"), "{}", world.row());

    // Nobody looks.
    let mut world = World::with(
        image.clone(),
        platform("sourcePolling: {mode: Off}\nregistryPolling: {enabled: false}\n"),
    );
    world.settle();
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!(
        world.row(),
        "Ready=True/UpToDate Available=True/ImagePublished SourceReady=True/PollingDisabled | Ready"
    );
    assert_eq!((world.pass(86_400).settle(), world.last.as_ref().unwrap().again), (0, None));

    // The operator looks, where the platform lets it.
    let mut world = World::with(image, platform("sourcePolling: {mode: Operator, namespaces: [finance]}\n"));
    world.settle();
    assert_eq!((world.polls, world.status().source.unwrap().short.as_str()), (1, "main@aaaaaaa"));
}

#[test]
fn a_commit_by_its_id_is_never_polled() {
    let mut image = image();
    image.spec.source.git.as_mut().unwrap().reference = Some(serde_json::from_value(json!({"commit": A})).unwrap());
    let mut world = World::with(image, platform("registryPolling: {enabled: false}\n"));
    world.settle();
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    assert_eq!(world.status().source.unwrap().short, "commit@aaaaaaa");
    assert_eq!(
        (world.pass(86_400).settle(), world.polls, world.last.as_ref().unwrap().again),
        (0, 0, None)
    );
}

#[test]
fn a_long_step_is_told_once() {
    let mut world = World::new();
    world.settle();
    let start = world.now;
    world.pod("Running", [running(start), waiting("PodInitializing"), waiting("PodInitializing")]);
    world.pass(5);
    assert_eq!(world.settle(), 0);
    world.pass(6);
    assert_eq!(world.settle(), 1);
    assert_eq!(world.status().summary.as_deref(), Some("Building (fetch)"));
    world.pass(60);
    assert_eq!(world.settle(), 0);
    let fetched = world.done(Step::Fetch, Outcome::Fetched(Box::new(fetched(A))));
    world.pod("Running", [fetched, running(world.now), waiting("PodInitializing")]);
    assert_eq!(world.settle(), 0);
    world.pass(11);
    assert_eq!(world.settle(), 1);
    assert_eq!(world.status().summary.as_deref(), Some("Building (resolve)"));
    assert_eq!(world.build().steps.len(), 2);
}

#[test]
fn history_and_its_jobs_are_bounded() {
    let mut world = World::new();
    world.image.spec.history = Some(serde_json::from_value(json!({"succeeded": 2, "failed": 1})).unwrap());
    world.settle();
    for number in 1..=8_u8 {
        if number % 2 == 0 {
            world.fail(Step::Fetch, Reason::RobotYamlInvalid);
        } else {
            let commit = world.build().revision.unwrap()["main@sha1:".len()..].to_owned();
            world.succeed(&commit, char::from(b'0' + number), false);
        }
        world.settle();
        world.server = Ok(revision(&format!("{number:040x}")));
        world.pass(400).settle();
    }
    let kept: Vec<_> = world.status().history.iter().map(|entry| entry.number).collect();
    assert_eq!(kept, [8, 7, 5]);
    let mut jobs: Vec<_> = world
        .jobs
        .iter()
        .map(|job| job.metadata.labels.as_ref().unwrap()["robotimage.dev/build"].clone())
        .collect();
    jobs.sort();
    assert_eq!(jobs, ["5", "7", "8", "9"]);
}

#[test]
fn a_deleted_resource_is_left_alone() {
    let mut world = World::built();
    world.image.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    world.server = Ok(revision(B));
    assert_eq!(world.pass(1000).settle(), 0);
}

#[test]
fn a_commit_that_fails_and_is_taken_back() {
    let mut world = World::built();
    world.server = Ok(revision(B));
    world.pass(330).settle();
    world.fail(Step::Fetch, Reason::RobotYamlInvalid);
    world.settle();
    assert!(
        world.row().starts_with("Ready=False/RobotYamlInvalid Stalled=True"),
        "{}",
        world.row()
    );
    world.server = Ok(revision(A));
    world.pass(330).settle();
    assert_eq!((world.row().as_str(), world.status().last_failure), (UP_TO_DATE, None));
    assert_eq!(world.status().source.unwrap().short, "main@aaaaaaa");
}
