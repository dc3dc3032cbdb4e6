//! Choosing platforms and rewriting docker's types.

use super::*;
use crate::digest::sha256;
use crate::error::ErrorKind;

fn at() -> Context {
    Context {
        operation: Operation::PullManifest,
        host: "r.example.com".into(),
        subject: "r.example.com/a:1".into(),
    }
}

fn fetched(media_type: &str, document: &serde_json::Value) -> Fetched {
    let bytes = Bytes::from(document.to_string());
    Fetched {
        digest: sha256(&bytes),
        bytes,
        media_type: MediaType::from(media_type),
    }
}

fn entry(name: &str, platform: &serde_json::Value) -> serde_json::Value {
    let mut entry = serde_json::json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 1, "digest": sha256(name.as_bytes()).to_string(),
    });
    if !platform.is_null() {
        entry["platform"] = platform.clone();
    }
    entry
}

fn pick(entries: &[serde_json::Value], os: &str, architecture: &str) -> Result<Digest, Error> {
    let index = serde_json::json!({"schemaVersion": 2, "manifests": entries});
    let index: ImageIndex = serde_json::from_value(index).unwrap();
    choose(&at(), &index, os, architecture).map(|descriptor| descriptor.digest().clone())
}

#[test]
fn platforms() {
    let platform = |os: &str, architecture: &str| serde_json::json!({"os": os, "architecture": architecture});
    let variant = |v: &str| serde_json::json!({"os": "linux", "architecture": "arm", "variant": v});
    let entries = [
        entry("attestation", &platform("unknown", "unknown")),
        entry("amd", &platform("linux", "amd64")),
        entry("amd-again", &platform("linux", "amd64")),
        entry("v6", &variant("v6")),
        entry("v7", &variant("v7")),
        entry("win", &platform("windows", "amd64")),
    ];
    assert_eq!(pick(&entries, "linux", "amd64").unwrap(), sha256(b"amd"), "the first of equals");
    assert_eq!(pick(&entries, "linux", "arm").unwrap(), sha256(b"v7"));
    assert_eq!(pick(&entries, "windows", "amd64").unwrap(), sha256(b"win"));
    let error = pick(&entries, "linux", "s390x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PlatformMissing);
    let text = error.to_string();
    assert!(
        text.contains("linux/s390x") && text.contains("linux/amd64, linux/arm, windows/amd64"),
        "{text}"
    );
    assert!(!text.contains("unknown"), "{text}");
    assert_eq!(
        pick(&[entry("nested", &serde_json::Value::Null)], "linux", "amd64").unwrap(),
        sha256(b"nested")
    );
    assert!(pick(&[], "linux", "amd64").unwrap_err().to_string().contains("no platform at all"));
}

#[test]
fn docker_types_become_oci_types() {
    let digest = sha256(b"x").to_string();
    let document = serde_json::json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "size": 7, "digest": digest},
        "layers": [
            {"mediaType": DOCKER_LAYER_GZIP, "size": 8, "digest": digest},
            {"mediaType": DOCKER_LAYER, "size": 9, "digest": digest},
        ],
    });
    let manifest = to_oci(&at(), &fetched(DOCKER_MANIFEST, &document)).unwrap();
    assert_eq!(manifest.media_type(), &Some(MediaType::ImageManifest));
    assert_eq!(manifest.config().media_type(), &MediaType::ImageConfig);
    let kinds: Vec<_> = manifest
        .layers()
        .iter()
        .map(|layer| (layer.media_type().clone(), layer.size()))
        .collect();
    assert_eq!(kinds, [(MediaType::ImageLayerGzip, 8), (MediaType::ImageLayer, 9)]);
}

#[test]
fn artifacts_and_ambiguous_documents_are_refused() {
    let oci = "application/vnd.oci.image.manifest.v1+json";
    let index = "application/vnd.oci.image.index.v1+json";
    let digest = sha256(b"x").to_string();
    let helm = serde_json::json!({
        "schemaVersion": 2, "layers": [],
        "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "size": 7, "digest": digest},
    });
    assert!(to_oci(&at(), &fetched(oci, &helm)).unwrap_err().to_string().contains("helm.config"));
    let table = [
        (oci, serde_json::json!({"layers": [], "manifests": []})),
        (index, serde_json::json!({"layers": [], "manifests": []})),
        (index, serde_json::json!({"layers": []})),
        (oci, serde_json::json!({"manifests": []})),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            serde_json::json!({"fsLayers": []}),
        ),
    ];
    for (kind, document) in table {
        let error = is_index(&at(), &fetched(kind, &document)).expect_err(kind);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{kind} {document}");
    }
    assert!(is_index(&at(), &fetched(index, &serde_json::json!({"manifests": []}))).unwrap());
    assert!(!is_index(&at(), &fetched(oci, &serde_json::json!({"layers": []}))).unwrap());
}
