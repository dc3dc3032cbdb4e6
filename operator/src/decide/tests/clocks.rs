//! Whoever leads next has another clock: what the one before has written with its own decides nothing.

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::annotation;
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;

use super::world::{B, World, platform, revision};
use crate::source::SourceFailure;

/// Another leader, which knows of no annotation yet, finds commit B and begins its build by a clock that is wrong by so many seconds.
fn another_builds_b(world: &mut World, seconds: i64) {
    let mut other = World::with(world.image.clone(), platform(""));
    other.image.metadata.annotations = None;
    other.now = world.now.saturating_add(SignedDuration::from_secs(seconds - 330)).unwrap();
    other.seen = other.now;
    (other.jobs, other.pods) = (world.jobs.clone(), world.pods.clone());
    other.settle();
    other.server = Ok(revision(B));
    other.pass(330).settle();
    assert!(other.build().revision.unwrap().ends_with(B));
    (world.image.status, world.jobs, world.pods) = (other.image.status, other.jobs, other.pods);
}

#[test]
fn a_commit_is_built_though_the_build_before_began_by_a_clock_that_is_ahead() {
    for ahead in [-1200, 1200, 90_000] {
        let mut world = World::built();
        let began = world.now.saturating_add(SignedDuration::from_secs(ahead)).unwrap();
        let build = world.image.status.as_mut().unwrap().latest_build.as_mut().unwrap();
        build.started_at = Some(Time(began));
        world.restart();
        world.server = Ok(revision(B));
        world.pass(330).settle();
        assert_eq!(world.build().number, 2, "{ahead}");
        assert!(world.build().revision.unwrap().ends_with(B), "{ahead}");
    }
}

#[test]
fn who_has_asked_before_another_found_something_newer_asks_again_whatever_their_clocks_say() {
    for seconds in [-1200, 0, 1200] {
        let mut world = World::built();
        world.pass(330).settle();
        let before = world.polls;
        another_builds_b(&mut world, seconds);
        world.server = Ok(revision(B));
        assert_eq!(world.pass(1).settle(), 0, "{seconds}: it undoes the other's work");
        world.pass(10).settle();
        assert_eq!(world.polls, before + 1, "{seconds}");
        assert_eq!(world.build().number, 2, "{seconds}");
        // What comes after it is believed again.
        world.server = Ok(revision(&"c".repeat(40)));
        world.pass(330).settle();
        assert_eq!(world.build().number, 3, "{seconds}");
    }
}

#[test]
fn a_request_is_noted_when_its_answer_is_used() {
    let mut world = World::built();
    world.annotate(annotation::REQUESTED_AT, "now");
    world.observe();
    another_builds_b(&mut world, 5);
    world.server = Ok(revision(B));
    world.pass(6).settle();
    let handled = |world: &World| world.status().last_handled.and_then(|handled| handled.requested_at);
    assert_eq!(handled(&world), None, "its answer is of before the other's build");
    world.pass(10).settle();
    assert_eq!(handled(&world).as_deref(), Some("now"));
    assert_eq!(world.build().number, 2);
}

#[test]
fn a_retry_waits_no_longer_than_it_ever_does() {
    // Why it failed, in how many seconds it is to be tried again, and whether that can be true.
    let cases = [
        (Reason::RegistryProtocol, 240, true),
        (Reason::RegistryProtocol, 1200, false),
        // A registry may ask for an hour.
        (Reason::RegistryUnavailable, 1200, true),
        (Reason::RegistryUnavailable, 7200, false),
        (Reason::PushUnauthorized, 600, true),
        (Reason::PushUnauthorized, 1200, false),
    ];
    for (reason, seconds, waits) in cases {
        let mut world = World::new();
        world.settle();
        world.fail(Step::Publish, reason);
        world.settle();
        let due = world.now.saturating_add(SignedDuration::from_secs(seconds)).unwrap();
        let failure = world.image.status.as_mut().unwrap().last_failure.as_mut().unwrap();
        failure.next_retry_at = Some(Time(due));
        world.settle();
        let build = world.build();
        assert_eq!((build.number, build.attempt) == (1, 1), waits, "{reason} {seconds}");
    }
}

#[test]
fn a_look_that_failed_is_made_again_no_later_than_it_ever_is() {
    let mut world = World::new();
    world.server = Err(SourceFailure::new(Reason::SourceUnreachable, "it failed"));
    world.settle();
    let due = world.now.saturating_add(SignedDuration::from_hours(2)).unwrap();
    world.image.status.as_mut().unwrap().last_failure.as_mut().unwrap().next_retry_at = Some(Time(due));
    let before = world.polls;
    world.pass(1).settle();
    let failure = world.status().last_failure.unwrap();
    assert_eq!((world.polls, failure.attempts), (before + 1, 2));
    assert!(failure.next_retry_at.unwrap().0 < due);
}
