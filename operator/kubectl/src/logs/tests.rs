//! Why a build has not started, in a line.

use serde_json::{Value, json};

use super::*;
use crate::resource::tests::resource;

fn pod(status: &Value) -> PodView {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "invoice-1-1-x"},
        "spec": {"containers": [{"name": "publish", "image": "registry.example.com/robotimage/builder:1"}]},
        "status": status,
    });
    PodView::of(&serde_json::from_value(pod).unwrap())
}

fn waiting(reason: &str) -> Value {
    json!([{"name": "fetch", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"waiting": {"reason": reason}}}])
}

#[test]
fn what_a_pod_waits_for_is_told() {
    let unschedulable = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient cpu."}]});
    let cases = [
        (
            unschedulable,
            "no node can take the build pod: 0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": waiting("ImagePullBackOff")}),
            "cannot pull the builder image registry.example.com/robotimage/builder:1",
        ),
        (
            json!({"phase": "Pending", "initContainerStatuses": waiting("PodInitializing")}),
            "the pod invoice-1-1-x starts: PodInitializing",
        ),
        (json!({"phase": "Pending"}), "the pod invoice-1-1-x waits for a node"),
    ];
    for (status, told) in cases {
        let line = waits_in_a_pod(&pod(&status), Step::Fetch);
        assert!(line.contains(told), "{line}");
    }
    let running = json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "fetch", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"running": {}}}]});
    assert_eq!(
        waits_in_a_pod(&pod(&running), Step::Resolve),
        "resolve waits for the step before it"
    );
}

#[test]
fn what_a_resource_waits_for_is_told() {
    let status = |reason: &str| {
        json!({"observedGeneration": 3, "summary": "Queued", "conditions": [{"type": "Reconciling", "status": "True", "reason": reason,
            "message": "exceeded quota: small", "lastTransitionTime": "2026-03-01T09:00:00Z"}]})
    };
    assert_eq!(
        waits_for_a_pod(&resource(&status("Queued")), 7),
        "build 7 waits: exceeded quota: small"
    );
    assert_eq!(waits_for_a_pod(&resource(&status("Building")), 7), "build 7 waits for its pod");
    assert_eq!(
        waits_for_a_build(&resource(&status("ResolvingSource"))),
        "no build yet: Queued: exceeded quota: small"
    );
    assert_eq!(
        waits_for_a_build(&resource(&json!({}))),
        "no build yet: Not seen by an operator yet"
    );
}
