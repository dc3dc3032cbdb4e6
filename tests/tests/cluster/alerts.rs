//! A real Prometheus scrapes two replicas and evaluates the chart's rules; each alert is made to fire by what it is for.
//!
//! Durations are shortened by the chart's own values: a condition must last 2 s instead of minutes, failures are counted over
//! 20 s instead of 30 min. What cannot be caused here, a bug, is in the chart's own suite, with made-up samples.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use robotimage_crds::api::RobotImage;
use robotimage_tests::web::{Fault, Rule};
use serde_json::json;

use crate::local::{Local, objects};
use crate::objects::{SHELL_ROBOT, git_repository, robot_image};
use crate::prometheus::{Prometheus, check_metrics};
use crate::replica::Replica;
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(5);

async fn nothing() {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn what_an_alert_is_for_makes_it_fire() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.unserved("alerts").await.unwrap());
    let change = json!({
        "operator": {"replicas": 2},
        "leaderElection": {"enabled": true, "leaseDuration": "6s", "renewDeadline": "4s", "retryPeriod": "1s"},
        "builder": {"image": bed.book().public.reference("robotimage/no-such-builder:1")},
        "builds": {"queueLimit": "25s"},
        "metrics": {"prometheusRule": {"enabled": true, "critical": "2s", "warning": "2s", "window": "20s"}},
    });
    let mut local = Local::prepare(&setup, &namespace, &change).await.unwrap();
    let rules = objects(&setup, &namespace, &change).unwrap();
    let rules = rules.iter().find(|object| object["kind"] == "PrometheusRule").unwrap();
    let mut one = Replica::of(&local, "one").unwrap();
    let mut two = Replica::of(&local, "two").unwrap();
    one.wait_ready(LIMIT).await;
    two.wait_ready(LIMIT).await;
    let targets = [one.address.clone(), two.address.clone()];
    let folder = local.folder().join("prometheus");
    let prometheus = Prometheus::start(&folder, "robotimage-metrics", namespace.name(), &targets, &rules["spec"]).unwrap();
    prometheus.wait_scraped(2, LIMIT).await.unwrap();

    // Nothing is wrong yet. On a busy machine a scrape may come late and a replica seem away for a moment.
    let end = Instant::now() + LIMIT;
    tokio::time::sleep(Duration::from_secs(4)).await;
    while prometheus.firing().await != Some(BTreeSet::new()) {
        assert!(Instant::now() < end, "{:?}", prometheus.firing().await);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }

    let fires = async |alert: &str| {
        let took = prometheus.wait_for(alert, LIMIT, nothing).await.unwrap();
        println!("{alert} fires after {:.0} s", took.as_secs_f64());
    };
    for number in 0..4 {
        let nowhere = format!("https://{}:1/robot.git", bed.book().instance.host_ip());
        let robot = robot_image(
            bed,
            &namespace,
            &format!("lost-{number}"),
            &nowhere,
            &json!({"spec": {"source": {"git": {"secretRef": null}}}}),
        );
        namespace.apply::<RobotImage>(robot).await.unwrap();
    }
    fires("RobotImageSourcesUnreachable").await;
    // Not before: it waits for its image once, until the queue's limit.
    let repo = git_repository(bed, &namespace, "stuck", SHELL_ROBOT).unwrap();
    namespace
        .apply::<RobotImage>(robot_image(bed, &namespace, "stuck", repo.url(), &json!({})))
        .await
        .unwrap();
    fires("RobotImageBuildsNotStarting").await;
    fires("RobotImagePlatformFailures").await;

    // Somebody takes every pod away.
    let pods = namespace.api::<Pod>();
    let take_away = async || {
        let all = ListParams::default().labels("app.kubernetes.io/name=robotimage-build");
        pods.delete_collection(&DeleteParams::default().grace_period(0), &all)
            .await
            .unwrap();
        let again = json!({"metadata": {"annotations": {"robotimage.dev/requestedAt": jiff::Timestamp::now().to_string()}}});
        let asked = robot_image(bed, &namespace, "stuck", repo.url(), &again);
        namespace.apply::<RobotImage>(asked).await.unwrap();
    };
    let took = prometheus
        .wait_for("RobotImageInfrastructureFailures", LIMIT, take_away)
        .await
        .unwrap();
    println!("RobotImageInfrastructureFailures fires after {:.0} s", took.as_secs_f64());

    // The API server takes no status any more.
    local.proxy.server().fault_rule(Rule {
        fault: Fault::Status(500),
        path: "/status".to_owned(),
        times: None,
    });
    let mut minutes = 10;
    let touch = async || {
        minutes += 1;
        for number in 0..4 {
            let change = Patch::Merge(json!({"spec": {"interval": format!("{minutes}m")}}));
            let name = format!("lost-{number}");
            namespace
                .api::<RobotImage>()
                .patch(&name, &PatchParams::default(), &change)
                .await
                .unwrap();
        }
    };
    let took = prometheus.wait_for("RobotImageReconcileErrors", LIMIT, touch).await.unwrap();
    println!("RobotImageReconcileErrors fires after {:.0} s", took.as_secs_f64());
    local.proxy.server().heal();

    for replica in [&one, &two] {
        let (code, scrape) = replica.asks("/metrics").await.unwrap();
        assert_eq!(code, 200);
        check_metrics(&scrape).unwrap();
    }
    two.process.kill();
    fires("RobotImageReplicaDown").await;
    one.process.kill();
    fires("RobotImageNoLeader").await;
    namespace.delete().await.unwrap();
}
