//! The loop guard: what it stops, and what it leaves alone.

use robotimage_crds::api::BuildPhase;

use super::world::{A, B, UP_TO_DATE, World, platform, revision};

/// Something makes the operator build again and again: here, a platform whose configuration seems to change each time. Unless
/// fetch finds nothing to do, the same image is made.
fn provoke(world: &mut World, number: usize, noop: bool) {
    world.platform = platform(&format!("index: {{piprc: x{number}}}\n")).into();
    world.settle();
    if world.build().phase != BuildPhase::Succeeded {
        world.succeed(A, 'd', noop);
        world.settle();
    }
}

#[test]
fn builds_of_the_same_again_and_again_are_stopped_at_five() {
    // The first image repeats nothing, and somebody wanted it.
    let mut world = World::built();
    assert_eq!(world.status().repeated, None);
    for number in 0..5 {
        assert_eq!(world.row(), UP_TO_DATE);
        provoke(&mut world, number, false);
        world.pass(400);
    }
    assert_eq!((world.build().number, world.status().repeated.unwrap().count), (6, 5));
    assert_eq!(world.row(), UP_TO_DATE);
    provoke(&mut world, 6, false);
    assert_eq!(world.build().number, 6);
    assert_eq!(
        world.row(),
        "Ready=False/LoopDetected Stalled=True/LoopDetected Available=True/ImagePublished SourceReady=True/Resolved | Failed: LoopDetected"
    );
    assert_eq!(world.notes.iter().filter(|note| note.reason == "LoopDetected").count(), 1);
    // Not by time, not by a restart, not by more of the same.
    world.restart();
    world.pass(86_400).settle();
    provoke(&mut world, 7, false);
    assert_eq!(world.build().number, 6);
    let stopped = world.image.clone();
    for change in 0..3 {
        world.image = stopped.clone();
        world.answer = None;
        match change {
            0 => world.edit(|spec| spec.interval = Some("1m".to_owned())),
            1 => world.annotate(robotimage_crds::api::annotation::REQUESTED_AT, "now"),
            _ => world.annotate(robotimage_crds::api::annotation::FORCE_AT, "now"),
        }
        world.settle();
        assert_eq!((world.build().number, world.status().repeated), (7, None), "{change}");
        assert!(world.row().contains("Reconciling=True/Building"), "{}", world.row());
    }
}

#[test]
fn a_commit_is_built_whatever_was_built_before() {
    // At the bound, and once more after the stop.
    for stopped in [false, true] {
        let mut world = World::built();
        for number in 0..5 {
            provoke(&mut world, number, false);
            world.pass(60);
        }
        if stopped {
            provoke(&mut world, 6, false);
            assert!(world.row().contains("LoopDetected"), "{}", world.row());
        }
        world.server = Ok(revision(B));
        world.restart();
        world.pass(600).settle();
        world.settle();
        assert_eq!(world.build().number, 7, "{stopped}: {}", world.row());
        world.succeed(B, 'e', false);
        world.settle();
        assert_eq!(
            (world.row().as_str(), world.status().repeated.map_or(0, |repeated| repeated.count)),
            (UP_TO_DATE, 0),
            "{stopped}"
        );
    }
}

#[test]
fn what_is_no_loop() {
    // Spread over more than an hour.
    let mut world = World::built();
    for number in 0..12 {
        provoke(&mut world, number, false);
        world.pass(1000);
    }
    assert_eq!((world.build().number, world.row().as_str()), (13, UP_TO_DATE));
    // An administrator at work, whose changes concern no image.
    let mut world = World::built();
    for number in 0..12 {
        provoke(&mut world, number, true);
        world.pass(10);
    }
    assert_eq!((world.build().number, world.row().as_str()), (13, UP_TO_DATE));
    // New revisions that change nothing.
    let mut world = World::built();
    for number in 0..12 {
        let commit = format!("{number:040x}");
        world.server = Ok(revision(&commit));
        world.pass(330).settle();
        world.succeed(&commit, 'd', true);
        world.settle();
    }
    assert_eq!((world.build().number, world.row().as_str()), (13, UP_TO_DATE));
    // A person who asks for it.
    let mut world = World::built();
    for number in 0..12 {
        world.annotate(robotimage_crds::api::annotation::FORCE_AT, &number.to_string());
        world.pass(10).settle();
        world.succeed(A, 'd', false);
        world.settle();
    }
    assert_eq!((world.build().number, world.row().as_str()), (13, UP_TO_DATE));
}

#[test]
fn two_installations_that_undo_one_another_are_stopped() {
    // Each has a configuration of its own, and builds what the other has built. Nothing comes of it: no build has anything to do.
    let mut world = World::built();
    let mut turns = 0;
    while turns < 30 && !world.row().contains("LoopDetected") {
        provoke(&mut world, turns % 2, true);
        world.pass(20);
        turns += 1;
    }
    // One to each configuration, five that go back, and one that is not made.
    assert_eq!((turns, world.build().number), (8, 8), "{}", world.row());
    let ready = world
        .status()
        .conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .unwrap();
    assert!(ready.message.contains("two operators"), "{}", ready.message);
    // It stands whichever of the two looks.
    for turn in 0..4 {
        provoke(&mut world, turn % 2, true);
        world.restart();
        assert_eq!((world.pass(600).settle(), world.build().number), (0, 8));
    }
    // A person ends it.
    world.annotate(robotimage_crds::api::annotation::REQUESTED_AT, "now");
    world.settle();
    assert!(!world.row().contains("LoopDetected"), "{}", world.row());
}

#[test]
fn an_administrator_who_takes_changes_back_is_no_fight() {
    let mut world = World::built();
    for number in 0..4 {
        provoke(&mut world, number % 2, true);
        world.pass(10);
    }
    for number in 2..12 {
        provoke(&mut world, number, true);
        world.pass(10);
    }
    assert_eq!(world.row(), UP_TO_DATE);
    // To and fro, but not within an hour.
    for number in 0..20 {
        provoke(&mut world, number % 2, true);
        world.pass(1500);
    }
    assert_eq!(world.row(), UP_TO_DATE);
}
