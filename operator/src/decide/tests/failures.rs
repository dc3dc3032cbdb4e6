//! Failures: what they are called, what follows, and what ends them.

use robotimage_crds::build::{Outcome, Step};
use robotimage_crds::reason::Reason;
use serde_json::json;

use super::pods::{ended, fetched, waiting};
use super::world::{A, B, BUILDING, UP_TO_DATE, World, revision};
use crate::decide::Next;
use crate::observe::Refusal;
use crate::source::SourceFailure;

#[test]
fn only_a_change_helps() {
    let mut world = World::new();
    world.settle();
    world.fail(Step::Fetch, Reason::RobotYamlInvalid);
    world.settle();
    let row = "Ready=False/RobotYamlInvalid Stalled=True/RobotYamlInvalid Available=False/NeverBuilt SourceReady=True/Resolved | Failed: RobotYamlInvalid";
    assert_eq!(world.row(), row);
    let failure = world.status().last_failure.unwrap();
    assert_eq!(
        (failure.owner.as_str(), failure.retryable, failure.next_retry_at),
        ("User", false, None)
    );
    assert_eq!(failure.log_tail.as_deref(), Some("last line"));
    // Days later, and after a restart, still nothing.
    world.pass(86_400).settle();
    world.restart();
    assert_eq!(world.settle(), 0);
    assert_eq!((world.row().as_str(), world.jobs.len()), (row, 1));
    // A new commit ends it.
    world.server = Ok(revision(B));
    world.pass(330).settle();
    assert_eq!(world.row(), BUILDING);
    assert_eq!(world.build().number, 2);
}

#[test]
fn stalled_ends_with_the_generation_also_where_the_image_would_not_change() {
    let mut world = World::new();
    world.settle();
    for _ in 0..4 {
        world.fail(Step::Publish, Reason::BuildTimeout);
        world.settle();
        world.pass(300).settle();
    }
    assert!(world.row().contains("Stalled=True/BuildTimeout"), "{}", world.row());
    world.edit(|spec| spec.build = Some(serde_json::from_value(json!({"timeout": "2h"})).unwrap()));
    world.settle();
    assert_eq!(world.row(), BUILDING);
    assert_eq!(
        world.build().reasons.iter().map(|reason| reason.kind.as_str()).collect::<Vec<_>>(),
        ["Initial", "Retry"]
    );
}

#[test]
fn infrastructure_is_tried_three_times_more_and_then_slowly() {
    let mut world = World::new();
    world.settle();
    for attempt in 1..=4_u32 {
        assert_eq!((world.build().number, world.build().attempt), (1, attempt));
        world.fail(Step::Publish, Reason::RegistryUnavailable);
        world.settle();
        if attempt < 4 {
            assert_eq!(
                world.row(),
                "Ready=False/RegistryUnavailable Reconciling=True/ProgressingWithRetry Available=False/NeverBuilt SourceReady=True/Resolved | Retrying: RegistryUnavailable"
            );
            assert_eq!(world.status().history, []);
            world.pass(300).settle();
        }
    }
    assert!(
        world
            .row()
            .starts_with("Ready=False/RegistryUnavailable Stalled=True/RegistryUnavailable"),
        "{}",
        world.row()
    );
    assert_eq!(world.status().last_failure.unwrap().attempts, 4);
    assert_eq!(world.status().history.len(), 1);
    // Only the Job of the last attempt is kept.
    assert_eq!(world.jobs.len(), 1);
    world.pass(599).settle();
    assert_eq!(world.build().number, 1);
    world.pass(2).settle();
    assert_eq!((world.build().number, world.build().attempt), (2, 1));
    world.succeed(A, 'd', false);
    world.settle();
    assert_eq!((world.row().as_str(), world.status().last_failure), (UP_TO_DATE, None));
}

#[test]
fn a_deleted_pod_or_job_does_not_count() {
    let mut world = World::new();
    world.settle();
    // Its Job is gone.
    world.jobs.clear();
    world.settle();
    let failure = world.status().last_failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.attempts), ("ResultUnreadable", 0));
    world.pass(60).settle();
    assert_eq!((world.build().number, world.build().attempt), (1, 2));
    // Its pod is gone, and the Job says so.
    world.end_job("Failed");
    world.settle();
    assert_eq!(world.status().last_failure.unwrap().attempts, 0);
    world.pass(60).settle();
    // Its pod is being deleted: publish says that it was ended.
    let canceled = world.failed(Step::Publish, "Canceled", 130);
    world.pod("Failed", [ended(0, "Completed", ""), ended(0, "Completed", ""), canceled]);
    world.pods[0].metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(world.now));
    world.settle();
    let failure = world.status().last_failure.unwrap();
    assert_eq!((failure.reason.as_str(), failure.attempts), ("ResultUnreadable", 0));
    // It is bounded all the same.
    for _ in 0..20 {
        world.pass(400).settle();
        world.jobs.clear();
        world.settle();
    }
    assert!(world.row().contains("Stalled=True/ResultUnreadable"), "{}", world.row());
}

