//! How long a build waits for what keeps it from starting: from when that was first seen, whoever sees it.

use robotimage_crds::api::annotation;
use robotimage_crds::reason::Reason;
use serde_json::{Value, json};

use super::pods::{running, waiting};
use super::world::{B, BUILDING, UP_TO_DATE, World, revision};
use crate::observe::Refusal;
use crate::source::SourceFailure;

fn pending(world: &mut World, fetch: &str) {
    world.pod("Pending", [waiting(fetch), waiting("PodInitializing"), waiting("PodInitializing")]);
}

/// Its pod as old as it was.
fn again(world: &mut World, change: impl FnOnce(&mut World)) {
    let created = world.pods.first().and_then(|pod| pod.metadata.creation_timestamp.clone());
    change(world);
    world.pods[0].metadata.creation_timestamp = created;
    world.settle();
}

fn unschedulable() -> Value {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no"});
    json!({"phase": "Pending", "conditions": [condition]})
}

fn told(world: &World) -> String {
    world.status().last_failure.map(|failure| failure.message).unwrap_or_default()
}

#[test]
fn what_is_seen_late_is_waited_for_all_the_same() {
    // A pull that took longer than the limit, and failed only then.
    let mut world = World::new();
    world.settle();
    pending(&mut world, "ContainerCreating");
    world.settle();
    world.pass(700);
    again(&mut world, |world| pending(world, "ErrImagePull"));
    assert!(world.row().contains("Reconciling=True/BuilderImagePullFailed"), "{}", world.row());
    // A restart does not begin the wait anew; nor does another word for the same.
    world.pass(300).restart();
    again(&mut world, |world| pending(world, "ImagePullBackOff"));
    world.pass(295).settle();
    assert!(world.row().contains("Reconciling=True/BuilderImagePullFailed"), "{}", world.row());
    let again = world.last.as_ref().unwrap().again.unwrap();
    assert!(again.as_secs() <= 5, "{again:?}");
    // The operator was away in between: what it says is how long it really was.
    world.pass(133).settle();
    assert!(world.row().starts_with("Ready=False/BuilderImagePullFailed"), "{}", world.row());
    assert!(told(&world).starts_with("waited 12m8s: "), "{}", told(&world));
}

#[test]
fn another_hindrance_is_another_wait() {
    let mut world = World::new();
    world.settle();
    world.pod_with(unschedulable(), [waiting(""), waiting(""), waiting("")]);
    world.settle();
    world.pass(590);
    again(&mut world, |world| pending(world, "ErrImagePull"));
    world.pass(590).settle();
    assert!(world.row().contains("Reconciling=True/BuilderImagePullFailed"), "{}", world.row());
    world.pass(10).settle();
    assert!(told(&world).starts_with("waited 10m: "), "{}", told(&world));
}

#[test]
fn a_hindrance_that_comes_and_goes_is_one() {
    let mut world = World::new();
    world.settle();
    for _ in 0..9 {
        again_or_first(&mut world, "ErrImagePull");
        world.pass(30);
        again_or_first(&mut world, "ContainerCreating");
        world.pass(30);
    }
    again_or_first(&mut world, "ErrImagePull");
    world.pass(60).settle();
    assert!(told(&world).starts_with("waited 10m: "), "{}", told(&world));
}

fn again_or_first(world: &mut World, fetch: &str) {
    if world.pods.is_empty() {
        pending(world, fetch);
        world.settle();
    } else {
        again(world, |world| pending(world, fetch));
    }
}

#[test]
fn a_job_that_is_refused_late_waits_too_and_its_next_attempt_anew() {
    let quota = Refusal {
        reason: Reason::QuotaExceeded,
        message: "the API server refuses the build's Job: exceeded quota: builds".to_owned(),
    };
    let mut world = World::new();
    assert!(world.step());
    // It was decided, and the operator was down.
    world.pass(7200).restart();
    world.refusal = Some(quota.clone());
    world.step();
    assert!(world.row().contains("Reconciling=True/Queued"), "{}", world.row());
    world.pass(599).step();
    assert!(world.row().contains("Reconciling=True/Queued"), "{}", world.row());
    world.pass(1).step();
    assert!(told(&world).starts_with("waited 10m: "), "{}", told(&world));
    world.refusal = None;
    world.pass(700).settle();
    assert_eq!(world.row(), BUILDING);
    world.refusal = Some(quota);
    world.pass(10).settle();
    assert!(world.row().contains("Reconciling=True/Queued"), "{}", world.row());
    world.refusal = None;
    let now = world.now;
    world.pod("Running", [running(now), waiting("PodInitializing"), waiting("PodInitializing")]);
    world.settle();
    assert_eq!(world.row(), BUILDING);
    world.succeed(super::world::A, 'd', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
}

#[test]
fn a_look_that_fails_is_repeated_soon_and_then_ever_later_whatever_the_interval() {
    for interval in ["5m", "24h"] {
        let mut world = World::built();
        world.edit(|spec| spec.interval = Some(interval.to_owned()));
        world.settle();
        world.server = Err(SourceFailure::new(Reason::SourceUnreachable, "it is away"));
        world.annotate(annotation::REQUESTED_AT, "now");
        world.settle();
        for wait in [30, 60, 120, 240] {
            let polls = world.polls;
            world.pass(wait * 8 / 10).settle();
            assert_eq!(world.polls, polls, "{interval} {wait}");
            world.pass(wait * 4 / 10).settle();
            assert_eq!(world.polls, polls + 1, "{interval} {wait}");
        }
        world.server = Ok(revision(B));
        world.pass(600).settle();
        assert!(world.build().revision.unwrap().ends_with(B), "{interval}");
    }
}
