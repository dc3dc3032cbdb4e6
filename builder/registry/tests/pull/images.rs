//! From a reference to an image: indexes in indexes, platforms, documents that are too large, too many, or something else.

use robotimage_registry::{Error, ErrorKind, MediaType, digest};
use serde_json::{Value, json};

use crate::mock_answers::{Answer, MockAnswers};
use crate::{OCI_INDEX, OCI_MANIFEST, client, descriptor, documents, repository, tagged};

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// An entry of an index; without a platform when that is empty.
fn entry(kind: &str, bytes: &[u8], platform: &str) -> Value {
    let mut entry = serde_json::to_value(descriptor(MediaType::from(kind), bytes)).unwrap();
    if let Some((os, architecture)) = platform.split_once('/') {
        entry["platform"] = json!({"os": os, "architecture": architecture});
    }
    entry
}

fn index(kind: &str, entries: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": kind, "manifests": entries})
        .to_string()
        .into_bytes()
}

/// Serves an image for an architecture; its entry without a platform.
fn image(server: &MockAnswers, architecture: &str, kind: &str) -> Value {
    let (config, manifest) = documents(architecture, kind);
    server.blob(&config);
    server.manifest(kind, &manifest, None);
    entry(kind, &manifest, "")
}

fn on(mut entry: Value, platform: &str) -> Value {
    let (os, architecture) = platform.split_once('/').unwrap();
    entry["platform"] = json!({"os": os, "architecture": architecture});
    entry
}

async fn resolve(server: &MockAnswers, outermost: &[u8], kind: &str) -> Result<String, Error> {
    server.manifest(kind, outermost, Some("v1"));
    let image = client().resolve_image(&tagged(server), "linux", "amd64").await?;
    assert_eq!(
        image.index_digest,
        (kind == OCI_INDEX || kind == DOCKER_LIST).then(|| digest::sha256(outermost))
    );
    assert_eq!(image.manifest.media_type(), &Some(MediaType::ImageManifest));
    Ok(image.reference.digest().unwrap().to_string())
}

#[tokio::test]
async fn images_are_found_through_indexes() {
    for (list, kind) in [
        (OCI_INDEX, OCI_MANIFEST),
        (DOCKER_LIST, DOCKER_MANIFEST),
        (OCI_INDEX, DOCKER_MANIFEST),
    ] {
        let server = MockAnswers::start().await;
        let (amd, arm) = (image(&server, "amd64", kind), image(&server, "arm64", kind));
        let wanted = amd["digest"].as_str().unwrap().to_owned();
        let attestation = on(entry(OCI_MANIFEST, b"attestation", ""), "unknown/unknown");
        let flat = index(
            list,
            &[attestation.clone(), on(arm.clone(), "linux/arm64"), on(amd.clone(), "linux/amd64")],
        );
        assert_eq!(resolve(&server, &flat, list).await.unwrap(), wanted);
        // Without platforms, the configurations tell; the attestation is not even asked for.
        let silent = index(list, &[attestation, arm.clone(), amd.clone()]);
        assert_eq!(resolve(&server, &silent, list).await.unwrap(), wanted);
        // Indexes in indexes, the first of them without the platform.
        let mut nested = index(list, &[on(amd, "linux/amd64")]);
        for _ in 0..2 {
            server.manifest(list, &nested, None);
            let other = index(list, &[on(arm.clone(), "linux/arm64")]);
            server.manifest(list, &other, None);
            nested = index(list, &[entry(list, &other, ""), entry(list, &nested, "")]);
        }
        assert_eq!(resolve(&server, &nested, list).await.unwrap(), wanted);
        let error = resolve(&server, &index(list, &[on(arm, "linux/arm64")]), list).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PlatformMissing);
        assert!(
            error.to_string().contains("not available for linux/amd64, only for linux/arm64"),
            "{error}"
        );
    }
    let server = MockAnswers::start().await;
    image(&server, "riscv64", OCI_MANIFEST);
    let error = resolve(&server, &documents("riscv64", OCI_MANIFEST).1, OCI_MANIFEST)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("only for linux/riscv64"), "{error}");
}

