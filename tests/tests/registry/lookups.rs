//! The operator's look-ups at a real registry: what a tag means now, whether an image is there, and what it says when it is
//! not told. About a second.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use robotimage_operator::config::Platform;
use robotimage_operator::hosts::Hosts;
use robotimage_operator::registry::{Inspector, LookupFailure, Registries, RegistryInspector};
use robotimage_tests::registry::{Registry, RegistryAddress, RegistryOptions};
use robotimage_tests::secret::Login;
use robotimage_tests::{Cache, Site};

/// Pushes an image that no other word has; gives its digest.
fn push(at: &RegistryAddress, folder: &Path, name: &str, word: &str) -> String {
    let file = folder.join("word");
    std::fs::write(&file, word).unwrap();
    let layer = folder.join("layer.tar");
    let mut tar = Command::new("tar");
    tar.arg("--create")
        .arg("--file")
        .arg(&layer)
        .arg("--directory")
        .arg(folder)
        .arg("word");
    assert!(tar.status().unwrap().success());
    let reference = at.reference(name);
    at.crane(&["append", "--new_layer", &layer.display().to_string(), "--new_tag", &reference])
        .unwrap();
    at.crane(&["mutate", "--set-platform", "linux/amd64", "--tag", &reference, &reference])
        .unwrap();
    at.digest(name).unwrap()
}

fn platform() -> Arc<Platform> {
    let text = "builderImage: a\nbase: {image: b}\nrcc: {image: c}\naddressPolicy: {allow: [127.0.0.1/32]}\n";
    Arc::new(Platform::new(Platform::parse(text).unwrap(), String::new(), None).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the registry, which the test bed builds"]
async fn the_operator_learns_what_a_tag_means_and_nothing_that_is_not_public() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, site) = (Cache::open().unwrap(), Site::loopback(folder.path()).unwrap());
    let mut open = Registry::start(&cache, &site, RegistryOptions::open("lookups")).await.unwrap();
    let options = RegistryOptions {
        login: Some(Login::new("reader", "secret")),
        ..RegistryOptions::open("closed")
    };
    let closed = Registry::start(&cache, &site, options).await.unwrap();
    let inspector = Arc::new(RegistryInspector::new(&platform()).unwrap());
    let registries = Registries::new(Arc::clone(&inspector) as Arc<dyn Inspector>, Arc::new(Hosts::new(2)));

    // A tag that moves.
    let first = push(open.at(), folder.path(), "base/os:1", "one");
    let base = open.at().reference("base/os:1");
    registries.ask(&base).await;
    let known = registries.known(&base).0.unwrap();
    assert_eq!((known.digest.as_deref(), known.failure), (Some(&*first), None));
    let second = push(open.at(), folder.path(), "base/os:next", "two");
    let next = open.at().reference("base/os:next");
    open.at().crane(&["tag", &next, "1"]).unwrap();
    registries.ask(&base).await;
    assert_eq!(registries.known(&base).0.unwrap().digest.as_deref(), Some(&*second));
    let found = inspector.digest(base.clone(), None).await.unwrap();
    assert_eq!((found.top, found.manifest), (second.clone(), second.clone()));

    // Whether an image is there.
    let image = open.at().reference(&format!("base/os@{second}"));
    assert_eq!(registries.exists(&image).await, Ok(()));
    let gone = open.at().reference(&format!("base/os@sha256:{}", "0".repeat(64)));
    assert!(matches!(registries.exists(&gone).await, Err(LookupFailure::Missing { .. })));
    let never = open.at().reference("base/never:1");
    registries.ask(&never).await;
    let failure = registries.known(&never).0.unwrap().failure;
    assert!(matches!(failure, Some(LookupFailure::Missing { .. })), "{failure:?}");

    // What asks for a login is not told.
    let hidden = push(closed.at(), folder.path(), "base/os:1", "three");
    for reference in ["base/os:1".to_owned(), format!("base/os@{hidden}"), "base/never:1".to_owned()] {
        let answer = registries.exists(&closed.at().reference(&reference)).await;
        assert!(matches!(answer, Err(LookupFailure::Refused { .. })), "{reference}: {answer:?}");
    }

    // A registry that is down says nothing, and what it said stands.
    open.stop();
    registries.ask(&base).await;
    let known = registries.known(&base).0.unwrap();
    assert_eq!((known.digest.as_deref(), known.failures), (Some(&*second), 1));
    assert_eq!(known.failure.unwrap().reason().as_str(), "RegistryUnavailable");
    assert!(matches!(registries.exists(&image).await, Err(LookupFailure::Failed { .. })));
}
