//! The Job, byte for byte, and the demands of Pod Security and of the separation of steps on whatever comes out.

use robotimage_crds::api::LatestBuild;
use robotimage_crds::build::{BuildPlan, PLAN_VARIABLE, PlanEnvironment, Step, Want};
use serde_json::{Value, json};

use super::job::{JobInput, job};
use crate::config::Platform;
use crate::decide::Settings;
use crate::observe::JobView;

const PLATFORM: &str = "
builderImage: registry.example.com/robotimage/builder@sha256:1111111111111111111111111111111111111111111111111111111111111111
imagePullSecrets: [builder-registry]
base: {image: 'registry.example.com/base/debian:bookworm-slim', secretName: base-registry}
rcc: {http: {url: 'https://files.example.com/rcc', sha256: '0000000000000000000000000000000000000000000000000000000000000000'}}
plainHttp: ['registry.local:5000']
addressPolicy: {podCidrs: [10.42.0.0/16], allow: [10.43.0.50/32]}
";

fn build(spec: &Value) -> Value {
    let image: robotimage_crds::api::RobotImage = serde_json::from_value(json!({
        "apiVersion": "robotimage.dev/v1alpha1",
        "kind": "RobotImage",
        "metadata": {"name": "invoice-reader", "namespace": "finance", "uid": "0f7c1d2e-0000-4000-8000-000000000001"},
        "spec": spec,
    }))
    .unwrap();
    let platform = Platform::new(Platform::parse(PLATFORM).unwrap(), String::new(), None).unwrap();
    let settings = Settings::of(&image.spec, "finance", &platform).unwrap();
    let build = LatestBuild {
        number: 3,
        attempt: 2,
        build_id: "0123456789abcdef0123456789abcdef".to_owned(),
        job: "invoice-reader-01234567-3-2".to_owned(),
        ..LatestBuild::default()
    };
    let want = Want::Commit {
        id: "4be1c2d0aa11bb22cc33dd44ee55ff6677889900".to_owned(),
        reference: "main".to_owned(),
    };
    let now = "2026-03-01T10:00:00Z".parse().unwrap();
    let job = job(&JobInput {
        image: &image,
        settings: &settings,
        platform: &platform,
        build: &build,
        want: &want,
        base: None,
        rcc: None,
        environment: PlanEnvironment::default(),
        now,
    });
    // What a decision reads back from a Job is what was put in.
    let view = JobView::of(&job);
    assert_eq!(
        (view.number, view.attempt, view.name.as_str()),
        (3, 2, "invoice-reader-01234567-3-2")
    );
    assert_eq!(
        view.plan.unwrap().deadline,
        now.as_second() + i64::try_from(settings.timeout.as_secs()).unwrap()
    );
    serde_json::to_value(job).unwrap()
}

fn full() -> Value {
    json!({
        "source": {
            "git": {"url": "https://git.example.com/rpa/invoices.git", "ref": {"branch": "main"}, "secretRef": {"name": "git"}},
            "path": "robots/invoices",
        },
        "image": {
            "repository": "registry.example.com/robots/invoices",
            "secretRef": {"name": "push"},
            "pullSecretRef": {"name": "pull"},
            "rcc": {"image": "registry.example.com/tools/rcc:19", "secretRef": {"name": "rcc"}},
            "labels": {"price": "$(HOME) $$5"},
        },
        "build": {"timeout": "20m", "resources": {"requests": {"memory": "4Gi"}, "limits": {"cpu": "50m"}}},
    })
}

#[test]
fn the_job_of_a_full_spec() {
    insta::assert_json_snapshot!(build(&full()));
}

#[test]
fn the_job_of_the_smallest_spec() {
    insta::assert_json_snapshot!(build(&json!({
        "source": {"git": {"url": "https://git.example.com/rpa/invoices.git"}},
        "image": {"repository": "registry.example.com/robots/invoices"},
    })));
}

fn containers(job: &Value) -> Vec<Value> {
    let pod = &job["spec"]["template"]["spec"];
    ["initContainers", "containers"]
        .iter()
        .flat_map(|list| pod[*list].as_array().unwrap().clone())
        .collect()
}

