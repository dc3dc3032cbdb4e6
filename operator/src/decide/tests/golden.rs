//! The table of states as golden files: the object before, what happens, the object after, what kstatus makes of it, and
//! which conditions `kubectl wait` finds met. `UPDATE_GOLDEN=1` (or `make golden`) rewrites them; the cluster's suite `rows`
//! asks the real kstatus and the real kubectl about the same files.

use std::collections::BTreeSet;
use std::path::PathBuf;

use robotimage_crds::api::{RobotImage, annotation};
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;
use serde_json::{Value, json};

use super::pods::{running, waiting};
use super::world::{A, B, World, digest, image, platform, revision};
use crate::observe::{Refusal, Turn};
use crate::registry::LookupFailure;
use crate::source::SourceFailure;

/// One row.
struct Row {
    /// Name of its file.
    name: &'static str,
    /// As the table calls it.
    state: &'static str,
    /// What happens between the two objects.
    event: &'static str,
    kstatus: &'static str,
    before: fn() -> World,
    happens: fn(&mut World),
}

const ROWS: &[Row] = &[
    Row {
        name: "01-created",
        state: "created, not yet seen",
        event: "the API server takes the resource and sets the schema's default",
        kstatus: "InProgress",
        before: || {
            let mut world = World::new();
            world.image.status = None;
            world
        },
        happens: |world| world.image.status = image().status,
    },
    Row {
        name: "02-first-resolve",
        state: "new generation or first resolve of the source",
        event: "the operator sees the resource; the git server has not answered yet",
        kstatus: "InProgress",
        before: World::new,
        happens: |world| {
            world.slow = true;
            world.settle();
        },
    },
    Row {
        name: "03-new-generation",
        state: "new generation or first resolve of the source",
        event: "the source's address is edited; the new server has not answered yet",
        kstatus: "InProgress",
        before: World::built,
        happens: |world| {
            world.edit(|spec| spec.source.git.as_mut().unwrap().url = "https://other.example.com/a.git".to_owned());
            world.restart();
            world.slow = true;
            world.settle();
        },
    },
    Row {
        name: "04-checking-source",
        state: "a new revision is being checked",
        event: "a poll finds a new commit",
        kstatus: "InProgress",
        before: World::built,
        happens: |world| {
            world.server = Ok(revision(B));
            world.pass(330).settle();
        },
    },
    Row {
        name: "05-queued-quota",
        state: "waiting for a slot, quota or a queue",
        event: "a quota of the namespace refuses the Job",
        kstatus: "InProgress",
        before: || {
            let mut world = World::new();
            assert!(world.step());
            world
        },
        happens: |world| {
            world.refusal = Some(Refusal {
                reason: Reason::QuotaExceeded,
                message: "the API server refuses the build's Job: exceeded quota: builds".to_owned(),
            });
            world.step();
        },
    },
    Row {
        name: "06-queued-behind-a-build",
        state: "waiting for a slot, quota or a queue",
        event: "an edit supersedes a build whose pod takes its time to end",
        kstatus: "InProgress",
        before: || building(true),
        happens: |world| {
            world.edit(|spec| spec.robot = Some(serde_json::from_value(json!({"task": "x"})).unwrap()));
            assert!(world.step());
            world.jobs[0].metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
            world.settle();
        },
    },
    Row {
        name: "07-unschedulable",
        state: "pod blocked (unschedulable, image pull)",
        event: "the scheduler finds no node",
        kstatus: "InProgress",
        before: || building(false),
        happens: |world| {
            let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."});
            world.pod_with(
                json!({"phase": "Pending", "conditions": [condition]}),
                [waiting(""), waiting(""), waiting("")],
            );
            world.settle();
        },
    },
    Row {
        name: "08-image-pull",
        state: "pod blocked (unschedulable, image pull)",
        event: "the kubelet cannot pull the builder image",
        kstatus: "InProgress",
        before: || building(false),
        happens: |world| {
            world.pod(
                "Pending",
                [waiting("ErrImagePull"), waiting("PodInitializing"), waiting("PodInitializing")],
            );
            world.settle();
        },
    },
    Row {
        name: "09-building",
        state: "building",
        event: "the git server answers",
        kstatus: "InProgress",
        before: || {
            let mut world = World::new();
            world.slow = true;
            world.settle();
            world
        },
        happens: |world| {
            world.slow = false;
            world.settle();
        },
    },
    Row {
        name: "10-up-to-date",
        state: "up to date",
        event: "publish ends well",
        kstatus: "Current",
        before: || building(true),
        happens: |world| {
            world.pass(30).succeed(A, 'd', false);
            world.settle();
        },
    },
    Row {
        name: "11-up-to-date-noop",
        state: "up to date",
        event: "the new commit makes no other image",
        kstatus: "Current",
        before: || {
            let mut world = World::built();
            world.server = Ok(revision(B));
            world.pass(330).settle();
            world
        },
        happens: |world| {
            world.pass(5).succeed(B, 'd', true);
            world.settle();
        },
    },
    Row {
        name: "12-poll-failed",
        state: "up to date, one poll or base check failed",
        event: "a poll finds no server",
        kstatus: "Current",
        before: World::built,
        happens: |world| {
            world.server = Err(SourceFailure::new(
                Reason::SourceUnreachable,
                "git.example.com does not answer in time",
            ));
            world.pass(330).settle();
        },
    },
    Row {
        name: "13-will-retry",
        state: "failed, will retry",
        event: "the registry fails while publish pushes",
        kstatus: "InProgress",
        before: || building(true),
        happens: |world| {
            world.pass(30).fail(Step::Publish, Reason::RegistryUnavailable);
            world.settle();
        },
    },
    Row {
        name: "14-only-a-change-helps",
        state: "failed, only a change helps",
        event: "fetch finds a robot.yaml that is not valid",
        kstatus: "Failed",
        before: || building(true),
        happens: |world| {
            world.pass(30).fail(Step::Fetch, Reason::RobotYamlInvalid);
            world.settle();
        },
    },
    Row {
        name: "15-source-failed",
        state: "failed, only a change helps",
        event: "the git server asks for credentials and the resource names none",
        kstatus: "Failed",
        before: World::new,
        happens: |world| {
            world.server = Err(SourceFailure::new(Reason::GitAuthFailed, "git.example.com asks for credentials"));
            world.settle();
        },
    },
    Row {
        name: "16-canceled",
        state: "canceled",
        event: "a person sets the annotation robotimage.dev/cancel to the number of the running build",
        kstatus: "Failed",
        before: || building(true),
        happens: |world| {
            world.annotate(annotation::CANCEL, "1");
            world.pass(10).settle();
        },
    },
    Row {
        name: "17-superseded",
        state: "superseded",
        event: "a newer commit while a build runs",
        kstatus: "InProgress",
        before: || building(true),
        happens: |world| {
            world.server = Ok(revision(B));
            world.pass(330).settle();
        },
    },
    Row {
        name: "18-suspended-current",
        state: "suspended, spec matches the image",
        event: "spec.suspend becomes true",
        kstatus: "Current",
        before: World::built,
        happens: |world| {
            world.edit(|spec| spec.suspend = Some(true));
            world.settle();
        },
    },
    Row {
        name: "19-suspended-otherwise",
        state: "suspended, otherwise",
        event: "spec.suspend becomes true, and another task is asked for",
        kstatus: "Failed",
        before: World::built,
        happens: |world| {
            world.edit(|spec| {
                spec.suspend = Some(true);
                spec.robot = Some(serde_json::from_value(json!({"task": "x"})).unwrap());
            });
            world.settle();
        },
    },
    Row {
        name: "20-loop-guard",
        state: "loop guard",
        event: "a sixth build that repeats the image before it is wanted within an hour, and nobody has asked for it",
        kstatus: "Failed",
        before: || {
            let mut world = World::built();
            for number in 0..5 {
                world.platform = platform(&format!("index: {{piprc: x{number}}}\n")).into();
                world.pass(60).settle();
                world.succeed(A, 'd', false);
                world.settle();
            }
            world
        },
        happens: |world| {
            world.platform = platform("index: {piprc: again}\n").into();
            world.pass(60).settle();
        },
    },
    Row {
        name: "21-queued-for-a-slot",
        state: "waiting for a slot, quota or a queue",
        event: "the base has a new digest, and all build slots are taken",
        kstatus: "InProgress",
        before: World::built,
        happens: |world| {
            world.turn = Turn::Later;
            world.registry[0] = Ok(digest('4'));
            world.pass(350).settle();
        },
    },
    Row {
        name: "22-base-check-failed",
        state: "up to date, one poll or base check failed",
        event: "the registry of the base does not answer, twice",
        kstatus: "Current",
        before: World::built,
        happens: |world| {
            world.registry[0] = Err(LookupFailure::failed(
                Reason::RegistryUnavailable,
                "registry.example.com does not answer in time",
            ));
            world.pass(350).settle();
            world.pass(650).settle();
        },
    },
];