#[test]
fn reasons_from_the_state_of_the_pod() {
    let cases = [
        (json!({"phase": "Failed"}), ended(137, "OOMKilled", ""), "OutOfMemory"),
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}),
            ended(137, "Error", ""),
            "Evicted",
        ),
        (
            json!({"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir volume \"tmp\" exceeds the limit \"1Gi\"."}),
            ended(137, "Error", ""),
            "StorageExceeded",
        ),
        (
            json!({"phase": "Failed", "reason": "DeadlineExceeded", "message": "x"}),
            ended(137, "Error", ""),
            "BuildTimeout",
        ),
        (
            json!({"phase": "Failed", "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"}]}),
            ended(137, "Error", ""),
            "NodeLost",
        ),
        (
            json!({"phase": "Failed"}),
            ended(128, "StartError", "exec: \"robotimage\": not found"),
            "BuilderImagePullFailed",
        ),
        (json!({"phase": "Failed"}), ended(1, "Error", "no json"), "ResultUnreadable"),
        (json!({"phase": "Failed"}), ended(1, "Error", ""), "ResultUnreadable"),
    ];
    for (status, state, reason) in cases {
        let mut world = World::new();
        world.settle();
        world.pod_with(status.clone(), [state, waiting("PodInitializing"), waiting("PodInitializing")]);
        world.settle();
        assert_eq!(world.status().last_failure.unwrap().reason, reason, "{status}");
    }
}

#[test]
fn resolve_is_believed_about_packages_only() {
    for (reason, told) in [
        ("PackageNotFound", "PackageNotFound"),
        ("GitAuthFailed", "InternalError"),
        ("Nonsense", "InternalError"),
        ("Canceled", "ResultUnreadable"),
    ] {
        let mut world = World::new();
        world.settle();
        let (fetch, resolve) = (
            world.done(Step::Fetch, Outcome::Fetched(Box::new(fetched(A)))),
            world.failed(Step::Resolve, reason, 10),
        );
        world.pod("Failed", [fetch, resolve, waiting("PodInitializing")]);
        world.settle();
        assert_eq!(world.status().last_failure.unwrap().reason, told);
    }
}

#[test]
fn a_forged_success_is_none() {
    // Of another build, from resolve, without facts of fetch, or of another commit than was told.
    let mut world = World::new();
    world.settle();
    world.succeed(B, 'd', false);
    world.settle();
    assert_eq!(world.status().latest_image, None);
    assert_eq!(world.status().last_failure.unwrap().reason, "ResultUnreadable");

    let mut world = World::new();
    world.settle();
    world.succeed(A, 'd', false);
    let uid = world.image.metadata.uid.clone().unwrap();
    world.pods[0].metadata.owner_references.as_mut().unwrap()[0].uid = uid;
    assert_eq!(
        world.settle(),
        1,
        "a pod that no Job of ours controls says nothing; the Job that ended without a pod does"
    );
    assert_eq!(world.status().latest_image, None);
}

#[test]
fn a_pod_that_does_not_start_is_told_at_once_and_fails_at_the_limit() {
    for (status, fetch, reconciling, reason) in [
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available: 1 Insufficient memory."}]}),
            waiting(""),
            "Unschedulable",
            "Unschedulable",
        ),
        (
            json!({"phase": "Pending"}),
            waiting("ImagePullBackOff"),
            "BuilderImagePullFailed",
            "BuilderImagePullFailed",
        ),
    ] {
        let mut world = World::new();
        world.settle();
        world.pod_with(status, [fetch, waiting("PodInitializing"), waiting("PodInitializing")]);
        world.settle();
        assert_eq!(
            world.row(),
            format!(
                "Ready=Unknown/Progressing Reconciling=True/{reconciling} Available=False/NeverBuilt SourceReady=True/Resolved | Waiting: {reason}"
            )
        );
        world.pass(599);
        assert_eq!(world.settle(), 0);
        world.pass(2).settle();
        assert!(
            world.row().starts_with(&format!("Ready=False/{reason} Stalled=True/{reason}")),
            "{}",
            world.row()
        );
        // The pod that never started is taken away.
        assert_eq!((world.jobs.len(), world.pods.len()), (0, 0));
        world.pass(700).settle();
        assert_eq!((world.build().number, world.jobs.len()), (2, 1));
    }
}

