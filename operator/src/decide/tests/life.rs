//! How builds follow one another: retries, the three ways to supersede, memory.

use robotimage_crds::api::{BuildPhase, Supersede};
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;
use serde_json::json;

use super::pods::{ended, running, waiting};
use super::world::{A, B, UP_TO_DATE, World, image, platform, revision};
use crate::observe::JobView;
use crate::source::SourceFailure;

fn with_build(build: serde_json::Value) -> World {
    let mut image = image();
    image.spec.build = Some(serde_json::from_value(build).unwrap());
    World::with(image, platform(""))
}

fn starts_pod(world: &mut World) {
    world.pod(
        "Running",
        [running(world.now), waiting("PodInitializing"), waiting("PodInitializing")],
    );
}

#[test]
fn as_many_retries_as_the_resource_wants() {
    for retries in [0_u32, 1, 10] {
        let mut world = with_build(json!({"retries": retries}));
        world.settle();
        for attempt in 1..=retries {
            world.fail(Step::Publish, Reason::RegistryUnavailable);
            world.settle();
            assert!(world.row().contains("ProgressingWithRetry"), "{retries} {attempt}: {}", world.row());
            let reconciling = world.status().conditions.into_iter().find(|c| c.type_ == "Reconciling").unwrap();
            assert_eq!(
                reconciling.message,
                format!("{attempt} of {} attempts failed; it is tried again", retries + 1)
            );
            world.pass(300).settle();
            assert_eq!((world.build().number, world.build().attempt), (1, attempt + 1));
        }
        world.fail(Step::Publish, Reason::RegistryUnavailable);
        world.settle();
        assert!(
            world.row().contains("Stalled=True/RegistryUnavailable"),
            "{retries}: {}",
            world.row()
        );
    }
}

#[test]
fn a_build_that_waits_for_its_retry_is_told_when_another_takes_its_place() {
    let mut world = World::new();
    world.settle();
    world.fail(Step::Publish, Reason::RegistryUnavailable);
    world.settle();
    world.edit(|spec| spec.robot = Some(serde_json::from_value(json!({"task": "x"})).unwrap()));
    world.settle();
    assert_eq!(world.build().number, 2);
    let told: Vec<_> = world
        .status()
        .history
        .into_iter()
        .map(|entry| (entry.number, entry.outcome))
        .collect();
    assert_eq!(told, [(1, "RegistryUnavailable".to_owned())]);
}

#[test]
fn the_three_ways_to_supersede() {
    for (way, pod, given_up) in [
        (Supersede::CancelRunning, false, true),
        (Supersede::CancelRunning, true, true),
        (Supersede::CancelPending, false, true),
        (Supersede::CancelPending, true, false),
        (Supersede::Queue, false, false),
        (Supersede::Queue, true, false),
    ] {
        let mut world = with_build(json!({"supersede": way}));
        world.settle();
        if pod {
            starts_pod(&mut world);
        } else {
            world.pod("Pending", [waiting("PodInitializing"), waiting(""), waiting("")]);
        }
        world.settle();
        world.server = Ok(revision(B));
        world.pass(330).settle();
        assert_eq!(world.build().number == 2, given_up, "{way:?} {pod}");
        if given_up {
            assert_eq!(world.status().history[0].outcome, "Superseded");
            continue;
        }
        assert!(
            world.row().starts_with("Ready=Unknown/Progressing Reconciling=True/Building"),
            "{}",
            world.row()
        );
        // It ends, its result is its own, and what is wanted by now follows at once.
        let key = world.build().request_key;
        world.succeed(A, 'd', false);
        assert!(world.step());
        let status = world.status();
        assert_eq!(status.latest_image.unwrap().request_key, key);
        assert_eq!((status.history[0].number, status.history[0].outcome.as_str()), (1, "Succeeded"));
        assert_eq!((world.build().number, world.build().phase), (2, BuildPhase::Pending));
        assert_eq!(world.reasons(), ["SourceChanged"]);
        assert!(
            world.row().starts_with("Ready=Unknown/Progressing Reconciling=True"),
            "{}",
            world.row()
        );
        world.settle();
        world.succeed(B, 'e', false);
        world.settle();
        assert_eq!(world.row(), UP_TO_DATE);
    }
}

