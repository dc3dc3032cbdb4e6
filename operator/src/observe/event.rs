//! What events tell of a Job without a pod and of a pod without a started container, where their status tells nothing.
//!
//! Invariant: a refusal has the same text as long as its cause is the same: no name of a pod or sandbox, which are new at each
//! try, is in it.

use k8s_openapi::api::core::v1::Event;
use robotimage_crds::reason::Reason;

use super::Refusal;

/// What keeps a Job or pod from running by its events, told by the latest that says anything. A kubelet that has come to the
/// images is over what it complained of before. `image` is the builder image, as far as there is a pod.
pub fn refusal_of_events(mut events: Vec<Event>, image: &str) -> Option<Refusal> {
    events.sort_by_key(|event| {
        let last = event.last_timestamp.as_ref().map(|time| time.0);
        last.or_else(|| event.event_time.as_ref().map(|time| time.0))
    });
    events
        .iter()
        .rev()
        .take_while(|event| !matches!(event.reason.as_deref(), Some("Pulling" | "Pulled" | "Created" | "Started")))
        .find_map(|event| refusal_of_event(event, image))
}

fn refusal_of_event(event: &Event, image: &str) -> Option<Refusal> {
    let message = event.message.as_deref().unwrap_or_default();
    let pod = |reason, problem: &str| Some(Refusal::of_events(reason, problem));
    match event.reason.as_deref()? {
        "FailedCreate" => {
            let reason = if message.contains("exceeded quota") {
                Reason::QuotaExceeded
            } else {
                Reason::PodRejected
            };
            let told = message.split_once("\" is forbidden: ").map_or(message, |(_, told)| told);
            Some(Refusal::new(reason, &format!("the cluster refuses the build pod: {told}")))
        }
        "FailedMount" | "FailedAttachVolume" => pod(Reason::PodRejected, "the node cannot mount a volume of the build pod"),
        "FailedCreatePodSandBox" | "FailedCreatePodContainer" => {
            pod(Reason::PodRejected, "the node cannot make the sandbox of the build pod")
        }
        "FailedScheduling" => pod(Reason::Unschedulable, "no node can take the build pod"),
        "Failed" if message.contains("pull image") || message.contains("ErrImagePull") => Some(Refusal::of_pull(image)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    use super::*;
    use crate::observe::PodView;

    fn event(second: i64, reason: &str, message: &str) -> Event {
        Event {
            last_timestamp: Some(Time(jiff::Timestamp::from_second(second).unwrap())),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            ..Event::default()
        }
    }

    #[test]
    fn the_latest_that_says_anything_counts() {
        let quota = "Error creating: pods \"a-1x2y3\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
        let security = "Error creating: pods \"a-zzzzz\" is forbidden: violates PodSecurity \"restricted:latest\"";
        for (events, wanted) in [
            (vec![], None),
            (vec![event(1, "SuccessfulCreate", "x")], None),
            (
                vec![event(2, "FailedCreate", security), event(1, "FailedCreate", quota)],
                Some((
                    Reason::PodRejected,
                    "the cluster refuses the build pod: violates PodSecurity \"restricted:latest\"",
                )),
            ),
            (
                vec![
                    event(1, "FailedCreate", security),
                    event(2, "FailedCreate", quota),
                    event(3, "Other", ""),
                ],
                Some((
                    Reason::QuotaExceeded,
                    "the cluster refuses the build pod: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
                )),
            ),
            (
                vec![
                    event(1, "Scheduled", "x"),
                    event(2, "FailedMount", "MountVolume.SetUp failed for volume \"a-x1\""),
                ],
                Some((
                    Reason::PodRejected,
                    "the node cannot mount a volume of the build pod; the pod's events say why",
                )),
            ),
            (
                vec![event(1, "FailedMount", "once"), event(2, "Pulling", "Pulling image \"builder\"")],
                None,
            ),
            (
                vec![
                    event(1, "Pulling", "Pulling image"),
                    event(2, "Failed", "Failed to pull image \"builder\": no route to host"),
                ],
                Some((
                    Reason::BuilderImagePullFailed,
                    "the node cannot pull the builder image builder:1; the pod's events say why",
                )),
            ),
        ] {
            let told = refusal_of_events(events, "builder:1");
            assert_eq!(told.as_ref().map(|told| (told.reason, told.message.as_str())), wanted);
        }
    }

    #[test]
    fn a_pod_and_its_events_say_the_same_of_a_pull() {
        let events = vec![event(1, "Failed", "Failed to pull image \"builder:1\": no route to host")];
        let state = json!({"waiting": {"reason": "ErrImagePull", "message": "no route to host"}});
        let pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "publish", "image": "builder:1"}]},
            "status": {"containerStatuses": [{"name": "publish", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]},
        }));
        let pod = PodView::of(&pod.unwrap());
        assert!(pod.refusal.is_some());
        assert_eq!(refusal_of_events(events, &pod.image), pod.refusal);
    }
}
