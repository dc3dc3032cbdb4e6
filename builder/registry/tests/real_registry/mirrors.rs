//! A real registry and a real mirror of it, which keeps what it mirrors below a path and behind a password.

use std::collections::BTreeMap;

use bytes::Bytes;
use robotimage_registry::{Client, ClientOptions, Credentials, Descriptor, ErrorKind, MediaType, digest};

use crate::image::{image, push};
use crate::registry::{RealRegistry, Setup};
use crate::{client, options, repository};

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn an_image_comes_from_the_mirror_and_goes_on_at_the_registry() {
    let mut origin = RealRegistry::start(&Setup::default());
    let mut mirror = RealRegistry::start(&Setup {
        password: true,
        ..Setup::default()
    });
    let json = format!(
        r#"{{"auths": {{"{}": {{"username": "robot", "password": "opensesame"}}}}}}"#,
        mirror.host
    );
    let credentials = || Credentials::from_docker_config(json.as_bytes()).unwrap();
    let image = image(7);
    let (here, there) = (repository(&origin, "library/base"), repository(&mirror, "hub/library/base"));
    let at_mirror = Client::new(options(), credentials()).unwrap();
    for (client, repository) in [(&client(), &here), (&at_mirror, &there)] {
        let (digest, _) = push(client, repository, &image).await.unwrap();
        // An index in an index, whose entries state no platform.
        let mut entry = Descriptor::new(MediaType::ImageManifest, image.manifest.len() as u64, digest);
        for _ in 0..2 {
            let index = serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::ImageIndex.to_string(), "manifests": [entry]});
            let index = Bytes::from(index.to_string());
            client
                .push_manifest(repository, index.clone(), &MediaType::ImageIndex)
                .await
                .unwrap();
            client.tag(repository, index.clone(), &MediaType::ImageIndex, "v1").await.unwrap();
            entry = Descriptor::new(MediaType::ImageIndex, index.len() as u64, digest::sha256(&index));
        }
    }
    let tag = here.with_tag("v1").unwrap();
    let mirrored = || {
        let options = ClientOptions {
            mirrors: BTreeMap::from([(origin.host.clone(), vec![format!("{}/hub", mirror.host)])]),
            ..options()
        };
        Client::new(options, credentials()).unwrap()
    };
    let (first, second, third) = (mirrored(), mirrored(), mirrored());

    // The mirror alone is enough.
    origin.down();
    let found = first.resolve_image(&tag, "linux", "amd64").await.unwrap();
    assert_eq!(
        (found.manifest_bytes, found.reference.registry()),
        (image.manifest.clone(), here.registry())
    );
    let large = first.blob_bytes(&here, &image.layers[1], u64::MAX).await.unwrap();
    assert_eq!(digest::sha256(&large), *image.layers[1].digest());
    let error = first.without_mirrors().resolve_image(&tag, "linux", "amd64").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");

    // And the registry alone, also for a client that has met the mirror.
    origin.up();
    second.resolve_image(&tag, "linux", "amd64").await.unwrap();
    mirror.down();
    for client in [second, third] {
        let found = client.resolve_image(&tag, "linux", "amd64").await.unwrap();
        assert_eq!(found.manifest_bytes, image.manifest);
        let small = client.blob_bytes(&here, &image.layers[0], u64::MAX).await.unwrap();
        assert_eq!(digest::sha256(&small), *image.layers[0].digest());
    }
}
