//! The judge finds what is wrong: each invariant is violated once, in a trace that is right otherwise.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use robotimage_crds::api::RobotImage;
use serde_json::{Value, json};

use super::judge::{Known, judge};
use super::trace::{Seen, Trace};
use crate::objects::merge;

const COMMIT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn digest(letter: &str) -> String {
    format!("sha256:{}", letter.repeat(64))
}

fn known() -> Known {
    Known::from([
        ((COMMIT.to_owned(), String::new()), digest("1")),
        ((COMMIT.to_owned(), "2".to_owned()), digest("2")),
    ])
}

/// A RobotImage that is Ready, changed by a merge patch.
fn image(change: &Value) -> RobotImage {
    let mut object = json!({
        "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage",
        "metadata": {"name": "robot", "namespace": "a", "generation": 1},
        "spec": {
            "source": {"git": {"url": "https://git.example.com/robot.git"}},
            "image": {"repository": "registry.example.com/robot"},
        },
        "status": {
            "observedGeneration": 1, "buildCounter": 1,
            "conditions": [{"type": "Ready", "status": "True", "reason": "UpToDate", "message": "", "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "source": {"revision": format!("main@sha1:{COMMIT}"), "short": "main@aaaaaaa"},
            "latestImage": {"ref": "r", "digest": digest("1"), "short": "1", "size": 1, "uploaded": 1, "requestKey": "k",
                "buildKey": "b", "publishedAt": "2026-01-01T00:00:00Z"},
            "latestBuild": {"number": 1, "attempt": 1, "buildId": "i", "job": "j", "requestKey": "k", "generation": 1,
                "phase": "Succeeded"},
            "history": [{"number": 1, "outcome": "Succeeded", "digest": "111111111111"}],
        },
    });
    merge(&mut object, change);
    serde_json::from_value(object).unwrap()
}

fn job(number: u32, attempt: u32) -> Seen<Job> {
    let object = json!({"metadata": {"name": format!("robot-{number}-{attempt}"), "labels": {
        "robotimage.dev/build": number.to_string(), "robotimage.dev/attempt": attempt.to_string()}},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]}});
    Seen {
        object: serde_json::from_value(object).unwrap(),
        gone: None,
    }
}

