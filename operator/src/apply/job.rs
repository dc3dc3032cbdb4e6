//! The Job of one attempt: a pure function of resource, settings and platform. A golden file holds its every byte.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use robotimage_crds::api::{LatestBuild, RobotImage};
use robotimage_crds::build::{PlanEnvironment, Want};

use super::plan::plan;
use super::pod::pod;
use crate::config::Platform;
use crate::decide::Settings;
use crate::labels;

/// Time that a step has to say that it is late, before the kubelet ends its pod.
const GRACE: i64 = 60;
/// How long an ended Job stays when nobody deletes it: the operator does, once its result is in the status.
const KEPT: i32 = 7 * 24 * 3600;

/// What a Job is made from.
#[derive(Clone, Copy, Debug)]
pub struct JobInput<'a> {
    /// The resource; its status names the previous image.
    pub image: &'a RobotImage,
    /// Its wishes.
    pub settings: &'a Settings,
    /// The platform.
    pub platform: &'a Platform,
    /// The attempt, as the status announces it.
    pub build: &'a LatestBuild,
    /// The revision.
    pub want: &'a Want,
    /// Digest of the base, where the operator knows it.
    pub base: Option<&'a str>,
    /// Digest of the image with rcc, where the operator knows it.
    pub rcc: Option<&'a str>,
    /// Which environment it is.
    pub environment: PlanEnvironment,
    /// When the clock of the attempt starts.
    pub now: Timestamp,
}

/// Makes the Job.
pub fn job(input: &JobInput<'_>) -> Job {
    let labels = labels_of(input);
    let timeout = i64::try_from(input.settings.timeout.as_secs()).unwrap_or(i64::MAX / 4);
    let queue = i64::try_from(input.platform.config.queue_limit.0.as_secs()).unwrap_or(i64::MAX / 4);
    // The pod's deadline keeps pod and logs. The Job's deletes them: it comes last, after any wait for a node.
    let pod_deadline = timeout + GRACE;
    let job_deadline = pod_deadline + queue + 2 * GRACE;
    let plan = plan(input);
    Job {
        metadata: ObjectMeta {
            name: Some(input.build.job.clone()),
            namespace: input.image.metadata.namespace.clone(),
            labels: Some(labels.clone()),
            owner_references: Some(vec![OwnerReference {
                api_version: RobotImage::api_version(&()).into_owned(),
                kind: RobotImage::kind(&()).into_owned(),
                name: input.image.metadata.name.clone().unwrap_or_default(),
                uid: input.image.metadata.uid.clone().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            parallelism: Some(1),
            completions: Some(1),
            // The operator owns retries: it knows which failures deserve one.
            backoff_limit: Some(0),
            pod_replacement_policy: Some("Failed".to_owned()),
            active_deadline_seconds: Some(job_deadline),
            ttl_seconds_after_finished: Some(KEPT),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(with_injection_off(labels)),
                    annotations: Some(annotations()),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(input, &plan, pod_deadline)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn labels_of(input: &JobInput<'_>) -> BTreeMap<String, String> {
    let meta = &input.image.metadata;
    [
        (labels::MANAGED_BY, labels::MANAGER.to_owned()),
        ("app.kubernetes.io/name", "robotimage-build".to_owned()),
        (labels::UID, meta.uid.clone().unwrap_or_default()),
        (labels::NAME, meta.name.clone().unwrap_or_default()),
        (labels::BUILD, input.build.number.to_string()),
        (labels::ATTEMPT, input.build.attempt.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// A side-car would outlive the build and hold the Job open, and would see the network of the steps.
fn with_injection_off(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.insert("sidecar.istio.io/inject".to_owned(), "false".to_owned());
    labels
}

fn annotations() -> BTreeMap<String, String> {
    [
        ("sidecar.istio.io/inject", "false"),
        ("linkerd.io/inject", "disabled"),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}
