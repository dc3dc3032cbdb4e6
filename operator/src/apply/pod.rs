//! The build pod: three containers, one after another, each with its own user, folders and credentials. It passes Pod
//! Security `restricted`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, LocalObjectReference, PodSecurityContext, PodSpec, ResourceRequirements, SeccompProfile,
    SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use robotimage_crds::build::{BuildPlan, PLAN_VARIABLE, Step, paths};

use super::job::JobInput;
use super::volumes::Volumes;
use crate::decide::resources;

/// Common group of the steps, and of the pod's volumes.
const GROUP: i64 = 10_100;
/// Publish stops within two seconds of SIGTERM; the others have nothing to save.
const TERMINATION_GRACE: i64 = 10;

/// Its own user for each step: resolve, which runs foreign code, can change nothing that fetch wrote.
fn user(step: Step) -> i64 {
    match step {
        Step::Fetch => 10_001,
        Step::Resolve => 10_002,
        Step::Publish => 10_003,
    }
}

/// Makes the pod's specification.
pub(super) fn pod(input: &JobInput<'_>, plan: &BuildPlan, deadline: i64) -> PodSpec {
    let config = &input.platform.config;
    let volumes = Volumes::of(input);
    let container = |step| container(step, input, plan, &volumes);
    let secrets: Vec<_> = config
        .image_pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    PodSpec {
        restart_policy: Some("Never".to_owned()),
        active_deadline_seconds: Some(deadline),
        termination_grace_period_seconds: Some(TERMINATION_GRACE),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        dns_policy: Some(config.dns_policy.clone()),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            fs_group: Some(GROUP),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                localhost_profile: None,
            }),
            ..PodSecurityContext::default()
        }),
        init_containers: Some(vec![container(Step::Fetch), container(Step::Resolve)]),
        containers: vec![container(Step::Publish)],
        volumes: Some(volumes.declared()),
        ..PodSpec::default()
    }
}

fn container(step: Step, input: &JobInput<'_>, plan: &BuildPlan, volumes: &Volumes) -> Container {
    let config = &input.platform.config;
    let variable = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let home = if step == Step::Resolve { paths::HOME } else { paths::SCRATCH };
    let (requests, limits) = resources(input.build, input.settings);
    let quantities =
        |values: &BTreeMap<String, String>| values.iter().map(|(name, value)| (name.clone(), Quantity(value.clone()))).collect();
    Container {
        name: step.as_str().to_owned(),
        image: Some(config.builder_image.clone()),
        image_pull_policy: config.builder_image_pull_policy.map(|policy| policy.as_str().to_owned()),
        command: Some(vec!["robotimage".to_owned(), step.as_str().to_owned()]),
        env: Some(vec![variable(PLAN_VARIABLE, plan_text(plan)), variable("HOME", home.to_owned())]),
        resources: Some(ResourceRequirements {
            requests: Some(quantities(&requests)),
            limits: Some(quantities(&limits)),
            claims: None,
        }),
        security_context: Some(SecurityContext {
            run_as_user: Some(user(step)),
            // Not at the pod: older containerd makes no sandbox for a group without a user.
            run_as_group: Some(GROUP),
            run_as_non_root: Some(true),
            privileged: Some(false),
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                add: None,
                drop: Some(vec!["ALL".to_owned()]),
            }),
            ..SecurityContext::default()
        }),
        termination_message_path: Some(paths::TERMINATION.to_owned()),
        termination_message_policy: Some("File".to_owned()),
        volume_mounts: Some(volumes.mounts(step)),
        ..Container::default()
    }
}

/// The plan as JSON. Kubernetes expands `$(NAME)` and `$$` in values of variables; a dollar sign only occurs inside of JSON's
/// strings, where it can be written so that nothing is there to expand.
fn plan_text(plan: &BuildPlan) -> String {
    serde_json::to_string(plan)
        .expect("invariant: a plan is plain data")
        .replace('$', "\\u0024")
}