#[test]
fn a_quota_makes_it_wait_whoever_says_so() {
    let refusal = Refusal {
        reason: Reason::QuotaExceeded,
        message: "the cluster refuses the build pod: exceeded quota".to_owned(),
    };
    // The API server refuses the Job.
    let mut world = World::new();
    assert!(world.step());
    world.refusal = Some(refusal.clone());
    world.step();
    let queued =
        "Ready=Unknown/Progressing Reconciling=True/Queued Available=False/NeverBuilt SourceReady=True/Resolved | Waiting: QuotaExceeded";
    assert_eq!(world.row(), queued);
    // The offer is repeated.
    assert!(matches!(world.decision().next, Next::Act(_)));
    world.pass(700).step();
    assert!(world.row().contains("Stalled=True/QuotaExceeded"), "{}", world.row());
    // The Job has no pod, and its events say why.
    let mut world = World::new();
    world.settle();
    world.refusal = Some(refusal);
    world.pass(6).settle();
    assert_eq!(world.row(), queued);
}

#[test]
fn a_source_that_cannot_be_resolved() {
    let mut world = World::new();
    world.server = Err(SourceFailure::new(Reason::GitAuthFailed, "git.example.com asks for credentials"));
    world.settle();
    assert_eq!(
        world.row(),
        "Ready=False/GitAuthFailed Stalled=True/GitAuthFailed Available=False/NeverBuilt SourceReady=False/GitAuthFailed | Failed: GitAuthFailed"
    );
    assert_eq!((world.jobs.len(), world.status().source), (0, None));
    // Slowly again, also when restarted, and one answer counts once.
    world.restart();
    assert_eq!((world.settle(), world.polls), (0, 1));
    world.pass(601).settle();
    assert_eq!((world.polls, world.status().last_failure.unwrap().attempts), (2, 2));
    world.settle();
    world.server = Ok(revision(A));
    world.pass(1201).settle();
    assert_eq!(world.row(), BUILDING);

    let mut world = World::new();
    world.server = Err(SourceFailure::new(
        Reason::SourceUnreachable,
        "git.example.com does not answer in time",
    ));
    world.settle();
    assert_eq!(
        world.row(),
        "Ready=False/SourceUnreachable Reconciling=True/ProgressingWithRetry Available=False/NeverBuilt SourceReady=False/SourceUnreachable | Retrying: SourceUnreachable"
    );
    for _ in 0..3 {
        world.pass(400).settle();
    }
    assert!(world.row().contains("Stalled=True/SourceUnreachable"), "{}", world.row());

    let mut world = World::new();
    world.server = Err(SourceFailure::new(
        Reason::NotAllowed,
        "git.example.com is at an address that must not be connected to",
    ));
    world.settle();
    world.pass(86_400 * 30).settle();
    assert_eq!(world.polls, 1);
    world.edit(|spec| spec.source.git.as_mut().unwrap().url = "https://other.example.com/a.git".to_owned());
    world.server = Ok(revision(A));
    world.settle();
    assert_eq!(world.row(), BUILDING);
}

#[test]
fn a_failing_poll_leaves_the_image_up_to_date() {
    let mut world = World::built();
    world.server = Err(SourceFailure::new(
        Reason::SourceUnreachable,
        "git.example.com does not answer in time",
    ));
    world.pass(330);
    assert_eq!(world.settle(), 1);
    assert_eq!(
        world.row(),
        "Ready=True/UpToDate Available=True/ImagePublished SourceReady=False/SourceUnreachable | Ready"
    );
    assert_eq!(
        (world.pass(3600).settle(), world.pass(3600).settle()),
        (0, 0),
        "written on the transition only"
    );
    world.restart();
    assert_eq!(world.pass(3600).settle(), 0);
    world.server = Ok(revision(A));
    world.pass(7200);
    assert_eq!(world.settle(), 1);
    assert_eq!(world.row(), UP_TO_DATE);
}

#[test]
fn a_job_of_somebody_else_in_the_way() {
    let mut world = World::new();
    assert!(world.step());
    let decision = world.decision();
    let Next::Act(actions) = decision.next else {
        panic!("{decision:?}")
    };
    for action in actions {
        world.apply(action);
    }
    world.jobs[0].metadata.owner_references.as_mut().unwrap()[0].uid = "somebody".to_owned();
    world.settle();
    let failure = world.status().last_failure.unwrap();
    assert_eq!(failure.reason, "InternalError");
    assert!(
        failure.message.contains(world.jobs[0].metadata.name.as_ref().unwrap()),
        "{}",
        failure.message
    );
    world.pass(60).settle();
    assert_eq!(
        (world.build().attempt, world.jobs.len()),
        (2, 2),
        "the next attempt has a name of its own"
    );
}
