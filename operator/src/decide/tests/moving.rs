//! What moves by itself: the digests of base and rcc.

use robotimage_crds::api::{BaseSource, BaseUpdate, BuildPhase};
use robotimage_crds::build::{BuildPlan, Step};
use robotimage_crds::reason::Reason;

use serde_json::json;

use super::world::{A, UP_TO_DATE, World, digest, image, platform};
use crate::decide::Lane;
use crate::observe::{JobView, Turn};
use crate::registry::LookupFailure;

fn plan(world: &World) -> BuildPlan {
    let name = world.build().job;
    let job = world.jobs.iter().find(|job| job.metadata.name.as_ref() == Some(&name));
    JobView::of(job.expect("the build's Job")).plan.expect("a plan")
}

/// Kind, from and to of the live build's reasons.
fn reasons(world: &World) -> Vec<(String, Option<String>, Option<String>)> {
    let reasons = world.build().reasons;
    reasons.into_iter().map(|reason| (reason.kind, reason.from, reason.to)).collect()
}

fn told(kind: &str, from: char, to: char) -> (String, Option<String>, Option<String>) {
    let short = |digit: char| Some(String::from(digit).repeat(12));
    (kind.to_owned(), short(from), short(to))
}

fn unreachable() -> LookupFailure {
    LookupFailure::failed(Reason::RegistryUnavailable, "registry.example.com cannot be reached, or fails")
}

