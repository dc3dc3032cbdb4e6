//! The chart through real Helm: what it renders, what it refuses, and that the operator understands its configuration.
//!
//! Golden files lie beside it in `chart/`; `make golden` rewrites them. `HELM` names another Helm than the test bed's.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

#[path = "chart/alerts.rs"]
mod alerts;
#[path = "chart/policies.rs"]
mod policies;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use robotimage_operator::config::{Platform, PollingMode};
use robotimage_tests::{Cache, parts};
use serde_json::Value;

/// What the chart is rendered for; Helm from source does not know a version of its own.
const KUBERNETES: [&str; 2] = ["--kube-version", parts::KUBERNETES];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn helm(arguments: &[&str]) -> Output {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    let program = HELM.get_or_init(|| match std::env::var_os("HELM").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => parts::helm(&Cache::open().unwrap()).unwrap(),
    });
    let mut command = Command::new(program);
    command.args(arguments).args(KUBERNETES).current_dir(root().join("charts"));
    command.output().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// All objects that the chart makes with these values.
fn template(arguments: &[&str]) -> String {
    let common = ["template", "robotimage", "robotimage", "--namespace", "robotimage-system"];
    let output = helm(&[&common, arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn objects(text: &str) -> Vec<Value> {
    text.split("\n---\n")
        .map(|document| serde_saphyr::from_str::<Value>(document.trim_start_matches("---\n")).unwrap())
        .filter(Value::is_object)
        .collect()
}

/// Every value with its path: two documents that differ then differ in lines that a person can read.
fn leaves(value: &Value) -> BTreeSet<String> {
    fn walk(value: &Value, path: &str, into: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                fields.iter().for_each(|(name, child)| walk(child, &format!("{path}.{name}"), into));
            }
            Value::Array(items) if !items.is_empty() => items
                .iter()
                .enumerate()
                .for_each(|(at, child)| walk(child, &format!("{path}[{at}]"), into)),
            // Helm writes 10.0 as 10.
            Value::Number(number) => drop(into.insert(format!("{path} = {:?}", number.as_f64()))),
            plain => drop(into.insert(format!("{path} = {plain}"))),
        }
    }
    let mut into = BTreeSet::new();
    walk(value, "", &mut into);
    into
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

fn refused(arguments: &[&str]) -> String {
    let output = helm(&[&["template", "robotimage", "robotimage"], arguments].concat());
    assert!(!output.status.success(), "{arguments:?} should have been refused");
    String::from_utf8(output.stderr).unwrap()
}

const LEAST: [&str; 2] = ["--values", "robotimage/ci/least.yaml"];
const FULL: [&str; 2] = ["--values", "robotimage/ci/full.yaml"];

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn lint_is_content() {
    for values in [LEAST, FULL] {
        let output = helm(&[&["lint", "--strict", "robotimage"], &values[..]].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn it_renders_what_the_golden_files_say() {
    for (name, values) in [("least", LEAST), ("full", FULL)] {
        // The CRD is compared with crds/robotimages.yaml instead: twice the same thousand lines help nobody.
        let text = template(&[&values[..], &["--set", "crds.install=false"]].concat());
        let path = root().join(format!("tests/tests/chart/{name}.yaml"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            golden == text,
            "{} is old: run `make golden` and look at the difference",
            path.display()
        );
    }
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn the_definition_is_ours_and_outlives_the_release() {
    let objects = objects(&template(&LEAST));
    let found = of_kind(&objects, "CustomResourceDefinition");
    let ours = std::fs::read_to_string(root().join("crds/robotimages.yaml")).unwrap();
    let ours: Value = serde_saphyr::from_str(&ours).unwrap();
    assert_eq!(found.len(), 1);
    let (found_leaves, our_leaves) = (leaves(&found[0]["spec"]), leaves(&ours["spec"]));
    let different: Vec<_> = found_leaves.symmetric_difference(&our_leaves).collect();
    assert!(different.is_empty(), "{different:#?}");
    assert_eq!(found[0]["metadata"]["name"], ours["metadata"]["name"]);
    assert_eq!(found[0]["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn what_cannot_be_guessed_is_asked_for_and_what_is_wrong_is_named() {
    let least = |change: &str| refused(&[&LEAST[..], &["--set", change]].concat());
    for (change, named) in [
        ("operator.image=", "operator.image is required"),
        ("builder.image=", "builder.image is required"),
        ("base.image=", "base.image is required"),
        ("rcc.image=", "rcc.image or rcc.http is required"),
        ("rcc.http.url=https://downloads.example.com/rcc", "keep one"),
        (
            "rcc.image=,rcc.http.url=https://downloads.example.com/rcc",
            "rcc.http.sha256 is required",
        ),
        ("builds.timeout=soon", "/builds/timeout"),
        ("builds.resources.limits.gpu=1", "gpu"),
        ("surprise=1", "surprise"),
        ("sourcePolling.mode=Sometimes", "/sourcePolling/mode"),
        ("base.image=a b", "/base/image"),
        ("leaderElection.enabled=false", "set operator.replicas to 1"),
    ] {
        let message = least(change);
        assert!(message.contains(named), "{change}: {message}");
    }
}

/// The configuration file out of the rendered ConfigMap.
fn configuration(values: &[&str]) -> String {
    let objects = objects(&template(values));
    let maps = of_kind(&objects, "ConfigMap");
    let files: Vec<&str> = maps.iter().filter_map(|map| map["data"]["operator.yaml"].as_str()).collect();
    assert_eq!(files.len(), 1);
    files[0].to_owned()
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn the_operator_understands_its_configuration_and_the_defaults_are_its_own() {
    let load = |text: &str| {
        let config = Platform::parse(text).unwrap();
        Platform::new(config, String::new(), None).unwrap().config
    };
    let rendered = load(&configuration(&LEAST));
    let mut own = load(
        "builderImage: registry.example.com/robotimage/builder:0.1.0\n\
         base: {image: 'registry.example.com/base/debian:bookworm-slim'}\n\
         rcc: {image: 'registry.example.com/tools/rcc:19.0.2'}\n",
    );
    // The chart writes the operator's built-in resources out, so that a person sees them.
    own.resources = rendered.resources.clone();
    // Without a chart nothing says that there is a Lease to write, and where.
    own.leader_election.enabled = true;
    own.leader_election.namespace = "robotimage-system".to_owned();
    assert_eq!(rendered, own);

    let full = load(&configuration(&FULL));
    assert_eq!(full.source_polling.mode, PollingMode::Operator);
    assert_eq!(full.resources.limits["cpu"], "1", "a number in the values is a text in the file");
    // A value that reached no field would leave that field at its default.
    let (full, own) = (serde_json::to_value(&full).unwrap(), serde_json::to_value(&own).unwrap());
    let same: BTreeSet<&str> = full
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, value)| own.get(*name) == Some(*value))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(same.is_empty(), "{same:?} are at their defaults although ci/full.yaml changes all");
}

/// All rules that the operator's service account gets, as `namespace group/resource verb`.
fn grants(objects: &[Value]) -> BTreeSet<String> {
    let texts = |list: &Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut grants = BTreeSet::new();
    for binding in objects
        .iter()
        .filter(|object| object["kind"].as_str().is_some_and(|kind| kind.ends_with("Binding")))
    {
        let namespace = binding["metadata"]["namespace"].as_str().unwrap_or("*");
        let role = objects
            .iter()
            .find(|object| {
                object["kind"] == binding["roleRef"]["kind"]
                    && object["metadata"]["name"] == binding["roleRef"]["name"]
                    && object["metadata"]["namespace"] == binding["metadata"]["namespace"]
            })
            .expect("a binding binds a role of the chart");
        for rule in role["rules"].as_array().unwrap() {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    grants.insert(format!("{namespace} {}/{resource} {verb}", texts(&rule["apiGroups"])[0]));
                }
            }
        }
    }
    grants
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn secrets_are_read_only_where_the_platform_says_so() {
    let secrets = |values: &[&str]| -> Vec<String> {
        let objects = objects(&template(values));
        grants(&objects).into_iter().filter(|grant| grant.contains("secrets")).collect()
    };
    assert!(secrets(&LEAST).is_empty());
    assert_eq!(secrets(&FULL), ["finance /secrets get", "logistics /secrets get"]);
    let other_mode = [&FULL[..], &["--set", "sourcePolling.mode=Pod"]].concat();
    assert!(secrets(&other_mode).is_empty());
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn watching_some_namespaces_needs_no_cluster_role() {
    let objects = objects(&template(&FULL));
    assert!(of_kind(&objects, "ClusterRole").is_empty() && of_kind(&objects, "ClusterRoleBinding").is_empty());
    let namespaces: BTreeSet<String> = grants(&objects)
        .iter()
        .filter(|grant| grant.ends_with("batch/jobs create"))
        .map(|grant| grant.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(namespaces, ["finance", "lab", "logistics"].map(str::to_owned).into());
    let wildcard = grants(&objects)
        .into_iter()
        .find(|grant| grant.split([' ', '/']).skip(1).any(|word| word == "*"));
    assert_eq!(wildcard, None);
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn one_replica_needs_no_lease_and_several_share_one() {
    let alone = [&LEAST[..], &["--set", "leaderElection.enabled=false,operator.replicas=1"]].concat();
    let alone = objects(&template(&alone));
    let of_leases = |objects: &[Value]| -> Vec<String> {
        let grants = grants(objects);
        grants.into_iter().filter(|grant| grant.contains("leases")).collect()
    };
    assert!(of_leases(&alone).is_empty() && of_kind(&alone, "PodDisruptionBudget").is_empty());
    assert_eq!(of_kind(&alone, "Deployment")[0]["spec"]["strategy"]["type"], "Recreate");

    let several = objects(&template(&LEAST));
    let verbs = ["create", "get", "update", "watch"].map(|verb| format!("robotimage-system coordination.k8s.io/leases {verb}"));
    assert_eq!(of_leases(&several), verbs);
    let deployment = &of_kind(&several, "Deployment")[0]["spec"];
    assert_eq!(deployment["replicas"], 2);
    let selector = &deployment["selector"];
    assert_eq!(&of_kind(&several, "PodDisruptionBudget")[0]["spec"]["selector"], selector);
    assert_eq!(
        &deployment["template"]["spec"]["topologySpreadConstraints"][0]["labelSelector"],
        selector
    );
}

#[test]
fn every_value_of_the_schema_is_described_and_nothing_else_is_taken() {
    fn walk(schema: &Value, path: &str, bad: &mut Vec<String>) {
        let Some(properties) = schema["properties"].as_object() else {
            return;
        };
        if schema["additionalProperties"] != Value::Bool(false) {
            bad.push(format!("{path} takes unknown values"));
        }
        for (name, child) in properties {
            let path = format!("{path}.{name}");
            if child["description"].as_str().is_none_or(str::is_empty) {
                bad.push(format!("{path} is not described"));
            }
            walk(child, &path, bad);
        }
    }
    let schema = std::fs::read_to_string(root().join("charts/robotimage/values.schema.json")).unwrap();
    let mut bad = Vec::new();
    walk(&serde_json::from_str(&schema).unwrap(), "", &mut bad);
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}
