//! Images of one platform and of several: pushed, tagged, resolved, and missed.

use bytes::Bytes;
use robotimage_registry::{
    BlobSource, Client, ClientOptions, Credentials, Descriptor, Error, ErrorKind, MediaType, PushOutcome, TagOutcome, digest, json,
};

use crate::image::{image, push};
use crate::registry::{RealRegistry, Setup};
use crate::{client, options, repository, skopeo};

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn an_image_is_pushed_pulled_and_tagged() {
    let registry = RealRegistry::start(&Setup::default());
    let (client, repository, image) = (client(), repository(&registry, "robots/a"), image(1));
    // The large layer goes as a stream of PATCH, as one of more than 64 MiB would.
    let patching = Client::new(
        ClientOptions {
            single_put_limit: 1_000_000,
            ..options()
        },
        Credentials::none(),
    )
    .unwrap();
    let (digest, outcomes) = push(&patching, &repository, &image).await.unwrap();
    let uploaded = |blob: &Descriptor| PushOutcome::Uploaded { bytes: blob.size() };
    assert_eq!(
        outcomes,
        [uploaded(&image.layers[0]), uploaded(&image.layers[1]), uploaded(&image.config)]
    );
    assert_eq!(
        push(&client, &repository, &image).await.unwrap(),
        (digest.clone(), vec![PushOutcome::Existing; 3])
    );

    let kind = MediaType::ImageManifest;
    let bytes = image.manifest.clone();
    assert_eq!(
        client.tag(&repository, bytes.clone(), &kind, "v1").await.unwrap(),
        TagOutcome::Created
    );
    assert_eq!(
        client.tag(&repository, bytes.clone(), &kind, "v1").await.unwrap(),
        TagOutcome::Unchanged
    );
    let tag = repository.with_tag("v1").unwrap();
    assert_eq!(client.head_manifest(&tag).await.unwrap(), Some(digest.clone()));
    let seen = skopeo(&["inspect", "--tls-verify=false", &format!("docker://{tag}")]);
    assert_eq!(
        (seen["Digest"].as_str(), seen["Labels"]["test"].as_str()),
        (Some(digest.as_ref()), Some("seed 1"))
    );
    let folder = tempfile::tempdir().unwrap();
    let target = format!("oci:{}:v1", folder.path().join("copy").display());
    skopeo(&["copy", "--src-tls-verify=false", &format!("docker://{tag}"), &target]);

    let second = crate::image::image(2);
    push(&client, &repository, &second).await.unwrap();
    let moved = client.tag(&repository, second.manifest.clone(), &kind, "v1").await.unwrap();
    assert_eq!(moved, TagOutcome::Moved { from: digest.clone() });
    client.tag(&repository, bytes, &kind, "a2").await.unwrap();
    assert_eq!(client.list_tags(&repository).await.unwrap(), ["a2", "v1"]);

    let resolved = client
        .resolve_image(&repository.with_digest(&digest), "linux", "amd64")
        .await
        .unwrap();
    assert_eq!(resolved.manifest_bytes, image.manifest);
    assert_eq!(resolved.config.rootfs().diff_ids().len(), 2);
    let path = folder.path().join("blob");
    let mut file = tokio::fs::File::create(&path).await.unwrap();
    client
        .blob_to_file(&repository, &resolved.manifest.layers()[1], &mut file)
        .await
        .unwrap();
    assert_eq!(digest::sha256(&std::fs::read(&path).unwrap()), *image.layers[1].digest());
    let error = client.resolve_image(&tag, "linux", "arm64").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PlatformMissing, "{error}");
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn an_index_leads_to_the_platform() {
    let registry = RealRegistry::start(&Setup::default());
    let (client, repository, image) = (client(), repository(&registry, "base"), image(3));
    let (digest, _) = push(&client, &repository, &image).await.unwrap();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageIndex.to_string(),
        "manifests": [{
            "mediaType": MediaType::ImageManifest.to_string(), "digest": digest.to_string(), "size": image.manifest.len(),
            "platform": {"os": "linux", "architecture": "amd64"},
        }],
    });
    let index = Bytes::from(json::canonical(&index).unwrap());
    let outer = client
        .push_manifest(&repository, index.clone(), &MediaType::ImageIndex)
        .await
        .unwrap();
    client.tag(&repository, index, &MediaType::ImageIndex, "13").await.unwrap();
    let resolved = client
        .resolve_image(&repository.with_tag("13").unwrap(), "linux", "amd64")
        .await
        .unwrap();
    assert_eq!(resolved.reference.to_string(), format!("{repository}:13@{digest}"));
    assert_eq!(resolved.index_digest, Some(outer));
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn what_is_missing_is_named() {
    let registry = RealRegistry::start(&Setup::default());
    let (client, repository, image) = (client(), repository(&registry, "robots/none"), image(4));
    let tag = repository.with_tag("v1").unwrap();
    assert_eq!(client.head_manifest(&tag).await.unwrap(), None);
    let error = client.manifest(&tag).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.to_string().contains(&tag.to_string()), "{error}");
    assert_eq!(client.list_tags(&repository).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!client.blob_exists(&repository, image.config.digest()).await.unwrap());
    let error = client
        .push_manifest(&repository, image.manifest.clone(), &MediaType::ImageManifest)
        .await
        .unwrap_err();
    let Error::BlobUnknown { digests, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(digests.contains(image.layers[0].digest()), "{digests:?}");
    let lie = BlobSource::from_file(
        image.layout.blob_path(image.config.digest()),
        digest::sha256(b"lie"),
        image.config.size(),
    );
    let error = client.push_blob(&repository, &lie, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
}
