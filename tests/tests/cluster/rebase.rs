//! A base that is swapped under a tag: the operator sees it by itself, makes the image anew, and says so in the ConfigMap of
//! `publishTo`. A ConfigMap of somebody else's stays as it is.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use robotimage_crds::api::{LatestImage, RobotImage};
use robotimage_tests::{Bed, Namespace, install};
use serde_json::json;

use crate::local::Local;
use crate::objects::{SHELL_ROBOT, git_repository, is_settled, robot_image, wait_ready};
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(5);

fn latest(object: &RobotImage) -> LatestImage {
    object.status.clone().and_then(|status| status.latest_image).unwrap()
}

/// Waits until the ConfigMap says what the status says, and no more than that.
async fn wait_announced(namespace: &Namespace, object: &RobotImage) {
    let image = latest(object);
    let tag = image.tags.first().cloned().unwrap_or_default();
    let wanted =
        BTreeMap::from([("ref", image.reference), ("digest", image.digest), ("tag", tag)].map(|(key, value)| (key.to_owned(), value)));
    let end = Instant::now() + LIMIT;
    loop {
        let map = namespace.api::<ConfigMap>().get_opt("announced").await.unwrap();
        let data = map.as_ref().and_then(|map| map.data.clone());
        if data.as_ref() == Some(&wanted) {
            let owners = map.unwrap().metadata.owner_references.unwrap_or_default();
            // It goes with the RobotImage.
            assert_eq!(
                owners.iter().map(|owner| Some(&owner.uid)).collect::<Vec<_>>(),
                [object.metadata.uid.as_ref()]
            );
            return;
        }
        assert!(Instant::now() < end, "the ConfigMap says {data:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Moves a tag of the public registry to a base with this in its environment.
fn move_base(bed: &Bed, base: &str, word: &str) -> String {
    let public = &bed.book().public;
    let set = format!("WORD={word}");
    let words = ["mutate", "--insecure", bed.book().base_image.as_str(), "--env", &set, "--tag", base];
    public.crane(&words).unwrap();
    public.digest(base.split_once('/').unwrap().1).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_moved_base_makes_a_new_image_and_a_config_map_says_so() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.unserved("rebase").await.unwrap());
    let change = json!({"publishTo": {"enabled": true}, "registryPolling": {"baseInterval": "10s"}});
    let mut local = Local::prepare(&setup, &namespace, &change).await.unwrap();
    local.start().unwrap();
    let began = Instant::now();
    let base = bed.book().public.reference(&format!("base/moving-{}:1", namespace.name()));
    let first_base = move_base(bed, &base, "one");
    let theirs = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "theirs"}, "data": {"ref": "mine"}});
    let theirs = namespace.apply::<ConfigMap>(theirs).await.unwrap();

    let repo = git_repository(bed, &namespace, "robot", SHELL_ROBOT).unwrap();
    let to = |name: &str| json!({"spec": {"image": {"base": {"image": base}, "publishTo": {"configMap": {"name": name}}}}});
    for (name, map) in [("robot", "announced"), ("other", "theirs")] {
        let object = robot_image(bed, &namespace, name, repo.url(), &to(map));
        namespace.apply::<RobotImage>(object).await.unwrap();
    }
    let first = wait_ready(&namespace, "robot", LIMIT).await.unwrap();
    wait_announced(&namespace, &first).await;
    let base_of = |object: &RobotImage| object.status.as_ref().and_then(|status| status.inputs.clone()).unwrap().base;
    assert!(base_of(&first).ends_with(&first_base), "{} is not {first_base}", base_of(&first));
    println!("{:>5.1} s  built, and told in a ConfigMap", began.elapsed().as_secs_f64());

    wait_ready(&namespace, "other", LIMIT).await.unwrap();
    let refused = async || {
        let events = namespace.api::<Event>().list(&ListParams::default()).await.unwrap();
        events
            .items
            .into_iter()
            .find(|event| event.reason.as_deref() == Some("PublishToRefused"))
    };
    let end = Instant::now() + LIMIT;
    let event = loop {
        if let Some(event) = refused().await {
            break event;
        }
        assert!(Instant::now() < end, "no event says that the ConfigMap is somebody else's");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    assert_eq!(event.regarding.and_then(|object| object.name).as_deref(), Some("other"));
    let now = namespace.api::<ConfigMap>().get("theirs").await.unwrap();
    assert_eq!(now.metadata.resource_version, theirs.metadata.resource_version, "{now:?}");
    println!("{:>5.1} s  somebody else's ConfigMap is left", began.elapsed().as_secs_f64());

    // Nobody asks for anything from here on.
    let second_base = move_base(bed, &base, "two");
    assert_ne!(first_base, second_base);
    let before = latest(&first).digest;
    let newer = |object: &RobotImage| is_settled(object) && latest(object).digest != before;
    let second = install::wait_for(&namespace, "robot", LIMIT, |_| {}, newer).await.unwrap();
    let status = second.status.clone().unwrap();
    let build = status.latest_build.clone().unwrap();
    let reasons: Vec<&str> = build.reasons.iter().map(|reason| reason.kind.as_str()).collect();
    assert_eq!(
        (build.number, reasons.as_slice(), build.plan.as_deref()),
        (2, &["BaseChanged"][..], Some("RebaseOnly"))
    );
    assert_eq!(
        status.history.first().map(|entry| entry.reasons.clone()),
        Some(vec!["BaseChanged".to_owned()])
    );
    assert!(
        base_of(&second).ends_with(&second_base),
        "{} is not {second_base}",
        base_of(&second)
    );
    assert_eq!(second.metadata.generation, first.metadata.generation);
    wait_announced(&namespace, &second).await;
    println!("{:>5.1} s  the base moved: built anew, and told", began.elapsed().as_secs_f64());
    local.stop();
    namespace.delete().await.unwrap();
}