#[test]
fn a_new_base_is_built_upon_and_named() {
    let mut world = World::built();
    world.registry[0] = Ok(digest('4'));
    assert_eq!(world.pass(100).settle(), 0, "it is not yet time to look");
    world.pass(250).settle();
    assert_eq!(reasons(&world), [told("BaseChanged", '1', '4')]);
    assert_eq!(plan(&world).image.base, format!("base:1@{}", digest('4')));
    assert!(!plan(&world).environment.of_base);
    assert_eq!(
        world.row(),
        "Ready=Unknown/Progressing Reconciling=True/Building Available=True/ImagePublished SourceReady=True/Resolved | Building"
    );
    world.pass(30).succeed(A, 'e', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    assert_eq!(world.status().inputs.unwrap().base, format!("base:1@{}", digest('4')));
    assert_eq!(world.pass(330).settle(), 0);
    world.restart();
    assert_eq!(world.pass(330).settle(), 0);
}

#[test]
fn a_new_rcc_is_a_reason_of_its_own() {
    let mut world = World::built();
    world.registry = [Ok(digest('4')), Ok(digest('5'))];
    world.pass(350).settle();
    assert_eq!(reasons(&world), [told("BaseChanged", '1', '4'), told("RccChanged", '3', '5')]);
    let rcc = serde_json::to_value(plan(&world).image.rcc).unwrap();
    assert_eq!(rcc["image"], format!("rcc:1@{}", digest('5')));
}

#[test]
fn an_image_that_was_made_without_a_look_up_is_not_made_again_by_the_first() {
    let mut world = World::new();
    world.registry_slow = true;
    world.settle();
    assert!(!plan(&world).image.base.contains('@'), "the pod finds it");
    world.pass(30).succeed(A, 'd', false);
    world.settle();
    let key = world.status().latest_image.unwrap().request_key;
    world.registry_slow = false;
    assert_eq!(world.pass(330).settle(), 0);
    assert_eq!((world.digest_looks, world.status().latest_image.unwrap().request_key), (2, key));
    world.registry[0] = Ok(digest('4'));
    world.pass(350).settle();
    assert_eq!(reasons(&world), [told("BaseChanged", '1', '4')]);
}

#[test]
fn a_look_up_that_fails_changes_no_image_and_is_told_the_second_time() {
    let mut world = World::built();
    world.registry[0] = Err(unreachable());
    assert_eq!(world.pass(350).settle(), 0, "one lost answer");
    assert_eq!(world.pass(650).settle(), 1);
    let row = world.row();
    assert_eq!(
        row,
        "Ready=True/UpToDate Available=True/ImagePublished SourceReady=False/RegistryUnavailable | Ready"
    );
    assert_eq!(world.pass(4000).settle(), 0);
    world.restart();
    assert_eq!(world.settle(), 0, "a restart forgets it, and says nothing else");
    assert_eq!((world.pass(350).settle(), world.row()), (0, row));
    world.registry[0] = Ok(digest('1'));
    assert_eq!((world.pass(4000).settle(), world.row()), (1, UP_TO_DATE.to_owned()));
    assert_eq!(world.build().number, 1);
}

#[test]
fn what_only_credentials_show_is_said_and_seldom_asked_for() {
    let mut world = World::built();
    world.registry[0] = Err(LookupFailure::Refused {
        host: "registry.example.com".to_owned(),
    });
    assert_eq!(world.pass(350).settle(), 1);
    assert_eq!(
        (world.row(), world.status().inputs.unwrap().unchecked),
        (UP_TO_DATE.to_owned(), vec!["base".to_owned()])
    );
    let looks = world.digest_looks;
    for _ in 0..10 {
        assert_eq!(world.pass(360).settle(), 0);
    }
    assert_eq!(world.digest_looks, looks + 10, "only rcc is asked for");
    world.restart();
    world.registry[0] = Ok(digest('1'));
    assert_eq!(world.pass(350).settle(), 1);
    assert_eq!(world.status().inputs.unwrap().unchecked, Vec::<String>::new());
}

#[test]
fn a_pinned_base_keeps_the_digest_of_the_first_image() {
    let mut pinned = image();
    pinned.spec.image.base = Some(BaseSource {
        update: Some(BaseUpdate::Pin),
        ..BaseSource::default()
    });
    pinned.spec.image.rcc = Some(serde_json::from_value(json!({"image": format!("rcc:1@{}", digest('3'))})).unwrap());
    let mut world = World::with(pinned, platform(""));
    world.settle();
    world.pass(30).succeed(A, 'd', false);
    world.settle();
    world.registry[0] = Ok(digest('4'));
    assert_eq!((world.pass(86_400).settle(), world.digest_looks), (0, 0));
    world.edit(|spec| spec.robot.get_or_insert_default().task = Some("other".to_owned()));
    world.settle();
    assert_eq!(plan(&world).image.base, format!("base:1@{}", digest('1')));
    // Another reference is another base.
    world.edit(|spec| spec.image.base.as_mut().unwrap().image = Some("base:2".to_owned()));
    world.settle();
    assert_eq!(plan(&world).image.base, "base:2");
}

#[test]
fn rebuild_binds_the_environment_to_the_base() {
    let mut rebuilt = image();
    rebuilt.spec.image.base = Some(BaseSource {
        update: Some(BaseUpdate::Rebuild),
        ..BaseSource::default()
    });
    let mut world = World::with(rebuilt, platform(""));
    world.settle();
    assert!(plan(&world).environment.of_base);
}

#[test]
fn a_running_build_goes_on_and_the_new_base_comes_after_it() {
    let mut world = World::new();
    world.settle();
    world.registry[0] = Ok(digest('4'));
    world.pass(350).settle();
    assert_eq!((world.build().number, world.build().phase), (1, BuildPhase::Running));
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!(world.build().number, 2);
    assert_eq!(reasons(&world), [told("BaseChanged", '1', '4')]);
}

#[test]
fn a_new_base_is_a_cure_for_a_failure() {
    let mut world = World::new();
    world.settle();
    world.fail(Step::Resolve, Reason::EnvironmentUnsolvable);
    world.settle();
    assert_eq!(world.pass(86_400).settle(), 0, "only a change helps");
    world.restart();
    assert_eq!(world.settle(), 0);
    world.registry[0] = Ok(digest('4'));
    world.pass(350).settle();
    assert_eq!(world.build().number, 2);
}

#[test]
fn an_environment_is_solved_anew_at_its_time() {
    // The world begins at 10:00 on a Sunday.
    let mut daily = image();
    daily.spec.environment = Some(serde_json::from_value(json!({"refresh": "0 3 * * *"})).unwrap());
    let mut world = World::with(daily, platform(""));
    world.settle();
    let first = plan(&world).environment.refresh;
    assert_eq!(first, 1_772_334_000, "03:00 of that day, whoever asks");
    world.pass(30).succeed(A, 'd', false);
    world.settle();
    world.restart();
    assert_eq!(world.pass(16 * 3600).settle(), 0, "it is 02:00");
    world.pass(3600).settle();
    assert_eq!(plan(&world).environment.refresh, first + 86_400);
    let told = |text: &str| Some(text.to_owned());
    assert_eq!(
        reasons(&world),
        [("Refresh".to_owned(), told("2026-03-01T03:00:00Z"), told("2026-03-02T03:00:00Z"))]
    );
    world.fail(Step::Resolve, Reason::PackageNotFound);
    world.settle();
    assert_eq!(world.pass(3600).settle(), 0);
    // Where it fails, the next time is another try; and a change in between keeps what the last one began.
    world.pass(86_400).settle();
    assert_eq!((world.build().number, plan(&world).environment.refresh), (3, first + 2 * 86_400));
    world.pass(30).succeed(A, 'e', false);
    world.settle();
    world.edit(|spec| spec.robot.get_or_insert_default().task = Some("other".to_owned()));
    world.settle();
    assert_eq!(plan(&world).environment.refresh, first + 2 * 86_400);
}

#[test]
fn a_schedule_that_is_added_begins_with_its_next_time() {
    let mut world = World::built();
    world.edit(|spec| spec.environment = Some(serde_json::from_value(json!({"refresh": "0 12 * * *"})).unwrap()));
    world.settle();
    assert_eq!((world.row(), world.build().number), (UP_TO_DATE.to_owned(), 1));
    let again = world.last.as_ref().unwrap().again.unwrap().as_secs();
    assert!(again <= 7200, "{again}");
    world.pass(7300).settle();
    assert_eq!(plan(&world).environment.refresh, 1_772_366_400);
    // When it is taken away, the environment stays.
    world.pass(30).succeed(A, 'e', false);
    world.settle();
    world.edit(|spec| spec.environment = None);
    world.settle();
    assert_eq!((world.row(), world.build().number), (UP_TO_DATE.to_owned(), 2));
}

#[test]
fn an_image_is_announced_when_it_is_new_and_every_ten_minutes() {
    let mut announced = image();
    announced.spec.image.publish_to = Some(serde_json::from_value(json!({"configMap": {"name": "invoices-image"}})).unwrap());
    let mut world = World::with(announced, platform(""));
    world.settle();
    assert_eq!(world.announcements, 0, "there is nothing to tell");
    world.pass(30).succeed(A, 'd', false);
    world.settle();
    let told = world.announced.clone().unwrap();
    assert_eq!(told.name, "invoices-image");
    assert_eq!(
        serde_json::to_value(&told.data).unwrap(),
        json!({"ref": format!("registry.example.com/robots/a@{}", digest('d')), "digest": digest('d'), "tag": "aaaaaaaaaaaa"})
    );
    assert_eq!((world.pass(590).settle(), world.announcements), (0, 1));
    assert_eq!((world.pass(20).settle(), world.announcements), (0, 2));
    assert!(world.last.as_ref().unwrap().again.unwrap().as_secs() <= 600);
    world.restart();
    world.settle();
    assert_eq!(world.announcements, 3, "who forgot it cannot know");
    world.edit(|spec| spec.image.publish_to.as_mut().unwrap().config_map.name = "other".to_owned());
    world.settle();
    assert_eq!((world.announcements, world.build().number), (4, 1));
}

#[test]
fn who_waits_for_a_slot_says_so_and_begins_when_there_is_one() {
    let mut world = World::new();
    world.turn = Turn::Later;
    assert_eq!(world.settle(), 1);
    assert_eq!(
        world.row(),
        "Ready=Unknown/Progressing Reconciling=True/Queued Available=False/NeverBuilt SourceReady=True/Resolved | Queued"
    );
    let last = world.last.clone().unwrap();
    assert_eq!((last.wants, world.status().latest_build), (Some(Lane::User), None));
    assert!(last.again.unwrap().as_secs() <= 60);
    world.restart();
    assert_eq!(world.settle(), 0);
    world.turn = Turn::Now;
    world.settle();
    assert_eq!((world.build().number, world.jobs.len()), (1, 1));
    // What befalls the whole fleet is less urgent; and a build that runs needs no turn.
    world.turn = Turn::Later;
    world.pass(30).succeed(A, 'd', false);
    world.settle();
    assert_eq!((world.row(), world.last.as_ref().unwrap().wants), (UP_TO_DATE.to_owned(), None));
    world.registry[0] = Ok(digest('4'));
    world.pass(350).settle();
    assert_eq!(world.last.as_ref().unwrap().wants, Some(Lane::Fleet));
    assert!(world.row().contains("Queued"), "{}", world.row());
}

fn missing() -> LookupFailure {
    LookupFailure::Missing {
        reference: "registry.example.com/robots/a".to_owned(),
    }
}

#[test]
fn an_image_that_is_gone_is_made_again() {
    let mut world = World::built();
    assert_eq!(world.pass(3600).settle(), 0);
    world.published = Err(missing());
    assert_eq!(world.pass(3700).settle(), 0, "one answer is none");
    world.published = Ok(());
    assert_eq!(world.pass(70).settle(), 0);
    world.published = Err(missing());
    assert_eq!(world.pass(3700).settle(), 0);
    world.pass(70).settle();
    assert_eq!(reasons(&world), [("ImageMissing".to_owned(), None, None)]);
    assert_eq!(
        world.row(),
        "Ready=Unknown/Progressing Reconciling=True/Building Available=True/ImagePublished SourceReady=True/Resolved | Building"
    );
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!(world.row(), UP_TO_DATE);
    // Where the registry goes on denying it, it is not made for ever.
    for _ in 0..5 {
        assert_eq!(world.pass(4000).settle(), 0);
        assert_eq!(world.pass(70).settle(), 0);
        world.restart();
    }
    world.published = Ok(());
    world.pass(4000).settle();
    world.published = Err(missing());
    world.pass(4000).settle();
    world.pass(70).settle();
    assert_eq!(world.build().number, 3);
}

#[test]
fn a_registry_that_does_not_answer_says_nothing_about_an_image() {
    let mut world = World::built();
    let refused = LookupFailure::Refused {
        host: "registry.example.com".to_owned(),
    };
    let mut writes = 0;
    for failure in [refused, unreachable()] {
        world.published = Err(failure);
        for _ in 0..20 {
            writes += world.pass(4000).settle();
        }
    }
    assert_eq!((writes, world.build().number), (1, 1), "that it is not shown, and no build");
}

#[test]
fn an_image_that_only_credentials_show_is_said_to_be_unchecked() {
    let unchecked = |world: &World| world.status().inputs.unwrap().unchecked;
    let mut world = World::built();
    world.published = Err(LookupFailure::Refused {
        host: "registry.example.com".to_owned(),
    });
    assert_eq!(world.pass(4000).settle(), 1);
    assert_eq!((world.row(), unchecked(&world)), (UP_TO_DATE.to_owned(), vec!["image".to_owned()]));
    // A lost answer says nothing else, nor does a restart, nor a new build.
    world.published = Err(unreachable());
    assert_eq!((world.pass(8 * 3600).settle(), world.pass(8 * 3600).settle()), (0, 0));
    world.restart();
    assert_eq!(world.pass(100).settle(), 0);
    world.edit(|spec| spec.robot.get_or_insert_default().task = Some("other".to_owned()));
    world.settle();
    world.pass(30).succeed(A, 'e', false);
    world.settle();
    assert_eq!((world.pass(4000).settle(), unchecked(&world)), (0, vec!["image".to_owned()]));
    // It is public by now.
    world.published = Ok(());
    assert_eq!(world.pass(8 * 3600).settle(), 1);
    assert_eq!(unchecked(&world), Vec::<String>::new());
}

#[test]
fn a_suspended_image_is_not_looked_after() {
    let mut world = World::built();
    world.edit(|spec| spec.suspend = Some(true));
    world.settle();
    let looks = world.digest_looks;
    world.registry[0] = Ok(digest('4'));
    assert_eq!((world.pass(86_400).settle(), world.digest_looks), (0, looks));
    // Others may look at the same base.
    world.checks.base.as_mut().unwrap().digest = Some(digest('4'));
    assert_eq!((world.settle(), world.row()), (0, UP_TO_DATE.to_owned()));
}