#[test]
fn a_queued_wish_comes_after_a_failure_too_and_nothing_unborn_is_queued() {
    let mut world = with_build(json!({"supersede": "Queue"}));
    world.settle();
    starts_pod(&mut world);
    world.settle();
    world.edit(|spec| spec.robot = Some(serde_json::from_value(json!({"task": "x"})).unwrap()));
    world.settle();
    assert_eq!(world.build().number, 1);
    world.fail(Step::Fetch, Reason::RobotYamlInvalid);
    world.settle();
    assert_eq!((world.build().number, world.jobs.len()), (2, 2));
    assert_eq!(world.status().history[0].outcome, "RobotYamlInvalid");
    // No Job was made for it: it would be made from another spec than it says.
    let mut world = with_build(json!({"supersede": "Queue"}));
    assert!(world.step());
    let key = world.build().request_key;
    world.edit(|spec| spec.robot = Some(serde_json::from_value(json!({"task": "x"})).unwrap()));
    world.settle();
    assert_ne!(world.build().request_key, key);
    assert_eq!((world.build().number, world.jobs.len()), (2, 1));
    assert_eq!(JobView::of(&world.jobs[0]).plan.unwrap().robot.task.as_deref(), Some("x"));
}

#[test]
fn a_check_is_none_while_another_configuration_is_wanted() {
    let mut world = with_build(json!({"supersede": "Queue"}));
    world.settle();
    world.succeed(A, 'd', false);
    world.settle();
    world.server = Ok(revision(B));
    world.pass(330).settle();
    assert!(
        world.row().starts_with("Ready=True/UpToDate Reconciling=True/CheckingSource"),
        "{}",
        world.row()
    );
    world.edit(|spec| spec.robot = Some(serde_json::from_value(json!({"task": "x"})).unwrap()));
    world.settle();
    assert!(
        world.row().starts_with("Ready=Unknown/Progressing Reconciling=True"),
        "{}",
        world.row()
    );
    assert_eq!(world.build().number, 2);

    // The same while a new address has not answered yet.
    let mut world = World::built();
    world.server = Ok(revision(B));
    world.pass(330).settle();
    world.edit(|spec| spec.source.git.as_mut().unwrap().url = "https://other.example.com/a.git".to_owned());
    world.restart();
    world.slow = true;
    world.settle();
    assert!(
        world.row().starts_with("Ready=Unknown/Progressing Reconciling=True"),
        "{}",
        world.row()
    );
}

fn out_of_memory(world: &mut World) {
    let (fetch, killed) = (world.done_fetch(A), ended(137, "OOMKilled", ""));
    world.pod("Failed", [fetch, killed, waiting("PodInitializing")]);
    world.end_job("Failed");
    world.settle();
}

fn memory(world: &World) -> (Option<String>, String, String) {
    let container = world
        .jobs
        .last()
        .unwrap()
        .spec
        .as_ref()
        .unwrap()
        .template
        .spec
        .as_ref()
        .unwrap()
        .containers[0]
        .clone();
    let resources = container.resources.unwrap();
    let of = |map: Option<std::collections::BTreeMap<_, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>| {
        map.unwrap()["memory"].0.clone()
    };
    (world.build().memory, of(resources.requests), of(resources.limits))
}