#[tokio::test]
async fn indexes_that_lead_nowhere_end() {
    let server = MockAnswers::start().await;
    // Deep: more indexes than are followed.
    let amd = on(image(&server, "amd64", OCI_MANIFEST), "linux/amd64");
    let mut deep = index(OCI_INDEX, std::slice::from_ref(&amd));
    for _ in 0..4 {
        server.manifest(OCI_INDEX, &deep, None);
        deep = index(OCI_INDEX, &[entry(OCI_INDEX, &deep, "")]);
    }
    let error = resolve(&server, &deep, OCI_INDEX).await.unwrap_err();
    assert!(error.to_string().contains("more than 4 indexes"), "{error}");
    // Wide: each entry has to be looked at, and none is it.
    let server = MockAnswers::start().await;
    let arm: Vec<Value> = (0..1000)
        .map(|number| {
            let (config, mut manifest) = documents("arm64", OCI_MANIFEST);
            // Space at the end makes another document of it.
            manifest.extend(" ".repeat(number).bytes());
            server.blob(&config);
            server.manifest(OCI_MANIFEST, &manifest, None);
            entry(OCI_MANIFEST, &manifest, "")
        })
        .collect();
    let error = resolve(&server, &index(OCI_INDEX, &arm), OCI_INDEX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(server.seen().len() <= 40, "{} requests", server.seen().len());
}

#[tokio::test]
async fn documents_that_are_others_than_was_said() {
    let oci = |body: Vec<u8>| Answer::ok(body).header("Content-Type", OCI_MANIFEST);
    let (config, manifest) = documents("amd64", OCI_MANIFEST);
    let huge = format!("{{{}}}", " ".repeat(5 << 20)).into_bytes();
    let digest = digest::sha256(&manifest).to_string();
    let other = digest::sha256(b"other").to_string();
    let chart = String::from_utf8(manifest.clone())
        .unwrap()
        .replace("vnd.oci.image.config", "vnd.cncf.helm.config");
    let table: Vec<(&str, Answer, ErrorKind)> = vec![
        (
            "another digest in the header",
            oci(manifest.clone()).header("Docker-Content-Digest", &other),
            ErrorKind::DigestMismatch,
        ),
        (
            "cut off",
            oci(manifest.clone()).cut(20).length(None).header("Docker-Content-Digest", &digest),
            ErrorKind::DigestMismatch,
        ),
        ("huge", oci(huge.clone()), ErrorKind::Protocol),
        ("huge without a length", oci(huge).length(None), ErrorKind::Protocol),
        (
            "a length that no memory has",
            oci(manifest.clone()).length(Some(1 << 40)),
            ErrorKind::Protocol,
        ),
        (
            "a page of HTML",
            Answer::ok("<html>login</html>").header("Content-Type", "text/html"),
            ErrorKind::Protocol,
        ),
        ("a list", oci(b"[]".to_vec()), ErrorKind::Protocol),
        ("nothing", oci(Vec::new()), ErrorKind::Protocol),
        ("deeply nested", oci("[".repeat(100_000).into_bytes()), ErrorKind::Protocol),
        ("an artifact", oci(chart.into_bytes()), ErrorKind::Protocol),
        ("limited", Answer::status(429).header("Retry-After", "7"), ErrorKind::RateLimited),
    ];
    for (name, answer, kind) in table {
        let server = MockAnswers::start().await;
        server.blob(&config);
        server.on("manifests/v1", [answer]);
        let error = client().resolve_image(&tagged(&server), "linux", "amd64").await.expect_err(name);
        assert_eq!(error.kind(), kind, "{name}: {error}");
        assert!(error.to_string().len() < 600, "{name}: {error}");
    }
    // By digest, other bytes are refused whatever the header says.
    let server = MockAnswers::start().await;
    server.on(
        &format!("manifests/{digest}"),
        [oci(b"{}".to_vec()).header("Docker-Content-Digest", &digest)],
    );
    let reference = repository(&server).with_digest(&digest::sha256(&manifest));
    assert_eq!(client().manifest(&reference).await.unwrap_err().kind(), ErrorKind::DigestMismatch);
    // An index that knows another size of the same bytes.
    let server = MockAnswers::start().await;
    let mut wrong = on(image(&server, "amd64", OCI_MANIFEST), "linux/amd64");
    wrong["size"] = 7.into();
    let error = resolve(&server, &index(OCI_INDEX, &[wrong]), OCI_INDEX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
}

/// Rate limits of a public registry: waited for, and the image is there afterwards.
#[tokio::test]
async fn a_limit_is_waited_for() {
    let server = MockAnswers::start().await;
    let (config, manifest) = documents("amd64", OCI_MANIFEST);
    let limited = Answer::ok(r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#)
        .with_status(429)
        .header("Content-Type", "application/json")
        .header("RateLimit-Remaining", "0;w=21600");
    let right = Answer::ok(manifest).header("Content-Type", OCI_MANIFEST);
    server.on("manifests/v1", [limited.clone(), limited.clone(), right]);
    server.on(&format!("blobs/{}", digest::sha256(&config)), [limited, Answer::ok(config)]);
    client().resolve_image(&tagged(&server), "linux", "amd64").await.unwrap();
    assert_eq!(server.seen().len(), 5);
}
