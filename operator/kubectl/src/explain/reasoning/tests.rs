//! Explanations of the rows of the table, with the operator's configuration known and not.

use robotimage_operator::observe::{Checks, SourceKnowledge, Turn};
use serde_json::{Value, json};

use super::*;
use crate::resource::tests::changed;

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn platform() -> Platform {
    let text = include_str!("../../../../example-config.yaml");
    let config = Platform::parse(text).unwrap();
    let bundle = config.ca_bundle.clone().unwrap_or_default();
    Platform::new(config, bundle, None).unwrap()
}

fn facts(status: &Value, spec: &Value, known: bool) -> Facts {
    let mut status = status.clone();
    status["observedGeneration"] = json!(3);
    let resource = changed(&status, spec);
    let observed = Observed {
        image: resource.image.clone(),
        jobs: Vec::new(),
        pods: Vec::new(),
        source: SourceKnowledge {
            seen_at: now(),
            seen_chance: 0.5,
            answer: None,
            asking: false,
        },
        checks: Checks::default(),
        announced: None,
        turn: Turn::Now,
        refusal: None,
    };
    Facts {
        resource,
        observed: Ok(observed),
        platform: if known {
            Ok(platform())
        } else {
            Err("this user may not list configmaps in namespace robotimage-system".to_owned())
        },
        now: now(),
    }
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": "told", "lastTransitionTime": "2026-03-01T11:55:00Z"})
}

fn build(phase: &str) -> Value {
    json!({"number": 7, "attempt": 1, "buildId": "8000", "job": "j", "requestKey": "a-b-c", "generation": 3, "phase": phase, "plan": "CodeOnly",
        "reasons": [{"type": "SourceChanged", "from": "main@1111111", "to": "main@2222222"}], "duration": "10s",
        "startedAt": "2026-03-01T11:50:00Z"})
}

#[test]
fn one_that_is_up_to_date() {
    let status = json!({
        "conditions": [condition("Ready", "True", "UpToDate")], "latestBuild": build("Succeeded"),
        "source": {"revision": format!("main@sha1:{}", "2".repeat(40)), "short": "main@2222222"},
    });
    let told = explain(&facts(&status, &json!({}), false));
    assert_eq!(
        told.last,
        [
            "Build 7 was made because of: SourceChanged main@1111111 → main@2222222.",
            "It succeeded after 10s. The code was packed, the environment taken over (CodeOnly)."
        ]
    );
    assert_eq!(
        told.now,
        ["No build is needed: the image is that of main@2222222 and of the present spec."]
    );
    assert_eq!(told.next.len(), 1);
    assert!(told.next[0].what.contains("every 5m") && told.next[0].at.is_none());
    assert_eq!(told.helps, Vec::<String>::new());
    assert_eq!(told.unknown.len(), 2, "{:?}", told.unknown);
}

#[test]
fn one_that_failed_for_good() {
    let status = json!({
        "conditions": [condition("Ready", "False", "PackageNotFound"), condition("Stalled", "True", "PackageNotFound")],
        "latestBuild": build("Failed"),
        "lastFailure": {"reason": "PackageNotFound", "owner": "User", "retryable": false, "message": "no requests 99; choose another", "attempts": 1},
    });
    let told = explain(&facts(&status, &json!({}), false));
    assert_eq!(
        told.now,
        ["No build runs: PackageNotFound (no requests 99), and the same again would fail again."]
    );
    assert_eq!(
        told.helps[0],
        "For this failure: Choose another. Nothing is tried before something changes."
    );
    assert!(told.helps.last().is_some_and(|line| line.ends_with("build invoice-reader.")));
}

#[test]
fn retries_and_looks_have_their_times() {
    let status = json!({
        "conditions": [condition("Ready", "False", "OutOfMemory"), condition("Reconciling", "True", "ProgressingWithRetry")],
        "latestBuild": build("Failed"),
        "lastFailure": {"reason": "OutOfMemory", "owner": "Infrastructure", "retryable": true, "message": "m", "attempts": 1,
            "nextRetryAt": "2026-03-01T12:00:20Z"},
    });
    let private = json!({"source": {"git": {"url": "https://git.example.com/a.git", "secretRef": {"name": "git"}}}});
    let told = explain(&facts(&status, &private, true));
    let retry = told
        .next
        .iter()
        .find(|coming| coming.what.starts_with("The same is tried again"))
        .unwrap();
    assert_eq!(retry.at, Some("2026-03-01T12:00:20Z".parse().unwrap()));
    let look = told.next.iter().find(|coming| coming.what.contains("every 15m")).unwrap();
    assert_eq!(look.at, Some("2026-03-01T12:05:00Z".parse().unwrap()), "the middle of its jitter");
    assert!(told.unknown.is_empty(), "{:?}", told.unknown);
}

#[test]
fn the_operator_itself_says_what_it_would_do() {
    // The platform's configuration is another than that of the image, and the commit is known.
    let commit = "2".repeat(40);
    let spec = json!({"source": {"git": {"url": "https://git.example.com/a.git", "ref": {"commit": commit}}}});
    let status = json!({"conditions": [condition("Ready", "True", "UpToDate")], "latestBuild": build("Succeeded")});
    let told = explain(&facts(&status, &spec, true));
    assert!(
        told.next
            .iter()
            .any(|coming| coming.what.starts_with("The operator starts build 8, attempt 1: Initial")),
        "{:?}",
        told.next
    );
    assert!(told.next.iter().any(|coming| coming.what.contains("never polled")));
}

#[test]
fn wishes_that_were_not_acted_on_are_told() {
    let status = json!({"conditions": [condition("Ready", "True", "UpToDate")], "lastHandled": {"forceAt": "1"}});
    let mut facts = facts(&status, &json!({"suspend": true}), false);
    let wish = |value: &str| Some([(annotation::FORCE_AT.to_owned(), value.to_owned())].into());
    facts.resource.image.metadata.annotations = wish("1");
    assert_eq!(explain(&facts).now.len(), 2, "only that it is suspended");
    facts.resource.image.metadata.annotations = wish("2");
    let told = explain(&facts);
    assert!(told.now[2].starts_with("Somebody asked for a build"), "{:?}", told.now);
    assert!(told.next.is_empty());
}
