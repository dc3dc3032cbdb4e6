//! The alerts: that promtool takes them, that each fires for what it is for and is silent otherwise, that each has a page to read.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use robotimage_crds::reason::{Owner, Reason};
use serde_json::{Value, json};

use crate::{LEAST, objects, of_kind, root, template};

const RULES: [&str; 4] = ["--set", "metrics.prometheusRule.enabled=true", "--set", "crds.install=false"];

/// The spec of the PrometheusRule, which is what a file of rules holds.
fn rules() -> Value {
    let objects = objects(&template(&[&LEAST[..], &RULES].concat()));
    of_kind(&objects, "PrometheusRule")[0]["spec"].clone()
}

fn alerts(rules: &Value) -> Vec<&Value> {
    rules["groups"][0]["rules"].as_array().unwrap().iter().collect()
}

fn promtool(arguments: &[&str]) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .output()
        .expect("promtool, of Debian's package prometheus");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let rules = rules();
    let named: BTreeSet<String> = alerts(&rules)
        .iter()
        .map(|alert| {
            let name = alert["alert"].as_str().unwrap().to_owned();
            assert!(
                alert["annotations"]["runbook_url"]
                    .as_str()
                    .unwrap()
                    .ends_with(&format!("/docs/runbooks/{name}.md"))
            );
            assert!(["critical", "warning"].contains(&alert["labels"]["severity"].as_str().unwrap()));
            name
        })
        .collect();
    let pages = fs::read_dir(root().join("docs/runbooks")).unwrap();
    let pages: BTreeSet<String> = pages
        .map(|page| page.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(named, pages);
}

#[test]
#[ignore = "needs Helm, which the test bed builds"]
fn the_reasons_in_the_alerts_are_those_of_their_owner() {
    let rules = rules();
    for (name, owner) in [
        ("RobotImagePlatformFailures", Owner::Platform),
        ("RobotImageInfrastructureFailures", Owner::Infrastructure),
    ] {
        let rules = alerts(&rules);
        let alert = rules.iter().find(|alert| alert["alert"] == name).unwrap();
        let expression = alert["expr"].as_str().unwrap();
        let listed = expression
            .split("reason=~\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap();
        let listed: BTreeSet<&str> = listed.split('|').collect();
        let owned: BTreeSet<&str> = Reason::ALL
            .iter()
            .filter(|reason| reason.owner() == owner)
            .map(|reason| reason.as_str())
            .collect();
        assert_eq!(listed, owned, "{name}");
    }
}

/// The alert that fires (empty: none), samples for it (45 minutes, one a minute), and labels that it gets.
type Case = (&'static str, Vec<(String, &'static str)>, Value);

