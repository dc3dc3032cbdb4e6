use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use robotimage_crds::api::{BuildPhase, LastFailure, LatestBuild, RobotImage, RobotImageSpec, RobotImageStatus, StepStatus};

use super::{Metrics, Standing};

fn at(second: i64) -> Time {
    Time(Timestamp::from_second(1_800_000_000 + second).unwrap())
}

fn step(name: &str, started: i64, duration: Option<&str>, cache: Option<&str>) -> StepStatus {
    StepStatus {
        name: name.to_owned(),
        started_at: Some(at(started)),
        duration: duration.map(str::to_owned),
        cache: cache.map(str::to_owned),
    }
}

/// A build, decided at second 0, with these steps.
fn build(phase: BuildPhase, plan: Option<&str>, steps: Vec<StepStatus>) -> RobotImageStatus {
    RobotImageStatus {
        latest_build: Some(LatestBuild {
            number: 1,
            build_id: "one".to_owned(),
            phase,
            plan: plan.map(str::to_owned),
            steps,
            started_at: Some(at(0)),
            duration: Some("90s".to_owned()),
            ..LatestBuild::default()
        }),
        ..RobotImageStatus::default()
    }
}

/// A build whose Job is there, and what its resource says that it waits for.
fn waiting(reason: &str) -> RobotImageStatus {
    let mut status = build(BuildPhase::Running, None, Vec::new());
    status.conditions = vec![Condition {
        type_: "Reconciling".to_owned(),
        status: "True".to_owned(),
        reason: reason.to_owned(),
        message: String::new(),
        last_transition_time: at(0),
        observed_generation: None,
    }];
    status
}

fn image(status: Option<RobotImageStatus>) -> Standing {
    let spec: RobotImageSpec = serde_json::from_value(serde_json::json!({
        "source": {"git": {"url": "https://git.example.com/a.git"}},
        "image": {"repository": "registry.example.com/a"},
    }))
    .unwrap();
    let mut image = RobotImage::new("a", spec);
    image.status = status;
    Standing::of(&image)
}

/// The samples of a scrape that are not 0.
fn samples(metrics: &Metrics, images: Vec<Standing>, leads: bool) -> Vec<String> {
    let text = metrics.render(images.into_iter(), leads);
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.ends_with(" 0") && !line.contains("_bucket{"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_build_is_counted_once_when_it_starts_and_once_when_it_ends() {
    let metrics = Metrics::default();
    let pending = build(BuildPhase::Pending, None, Vec::new());
    let running = build(BuildPhase::Running, None, vec![step("fetch", 7, None, None)]);
    let steps = vec![
        step("fetch", 7, Some("3s"), None),
        step("resolve", 10, Some("60s"), Some("miss: nobody has it")),
    ];
    let mut ended = build(BuildPhase::Succeeded, Some("Full"), steps);
    ended.latest_image = serde_json::from_value(serde_json::json!({
        "ref": "a@sha256:0", "digest": "sha256:0", "short": "0", "size": 1055, "uploaded": 540, "requestKey": "", "buildKey": "",
        "publishedAt": "2026-01-01T00:00:00Z",
        "layers": [
            {"role": "base", "count": 1, "size": 1000, "uploaded": 0},
            {"role": "code", "count": 1, "size": 50, "uploaded": 40},
            {"role": "../x", "count": 1, "size": 5, "uploaded": 500},
        ],
    }))
    .unwrap();
    let states = [
        None,
        Some(&pending),
        Some(&pending),
        Some(&running),
        Some(&running),
        Some(&ended),
        Some(&ended),
    ];
    for pair in states.windows(2) {
        metrics.written(pair[0], pair[1].unwrap());
    }
    let expected = [
        r#"robotimage_build_duration_seconds_sum{step="all"} 90"#,
        r#"robotimage_build_duration_seconds_count{step="all"} 1"#,
        r#"robotimage_build_duration_seconds_sum{step="fetch"} 3"#,
        r#"robotimage_build_duration_seconds_count{step="fetch"} 1"#,
        r#"robotimage_build_duration_seconds_sum{step="resolve"} 60"#,
        r#"robotimage_build_duration_seconds_count{step="resolve"} 1"#,
        r#"robotimage_builds_total{plan="Full",reason="",result="success"} 1"#,
        r#"robotimage_environment_cache_total{result="miss"} 1"#,
        r#"robotimage_layer_bytes_total{direction="reused",role="base"} 1000"#,
        r#"robotimage_layer_bytes_total{direction="reused",role="code"} 10"#,
        r#"robotimage_layer_bytes_total{direction="uploaded",role="code"} 40"#,
        r#"robotimage_layer_bytes_total{direction="uploaded",role="other"} 5"#,
        "robotimage_queue_seconds_sum 7",
        "robotimage_queue_seconds_count 1",
    ];
    assert_eq!(samples(&metrics, Vec::new(), false), expected);
}

#[test]
fn a_failure_is_counted_by_a_reason_of_the_list_and_nothing_that_a_pod_made_up() {
    let metrics = Metrics::default();
    for reason in ["OutOfMemory", "made-up\"}\n"] {
        let mut failed = build(
            BuildPhase::Failed,
            Some("made up"),
            vec![step("made up", 1, Some("1s"), Some("<h1>"))],
        );
        failed.last_failure = Some(LastFailure {
            reason: reason.to_owned(),
            ..LastFailure::default()
        });
        metrics.written(None, &failed);
    }
    let text = metrics.render(std::iter::empty(), true);
    assert!(!text.contains("made"), "{text}");
    assert!(text.contains(r#"robotimage_builds_total{plan="",reason="OutOfMemory",result="failure"} 1"#));
    assert!(text.contains(r#"robotimage_builds_total{plan="",reason="",result="failure"} 1"#));
    assert!(text.contains(r#"robotimage_environment_cache_total{result="other"} 2"#));
}

#[test]
fn what_is_there_is_counted_by_who_leads_alone() {
    let metrics = Metrics::default();
    let images = || {
        vec![
            image(None),
            image(Some(build(BuildPhase::Pending, None, Vec::new()))),
            image(Some(waiting("Building"))),
            image(Some(waiting("Unschedulable"))),
        ]
    };
    let leading = [
        r#"robotimage_builds{state="Pending"} 2"#,
        r#"robotimage_builds{state="Running"} 1"#,
        r#"robotimage_images{ready="Unknown"} 4"#,
        "robotimage_leader 1",
    ];
    assert_eq!(samples(&metrics, images(), true), leading);
    let following = metrics.render(images().into_iter(), false);
    assert!(!following.contains("robotimage_images{") && !following.contains("robotimage_builds{"));
    assert!(following.contains("robotimage_leader 0"));
}