#[test]
fn each_step_sees_its_own_part_and_no_more() {
    let job = build(&full());
    let mounts: Vec<Vec<String>> = containers(&job)
        .iter()
        .map(|container| {
            let mount = |mount: &Value| {
                let mode = if mount["readOnly"] == json!(true) { "ro" } else { "rw" };
                format!("{} {mode}", mount["mountPath"].as_str().unwrap())
            };
            container["volumeMounts"].as_array().unwrap().iter().map(mount).collect()
        })
        .collect();
    assert_eq!(
        mounts[0],
        [
            "/workspace/source rw",
            "/workspace/spec rw",
            "/workspace/scratch rw",
            "/tmp rw",
            "/platform ro",
            "/secrets/source ro",
            "/secrets/pull ro",
            "/secrets/base ro",
            "/secrets/rcc ro",
        ]
    );
    assert_eq!(
        mounts[1],
        [
            "/workspace/spec ro",
            "/opt/rcc rw",
            "/home/robot rw",
            "/workspace/scratch rw",
            "/tmp rw",
            "/platform ro"
        ],
        "resolve runs foreign code"
    );
    assert_eq!(
        mounts[2],
        [
            "/workspace/source ro",
            "/workspace/spec ro",
            "/opt/rcc ro",
            "/workspace/scratch rw",
            "/tmp rw",
            "/platform ro",
            "/secrets/pull ro",
            "/secrets/base ro",
            "/secrets/push ro",
        ]
    );
    // No two steps share what one of them may write and the other keeps to itself.
    let volumes = job["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
    for volume in volumes {
        let source = ["emptyDir", "configMap", "secret"]
            .iter()
            .find(|kind| volume.get(**kind).is_some())
            .expect("a known kind of volume");
        match *source {
            "emptyDir" => assert!(volume["emptyDir"]["sizeLimit"].is_string(), "{volume}"),
            kind => {
                assert_eq!(volume[kind]["optional"], json!(true), "{volume}");
                assert!(!volume[kind]["items"].as_array().unwrap().is_empty(), "{volume}");
            }
        }
        if *source == "secret" {
            assert_eq!(volume["secret"]["defaultMode"], json!(0o440));
        }
    }
}

#[test]
fn a_source_of_another_kind_is_seen_by_fetch_alone() {
    let secret = json!({"name": "s"});
    let server = ["username", "password", "bearerToken", "hosts", "ca.crt"];
    for (source, kind, name, path, keys) in [
        (
            json!({"http": {"url": "https://files.example.com/a.zip", "secretRef": secret}}),
            "secret",
            "secretName",
            "/secrets/source",
            Some(server.as_slice()),
        ),
        (
            json!({"oci": {"image": "registry.example.com/a:1", "secretRef": secret}}),
            "secret",
            "secretName",
            "/secrets/source",
            Some([".dockerconfigjson"].as_slice()),
        ),
        (json!({"configMap": secret}), "configMap", "name", "/workspace/config-map", None),
    ] {
        let job = build(&json!({"source": source, "image": {"repository": "registry.example.com/robots/invoices"}}));
        let volumes = job["spec"]["template"]["spec"]["volumes"].as_array().unwrap();
        let volume = volumes.iter().find(|volume| volume[kind][name] == json!("s")).unwrap();
        assert_eq!(volume[kind]["optional"], json!(true), "{volume}");
        let items = volume[kind]["items"]
            .as_array()
            .map(|items| items.iter().map(|item| item["key"].as_str().unwrap()).collect());
        assert_eq!(items, keys.map(<[&str]>::to_vec), "{volume}");
        let mounts: Vec<Vec<&str>> = ["fetch", "resolve", "publish"]
            .iter()
            .map(|step| {
                let containers = containers(&job);
                let container = containers
                    .iter()
                    .find(|container| container["name"] == json!(step))
                    .unwrap()
                    .clone();
                let mounts = container["volumeMounts"].as_array().unwrap().clone();
                let ours = mounts
                    .iter()
                    .filter(|mount| mount["name"] == volume["name"] && mount["readOnly"] == json!(true));
                ours.map(|mount| if mount["mountPath"] == json!(path) { path } else { "elsewhere" })
                    .collect()
            })
            .collect();
        assert_eq!(mounts, [vec![path], vec![], vec![]], "{source}");
    }
}

#[test]
fn the_pod_is_restricted_and_bounded() {
    for spec in [
        full(),
        json!({"source": {"git": {"url": "https://g.example/a"}}, "image": {"repository": "r.example/a"}}),
    ] {
        let job = build(&spec);
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], json!(true));
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], json!("RuntimeDefault"));
        assert_eq!(
            (&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]),
            (&json!(false), &json!(false))
        );
        for field in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "serviceAccountName"] {
            assert_eq!(pod[field], Value::Null, "{field}");
        }
        let mut users = Vec::new();
        for container in containers(&job) {
            let security = &container["securityContext"];
            assert_eq!(security["allowPrivilegeEscalation"], json!(false));
            assert_eq!(security["readOnlyRootFilesystem"], json!(true));
            assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
            assert_eq!(container["terminationMessagePolicy"], json!("File"));
            users.push(security["runAsUser"].as_i64().unwrap());
            for part in ["requests", "limits"] {
                let names: Vec<_> = container["resources"][part].as_object().unwrap().keys().collect();
                assert_eq!(names, ["cpu", "ephemeral-storage", "memory"]);
            }
        }
        assert_eq!(users, [10_001, 10_002, 10_003]);
    }
}

#[test]
fn the_plan_arrives_as_it_was_made() {
    let job = build(&full());
    for container in containers(&job) {
        let value = container["env"]
            .as_array()
            .unwrap()
            .iter()
            .find(|variable| variable["name"] == json!(PLAN_VARIABLE))
            .unwrap();
        let text = value["value"].as_str().unwrap();
        assert!(!text.contains('$'), "Kubernetes would expand it");
        let plan: BuildPlan = serde_json::from_str(text).unwrap();
        assert_eq!(plan.image.labels["price"], "$(HOME) $$5");
        for name in ["push", "pull", "base-registry"] {
            assert!(
                !text.contains(&format!("\"{name}\"")),
                "names of Secrets are nobody's business in the pod"
            );
        }
    }
    assert_eq!(containers(&job).len(), Step::ALL.len());
}