fn cases() -> Vec<Case> {
    let of = |metric: &str, labels: &str| format!("{metric}{{job=\"robotimage-metrics\",namespace=\"robotimage-system\",{labels}}}");
    let leaders = || {
        vec![
            (of("robotimage_leader", "pod=\"a\""), "1x45"),
            (of("robotimage_leader", "pod=\"b\""), "0x45"),
        ]
    };
    let with = |more: Vec<(String, &'static str)>| leaders().into_iter().chain(more).collect::<Vec<_>>();
    let errors = |class: &str| of("robotimage_reconcile_errors_total", &format!("class=\"{class}\""));
    let failed = |reason: &str| {
        of(
            "robotimage_builds_total",
            &format!("result=\"failure\",reason=\"{reason}\",plan=\"\""),
        )
    };
    let good = of("robotimage_builds_total", "result=\"success\",reason=\"\",plan=\"Full\"");
    let polls = |result: &str| of("robotimage_source_polls_total", &format!("kind=\"git\",result=\"{result}\""));
    let reconciles = of("robotimage_reconcile_duration_seconds_count", "");
    vec![
        ("", leaders(), json!({})),
        (
            "RobotImageNoLeader",
            vec![
                (of("robotimage_leader", "pod=\"a\""), "0x45"),
                (of("robotimage_leader", "pod=\"b\""), "0x45"),
            ],
            json!({}),
        ),
        (
            "RobotImageReplicaDown",
            vec![(of("robotimage_leader", "pod=\"a\""), "1x45")],
            json!({}),
        ),
        (
            "RobotImagePanic",
            with(vec![(errors("panic"), "0x40 1x5"), (reconciles.clone(), "0+100x45")]),
            json!({}),
        ),
        (
            "RobotImageReconcileErrors",
            with(vec![(errors("write"), "0+2x45"), (reconciles.clone(), "0+20x45")]),
            json!({"class": "write"}),
        ),
        // One in a hundred is no alert.
        ("", with(vec![(errors("write"), "0+2x45"), (reconciles, "0+200x45")]), json!({})),
        (
            "RobotImagePlatformFailures",
            with(vec![(failed("Unschedulable"), "0x40 1x5")]),
            json!({"reason": "Unschedulable"}),
        ),
        // What a user can mend is the user's.
        ("", with(vec![(failed("RobotYamlInvalid"), "0+9x45")]), json!({})),
        (
            "RobotImageInfrastructureFailures",
            with(vec![(failed("RegistryUnavailable"), "0+1x45"), (good.clone(), "0+2x45")]),
            json!({"reason": "RegistryUnavailable"}),
        ),
        (
            "",
            with(vec![(failed("RegistryUnavailable"), "0+1x45"), (good, "0+9x45")]),
            json!({}),
        ),
        (
            "RobotImageBuildsNotStarting",
            with(vec![
                (of("robotimage_builds", "state=\"Pending\""), "2x45"),
                (of("robotimage_queue_seconds_count", ""), "7x45"),
            ]),
            json!({}),
        ),
        (
            "",
            with(vec![
                (of("robotimage_builds", "state=\"Pending\""), "2x45"),
                (of("robotimage_queue_seconds_count", ""), "0+1x45"),
            ]),
            json!({}),
        ),
        (
            "RobotImageSourcesUnreachable",
            with(vec![(polls("SourceUnreachable"), "0+3x45"), (polls("Resolved"), "0+2x45")]),
            json!({}),
        ),
        (
            "",
            with(vec![(polls("SourceNotFound"), "0+3x45"), (polls("Resolved"), "0+2x45")]),
            json!({}),
        ),
    ]
}

#[test]
#[ignore = "needs Helm, which the test bed builds, and promtool"]
fn each_alert_fires_for_what_it_is_for_alone() {
    let (rules, folder) = (
        rules(),
        std::env::temp_dir().join(format!("robotimage-alerts-{}", std::process::id())),
    );
    fs::create_dir_all(&folder).unwrap();
    let (rule_file, test_file) = (folder.join("rules.yaml"), folder.join("tests.yaml"));
    fs::write(&rule_file, rules.to_string()).unwrap();
    promtool(&["check", "rules", rule_file.to_str().unwrap()]);

    let cases = cases();
    let alerts = alerts(&rules);
    let tests: Vec<Value> = cases
        .iter()
        .map(|(fires, series, labels)| {
            let expected = alerts.iter().map(|alert| {
                let name = alert["alert"].as_str().unwrap();
                let mut wanted = labels.clone();
                wanted["severity"] = alert["labels"]["severity"].clone();
                let summary = labels.as_object().unwrap().iter().fold(
                    alert["annotations"]["summary"].as_str().unwrap().to_owned(),
                    |text, (label, value)| text.replace(&format!("{{{{ $labels.{label} }}}}"), value.as_str().unwrap()),
                );
                let annotations = json!({"summary": summary, "runbook_url": alert["annotations"]["runbook_url"]});
                let found = if name == *fires {
                    json!([{"exp_labels": wanted, "exp_annotations": annotations}])
                } else {
                    json!([])
                };
                json!({"eval_time": "44m", "alertname": name, "exp_alerts": found})
            });
            let series = series.iter().map(|(series, values)| json!({"series": series, "values": values}));
            json!({"interval": "1m", "input_series": series.collect::<Vec<_>>(), "alert_rule_test": expected.collect::<Vec<_>>()})
        })
        .collect();
    fs::write(
        &test_file,
        json!({"rule_files": ["rules.yaml"], "evaluation_interval": "1m", "tests": tests}).to_string(),
    )
    .unwrap();
    promtool(&["test", "rules", test_file.to_str().unwrap()]);
    fs::remove_dir_all(&folder).unwrap();

    let tried: BTreeSet<&str> = cases.iter().map(|(fires, ..)| *fires).filter(|fires| !fires.is_empty()).collect();
    let all: BTreeSet<&str> = alerts.iter().filter_map(|alert| alert["alert"].as_str()).collect();
    assert_eq!(tried, all);
}
