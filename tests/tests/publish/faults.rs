//! Layers that the registry has lost, credentials in the source, and a step that is told to stop.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use robotimage_builder::image::Role;
use robotimage_crds::api::Compression;
use robotimage_crds::build::{Outcome, paths};
use robotimage_tests::faultproxy::{Fault, Rule};

use crate::pod::{Ground, Pod, TAGS, noise, wait};

/// Deletes a blob from a repository, as a careless clean-up does.
async fn delete(ground: &Ground, name: &str, digest: &str) {
    let url = format!("http://{}/v2/{name}/blobs/{digest}", ground.registry.address());
    let answer = reqwest::Client::new().delete(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
    assert!(!ground.has(name, digest).await);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn a_layer_that_is_gone_is_made_again() {
    let ground = Ground::new().await;
    for role in [Role::Base, Role::Rcc, Role::Environment, Role::Home] {
        let proxy = ground.proxy().await;
        let mut pod = Pod::new(&ground, &proxy, &format!("lost/{}", role.as_str()), Compression::Zstd);
        let first = pod.publish().await;
        fs::write(pod.path(paths::SOURCE).join("task.py"), noise(7, 30_000)).unwrap();
        let whole = pod.facts.clone();
        pod.take_over(&ground, &first).await;
        let lost = pod
            .facts
            .reused
            .iter()
            .find(|layer| layer.role == role)
            .unwrap()
            .descriptor
            .digest
            .clone();
        delete(&ground, &pod.name, &lost).await;
        let digest = match (role, pod.run().await) {
            (Role::Base | Role::Rcc, (0, Outcome::Published(published))) => published.digest,
            // What foreign code made cannot be made here: said, no tag moved, and right at the next attempt.
            (_, (20, Outcome::Failed(failure))) => {
                assert_eq!(failure.reason, "RegistryProtocol", "{failure:?}");
                assert!(failure.message.contains("environment"), "{failure:?}");
                for tag in TAGS {
                    assert_eq!(ground.tag(&pod.name, tag).await.as_deref(), Some(first.as_str()));
                }
                pod.facts = whole;
                pod.write_facts();
                pod.publish().await
            }
            (role, other) => panic!("{role:?}: {other:?}"),
        };
        ground.verify(&pod.name, &digest).await;
        assert!(ground.has(&pod.name, &lost).await, "{role:?}: the same bytes as before");
        assert_ne!(digest, first);
        for tag in TAGS {
            assert_eq!(ground.tag(&pod.name, tag).await.as_deref(), Some(digest.as_str()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn credentials_do_not_get_into_an_image() {
    let ground = Ground::new().await;
    let proxy = ground.proxy().await;
    let mut pod = Pod::new(&ground, &proxy, "leak/code", Compression::Zstd);
    let secret = serde_json::json!({"auths": {"registry.example.com": {"username": "robot", "password": "open:sesame"}}});
    fs::write(pod.path(paths::PUSH_SECRET).join(".dockerconfigjson"), secret.to_string()).unwrap();
    pod.plan.image.push_secret = true;
    // The header of basic authentication, in base64, as people paste it.
    let pasted = pod.path(paths::SOURCE).join("devdata.json");
    fs::write(&pasted, r#"{"auth": "cm9ib3Q6b3BlbjpzZXNhbWU="}"#).unwrap();
    let (code, outcome) = pod.run().await;
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!((code, failure.reason.as_str()), (10, "SecretLeakDetected"), "{failure:?}");
    assert!(
        failure.message.contains("devdata.json") && !failure.message.contains("sesame"),
        "{failure:?}"
    );
    assert_eq!(ground.tag(&pod.name, TAGS[0]).await, None);
    assert!(pod.scratch().is_empty(), "{:?}", pod.scratch());

    fs::remove_file(pasted).unwrap();
    let digest = pod.publish().await;
    ground.verify(&pod.name, &digest).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn a_step_that_is_told_to_stop_leaves_nothing() {
    let ground = Ground::new().await;
    for method in ["POST", "PUT"] {
        let proxy = ground.proxy().await;
        let pod = Pod::new(&ground, &proxy, &format!("stop/{}", method.to_lowercase()), Compression::Zstd);
        proxy.rule(Rule::new(usize::MAX, Fault::Stall, move |request| request.method == method));
        let mut child = pod.start();
        let begun = Instant::now();
        while !proxy.seen().iter().any(|seen| seen.method == method) {
            assert!(begun.elapsed() < Duration::from_mins(1), "no {method} came");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let told = Instant::now();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        assert_eq!(wait(&mut child).await.code(), Some(130));
        // The stall would last for ever and the plan for five minutes.
        assert!(told.elapsed() < Duration::from_mins(1), "{:?}", told.elapsed());
        assert!(pod.scratch().is_empty(), "{method}: {:?}", pod.scratch());
        assert_eq!(ground.tag(&pod.name, TAGS[0]).await, None);
    }
}
