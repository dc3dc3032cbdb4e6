//! Schedules that make no sense: told, not passed over.

use robotimage_crds::api::{BuildPhase, annotation};
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;
use serde_json::json;

use super::world::{A, UP_TO_DATE, World, image, platform};

const REFUSED: &str =
    "Ready=False/NotAllowed Stalled=True/NotAllowed Available=True/ImagePublished SourceReady=True/Resolved | Failed: NotAllowed";

fn refresh(world: &mut World, schedule: &str) {
    world.edit(|spec| spec.environment = Some(serde_json::from_value(json!({"refresh": schedule})).unwrap()));
}

#[test]
fn a_schedule_that_makes_no_sense_is_refused_until_it_is_mended() {
    for (schedule, told) in [
        ("0 0 30 2 *", "names no day that there is"),
        ("0 0 31 4,6,9,11 *", "names no day that there is"),
        ("daily please", "is no schedule"),
        ("* * * * *", "more often than once an hour"),
        ("0,30 3 * * 1", "more often than once an hour"),
    ] {
        let mut world = World::built();
        refresh(&mut world, schedule);
        assert_eq!(world.settle(), 1, "{schedule}");
        assert_eq!(world.row(), REFUSED, "{schedule}");
        let message = world.status().last_failure.unwrap().message;
        assert!(message.contains(schedule) && message.contains(told), "{message}");
        // It says so once, and nothing is tried, whatever happens.
        for _ in 0..3 {
            world.restart();
            assert_eq!(world.pass(4000).settle(), 0, "{schedule}");
        }
        world.annotate(annotation::REQUESTED_AT, "now");
        assert_eq!((world.settle(), world.row().as_str()), (1, REFUSED), "{schedule}");
        assert_eq!((world.pass(60).settle(), world.build().number), (0, 1));
        assert!(
            world.last.as_ref().unwrap().again.is_none_or(|again| again.as_secs() > 1),
            "it would go round"
        );
        refresh(&mut world, "0 3 * * *");
        world.settle();
        assert_eq!((world.row().as_str(), world.build().number), (UP_TO_DATE, 1));
    }
}

#[test]
fn a_first_image_is_not_made_by_a_schedule_that_makes_no_sense() {
    for private in [false, true] {
        let mut image = image();
        image.spec.environment = Some(serde_json::from_value(json!({"refresh": "0 0 30 2 *"})).unwrap());
        if private {
            image.spec.source.git.as_mut().unwrap().secret_ref = Some(serde_json::from_value(json!({"name": "git"})).unwrap());
        }
        let mut world = World::with(image, platform(""));
        world.settle();
        assert!(
            world.row().starts_with("Ready=False/NotAllowed Stalled=True/NotAllowed"),
            "{}",
            world.row()
        );
        assert_eq!(world.status().latest_build, None);
        assert_eq!(world.pass(86_400).settle(), 0);
        world.edit(|spec| spec.environment = None);
        world.settle();
        assert_eq!(world.build().number, 1);
    }
}

#[test]
fn a_build_that_runs_is_ended_first_and_its_failure_is_not_in_the_way() {
    for succeeds in [true, false] {
        let mut world = World::new();
        world.settle();
        refresh(&mut world, "0 0 30 2 *");
        world.settle();
        assert!(world.row().contains("Reconciling=True/Building"), "{}", world.row());
        if succeeds {
            world.pass(30).succeed(A, 'd', false);
        } else {
            world.fail(Step::Publish, Reason::RegistryUnavailable);
        }
        world.settle();
        assert!(
            world.row().starts_with("Ready=False/NotAllowed Stalled=True/NotAllowed"),
            "{}",
            world.row()
        );
        let wanted = if succeeds { BuildPhase::Succeeded } else { BuildPhase::Failed };
        assert_eq!((world.build().phase, world.status().history.len()), (wanted, 1));
        assert_eq!(world.pass(86_400).settle(), 0);
    }
}

#[test]
fn whoever_is_suspended_refreshes_nothing() {
    let mut world = World::built();
    world.edit(|spec| {
        spec.suspend = Some(true);
        spec.environment = Some(serde_json::from_value(json!({"refresh": "0 0 30 2 *"})).unwrap());
    });
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    world.edit(|spec| spec.suspend = None);
    world.settle();
    assert_eq!(world.row(), REFUSED);
}
