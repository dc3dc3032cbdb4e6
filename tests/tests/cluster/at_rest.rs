//! An operator with nothing to do does nothing: no write to an object where nothing changed, and never a list of Secrets.
//!
//! One of the first by its name, because it watches for five minutes and the runner starts tests in the order of their names.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::process::Output;
use std::time::{Duration, Instant};

use robotimage_crds::api::RobotImage;
use robotimage_tests::audit::{self, Entry};
use robotimage_tests::git::{GitOptions, GitServer};
use robotimage_tests::install::SYSTEM;
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::{Bed, kstatus};
use serde_json::json;

use crate::local::Local;
use crate::objects::{SHELL_ROBOT, robot_image, wait_ready};
use crate::setup::setup;

/// How long nothing may be written.
const WINDOW: Duration = Duration::from_mins(5);
/// Looks at the source that the window must have seen at least, each of two requests: one every 11 s at most.
const LOOKS: usize = 20;

/// What the real kstatus says of an object.
fn kstatus(bed: &Bed, object: &RobotImage) -> String {
    let verdicts = kstatus::of(bed.cache(), std::slice::from_ref(object)).unwrap();
    verdicts[0].status.clone()
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn counted<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<String> {
    entries
        .map(|entry| {
            format!(
                "{} {} {} {}/{} {}",
                entry.received, entry.user, entry.verb, entry.resource, entry.name, entry.code
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn nothing_is_written_where_nothing_changes() {
    let setup = setup().await;
    let bed = &setup.bed;
    let namespace = setup.unserved("rest").await.unwrap();
    let mut local = Local::prepare(&setup, &namespace, &json!({})).await.unwrap();
    // A git server of our own: its log proves that the operator did look.
    let name = format!("rest-{}", std::process::id());
    let mut git = GitServer::start(
        &bed.node().site(),
        &GitOptions {
            name,
            port: None,
            tls: true,
        },
    )
    .unwrap();
    let repo = git.create("robot", Some(&bed.book().git_login)).unwrap();
    let commit = repo.commit(SHELL_ROBOT, "Begin").unwrap();
    let host = repo.url().split('/').nth(2).unwrap_or_default();
    namespace
        .git_secret("own-git", &bed.book().git_login, host, &bed.node().authority().pem().unwrap())
        .await
        .unwrap();
    let change = json!({"spec": {"source": {"git": {"secretRef": {"name": "own-git"}}}}});

    let object = namespace
        .apply::<RobotImage>(robot_image(bed, &namespace, "robot", repo.url(), &change))
        .await
        .unwrap();
    assert_eq!(object.status.as_ref().and_then(|status| status.observed_generation), Some(-1));
    assert_eq!(kstatus(bed, &object), "InProgress");
    let kubectl = Kubectl::within(bed, namespace.name());
    let waited = kubectl
        .output(&["wait", "--for=condition=Ready", "rimg/robot", "--timeout=2s"])
        .unwrap();
    assert!(!waited.status.success() && text(&waited).contains("timed out"), "{}", text(&waited));

    local.start().unwrap();
    kubectl
        .run(&["wait", "--for=condition=Ready", "rimg/robot", "--timeout=240s"])
        .unwrap();
    let before = wait_ready(&namespace, "robot", Duration::from_mins(5)).await.unwrap();
    assert_eq!(kstatus(bed, &before), "Current");
    assert_eq!(
        before
            .status
            .as_ref()
            .and_then(|status| status.latest_image.as_ref())
            .map(|image| image.tags.clone()),
        Some(vec![commit[..12].to_owned()])
    );
    // Events follow the write of the status that they tell of.
    tokio::time::sleep(Duration::from_secs(3)).await;

    git.server().forget();
    let (log, began) = (bed.node().audit_log(), Instant::now());
    let mark = audit::mark(&log).unwrap();
    tokio::time::sleep(WINDOW).await;
    let seen = audit::read(&log, mark).unwrap();
    let after = namespace.api::<RobotImage>().get("robot").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);
    let writes = counted(
        seen.iter()
            .filter(|entry| entry.user == local.user && entry.is_write() && entry.resource != "leases"),
    );
    assert!(writes.is_empty(), "written where nothing changed:\n{}", writes.join("\n"));
    let looks = git.server().seen().len();
    assert!(
        looks >= LOOKS,
        "the operator asked the git server {looks} times only: the window shows nothing"
    );
    assert!(local.process().unwrap().is_alive());
    println!(
        "{:.0} s, {looks} requests to the git server, no write",
        began.elapsed().as_secs_f64()
    );

    // Of everything that any operator of this process did, from its installation on.
    let all = audit::read(&log, setup.mark).unwrap();
    let operator = |entry: &&Entry| {
        let service_account = entry
            .user
            .strip_prefix("system:serviceaccount:")
            .and_then(|rest| rest.split_once(':'));
        service_account.is_some_and(|(from, name)| name == "robotimage" && (from == SYSTEM || from.starts_with("cluster-")))
    };
    let users: std::collections::BTreeSet<&str> = all.iter().filter(operator).map(|entry| entry.user.as_str()).collect();
    assert!(users.contains(local.user.as_str()) && users.len() >= 2, "{users:?}");
    let secrets = all.iter().filter(operator).filter(|entry| entry.resource == "secrets");
    let listed = counted(secrets.clone().filter(|entry| entry.verb != "get" || entry.name.is_empty()));
    assert!(listed.is_empty(), "{}", listed.join("\n"));
    // In a namespace that is being removed the Role may go before the RobotImage, and an operator that an earlier process left
    // here is refused in that one's namespaces.
    let ours = format!("cluster-{}-", std::process::id());
    let removed = |entry: &Entry| {
        let mut ends = all.iter().filter(|end| end.resource == "namespaces" && end.verb == "delete");
        ends.any(|end| end.name == entry.namespace && end.received <= entry.completed)
    };
    let here = |entry: &&Entry| entry.namespace.is_empty() || (entry.namespace.starts_with(&ours) && !removed(entry));
    let refused = counted(all.iter().filter(operator).filter(here).filter(|entry| entry.code == 403));
    assert!(refused.is_empty(), "asked for more than the chart allows:\n{}", refused.join("\n"));
    println!("{} reads of a Secret by its name, no list, no watch, by {users:?}", secrets.count());
    local.stop();
    namespace.delete().await.unwrap();
}
