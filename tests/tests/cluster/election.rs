//! Two replicas, one Lease: who ends hands over, who dies is replaced, and who stood still for too long does no harm.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use robotimage_crds::api::RobotImage;
use robotimage_tests::{Namespace, install};
use serde_json::json;

use crate::local::Local;
use crate::objects::robot_image;
use crate::replica::Replica;
use crate::setup::setup;

/// The default: with less, a loaded machine is slower than a leader may be.
const DURATION: Duration = Duration::from_secs(15);
const RENEW: Duration = Duration::from_secs(10);
/// What a loaded machine may add.
const SLACK: Duration = Duration::from_mins(1);
/// For what has no bound of its own here.
const LIMIT: Duration = Duration::from_mins(3);
/// The host of whoever holds the Lease; empty when nobody does.
async fn holder(namespace: &Namespace) -> String {
    let lease = namespace.api::<Lease>().get_opt("robotimage").await.unwrap();
    let identity = lease
        .and_then(|lease| lease.spec)
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default();
    identity.split('_').next().unwrap_or_default().to_owned()
}

/// Waits until the Lease is this replica's; answers how long that took.
async fn held_by(namespace: &Namespace, replica: &Replica, limit: Duration) -> Duration {
    let began = Instant::now();
    loop {
        let holder = holder(namespace).await;
        if holder == replica.host {
            return began.elapsed();
        }
        assert!(
            began.elapsed() < limit,
            "after {limit:?} {holder:?} holds the lease, not {}:\n{}",
            replica.host,
            replica.log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Changes the resource and waits until somebody has seen it.
async fn somebody_works(namespace: &Namespace, robot: &serde_json::Value, minutes: u32) {
    let mut robot = robot.clone();
    robot["spec"]["interval"] = json!(format!("{minutes}m"));
    let applied = namespace.apply::<RobotImage>(robot).await.unwrap();
    let seen = |object: &RobotImage| {
        object.status.as_ref().and_then(|status| status.observed_generation) == applied.metadata.generation
            && object.metadata.generation == applied.metadata.generation
    };
    install::wait_for(namespace, "robot", LIMIT, |_| {}, seen).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn leaders_hand_over_die_and_stand_still() {
    let setup = setup().await;
    let namespace = setup.unserved("election").await.unwrap();
    let change = json!({
        "operator": {"replicas": 2},
        "leaderElection": {"enabled": true, "leaseDuration": "15s", "renewDeadline": "10s", "retryPeriod": "2s"},
    });
    let local = Local::prepare(&setup, &namespace, &change).await.unwrap();
    // Suspended: a status is all that is to be written.
    let robot = robot_image(
        &setup.bed,
        &namespace,
        "robot",
        "https://git.example.com/robot.git",
        &json!({"spec": {"suspend": true}}),
    );

    let first = Replica::of(&local, "first").unwrap();
    held_by(&namespace, &first, LIMIT).await;
    let second = Replica::of(&local, "second").unwrap();
    second.wait_ready(LIMIT).await;
    first.wait_ready(LIMIT).await;
    somebody_works(&namespace, &robot, 11).await;
    assert_eq!((second.writes(), holder(&namespace).await.as_str()), (0, "first"));

    let mut first = first;
    let told = Instant::now();
    let ending = tokio::task::spawn_blocking(move || {
        first.process.terminate(Duration::from_secs(10));
        first
    });
    held_by(&namespace, &second, LIMIT).await;
    let took = told.elapsed();
    let first = ending.await.unwrap();
    println!("SIGTERM: handed over after {} ms", took.as_millis());
    // It did not let the lease run out.
    assert!(first.log().contains("gave the lease back"), "{}", first.log());
    somebody_works(&namespace, &robot, 12).await;

    let third = Replica::of(&local, "third").unwrap();
    third.wait_ready(LIMIT).await;
    let mut second = second;
    second.process.kill();
    let took = held_by(&namespace, &third, DURATION + SLACK).await;
    println!("SIGKILL: taken over after {} ms", took.as_millis());
    somebody_works(&namespace, &robot, 13).await;

    let fourth = Replica::of(&local, "fourth").unwrap();
    fourth.wait_ready(LIMIT).await;
    assert!(third.process.part().freeze());
    let took = held_by(&namespace, &fourth, DURATION + SLACK).await;
    println!("SIGSTOP: taken over after {} ms", took.as_millis());
    somebody_works(&namespace, &robot, 14).await;
    let (before, writes) = (namespace.api::<RobotImage>().get("robot").await.unwrap(), third.writes());
    // It wakes with a change that it has not seen, and with the belief that it leads.
    assert!(third.process.part().thaw());
    tokio::time::sleep(RENEW).await;
    third.wait_ready(LIMIT).await;
    let after = namespace.api::<RobotImage>().get("robot").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    assert_eq!((third.writes(), holder(&namespace).await.as_str()), (writes, "fourth"));
    assert!(third.log().contains("leading no more"), "{}", third.log());

    // And it is a good follower again.
    let mut fourth = fourth;
    let told = Instant::now();
    let ending = tokio::task::spawn_blocking(move || {
        fourth.process.terminate(Duration::from_secs(10));
        fourth
    });
    held_by(&namespace, &third, LIMIT).await;
    let took = told.elapsed();
    let fourth = ending.await.unwrap();
    println!("SIGTERM again: handed over after {} ms", took.as_millis());
    // It did not let the lease run out.
    assert!(fourth.log().contains("gave the lease back"), "{}", fourth.log());
    somebody_works(&namespace, &robot, 15).await;
    namespace.delete().await.unwrap();
}
