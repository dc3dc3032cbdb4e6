//! Blobs that come from another repository, and pushes that wait for their registry.

use std::time::Duration;

use robotimage_registry::{
    Client, ClientOptions, Credentials, Descriptor, ErrorKind, MediaType, PushOutcome, Reference, RetryPolicy, digest,
};

use crate::image::{image, push, source};
use crate::registry::{RealRegistry, Setup};
use crate::{client, options, repository};

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn blobs_are_mounted_and_copied() {
    let (registry, other) = (RealRegistry::start(&Setup::default()), RealRegistry::start(&Setup::default()));
    let (client, base, target) = (client(), repository(&registry, "base"), repository(&registry, "robots/a"));
    let image = image(5);
    push(&client, &base, &image).await.unwrap();
    let large = &image.layers[1];
    assert_eq!(
        client.push_blob(&target, &source(&image, large), Some(&base)).await.unwrap(),
        PushOutcome::Mounted
    );
    let small = &image.layers[0];
    assert_eq!(
        client.copy_blob(&client, &base, &target, small).await.unwrap(),
        PushOutcome::Mounted
    );

    let elsewhere = repository(&other, "robots/a");
    let uploaded = PushOutcome::Uploaded { bytes: large.size() };
    assert_eq!(client.copy_blob(&client, &base, &elsewhere, large).await.unwrap(), uploaded);
    assert_eq!(
        client.copy_blob(&client, &base, &elsewhere, large).await.unwrap(),
        PushOutcome::Existing
    );
    let gone = Descriptor::new(MediaType::ImageLayer, 3, digest::sha256(b"xyz"));
    let error = client.copy_blob(&client, &base, &elsewhere, &gone).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn a_registry_that_comes_back_is_waited_for() {
    let mut registry = RealRegistry::start(&Setup::default());
    let (client, repository, image) = (client(), repository(&registry, "robots/a"), image(8));
    registry.down();
    let pushing = tokio::spawn(async move {
        let outcome = push(&client, &repository, &image).await;
        outcome.map(|(digest, _)| (digest, image.manifest.clone()))
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    registry.up();
    let (digest, manifest) = pushing.await.unwrap().unwrap();
    assert_eq!(digest, digest::sha256(&manifest));

    registry.down();
    let once = Client::new(
        ClientOptions {
            retry: RetryPolicy::never(),
            ..options()
        },
        Credentials::none(),
    )
    .unwrap();
    let error = once
        .manifest(&Reference::parse(&format!("{}/robots/a@{digest}", registry.host)).unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.retryable());
}