#[test]
fn memory_is_doubled_after_a_lack_of_it_as_far_as_the_platform_goes() {
    let mut world = World::new();
    world.settle();
    assert_eq!(memory(&world), (None, "256Mi".to_owned(), "2Gi".to_owned()));
    for next in ["4Gi", "8Gi"] {
        out_of_memory(&mut world);
        assert!(world.row().contains("Reconciling=True/ProgressingWithRetry"), "{}", world.row());
        let message = world.status().last_failure.unwrap().message;
        assert!(message.ends_with(&format!("the next attempt has {next}")), "{message}");
        world.pass(300).settle();
        assert_eq!(memory(&world), (Some(next.to_owned()), "256Mi".to_owned(), next.to_owned()));
    }
    out_of_memory(&mut world);
    assert!(
        world.row().starts_with("Ready=False/OutOfMemory Stalled=True/OutOfMemory"),
        "{}",
        world.row()
    );
    let failure = world.status().last_failure.unwrap();
    assert_eq!((failure.retryable, failure.next_retry_at), (false, None));
    assert!(
        failure.message.contains("it had 8Gi, and the platform raises it to 8Gi at most"),
        "{}",
        failure.message
    );
    assert_eq!((world.pass(86_400).settle(), world.build().number), (0, 1));
    // Another request of the same spec keeps what was found out; an edit begins anew.
    world.server = Ok(revision(B));
    world.pass(330).settle();
    assert_eq!((world.build().number, memory(&world).2.as_str()), (2, "8Gi"));
    world.edit(|spec| spec.build = Some(serde_json::from_value(json!({"resources": {"limits": {"memory": "16Gi"}}})).unwrap()));
    world.server = Ok(revision(A));
    world.pass(330).settle();
    assert_eq!(memory(&world), (None, "256Mi".to_owned(), "16Gi".to_owned()));
    // Beyond the bound already.
    out_of_memory(&mut world);
    assert!(world.row().contains("Stalled=True/OutOfMemory"), "{}", world.row());
}

#[test]
fn memory_of_the_resource_grows_too_and_a_request_that_was_the_limit_with_it() {
    let mut world = with_build(json!({"resources": {"requests": {"memory": "6Gi"}, "limits": {"memory": "6Gi"}}}));
    world.settle();
    out_of_memory(&mut world);
    world.pass(300).settle();
    assert_eq!(memory(&world), (Some("8Gi".to_owned()), "8Gi".to_owned(), "8Gi".to_owned()));
    // Another failure does not make it grow, nor lose it.
    world.fail(Step::Publish, Reason::RegistryUnavailable);
    world.settle();
    world.pass(300).settle();
    assert_eq!((world.build().attempt, memory(&world).2.as_str()), (3, "8Gi"));
}

#[test]
fn a_look_that_meets_another_configuration_is_a_look_no_more() {
    let mut world = World::built();
    world.server = Ok(revision(B));
    world.pass(330).settle();
    assert!(world.row().contains("Reconciling=True/CheckingSource"), "{}", world.row());
    world.platform = platform("index: {piprc: other}\n").into();
    world.restart();
    world.server = Err(SourceFailure::new(Reason::SourceUnreachable, "it failed"));
    world.settle();
    assert!(
        world.row().starts_with("Ready=Unknown/Progressing Reconciling=True/Building"),
        "{}",
        world.row()
    );
}

#[test]
fn a_job_made_anew_for_the_same_build_is_its_job_and_any_other_of_its_name_is_not() {
    let mut world = World::new();
    world.settle();
    starts_pod(&mut world);
    world.settle();
    assert_eq!(world.build().uid, world.jobs[0].metadata.uid);
    // Another leader saw that a person had deleted it, before its UID stood in the status.
    world.pods.clear();
    world.jobs[0].metadata.uid = Some("another".to_owned());
    world.succeed(&"a".repeat(40), 'd', false);
    world.settle();
    assert!(world.row().starts_with("Ready=True"), "{}", world.row());
    assert_eq!(world.build().attempt, 1);

    let mut world = World::new();
    world.settle();
    starts_pod(&mut world);
    world.settle();
    world.pods.clear();
    world.jobs[0].metadata.uid = Some("another".to_owned());
    let (own, other) = (world.build().build_id, "f".repeat(32));
    let pod = world.jobs[0].spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    for variable in pod.containers.iter_mut().flat_map(|container| container.env.iter_mut().flatten()) {
        variable.value = variable.value.take().map(|plan| plan.replace(&own, &other));
    }
    world.step();
    let message = world.status().last_failure.unwrap().message;
    assert!(message.contains("replaced by another of the same name"), "{message}");
}
