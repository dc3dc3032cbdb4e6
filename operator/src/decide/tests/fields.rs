//! No field of the spec that nothing reads: each leaf of the schema is changed alone, and something else comes out.

use jiff::Timestamp;
use robotimage_crds::api::{HistoryEntry, LatestBuild, RobotImageSpec, RobotImageStatus};
use robotimage_crds::build::{Step, Want};
use robotimage_crds::reason::Reason;
use serde_json::{Value, json};

use super::world::{A, World, image, platform};
use crate::apply::job::{JobInput, job};
use crate::decide::{Finder, Settings, history, moving, next_look};
use crate::observe::{Answer, Checks, Revision, SourceKnowledge};

/// The leaves, as the contract of the API lists them.
const LEAVES: &str = include_str!("../../../../crds/tests/snapshots/contract__the_fields_of_the_spec_are_these.snap");

/// A spec with every field set that can be set at once.
fn full() -> Value {
    json!({
        "suspend": false,
        "interval": "5m",
        "source": {"git": {"url": "https://git.example.com/a.git", "ref": {"branch": "main"}, "secretRef": {"name": "git"}}, "path": "robots/a"},
        "environment": {"refresh": "0 3 * * *"},
        "robot": {"file": "robot.yaml", "task": "one"},
        "image": {
            "repository": "registry.example.com/robots/a",
            "tags": ["v1"],
            "secretRef": {"name": "push"},
            "pullSecretRef": {"name": "pull"},
            "platforms": ["linux/amd64"],
            "base": {"image": "base:2", "secretRef": {"name": "base"}, "update": "Rebase"},
            "rcc": {"image": "rcc:2", "secretRef": {"name": "rcc"}},
            "compression": "gzip",
            "user": "1000:0",
            "labels": {"a": "b"},
            "annotations": {"a": "b"},
            "compatibility": 1,
            "publishTo": {"configMap": {"name": "image"}},
        },
        "build": {"timeout": "30m", "retries": 3, "supersede": "CancelRunning", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}},
        "history": {"succeeded": 3, "failed": 3},
    })
}

/// Another value for a leaf. What excludes it is taken away in both specs.
fn change(leaf: &str) -> (Value, Value) {
    let mut before = full();
    let http = json!({"url": "https://files.example.com/rcc", "sha256": "0".repeat(64)});
    if leaf.starts_with("spec.image.rcc.http.") {
        before["image"]["rcc"] = json!({"http": http});
    }
    if leaf.starts_with("spec.source.http.") {
        before["source"]["git"].take();
        before["source"]["http"] = json!({"url": "https://files.example.com/a.zip", "secretRef": {"name": "web"}});
        if leaf == "spec.source.http.sha256" {
            before["source"]["http"]["sha256"] = json!("0".repeat(64));
        }
    }
    if leaf.starts_with("spec.source.oci.") {
        before["source"]["git"].take();
        before["source"]["oci"] = json!({"image": "registry.example.com/source:1", "secretRef": {"name": "source"}});
    }
    if leaf.starts_with("spec.source.configMap.") {
        before["source"]["git"].take();
        before["source"]["configMap"] = json!({"name": "robot"});
    }
    if leaf == "spec.source.git.ref.tag" {
        before["source"]["git"]["ref"] = json!({"tag": "v0"});
    }
    if leaf == "spec.source.git.ref.semver" {
        before["source"]["git"]["ref"] = json!({"semver": "^1"});
    }
    if leaf == "spec.source.git.ref.commit" {
        before["source"]["git"]["ref"] = json!({"commit": A});
    }
    let mut after = before.clone();
    let other = match leaf {
        "spec.suspend" | "spec.source.ignore.fromRobot" => json!(true),
        "spec.interval" => json!("7m"),
        "spec.build.timeout" => json!("31m"),
        "spec.build.retries" => json!(7),
        "spec.build.supersede" => json!("Queue"),
        "spec.build.resources.requests" => json!({"cpu": "1500m"}),
        "spec.build.resources.limits" => json!({"memory": "3Gi"}),
        "spec.history.failed" | "spec.history.succeeded" => json!(1),
        "spec.image.annotations" | "spec.image.labels" => json!({"a": "c"}),
        "spec.image.compatibility" => json!(2),
        "spec.environment.refresh" => json!("0 4 * * *"),
        "spec.image.base.update" => json!("Rebuild"),
        "spec.image.compression" => json!("zstd"),
        // There is one platform: that it is named is all that can differ.
        "spec.image.platforms" => Value::Null,
        "spec.image.rcc.http.sha256" | "spec.source.http.sha256" => json!("1".repeat(64)),
        "spec.image.rcc.http.url" => json!("https://files.example.com/rcc2"),
        "spec.image.tags" => json!(["v2"]),
        "spec.image.user" => json!("1001"),
        "spec.source.git.ref.semver" => json!("^2"),
        "spec.source.git.ref.commit" => json!("b".repeat(40)),
        "spec.source.git.url" => json!("https://git.example.com/b.git"),
        _ => json!("other.yaml"),
    };
    let mut at = &mut after;
    for part in leaf.split('.').skip(1) {
        at = &mut at[part];
    }
    *at = other;
    (before, after)
}

