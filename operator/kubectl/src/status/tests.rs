//! Golden: what people and machines read. `cargo insta review` shows a difference.

use serde_json::{Value, json};

use super::*;
use crate::resource::tests::{changed, resource};

fn now() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "observedGeneration": 3, "lastTransitionTime": "2026-03-01T11:55:00Z"})
}

fn ready() -> Value {
    let digest = format!("sha256:{}", "4be1".repeat(16));
    json!({
        "observedGeneration": 3,
        "summary": "Ready",
        "conditions": [
            condition("Ready", "True", "UpToDate", "registry.example.com/robots/invoice-reader@sha256:4be1"),
            condition("Available", "True", "ImagePublished", "registry.example.com/robots/invoice-reader@sha256:4be1"),
            condition("SourceReady", "True", "Resolved", "main@2222222"),
        ],
        "source": {"revision": format!("main@sha1:{}", "2".repeat(40)), "short": "main@2222222", "author": "Ada", "message": "Say the version"},
        "environment": {"key": "a".repeat(64), "packages": 143},
        "inputs": {"base": "registry.example.com/base/debian@sha256:dddd", "rcc": "v19.0.2@sha256:cccc", "compatibility": 1},
        "latestImage": {
            "ref": format!("registry.example.com/robots/invoice-reader@{digest}"), "digest": digest, "short": "4be14be14be1",
            "tags": ["222222222222"], "size": 98_765_432, "uploaded": 4321,
            "layers": [
                {"role": "base", "count": 1, "size": 30_000_000, "uploaded": 0},
                {"role": "environment", "count": 2, "size": 68_000_000, "uploaded": 0},
                {"role": "code", "count": 1, "size": 4321, "uploaded": 4321},
            ],
            "platforms": ["linux/amd64"], "requestKey": "k", "buildKey": "b", "publishedAt": "2026-03-01T11:55:00Z",
        },
        "latestBuild": {
            "number": 2, "attempt": 1, "buildId": "0", "job": "invoice-reader-0b6f2f62-2-1", "requestKey": "k", "generation": 3,
            "phase": "Succeeded", "plan": "CodeOnly", "reasons": [{"type": "SourceChanged", "from": "main@1111111", "to": "main@2222222"}],
            "steps": [
                {"name": "fetch", "startedAt": "2026-03-01T11:54:53Z", "duration": "2s"},
                {"name": "resolve", "startedAt": "2026-03-01T11:54:55Z", "duration": "1s", "cache": "hit"},
                {"name": "publish", "startedAt": "2026-03-01T11:54:56Z", "duration": "3s"},
            ],
            "startedAt": "2026-03-01T11:54:50Z", "duration": "10s", "revision": format!("main@sha1:{}", "2".repeat(40)),
        },
        "history": [
            {"number": 2, "digest": "4be14be14be1", "revision": "main@2222222", "reasons": ["SourceChanged"], "outcome": "Succeeded",
                "startedAt": "2026-03-01T11:54:50Z", "duration": "10s"},
            {"number": 1, "digest": "9999aaaa9999", "revision": "main@1111111", "reasons": ["Initial"], "outcome": "Succeeded",
                "startedAt": "2026-02-27T08:00:00Z", "duration": "2m5s"},
        ],
        "buildCounter": 2,
    })
}

fn failed() -> Value {
    json!({
        "observedGeneration": 3,
        "summary": "Failed: PackageNotFound",
        "conditions": [
            condition("Ready", "False", "PackageNotFound", "pip finds no version 99 of requests"),
            condition("Available", "False", "NeverBuilt", "no image has been published yet"),
            condition("Stalled", "True", "PackageNotFound", "pip finds no version 99 of requests"),
        ],
        "latestBuild": {
            "number": 1, "attempt": 1, "buildId": "0", "job": "invoice-reader-0b6f2f62-1-1", "requestKey": "k", "generation": 3,
            "phase": "Failed", "reasons": [{"type": "Initial"}], "startedAt": "2026-03-01T11:54:50Z", "duration": "1m10s",
        },
        "lastFailure": {
            "reason": "PackageNotFound", "owner": "User", "retryable": false, "requestKey": "k", "attempts": 1, "generation": 3,
            "message": "pip finds no version 99 of requests; choose a version that the index has",
            "logTail": "Collecting requests==99\n\u{1b}[31mERROR: No matching distribution found for requests==99\u{1b}[0m\n",
        },
        "history": [{"number": 1, "reasons": ["Initial"], "outcome": "PackageNotFound", "startedAt": "2026-03-01T11:54:50Z", "duration": "1m10s"}],
        "buildCounter": 1,
    })
}