/// Seconds of a minute; a pod without an end was seen to be gone in second 30.
fn pod(name: &str, from: u32, to: Option<u32>) -> Seen<Pod> {
    let time = |second: u32| format!("2026-01-01T00:00:{second:02}Z");
    let state = match to {
        Some(to) => json!({"terminated": {"exitCode": 0, "startedAt": time(from), "finishedAt": time(to)}}),
        None => json!({"running": {"startedAt": time(from)}}),
    };
    let object = json!({"metadata": {"name": name}, "status": {"initContainerStatuses": [
        {"name": "fetch", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}});
    Seen {
        object: serde_json::from_value(object).unwrap(),
        gone: to.is_none().then(|| time(30).parse::<Timestamp>().unwrap()),
    }
}

fn right() -> Trace {
    let mut trace = Trace {
        images: vec![image(&json!({}))],
        tag: vec![digest("1")],
        ..Trace::default()
    };
    trace.jobs.insert("one".to_owned(), job(1, 1));
    trace.pods.insert("one".to_owned(), pod("one", 1, Some(5)));
    trace.pods.insert("two".to_owned(), pod("two", 5, Some(9)));
    trace
}

#[track_caller]
fn finds(trace: &Trace, what: &str) {
    let wrong = judge(trace, &known());
    assert!(wrong.len() == 1 && wrong[0].contains(what), "{wrong:?}");
}

#[test]
fn what_is_right_is_right() {
    assert_eq!(judge(&right(), &known()), Vec::<String>::new());
}

#[test]
fn a_generation_that_was_not_there_yet() {
    let mut trace = right();
    let ahead = json!({"status": {"observedGeneration": 2}});
    trace.images.insert(0, image(&ahead));
    finds(&trace, "ahead of generation");
}

#[test]
fn ready_for_what_was_not_built() {
    // The spec asks for round 2, and the image is of the round before.
    let mut trace = right();
    trace.images.push(image(&json!({"spec": {"image": {"labels": {"round": "2"}}}})));
    finds(&trace, "Ready for");
    let mut trace = right();
    trace.images.push(image(&json!({"status": {"latestImage": null}})));
    finds(&trace, "Ready for");
}

#[test]
fn an_image_that_stays_while_a_new_revision_is_looked_at() {
    let condition = |kind: &str, reason: &str| {
        json!({"type": kind, "status": "True", "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let looking = |reason: &str, letter: &str| {
        let mut trace = right();
        trace.images.push(image(&json!({"status": {
            "conditions": [condition("Ready", "UpToDate"), condition("Reconciling", reason)],
            "source": {"revision": format!("main@sha1:{}", "b".repeat(40))},
            "latestImage": {"digest": digest(letter)},
        }})));
        trace
    };
    assert_eq!(judge(&looking("CheckingSource", "1"), &known()), Vec::<String>::new());
    // Of another spec, and of nothing that is known.
    finds(&looking("CheckingSource", "2"), "Ready for");
    finds(&looking("CheckingSource", "3"), "Ready for");
    finds(&looking("Building", "1"), "Ready for");
}

#[test]
fn numbers_used_twice() {
    let mut trace = right();
    trace
        .images
        .push(image(&json!({"status": {"latestBuild": {"requestKey": "other"}}})));
    finds(&trace, "is of two requests");
    let mut trace = right();
    trace.jobs.insert("two".to_owned(), job(1, 1));
    finds(&trace, "two Jobs for build 1 attempt 1");
    let mut trace = right();
    trace.jobs.insert("two".to_owned(), job(2, 1));
    finds(&trace, "a Job has number 2");
    let mut trace = right();
    trace.images.insert(0, image(&json!({"status": {"buildCounter": 2}})));
    finds(&trace, "goes back from 2 to 1");
    let mut trace = right();
    let entry = json!({"number": 1, "outcome": "Succeeded", "digest": "111111111111"});
    trace.images.push(image(&json!({"status": {"history": [entry, entry]}})));
    finds(&trace, "twice in the history");
}

#[test]
fn two_at_the_same_time() {
    let mut trace = right();
    trace.pods.insert("three".to_owned(), pod("three", 8, Some(12)));
    finds(&trace, "three and two ran at the same time");
    let mut trace = right();
    trace.pods.insert("three".to_owned(), pod("three", 20, None));
    trace.pods.insert("four".to_owned(), pod("four", 29, Some(31)));
    finds(&trace, "four and three ran at the same time");
    let mut trace = right();
    for number in [2, 3] {
        let mut live = job(1, number);
        live.object.status = None;
        trace.jobs.insert(number.to_string(), live);
    }
    finds(&trace, "live at the same time");
    // The pod of one has ended, and its Job does not say so yet.
    let mut over = pod("five", 9, Some(10));
    over.object.metadata.labels = Some([("batch.kubernetes.io/job-name".to_owned(), "robot-1-2".to_owned())].into());
    over.object.status.as_mut().unwrap().phase = Some("Succeeded".to_owned());
    trace.pods.insert("five".to_owned(), over);
    assert_eq!(judge(&trace, &known()), Vec::<String>::new());
}

#[test]
fn a_tag_that_was_moved_by_others_than_builds_that_succeeded() {
    for (letter, what) in [("2", "no build that succeeded"), ("3", "no input makes")] {
        let mut trace = right();
        trace.tag.insert(0, digest(letter));
        finds(&trace, what);
    }
    let mut trace = right();
    trace.tag.extend([digest("1")]);
    finds(&trace, "went back");
    // A build that was given up, and whose Job ended before it was deleted.
    let mut trace = right();
    let superseded = json!([{"number": 1, "outcome": "Superseded", "revision": "main@aaaaaaa"}]);
    trace.images = vec![image(&json!({"status": {"history": superseded}}))];
    assert_eq!(judge(&trace, &known()), Vec::<String>::new());
}
