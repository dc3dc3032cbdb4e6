//! The client against the real distribution registry, with skopeo as the second opinion.

// The helpers of a test crate may end a test like the tests themselves.
#![allow(clippy::unwrap_used)]

mod damage;
mod mirrors;
mod registry;
mod streams;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use registry::{RealRegistry, Setup};
use robotimage_registry::layout::OciLayout;
use robotimage_registry::{
    BlobSource, Client, ClientOptions, Credentials, Descriptor, Digest, Error, ErrorKind, MediaType, PushOutcome, Reference, Repository,
    RetryPolicy, TagOutcome, archive, digest, json,
};

/// A small image in a layout: one gzip layer, a large uncompressed one, a configuration, a manifest.
struct Image {
    layout: OciLayout,
    layers: Vec<Descriptor>,
    config: Descriptor,
    manifest: Bytes,
    _folder: tempfile::TempDir,
}

fn layer_tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

fn image(seed: u8) -> Image {
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(folder.path()).unwrap();
    let contents = [
        layer_tar("small", &[seed; 1000]),
        layer_tar("large", &vec![seed.wrapping_add(1); 5_000_000]),
    ];
    let layers: Vec<Descriptor> = contents
        .iter()
        .map(|bytes| {
            let (digest, size) = layout.add_bytes(bytes).unwrap();
            Descriptor::new(MediaType::ImageLayer, size, digest)
        })
        .collect();
    let diff_ids: Vec<String> = layers.iter().map(|layer| layer.digest().to_string()).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "created": "1980-01-02T00:00:00Z",
        "config": {"Labels": {"test": format!("seed {seed}")}, "User": "1000:0"},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let (digest, size) = layout.add_bytes(&json::canonical(&config).unwrap()).unwrap();
    let config = Descriptor::new(MediaType::ImageConfig, size, digest);
    let manifest =
        serde_json::json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "config": config, "layers": layers});
    let manifest = json::canonical(&manifest).unwrap();
    let (digest, size) = layout.add_bytes(&manifest).unwrap();
    layout
        .put_manifest(Descriptor::new(MediaType::ImageManifest, size, digest), Some("v1"))
        .unwrap();
    Image {
        layout,
        layers,
        config,
        manifest: manifest.into(),
        _folder: folder,
    }
}

fn options() -> ClientOptions {
    ClientOptions {
        retry: RetryPolicy {
            base: Duration::from_millis(200),
            ..RetryPolicy::default()
        },
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(options(), Credentials::none()).unwrap()
}

fn repository(registry: &RealRegistry, name: &str) -> Repository {
    Repository::parse(&format!("{}/{name}", registry.host)).unwrap()
}

fn source(image: &Image, blob: &Descriptor) -> BlobSource {
    BlobSource::from_file(image.layout.blob_path(blob.digest()), blob.digest().clone(), blob.size())
}

async fn push(client: &Client, repository: &Repository, image: &Image) -> Result<(Digest, Vec<PushOutcome>), Error> {
    let mut outcomes = Vec::new();
    for blob in image.layers.iter().chain([&image.config]) {
        outcomes.push(client.push_blob(repository, &source(image, blob), None).await?);
    }
    Ok((
        client
            .push_manifest(repository, image.manifest.clone(), &MediaType::ImageManifest)
            .await?,
        outcomes,
    ))
}

/// Runs skopeo and gives its output, JSON if it is.
fn skopeo(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new("skopeo")
        .args(arguments)
        .output()
        .expect("skopeo runs (Debian package `skopeo`)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
}

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

    let second = self::image(2);
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
    let mut content = Vec::new();
    client
        .blob_to_writer(&repository, &resolved.manifest.layers()[1], &mut content)
        .await
        .unwrap();
    assert_eq!(digest::sha256(&content), *image.layers[1].digest());
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
async fn passwords() {
    let registry = RealRegistry::start(&Setup { password: true, tls: None });
    let (repository, image) = (repository(&registry, "robots/a"), image(6));
    let with = |user: &str, password: &str| {
        let json = serde_json::json!({"auths": {&registry.host: {"username": user, "password": password}}});
        Client::new(options(), Credentials::from_docker_config(json.to_string().as_bytes()).unwrap()).unwrap()
    };
    let (digest, _) = push(&with("robot", "opensesame"), &repository, &image).await.unwrap();
    let error = push(&with("robot", "wrong-password"), &repository, &image).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { anonymous: false, .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains("wrong-password"));
    let error = client().manifest(&repository.with_digest(&digest)).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { anonymous: true, .. }), "{error}");
    assert_eq!(
        client().head_manifest(&repository.with_digest(&digest)).await.unwrap_err().kind(),
        ErrorKind::Unauthorized
    );
}

/// A registry with TLS, and the authority that signs its certificate, PEM.
fn with_tls() -> (Setup, Vec<u8>) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertifiedIssuer::self_signed(parameters.clone(), authority_key).unwrap();
    parameters.is_ca = rcgen::IsCa::NoCa;
    let certificate = parameters.signed_by(&key, &authority).unwrap();
    let setup = Setup {
        password: false,
        tls: Some((certificate.pem(), key.serialize_pem())),
    };
    (setup, authority.pem().into_bytes())
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn certificates() {
    let (setup, authority) = with_tls();
    let registry = RealRegistry::start(&setup);
    let (repository, image) = (repository(&registry, "robots/a"), image(7));
    let trusting = |bundle: Vec<Vec<u8>>| {
        let options = ClientOptions {
            ca_bundle_pem: bundle,
            tls_hosts: vec![registry.host.clone()],
            ..options()
        };
        Client::new(options, Credentials::none()).unwrap()
    };
    push(&trusting(vec![authority]), &repository, &image).await.unwrap();
    let error = push(&trusting(Vec::new()), &repository, &image).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TlsUntrusted, "{error:?}");
    assert!(error.to_string().contains("CA bundle"), "{error}");
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

#[test]
#[ignore = "needs skopeo: make test runs it"]
fn archives_are_read_by_skopeo() {
    let image = image(9);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |path: &Path| std::fs::File::create(path).unwrap();
    archive::write_oci(&image.layout, write(&path("oci.tar"))).unwrap();
    let manifest = digest::sha256(&image.manifest);
    let names = ["registry.example.com/robots/a:v1".to_owned()];
    archive::write_docker(&image.layout, &manifest, &names, write(&path("docker.tar"))).unwrap();

    let oci = skopeo(&["inspect", &format!("oci-archive:{}:v1", path("oci.tar").display())]);
    assert_eq!(oci["Digest"].as_str(), Some(manifest.as_ref()));
    let docker = skopeo(&["inspect", &format!("docker-archive:{}:{}", path("docker.tar").display(), names[0])]);
    assert_eq!(docker["Labels"]["test"].as_str(), Some("seed 9"));
    let layers: Vec<&str> = image.layers.iter().map(|layer| layer.digest().as_ref()).collect();
    assert_eq!(oci["Layers"], serde_json::json!(layers));
    for archive in [
        format!("oci-archive:{}:v1", path("oci.tar").display()),
        format!("docker-archive:{}", path("docker.tar").display()),
    ] {
        let target = format!("oci:{}:v1", path("unpacked").display());
        skopeo(&["copy", &archive, &target]);
        std::fs::remove_dir_all(path("unpacked")).unwrap();
    }
    let layout = skopeo(&["inspect", &format!("oci:{}:v1", image.layout.root().display())]);
    assert_eq!(layout["Digest"].as_str(), Some(manifest.as_ref()));
}
