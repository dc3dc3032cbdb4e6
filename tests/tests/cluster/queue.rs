//! Build slots: with one slot three resources build one after another, and those that wait say so.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use robotimage_crds::api::RobotImage;
use robotimage_tests::install;
use serde_json::json;

use crate::campaign::{Seen, ran};
use crate::local::Local;
use crate::objects::{SHELL_ROBOT, git_repository, is_settled, robot_image};
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(5);
const NAMES: [&str; 3] = ["one", "two", "three"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn with_one_slot_builds_wait_for_one_another() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.unserved("queue").await.unwrap());
    let change = json!({"builds": {"slots": {"total": 1}}});
    let mut local = Local::prepare(&setup, &namespace, &change).await.unwrap();
    let repo = git_repository(bed, &namespace, "robot", SHELL_ROBOT).unwrap();
    for name in NAMES {
        let object = robot_image(bed, &namespace, name, repo.url(), &json!({"spec": {"interval": "24h"}}));
        namespace.apply::<RobotImage>(object).await.unwrap();
    }
    let began = Instant::now();
    local.start().unwrap();
    let watched = NAMES.map(|name| {
        let namespace = namespace.clone();
        async move {
            let mut queued = false;
            let seen = |object: &RobotImage| {
                queued |= matches!(
                    install::condition(object, "Reconciling"),
                    Some(("True", "Queued", "waits until a build slot is free"))
                );
            };
            let object = install::wait_for(&namespace, name, LIMIT, seen, is_settled).await.unwrap();
            (queued, object.status.unwrap().build_counter)
        }
    });
    let ends = futures::future::join_all(watched).await;
    println!("{:.1} s for {} builds in one slot", began.elapsed().as_secs_f64(), NAMES.len());
    assert_eq!(ends.iter().filter(|(queued, _)| *queued).count(), NAMES.len() - 1, "{ends:?}");
    assert!(ends.iter().all(|(_, counter)| *counter == Some(1)), "{ends:?}");

    let pods = namespace.api::<Pod>().list(&ListParams::default()).await.unwrap();
    let mut times: Vec<_> = pods
        .items
        .into_iter()
        .filter_map(|object| {
            let owner = object.labels().get("robotimage.dev/name")?.clone();
            let (from, to) = ran(&Seen { object, gone: None })?;
            Some((from, to, owner))
        })
        .collect();
    times.sort();
    assert_eq!(
        times.iter().map(|(.., owner)| owner.as_str()).collect::<BTreeSet<_>>(),
        BTreeSet::from(NAMES)
    );
    for pair in times.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two builds at the same time: {times:?}");
    }
    local.stop();
    namespace.delete().await.unwrap();
}