/// Everything that a spec can bring about: the request, the Job, the schedule, what is kept, and whether anything is done.
fn effects(spec: &Value) -> Vec<String> {
    let spec: RobotImageSpec = serde_json::from_value(spec.clone()).unwrap();
    let platform = platform("sourcePolling: {mode: Operator, namespaces: [finance]}\n");
    let now: Timestamp = "2026-03-01T10:00:00Z".parse().unwrap();
    let mut image = image();
    image.spec = spec.clone();
    let settings = Settings::of(&spec, "finance", &platform).unwrap();
    let want = match &settings.finder {
        Finder::Pinned(revision) => Want::Commit {
            id: revision.commit.clone(),
            reference: revision.reference.clone(),
        },
        Finder::Operator | Finder::Fetch { .. } => Want::Reference(settings.reference().cloned()),
    };
    let build = LatestBuild {
        job: "job".to_owned(),
        build_id: "0".repeat(32),
        ..LatestBuild::default()
    };
    let status = RobotImageStatus::default();
    let awake = Settings {
        suspended: false,
        ..settings.clone()
    };
    let key = moving::parts(&status, &awake, &Checks::default(), now).complete("a-b-c".to_owned());
    let job = job(&JobInput {
        image: &image,
        settings: &settings,
        platform: &platform,
        build: &build,
        want: &want,
        base: None,
        rcc: None,
        environment: moving::environment(&key, &settings),
        now,
    });

    let answer = Answer {
        at: now,
        chance: 0.5,
        generation: 1,
        build: 0,
        wish: String::new(),
        failures: 0,
        result: Ok(Revision {
            reference: "main".to_owned(),
            commit: A.to_owned(),
        }),
    };
    let knowledge = SourceKnowledge {
        seen_at: now,
        seen_chance: 0.5,
        answer: Some(answer),
        asking: false,
    };
    let look = next_look(&image, &settings, &knowledge, &platform.hash, now);

    let entry = |number, outcome: &str| HistoryEntry {
        number,
        outcome: outcome.to_owned(),
        ..HistoryEntry::default()
    };
    let ended = (0..6).flat_map(|number| [entry(2 * number, "Succeeded"), entry(2 * number + 1, "RobotYamlInvalid")]);
    let mut status = RobotImageStatus {
        history: ended.collect(),
        ..RobotImageStatus::default()
    };
    history::trim(&mut status, &settings);

    let told = announced(World::with(image.clone(), platform.clone()));
    let mut world = World::with(image, platform);
    world.settle();
    let (row, key) = (
        world.row(),
        world.status().latest_build.map(|build| build.request_key).unwrap_or_default(),
    );
    vec![
        key,
        serde_json::to_string(&job).unwrap(),
        format!("{look:?}"),
        format!("{:?}", status.history),
        row,
        told,
        after_trouble(world),
    ]
}

/// Where the image is announced, once there is one.
fn announced(mut world: World) -> String {
    world.settle();
    if world.status().latest_build.is_some() {
        world.pass(30).succeed(A, 'd', false);
        world.settle();
    }
    world.announced.map(|announced| announced.name).unwrap_or_default()
}

/// What follows when a build fails while another is wanted: how often it is tried, and what becomes of it.
fn after_trouble(mut world: World) -> String {
    if world.status().latest_build.is_none() {
        return String::new();
    }
    world.fail(Step::Publish, Reason::RegistryUnavailable);
    world.settle();
    let told = format!("{:?}", world.status().conditions);
    world.pass(60).settle();
    world.edit(|spec| spec.robot.get_or_insert_default().task = Some("another".to_owned()));
    world.settle();
    format!("{told} {}", world.build().number)
}

#[test]
fn every_field_of_the_spec_is_read() {
    let leaves: Vec<_> = LEAVES.lines().filter(|line| line.starts_with("spec.")).collect();
    assert!(leaves.len() >= 30);
    for leaf in leaves {
        let (before, after) = change(leaf);
        let (before, after) = (effects(&before), effects(&after));
        assert_ne!(before, after, "{leaf} changes nothing");
        // What is not about when and whether reaches the build pod, not only a hash.
        let of_the_operator = [
            "spec.suspend",
            "spec.interval",
            "spec.build.retries",
            "spec.build.supersede",
            "spec.history.failed",
            "spec.history.succeeded",
            "spec.image.platforms",
            "spec.image.publishTo.configMap.name",
        ];
        assert_eq!(before[1] == after[1], of_the_operator.contains(&leaf), "{leaf} and the Job");
    }
}
