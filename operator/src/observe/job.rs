//! A Job, as far as decisions need it.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use robotimage_crds::build::{BuildPlan, PLAN_VARIABLE, Step};

use crate::labels;

/// One of our Jobs, or one that has the name of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// UID of its controller, the RobotImage when it is ours.
    pub owner: String,
    /// Number of the build, by our label.
    pub number: i64,
    /// Attempt, by our label.
    pub attempt: u32,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Somebody deleted it; it waits for its pods.
    pub deleting: bool,
    /// Reason of its Failed or FailureTarget condition, or `Complete`.
    pub ended: Option<String>,
    /// What its pod was told.
    pub plan: Option<BuildPlan>,
}

impl JobView {
    /// Reads a Job. What it lacks is empty: such a Job matches nothing.
    pub fn of(job: &Job) -> Self {
        let meta = &job.metadata;
        let label = |name: &str| meta.labels.as_ref().and_then(|labels| labels.get(name));
        let conditions = job
            .status
            .as_ref()
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default();
        let ended = conditions
            .iter()
            .filter(|condition| condition.status == "True")
            .find_map(|condition| match condition.type_.as_str() {
                "Failed" | "FailureTarget" => Some(condition.reason.clone().unwrap_or_else(|| "Failed".to_owned())),
                "Complete" | "SuccessCriteriaMet" => Some("Complete".to_owned()),
                _ => None,
            });
        Self {
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            owner: controller(meta.owner_references.as_deref()).unwrap_or_default(),
            number: label(labels::BUILD).and_then(|text| text.parse().ok()).unwrap_or_default(),
            attempt: label(labels::ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            deleting: meta.deletion_timestamp.is_some(),
            ended,
            plan: plan(job),
        }
    }
}

/// UID of the controlling owner.
pub(super) fn controller(owners: Option<&[k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference]>) -> Option<String> {
    owners?
        .iter()
        .find(|owner| owner.controller == Some(true))
        .map(|owner| owner.uid.clone())
}

/// The plan that the Job's publish container carries.
fn plan(job: &Job) -> Option<BuildPlan> {
    let pod = job.spec.as_ref()?.template.spec.as_ref()?;
    let container = pod.containers.iter().find(|container| container.name == Step::Publish.as_str())?;
    let variable = container.env.as_ref()?.iter().find(|variable| variable.name == PLAN_VARIABLE)?;
    serde_json::from_str(variable.value.as_deref()?).ok()
}

#[cfg(test)]
mod tests {
    use robotimage_crds::build::{PlanFrom, Want};

    use serde_json::{from_value, json};

    use super::*;

    /// What a Job of this version's predecessor carries. It is not to be written anew: such Jobs run while the operator is
    /// exchanged.
    const BEFORE: &str = include_str!("../../golden/plan-before.json");

    fn job_with(plan: &str) -> Job {
        let container = json!({"name": "publish", "env": [{"name": PLAN_VARIABLE, "value": plan}]});
        from_value(json!({"spec": {"template": {"spec": {"containers": [container]}}}})).unwrap()
    }

    #[test]
    fn the_plan_of_the_version_before_is_read() {
        let plan = JobView::of(&job_with(BEFORE)).plan.unwrap();
        let from = PlanFrom::Git {
            url: "https://git.example.com/rpa/invoices.git".to_owned(),
        };
        assert_eq!(plan.source.from, from);
        assert!(matches!(&plan.source.want, Want::Commit { reference, .. } if reference == "main"));
        assert_eq!((plan.number, plan.attempt), (3, 2));
        // Read again from what this version writes, it is the same.
        let written = serde_json::to_string(&plan).unwrap();
        assert_ne!(written.trim(), BEFORE.trim());
        assert_eq!(JobView::of(&job_with(&written)).plan, Some(plan));
    }
}
