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
    assert_eq!(told.unknown.len(), 1, "{:?}", told.unknown);
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
    assert!(
        told.unknown.len() == 1 && told.unknown[0].contains("registries were asked last"),
        "{:?}",
        told.unknown
    );
}

/// What comes, with the time at which, or until which.
fn comes(facts: &Facts) -> Vec<(String, Option<String>, Option<String>)> {
    let time = |time: Option<Timestamp>| time.map(|time| time.to_string()["2026-03-".len()..].to_owned());
    let next = explain(facts).next;
    next.into_iter()
        .map(|coming| (coming.what, time(coming.at), time(coming.by)))
        .collect()
}

#[test]
fn every_look_to_come_is_told_with_its_latest_time() {
    let digest = |digit: &str| format!("sha256:{}", digit.repeat(64));
    let image = json!({"ref": "r", "digest": digest("1"), "short": "1", "size": 1, "uploaded": 1, "requestKey": "a-b-c", "buildKey": "k",
        "publishedAt": "2026-03-01T11:00:00Z"});
    let mut status = json!({
        "conditions": [condition("Ready", "True", "UpToDate")], "latestBuild": build("Succeeded"), "latestImage": image,
        "environment": {"key": "e"}, "inputs": {"base": "b", "rcc": "r", "compatibility": 1},
    });
    let spec = json!({
        "interval": "10m", "environment": {"refresh": "0 3 * * 1"},
        "image": {"repository": "registry.example.com/a", "base": {"image": "base:1"}, "rcc": {"image": "rcc:1"}},
    });
    let at = |text: &str| Some(text.to_owned());
    let every = |what: &str, interval: &str| format!("{what} every {interval} (10 % more or less).");
    let still = "The operator looks whether the published image is still there";
    let refresh = (
        "The environment is solved anew (environment.refresh), within a minute.".to_owned(),
        at("02T03:00:00Z"),
        None,
    );
    let looks = |status: &Value| {
        let mut all = comes(&facts(status, &spec, true));
        // What the operator would do with another platform is told elsewhere.
        all.retain(|(what, _, _)| !what.starts_with("The operator starts") && !what.starts_with("The operator notes"));
        all
    };
    assert_eq!(
        looks(&status),
        [
            (every("The operator asks the git server", "10m"), None, at("01T12:11:00Z")),
            (every("The operator asks for the base base:1", "10m"), None, at("01T12:11:00Z")),
            (every("The operator asks for the rcc rcc:1", "10m"), None, at("01T12:11:00Z")),
            (every(still, "1h"), None, at("01T13:06:00Z")),
            refresh.clone(),
        ]
    );
    status["inputs"]["unchecked"] = json!(["base", "image"]);
    let hidden = looks(&status);
    assert_eq!(hidden.len(), 5);
    assert_eq!(hidden[2], refresh);
    let told: Vec<_> = hidden[3..]
        .iter()
        .map(|(what, at, by)| (what.split(':').next().unwrap(), at.is_none() && by.is_none()))
        .collect();
    assert_eq!(
        told,
        [
            ("Only a build sees whether there is a newer base than before behind base", true),
            ("Nobody looks whether the published image is still there", true),
        ]
    );
    // Nothing is solved anew where there is no environment.
    status["environment"] = json!(null);
    assert_eq!(looks(&status).len(), 4);
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
