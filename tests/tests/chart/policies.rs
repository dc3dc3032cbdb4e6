//! NetworkPolicies, ServiceMonitor and dashboard: what they select is there, and what they name exists.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{FULL, LEAST, objects, of_kind, refused, template};

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn policies_select_our_pods_and_keep_what_the_platform_denies() {
    let objects = objects(&template(&FULL));
    let policies = of_kind(&objects, "NetworkPolicy");
    let labels = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["metadata"]["labels"];
    let (builds, own): (Vec<&Value>, Vec<&Value>) = policies
        .into_iter()
        .partition(|policy| policy["metadata"]["name"] == "robots-builds");
    for (name, value) in own[0]["spec"]["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[name], value);
    }
    let namespaces: BTreeSet<&str> = builds
        .iter()
        .filter_map(|policy| policy["metadata"]["namespace"].as_str())
        .collect();
    assert_eq!(namespaces, ["finance", "lab"].into());
    // As the operator labels them: operator/src/apply/snapshots.
    let selected = json!({"app.kubernetes.io/name": "robotimage-build", "app.kubernetes.io/managed-by": "robotimage-operator"});
    for policy in &builds {
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"], selected);
        assert_eq!(policy["spec"]["ingress"], json!([]));
        let except = |family: usize| policy["spec"]["egress"][1]["to"][family]["ipBlock"]["except"].clone();
        let four = [
            "169.254.0.0/16",
            "100.100.100.200/32",
            "10.42.0.0/16",
            "10.43.0.0/16",
            "192.0.2.10/32",
        ];
        assert_eq!(except(0), json!(four));
        assert_eq!(except(1), json!(["fe80::/10", "fd00:ec2::254/128"]));
    }
    let everywhere = refused(&[&LEAST[..], &["--set", "networkPolicy.builds.enabled=true"]].concat());
    assert!(everywhere.contains("networkPolicy.builds.namespaces is required"), "{everywhere}");
}

#[test]
fn the_agent_that_enforces_the_policies_in_a_test_is_named_with_its_version() {
    let read = |path: &str| std::fs::read_to_string(crate::root().join(path)).unwrap();
    let module = read("tests/parts/kuberouter/go.mod");
    let version = module
        .lines()
        .find_map(|line| line.split("=> github.com/k3s-io/kube-router/v2 v").nth(1));
    let name = format!("kube-router {}", version.unwrap());
    for path in ["charts/robotimage/values.yaml", "docs/install.md"] {
        assert!(read(path).contains(&name), "{path} does not say {name}");
    }
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn a_monitor_finds_the_service_and_the_dashboard_shows_metrics_that_are_there() {
    let objects = objects(&template(&FULL));
    let (monitor, service) = (of_kind(&objects, "ServiceMonitor")[0], of_kind(&objects, "Service")[0]);
    for (name, value) in monitor["spec"]["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&service["metadata"]["labels"][name], value);
    }
    assert_eq!(monitor["spec"]["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);

    let dashboard = of_kind(&objects, "ConfigMap")
        .into_iter()
        .find_map(|map| map["data"]["robotimage.json"].as_str())
        .unwrap();
    let dashboard: Value = serde_json::from_str(dashboard).unwrap();
    let source = std::fs::read_to_string(crate::root().join("operator/src/metrics/families.rs")).unwrap();
    let mut shown = BTreeSet::new();
    for target in dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
    {
        let query = target["expr"].as_str().unwrap();
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("robotimage_")) {
            let name = word.trim_end_matches("_bucket");
            assert!(source.contains(&format!("\"{name}\"")), "{name} of the dashboard is no metric");
            shown.insert(name.to_owned());
        }
    }
    assert!(shown.len() > 8, "{shown:?}");
}
