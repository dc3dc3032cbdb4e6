//! What annotations ask for: a look, a build, an end.

use robotimage_crds::api::annotation::{CANCEL, FLUX_REQUESTED_AT, FORCE_AT, REQUESTED_AT};
use robotimage_crds::api::{BuildPhase, LocalRef};
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;

use super::pods::{running, waiting};
use super::world::{A, B, BUILDING, UP_TO_DATE, World, image, platform, revision};
use crate::decide::{Action, Next};
use crate::observe::JobView;
use crate::source::SourceFailure;

const CANCELED: &str = "Ready=False/Canceled Stalled=True/Canceled Available=False/NeverBuilt SourceReady=True/Resolved | Canceled";

#[test]
fn a_request_resolves_the_source_at_once_and_only_once() {
    let mut world = World::built();
    world.server = Ok(revision(B));
    assert_eq!((world.pass(10).settle(), world.polls), (0, 1));
    world.annotate(REQUESTED_AT, "now");
    world.settle();
    assert_eq!(world.polls, 2);
    assert_eq!(world.status().last_handled.unwrap().requested_at.as_deref(), Some("now"));
    assert_eq!(world.reasons(), ["SourceChanged"]);
    world.succeed(B, 'e', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    world.restart();
    assert_eq!((world.pass(1).settle(), world.polls), (0, 2));
    // Flux's own, with nothing new: one write, to say so, and no build.
    world.annotate(FLUX_REQUESTED_AT, "2026-03-01T10:00:00Z");
    assert_eq!((world.settle(), world.polls), (1, 3));
    let status = world.status();
    assert_eq!(status.last_handled_reconcile_at.as_deref(), Some("2026-03-01T10:00:00Z"));
    assert_eq!((world.row().as_str(), world.build().number), (UP_TO_DATE, 2));
    // Taken away, and set again to what was handled: nothing new.
    world.image.metadata.annotations = None;
    assert_eq!(world.settle(), 0);
    world.annotate(REQUESTED_AT, "now");
    assert_eq!((world.settle(), world.polls), (0, 3));
}

#[test]
fn a_request_is_handled_when_its_look_has_ended_and_not_before() {
    let mut world = World::built();
    world.slow = true;
    world.annotate(REQUESTED_AT, "now");
    assert_eq!(world.settle(), 0);
    assert_eq!(world.status().last_handled, None);
    world.slow = false;
    world.server = Err(SourceFailure::new(Reason::SourceUnreachable, "it does not answer"));
    assert_eq!(world.settle(), 1);
    assert!(world.status().last_handled.is_some());
    assert!(world.row().contains("SourceReady=False/SourceUnreachable"), "{}", world.row());
}

#[test]
fn a_request_ends_a_stall_and_the_wait_for_a_retry() {
    let mut world = World::new();
    world.settle();
    world.fail(Step::Fetch, Reason::RobotYamlInvalid);
    world.settle();
    assert!(world.row().contains("Stalled=True"), "{}", world.row());
    world.annotate(REQUESTED_AT, "1");
    world.settle();
    assert_eq!(world.row(), BUILDING);
    assert_eq!((world.build().number, world.build().attempt), (2, 1));
    // Of its retries as well: they count anew.
    for _ in 0..3 {
        world.fail(Step::Publish, Reason::RegistryUnavailable);
        world.settle();
        world.pass(300).settle();
    }
    world.fail(Step::Publish, Reason::RegistryUnavailable);
    world.settle();
    assert!(world.row().contains("Stalled=True/RegistryUnavailable"), "{}", world.row());
    world.annotate(REQUESTED_AT, "2");
    world.settle();
    assert_eq!(
        (world.row().as_str(), world.build().number, world.build().attempt),
        (BUILDING, 2, 5)
    );
    world.fail(Step::Publish, Reason::RegistryUnavailable);
    world.settle();
    assert_eq!(world.status().last_failure.unwrap().attempts, 1);
    assert!(world.row().contains("Reconciling=True/ProgressingWithRetry"), "{}", world.row());
    world.annotate(REQUESTED_AT, "3");
    world.settle();
    assert_eq!((world.row().as_str(), world.build().attempt), (BUILDING, 6));

    // A source that cannot be resolved.
    let mut world = World::new();
    world.server = Err(SourceFailure::new(Reason::NotAllowed, "an address that must not be connected to"));
    world.settle();
    world.annotate(REQUESTED_AT, "1");
    world.pass(5).settle();
    assert_eq!((world.polls, world.status().last_failure.unwrap().attempts), (2, 1));
    world.server = Ok(revision(A));
    world.annotate(REQUESTED_AT, "2");
    world.pass(5).settle();
    assert_eq!((world.polls, world.row().as_str()), (3, BUILDING));
}

#[test]
fn a_request_where_only_build_pods_see_the_source() {
    let mut image = image();
    image.spec.source.git.as_mut().unwrap().secret_ref = Some(LocalRef { name: "git".to_owned() });
    let mut world = World::with(image, platform("sourcePolling: {mode: Off}\n"));
    // A build whose fetch is still to come is the look.
    assert!(world.step());
    world.annotate(REQUESTED_AT, "0");
    world.settle();
    assert_eq!(world.status().last_handled.clone().unwrap().requested_at.as_deref(), Some("0"));
    assert_eq!(world.build().number, 1);
    // One whose fetch has begun is not.
    world.pod("Running", [running(world.now), waiting(""), waiting("")]);
    world.annotate(REQUESTED_AT, "1");
    world.settle();
    assert_eq!(world.status().last_handled.clone().unwrap().requested_at.as_deref(), Some("0"));
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!(world.status().last_handled.clone().unwrap().requested_at.as_deref(), Some("1"));
    assert_eq!((world.build().number, world.reasons().len(), world.polls), (2, 0, 0));
    assert!(
        world.row().starts_with("Ready=Unknown/Progressing Reconciling=True"),
        "{}",
        world.row()
    );
    world.succeed(A, 'd', true);
    world.settle();
    assert_eq!(world.status().history.len(), 1);
    assert_eq!((world.pass(86_400).settle(), world.build().number), (0, 2));
}

#[test]
fn a_forced_build_takes_nothing_over_and_announces_nothing_new() {
    let mut world = World::built();
    world.annotate(FORCE_AT, "now");
    world.settle();
    assert_eq!((world.polls, world.reasons()), (2, vec!["Requested".to_owned()]));
    assert_eq!(world.status().last_handled.unwrap().force_at.as_deref(), Some("now"));
    assert!(
        world.row().starts_with("Ready=Unknown/Progressing Reconciling=True/Building"),
        "{}",
        world.row()
    );
    let plan = |world: &World| JobView::of(world.jobs.last().unwrap()).plan.unwrap();
    assert_eq!(plan(&world).previous, None);
    let before = world.status().latest_image.unwrap();
    world.pass(60).succeed(A, 'd', false);
    world.notes.clear();
    assert_eq!(world.settle(), 1);
    assert_eq!(world.status().latest_image, Some(before));
    assert!(world.notes.iter().all(|note| note.reason != "ImageUpdated"), "{:?}", world.notes);
    assert_eq!((world.row().as_str(), world.status().history.len()), (UP_TO_DATE, 2));
    assert_eq!(world.pass(330).settle(), 0);

    // While a build runs, it comes after it. Tried again, and superseded, it is still owed.
    world.server = Ok(revision(B));
    world.pass(330).settle();
    world.annotate(FORCE_AT, "later");
    world.settle();
    assert_eq!((world.build().number, world.reasons()), (3, vec!["SourceChanged".to_owned()]));
    world.succeed(B, 'e', false);
    world.settle();
    assert_eq!((world.build().number, world.reasons()), (4, vec!["Requested".to_owned()]));
    world.fail(Step::Publish, Reason::RegistryUnavailable);
    world.settle();
    assert!(world.row().contains("Reconciling=True/ProgressingWithRetry"), "{}", world.row());
    world.pass(60).settle();
    assert_eq!((world.build().attempt, plan(&world).previous), (2, None));
    world.server = Ok(revision(A));
    world.pass(330).settle();
    assert_eq!(
        (world.build().number, world.reasons()),
        (5, vec!["SourceChanged".to_owned(), "Requested".to_owned()])
    );
    assert_eq!(plan(&world).previous, None);
}

#[test]
fn a_forced_build_that_cannot_start_is_a_failure_and_no_failed_look() {
    let mut world = World::built();
    world.annotate(FORCE_AT, "now");
    world.settle();
    world.fail(Step::Fetch, Reason::SourceRejected);
    world.settle();
    assert!(
        world.row().starts_with("Ready=False/SourceRejected Stalled=True"),
        "{}",
        world.row()
    );
    // The wish is done; what follows is a person's to say.
    assert_eq!((world.pass(86_400).settle(), world.build().number), (0, 2));
}

#[test]
fn cancel_ends_the_live_build_of_that_number() {
    let mut world = World::new();
    world.settle();
    world.annotate(CANCEL, "7");
    assert_eq!(world.settle(), 1, "noted, and nothing else");
    assert_eq!(
        (world.row().as_str(), world.status().last_handled.unwrap().cancel.as_deref()),
        (BUILDING, Some("7"))
    );
    world.pod("Running", [running(world.now), waiting(""), waiting("")]);
    world.annotate(CANCEL, "1");
    assert!(world.step());
    assert_eq!(world.row(), CANCELED);
    assert_eq!((world.build().phase, world.jobs.len()), (BuildPhase::Canceled, 1));
    let decision = world.decision();
    let Next::Act(actions) = decision.next else {
        panic!("{decision:?}")
    };
    assert!(matches!(&actions[..], [Action::DeleteJob { .. }]), "{actions:?}");
    world.settle();
    assert_eq!(world.status().history[0].outcome, "Canceled");
    assert_eq!(world.notes.iter().filter(|note| note.reason == "BuildCanceled").count(), 1);
    // It stays so, until there is something new.
    world.restart();
    assert_eq!(
        (world.pass(86_400).settle(), world.jobs.len(), world.row().as_str()),
        (0, 0, CANCELED)
    );
    let ended = world.image.clone();
    for change in 0..4 {
        world.image = ended.clone();
        world.jobs.clear();
        world.answer = None;
        world.server = Ok(revision(A));
        match change {
            0 => world.server = Ok(revision(B)),
            1 => world.edit(|spec| spec.interval = Some("1m".to_owned())),
            2 => world.annotate(REQUESTED_AT, "now"),
            _ => world.annotate(FORCE_AT, "now"),
        }
        world.pass(400).settle();
        assert_eq!(
            (world.row().as_str(), world.build().number, world.jobs.len()),
            (BUILDING, 2, 1),
            "{change}"
        );
        assert_eq!(world.reasons().contains(&"Requested".to_owned()), change == 3);
    }
}

#[test]
fn cancel_ends_the_retries_and_the_look_too_and_waits_for_no_end_of_suspension() {
    let mut world = World::new();
    world.settle();
    world.fail(Step::Publish, Reason::RegistryUnavailable);
    world.settle();
    world.annotate(CANCEL, "1");
    world.settle();
    assert_eq!(world.row(), CANCELED);
    assert_eq!((world.pass(3600).settle(), world.status().history.len()), (0, 1));
    // The number is over: the wish does nothing to the next.
    world.annotate(REQUESTED_AT, "now");
    world.settle();
    assert_eq!((world.row().as_str(), world.build().number), (BUILDING, 2));

    let mut world = World::built();
    world.server = Ok(revision(B));
    world.pass(330).settle();
    world.edit(|spec| spec.suspend = Some(true));
    world.annotate(CANCEL, "2");
    world.annotate(FORCE_AT, "now");
    world.settle();
    assert!(world.row().starts_with("Ready=False/Suspended"), "{}", world.row());
    assert_eq!((world.jobs.len(), world.build().phase), (1, BuildPhase::Canceled));
    // A forced build waits for the end of the suspension.
    assert_eq!(world.status().last_handled.clone().unwrap().force_at, None);
    world.edit(|spec| spec.suspend = None);
    world.settle();
    assert!(world.reasons().contains(&"Requested".to_owned()), "{:?}", world.reasons());

    // Where only build pods look: no look starts a canceled build again.
    let mut image = image();
    image.spec.source.git.as_mut().unwrap().secret_ref = Some(LocalRef { name: "git".to_owned() });
    let mut world = World::with(image, platform("registryPolling: {enabled: false}\n"));
    world.settle();
    world.annotate(CANCEL, "1");
    world.settle();
    assert_eq!((world.pass(86_400).settle(), world.build().number), (0, 1));
    assert_eq!(world.last.as_ref().unwrap().again, None);
}

#[test]
fn hostile_values_are_noted_in_short() {
    let mut world = World::new();
    world.settle();
    for name in [REQUESTED_AT, FLUX_REQUESTED_AT, FORCE_AT, CANCEL] {
        world.annotate(name, &"\u{1b}[31m\n9".repeat(20_000));
    }
    world.settle();
    world.succeed(A, 'd', false);
    world.settle();
    let status = world.status();
    let handled = status.last_handled.unwrap();
    for value in [
        handled.requested_at,
        handled.force_at,
        handled.cancel,
        status.last_handled_reconcile_at,
    ] {
        let value = value.unwrap();
        assert!(value.len() <= 64 && !value.chars().any(char::is_control), "{value:?}");
    }
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!((world.row().as_str(), world.settle()), (UP_TO_DATE, 0));
}