/// A first build; its pod runs, or does not exist yet.
fn building(pod: bool) -> World {
    let mut world = World::new();
    world.settle();
    if pod {
        world.pod(
            "Running",
            [running(world.now), waiting("PodInitializing"), waiting("PodInitializing")],
        );
        world.settle();
    }
    world
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden/rows")
}

/// What kstatus says of an object of a kind that it does not know: our own reading of its rules.
fn kstatus(image: &RobotImage) -> &'static str {
    let status = image.status.clone().unwrap_or_default();
    let is = |kind: &str| {
        let condition = status.conditions.iter().find(|condition| condition.type_ == kind);
        condition.map(|condition| condition.status.as_str())
    };
    if status
        .observed_generation
        .is_some_and(|observed| Some(observed) != image.metadata.generation)
        || is("Reconciling") == Some("True")
    {
        return "InProgress";
    }
    match (is("Stalled"), is("Ready")) {
        (Some("True"), _) => "Failed",
        (_, Some("True") | None) => "Current",
        _ => "InProgress",
    }
}

/// The conditions that `kubectl wait --for=condition=...` finds met: true, and not of an older generation.
fn met(image: &RobotImage) -> Vec<&str> {
    let conditions = image.status.iter().flat_map(|status| &status.conditions);
    conditions
        .filter(|condition| condition.status == "True" && condition.observed_generation >= image.metadata.generation)
        .map(|condition| condition.type_.as_str())
        .collect()
}

#[test]
fn every_row_of_the_table_is_what_its_file_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for row in ROWS {
        let mut world = (row.before)();
        let before = world.image.clone();
        (row.happens)(&mut world);
        let after = world.image.clone();
        assert_eq!(kstatus(&after), row.kstatus, "{}", row.name);
        let value: Value = json!({
            "state": row.state, "event": row.event, "before": before, "after": after,
            "kstatus": row.kstatus, "met": met(&after),
        });
        let text = serde_saphyr::to_string(&value).unwrap();
        let path = folder().join(format!("{}.yaml", row.name));
        if update {
            std::fs::create_dir_all(folder()).unwrap();
            std::fs::write(&path, &text).unwrap();
        } else if std::fs::read_to_string(&path).unwrap_or_default() != text {
            wrong.push(row.name);
        }
    }
    assert!(
        wrong.is_empty(),
        "not what their files say: {wrong:?}; run `make golden` and look at the difference"
    );
    let files: BTreeSet<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let rows: BTreeSet<String> = ROWS.iter().map(|row| format!("{}.yaml", row.name)).collect();
    assert_eq!(files, rows, "files and rows differ");
}