fn listed() -> Vec<Listed> {
    let known = |resource: Resource| Listed::Known(Box::new(resource));
    vec![
        known(resource(&ready())),
        known(resource(&failed())),
        known(changed(&ready(), &json!({"suspend": true}))),
        known(resource(&json!({"observedGeneration": -1}))),
        Listed::Unreadable {
            namespace: "finance".to_owned(),
            name: "from-the-future".to_owned(),
            problem: "unknown variant `brotli`".to_owned(),
        },
    ]
}

const PIPE: Screen = Screen {
    colour: false,
    width: None,
};

fn terminal(width: usize) -> Screen {
    Screen {
        colour: false,
        width: Some(width),
    }
}

/// Escape characters as `^`, so that a golden file can be read.
fn seen(text: &str) -> String {
    text.replace('\u{1b}', "^")
}

#[test]
fn the_table_of_all() {
    insta::assert_snapshot!("table_in_a_pipe", list(&listed(), true, now(), PIPE));
    insta::assert_snapshot!("table_at_80_columns", list(&listed(), false, now(), terminal(80)));
    insta::assert_snapshot!("table_at_40_columns", list(&listed(), true, now(), terminal(40)));
    let colourful = Screen { colour: true, width: None };
    insta::assert_snapshot!("table_in_colours", seen(&list(&listed(), false, now(), colourful)));
}

#[test]
fn one_in_detail() {
    insta::assert_snapshot!("detail_of_a_ready_one", detail(&resource(&ready()), now(), PIPE));
    insta::assert_snapshot!("detail_of_a_failed_one", detail(&resource(&failed()), now(), terminal(100)));
    insta::assert_snapshot!("detail_at_40_columns", detail(&resource(&failed()), now(), terminal(40)));
}

#[test]
fn machines_read_a_shape_that_stays() {
    let document = serde_json::to_string_pretty(&Document::new("Status", Report::of(&resource(&failed())))).unwrap();
    insta::assert_snapshot!("json_of_one", document);
    let all = serde_json::to_value(ReportList::of(&listed())).unwrap();
    assert_eq!(all["apiVersion"], "kubectl.robotimage.dev/v1");
    assert_eq!(all["kind"], "StatusList");
    assert_eq!(all["items"].as_array().map(Vec::len), Some(4));
    assert_eq!(all["unreadable"][0]["name"], "from-the-future");
    assert_eq!(all["items"][0]["image"]["ref"], ready()["latestImage"]["ref"]);
    assert_eq!(all["items"][2]["suspended"], true);
}

#[test]
fn nothing_is_wider_than_the_terminal_but_what_is_there_to_be_copied() {
    for width in [40, 60, 80, 132] {
        for line in list(&listed(), true, now(), terminal(width)).lines() {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
        for line in detail(&resource(&ready()), now(), terminal(width)).lines() {
            let whole_word = line.split_whitespace().count() == 1 || line.contains("sha");
            assert!(line.chars().count() <= width || whole_word, "{width}: {line}");
        }
    }
}

#[test]
fn a_thousand_long_names_are_listed_in_one_go() {
    let long = "n".repeat(63);
    let listed: Vec<Listed> = (0..1000)
        .map(|number| {
            let mut one = resource(&ready());
            one.image.metadata.name = Some(format!("{long}-{number}"));
            Listed::Known(Box::new(one))
        })
        .collect();
    let text = list(&listed, false, now(), terminal(40));
    assert_eq!(text.lines().count(), 1001);
    assert!(text.lines().all(|line| line.chars().count() <= 40));
    assert!(
        text.lines().nth(1000).unwrap().contains("-999"),
        "the ends of names tell them apart"
    );
}
