//! What a build's pod says in the model: container states, and the reports of its steps.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use robotimage_crds::build::{BuildReport, Failure, Fetched, LayerReport, Outcome, PlanKind, Published, Resolved, Step};
use robotimage_crds::reason::Reason;
use serde_json::{Value, json};

use super::world::{A, World};
use crate::observe::Revision;

impl World {
    fn job_uid(&self) -> String {
        let name = self.build().job;
        let job = self
            .jobs
            .iter()
            .find(|job| job.metadata.name.as_ref() == Some(&name))
            .expect("the build's Job");
        job.metadata.uid.clone().unwrap()
    }

    /// The live build's pod, with these container states (fetch, resolve, publish).
    pub(super) fn pod(&mut self, phase: &str, states: [Value; 3]) {
        self.pod_with(json!({"phase": phase}), states);
    }

    pub(super) fn pod_with(&mut self, mut status: Value, [fetch, resolve, publish]: [Value; 3]) {
        let uid = self.job_uid();
        let container = |name: &str, state: &Value| json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        status["initContainerStatuses"] = json!([container("fetch", &fetch), container("resolve", &resolve)]);
        status["containerStatuses"] = json!([container("publish", &publish)]);
        let pod = serde_json::from_value(json!({
            "metadata": {
                "name": format!("pod-{uid}"), "namespace": "finance", "creationTimestamp": self.now,
                "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "job", "uid": uid, "controller": true}],
            },
            "spec": {"containers": [{"name": "publish", "image": "registry.example.com/builder:1"}]},
            "status": status,
        }))
        .unwrap();
        self.pods
            .retain(|pod: &Pod| pod.metadata.owner_references.as_ref().unwrap()[0].uid != uid);
        self.pods.push(pod);
    }

    fn report(&self, step: Step, outcome: Outcome) -> String {
        BuildReport::new(&self.build().build_id, step, outcome).to_message()
    }

    pub(super) fn done(&self, step: Step, outcome: Outcome) -> Value {
        ended(0, "Completed", &self.report(step, outcome))
    }

    /// Fetch ended well at this commit.
    pub(super) fn done_fetch(&self, commit: &str) -> Value {
        self.done(Step::Fetch, Outcome::Fetched(Box::new(fetched(commit))))
    }

    pub(super) fn failed(&self, step: Step, reason: &str, code: u8) -> Value {
        let failure = Failure {
            reason: reason.to_owned(),
            message: format!("what {reason} means"),
            retry_after: None,
            tail: "last line".to_owned(),
        };
        ended(i32::from(code), "Error", &self.report(step, Outcome::Failed(failure)))
    }

    /// Publish ends well with this digest.
    pub(super) fn succeed(&mut self, commit: &str, digest: char, noop: bool) {
        let plan = if noop { PlanKind::Noop } else { PlanKind::Full };
        let fetched = Fetched {
            noop,
            plan,
            base: self.taken_base(),
            ..fetched(commit)
        };
        let published = Published {
            digest: format!("sha256:{}", String::from(digest).repeat(64)),
            size: 1000,
            uploaded: 10,
            layers: vec![LayerReport {
                role: "code".to_owned(),
                count: 1,
                size: 10,
                up: 10,
            }],
            packages: 3,
            noop,
        };
        let states = [
            self.done(Step::Fetch, Outcome::Fetched(Box::new(fetched))),
            self.done(Step::Resolve, Outcome::Resolved(Resolved::default())),
            self.done(Step::Publish, Outcome::Published(published)),
        ];
        self.pod("Succeeded", states);
        self.end_job("Complete");
    }

    /// A step fails with this reason.
    pub(super) fn fail(&mut self, step: Step, reason: Reason) {
        let fetch = match step {
            Step::Fetch => self.failed(step, reason.as_str(), reason.exit_code()),
            _ => self.done(
                Step::Fetch,
                Outcome::Fetched(Box::new(fetched(
                    &self
                        .build()
                        .revision
                        .map_or_else(|| A.to_owned(), |text| Revision::parse(&text).unwrap().commit),
                ))),
            ),
        };
        let resolve = match step {
            Step::Fetch => waiting("PodInitializing"),
            Step::Resolve => self.failed(step, reason.as_str(), reason.exit_code()),
            Step::Publish => self.done(Step::Resolve, Outcome::Resolved(Resolved::default())),
        };
        let publish = if step == Step::Publish {
            self.failed(step, reason.as_str(), reason.exit_code())
        } else {
            waiting("PodInitializing")
        };
        self.pod("Failed", [fetch, resolve, publish]);
        self.end_job("Failed");
    }

    pub(super) fn end_job(&mut self, kind: &str) {
        let name = self.build().job;
        let now = self.now;
        if let Some(job) = self.jobs.iter_mut().find(|job| job.metadata.name.as_ref() == Some(&name)) {
            job.status =
                Some(serde_json::from_value(json!({"conditions": [{"type": kind, "status": "True", "lastTransitionTime": now}]})).unwrap());
        }
    }
}

pub(super) fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason}})
}

pub(super) fn running(since: Timestamp) -> Value {
    json!({"running": {"startedAt": since}})
}

pub(super) fn ended(code: i32, reason: &str, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "message": message, "startedAt": "2026-03-01T10:00:01Z", "finishedAt": "2026-03-01T10:00:13Z"}})
}

/// What fetch finds.
pub(super) fn fetched(commit: &str) -> Fetched {
    Fetched {
        commit: commit.to_owned(),
        reference: "main".to_owned(),
        tree: "t".repeat(40),
        author: "Ada".to_owned(),
        message: "first line".to_owned(),
        base: format!("sha256:{}", "1".repeat(64)),
        rcc: "v19.0.2".to_owned(),
        rcc_digest: format!("sha256:{}", "2".repeat(64)),
        rcc_image: format!("sha256:{}", "3".repeat(64)),
        build_key: format!("key-{commit}"),
        environment_key: "e".repeat(64),
        blueprint: "bp".to_owned(),
        noop: false,
        reuse: false,
        plan: PlanKind::Full,
        cache: "miss".to_owned(),
    }
}
