//! What the operator's process must outlive: an API server that ends and comes back, or stands still, and a token that ends.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::path::Path;
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, PostParams};
use robotimage_crds::api::RobotImage;
use robotimage_crds::custom_resource_definition;
use robotimage_tests::node::Options;
use robotimage_tests::operator::OperatorOptions;
use robotimage_tests::{Namespace, Node, install, node};
use serde_json::{Value, json};

use crate::local::Local;
use crate::objects::robot_image;
use crate::replica::Replica;
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(3);
/// Instead of 200 s, so that the silence of a watch shows soon: /healthz fails three tenths later.
const WATCH: Duration = Duration::from_secs(4);
/// kube's client reads the file of a token once a minute, and a failed watch is tried again after 30 s at most.
const TOKEN: Duration = Duration::from_secs(150);

/// A RobotImage that nobody builds: a status is all that is to be written.
fn suspended(name: &str, minutes: u32) -> RobotImage {
    serde_json::from_value(json!({
        "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage", "metadata": {"name": name},
        "spec": {
            "suspend": true, "interval": format!("{minutes}m"),
            "source": {"git": {"url": "https://git.example.com/robot.git"}},
            "image": {"repository": "registry.example.com/robots/robot"},
        },
    }))
    .unwrap()
}

/// Waits until the operator has seen the newest generation.
async fn seen(api: &Api<RobotImage>, name: &str, replica: &Replica, limit: Duration) -> Duration {
    let began = Instant::now();
    loop {
        if let Ok(object) = api.get(name).await
            && object.status.as_ref().and_then(|status| status.observed_generation) == object.metadata.generation
        {
            return began.elapsed();
        }
        assert!(began.elapsed() < limit, "{name} was not seen within {limit:?}:\n{}", replica.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_api_server_ends_comes_back_and_stands_still() {
    let setup = setup().await;
    // A cluster of its own: the other suites need theirs.
    let mut node = Node::start(setup.bed.cache(), Options::default()).await.unwrap();
    let client = node.client().await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    definitions
        .create(&PostParams::default(), &custom_resource_definition())
        .await
        .unwrap();
    let folder = node.run_dir().join("operator");
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("operator.yaml");
    let text = "builderImage: a.example.com/b\nbase: {image: a.example.com/base}\nrcc: {image: a.example.com/rcc}\n";
    std::fs::write(&config, text).unwrap();
    let options = OperatorOptions {
        program: setup.binaries.operator.clone(),
        kubeconfig: node.kubeconfig(),
        args: vec![
            format!("--config={}", config.display()),
            format!("--watch-timeout={}s", WATCH.as_secs()),
        ],
        env: Vec::new(),
        folder,
    };
    let replica = Replica::start("survivor", options).unwrap();
    let identity = replica.process.identity();
    replica.wait_ready(LIMIT).await;
    let api: Api<RobotImage> = Api::namespaced(client.clone(), "default");
    api.create(&PostParams::default(), &suspended("one", 10)).await.unwrap();
    seen(&api, "one", &replica, LIMIT).await;

    // What changes while the operator stands still is older than what the next API server remembers: it answers 410 to the old watch.
    assert!(replica.process.part().freeze());
    let change = kube::api::Patch::Merge(json!({"spec": {"interval": "20m"}}));
    api.patch("one", &kube::api::PatchParams::default(), &change).await.unwrap();
    api.create(&PostParams::default(), &suspended("two", 10)).await.unwrap();
    node.part_mut("kube-apiserver").unwrap().kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.part_mut("kube-apiserver").unwrap().restart().unwrap();
    assert!(replica.process.part().thaw());
    let took = [seen(&api, "one", &replica, LIMIT).await, seen(&api, "two", &replica, LIMIT).await];
    println!(
        "API server killed and started again: seen after {:.1} s",
        took.iter().sum::<Duration>().as_secs_f64()
    );
    api.create(&PostParams::default(), &suspended("three", 10)).await.unwrap();
    seen(&api, "three", &replica, LIMIT).await;
    replica.wait_for("/healthz", 200, LIMIT).await;

    // It takes connections and answers nothing: no error ever comes.
    let frozen = Instant::now();
    assert!(node.part("kube-apiserver").unwrap().freeze());
    let said = replica.wait_for("/healthz", 503, LIMIT).await;
    println!(
        "API server frozen: after {:.1} s /healthz says: {}",
        frozen.elapsed().as_secs_f64(),
        said.trim()
    );
    assert!(said.contains("is silent for"), "{said}");
    assert!(node.part("kube-apiserver").unwrap().thaw());
    replica.wait_for("/healthz", 200, LIMIT).await;
    api.create(&PostParams::default(), &suspended("four", 10)).await.unwrap();
    seen(&api, "four", &replica, LIMIT).await;
    assert!(identity.is_alive(), "the process is not the one that was started");
    node.stop().unwrap();
}

/// A token that ends when the Secret of this name is deleted.
async fn token(namespace: &Namespace, account: &str, secret: &str) -> String {
    let made = Secret {
        metadata: kube::api::ObjectMeta {
            name: Some(secret.to_owned()),
            ..Default::default()
        },
        ..Secret::default()
    };
    let made = namespace.api::<Secret>().create(&PostParams::default(), &made).await.unwrap();
    let request = TokenRequest {
        spec: TokenRequestSpec {
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Secret".to_owned()),
                name: Some(secret.to_owned()),
                uid: made.metadata.uid,
            }),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts = namespace.api::<ServiceAccount>();
    let answer = accounts
        .create_token_request(account, &PostParams::default(), &request)
        .await
        .unwrap();
    answer.status.unwrap().token
}

/// The kubeconfig of the service account, with its token in a file as in a pod.
fn with_token_file(local: &Local, file: &Path) -> std::path::PathBuf {
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(local.direct()).unwrap()).unwrap();
    config["users"][0]["user"] = json!({"tokenFile": file});
    let path = local.folder().join("token-file.conf");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_token_ends_and_another_takes_its_place() {
    let setup = setup().await;
    let namespace = setup.unserved("token").await.unwrap();
    let local = Local::prepare(&setup, &namespace, &json!({})).await.unwrap();
    let file = local.folder().join("the-token");
    let old = token(&namespace, "robotimage", "old").await;
    std::fs::write(&file, &old).unwrap();
    let kubeconfig = with_token_file(&local, &file);
    let replica = Replica::with_kubeconfig(&local, "token", &kubeconfig).unwrap();
    let api = namespace.api::<RobotImage>();
    let robot = |name: &str| {
        robot_image(
            &setup.bed,
            &namespace,
            name,
            "https://git.example.com/robot.git",
            &json!({"spec": {"suspend": true}}),
        )
    };
    namespace.apply::<RobotImage>(robot("one")).await.unwrap();
    seen(&api, "one", &replica, LIMIT).await;

    namespace.api::<Secret>().delete("old", &DeleteParams::default()).await.unwrap();
    let client = node::client(&kubeconfig).await.unwrap();
    let own: Api<RobotImage> = Api::namespaced(client, namespace.name());
    let end = Instant::now() + LIMIT;
    while own.get("one").await.is_ok() {
        assert!(Instant::now() < end, "the token of a deleted Secret is still taken");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    std::fs::write(&file, token(&namespace, "robotimage", "new").await).unwrap();
    let written = Instant::now();
    namespace.apply::<RobotImage>(robot("two")).await.unwrap();
    seen(&api, "two", &replica, TOKEN).await;
    println!(
        "token replaced: seen {:.0} s after the new one was there",
        written.elapsed().as_secs_f64()
    );
    let told = |object: &RobotImage| object.status.is_some();
    install::wait_for(&namespace, "two", LIMIT, |_| {}, told).await.unwrap();
    namespace.delete().await.unwrap();
}
