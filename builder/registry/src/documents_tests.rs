//! Reading what registries hold: choosing platforms, rewriting docker's types, refusing the rest.

use bytes::Bytes;
use oci_spec::image::Digest;

use super::*;
use crate::context::Operation;
use crate::digest::sha256;
use crate::error::ErrorKind;

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

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

fn index(entries: &[serde_json::Value]) -> ImageIndex {
    serde_json::from_value(serde_json::json!({"schemaVersion": 2, "manifests": entries})).unwrap()
}

fn pick(entries: &[serde_json::Value], architecture: &str) -> Vec<Digest> {
    let index = index(entries);
    let chosen = candidates(&index, "linux", architecture).into_iter();
    chosen.map(|entry| entry.digest().clone()).collect()
}

fn platform(os: &str, architecture: &str) -> serde_json::Value {
    serde_json::json!({"os": os, "architecture": architecture})
}

fn variant(architecture: &str, variant: &str) -> serde_json::Value {
    serde_json::json!({"os": "linux", "architecture": architecture, "variant": variant})
}

#[test]
fn an_entry_may_repeat_that_it_is_an_image() {
    let linux = platform("linux", "amd64");
    for kind in [
        "application/vnd.docker.container.image.v1+json",
        "application/vnd.oci.image.config.v1+json",
    ] {
        let mut repeated = entry("image", &linux);
        repeated["artifactType"] = kind.into();
        assert_eq!(pick(&[repeated], "amd64"), pick(&[entry("image", &linux)], "amd64"), "{kind}");
    }
    assert_eq!(pick(&[entry("image", &linux)], "amd64").len(), 1);
}

#[test]
fn platforms() {
    let nothing = serde_json::Value::Null;
    let mut attestation = entry("attestation", &platform("linux", "amd64"));
    attestation["annotations"] = serde_json::json!({"vnd.docker.reference.type": "attestation-manifest"});
    let mut signature = entry("signature", &platform("linux", "amd64"));
    signature["artifactType"] = "application/vnd.example.signature".into();
    let mut blob = entry("blob", &platform("linux", "amd64"));
    blob["mediaType"] = "application/octet-stream".into();
    let unknown = entry("unknown", &platform("unknown", "unknown"));
    let real = [
        unknown.clone(),
        attestation.clone(),
        signature,
        blob,
        entry("amd", &platform("linux", "amd64")),
        entry("amd-again", &platform("linux", "amd64")),
        entry("v6", &variant("arm", "v6")),
        entry("v7", &variant("arm", "v7")),
        entry("windows", &platform("windows", "amd64")),
    ];
    let table: [(&str, &[serde_json::Value], &str, &[&str]); 9] = [
        (
            "the first of equals, and no attestation, signature or blob",
            &real,
            "amd64",
            &["amd"],
        ),
        ("the highest variant", &real, "arm", &["v7"]),
        ("none", &real, "s390x", &[]),
        (
            "any processor runs v1, few run v3",
            &[
                entry("v3", &variant("amd64", "v3")),
                entry("v2", &variant("amd64", "v2")),
                entry("v1", &variant("amd64", "v1")),
            ],
            "amd64",
            &["v1"],
        ),
        (
            "the lowest there is",
            &[entry("v3", &variant("amd64", "v3")), entry("v2", &variant("amd64", "v2"))],
            "amd64",
            &["v2"],
        ),
        (
            "v1 is none",
            &[entry("v1", &variant("amd64", "v1")), entry("bare", &platform("linux", "amd64"))],
            "amd64",
            &["v1"],
        ),
        (
            "all that state nothing, in their order",
            &[entry("a", &nothing), unknown, attestation, entry("b", &nothing)],
            "amd64",
            &["a", "b"],
        ),
        (
            "one that states it beats those",
            &[entry("a", &nothing), entry("b", &platform("linux", "amd64"))],
            "amd64",
            &["b"],
        ),
        ("empty", &[], "amd64", &[]),
    ];
    for (name, entries, architecture, expected) in table {
        let expected: Vec<Digest> = expected.iter().map(|name| sha256(name.as_bytes())).collect();
        assert_eq!(pick(entries, architecture), expected, "{name}");
    }
    let mut offered = Offered::default();
    offered.add_index(&index(&real));
    assert_eq!(offered.list(), "linux/amd64, linux/arm/v6, linux/arm/v7, windows/amd64");
    let hostile = entry("x", &platform("evil\u{1b}[2J\n", &"x".repeat(10_000)));
    let mut offered = Offered::default();
    offered.add_index(&index(&vec![hostile; 3]));
    assert!(
        offered.list().len() <= 40 && !offered.list().chars().any(char::is_control),
        "{}",
        offered.list()
    );
}

fn manifest(config: &str, layers: &[&str]) -> serde_json::Value {
    let digest = sha256(b"x").to_string();
    let layers: Vec<_> = layers
        .iter()
        .map(|kind| serde_json::json!({"mediaType": kind, "size": 8, "digest": digest}))
        .collect();
    serde_json::json!({"schemaVersion": 2, "config": {"mediaType": config, "size": 7, "digest": digest}, "layers": layers})
}

#[test]
fn docker_types_become_oci_types() {
    let oci = "application/vnd.oci.image.layer.v1.tar";
    let table = [
        (DOCKER_LAYER, MediaType::ImageLayer),
        (DOCKER_LAYER_GZIP, MediaType::ImageLayerGzip),
        (DOCKER_LAYER_ZSTD, MediaType::ImageLayerZstd),
        (oci, MediaType::ImageLayer),
        ("application/vnd.oci.image.layer.v1.tar+gzip", MediaType::ImageLayerGzip),
        ("application/vnd.oci.image.layer.v1.tar+zstd", MediaType::ImageLayerZstd),
    ];
    let kinds: Vec<&str> = table.iter().map(|(kind, _)| *kind).collect();
    for (kind, config) in [
        (DOCKER_MANIFEST, DOCKER_CONFIG),
        (OCI, "application/vnd.oci.image.config.v1+json"),
        (OCI, DOCKER_CONFIG),
    ] {
        let Document::Manifest(manifest) = read(&at(), &fetched(kind, &manifest(config, &kinds))).unwrap() else {
            panic!("a manifest")
        };
        assert_eq!(manifest.media_type(), &Some(MediaType::ImageManifest));
        assert_eq!(manifest.config().media_type(), &MediaType::ImageConfig);
        for (layer, (written, kind)) in manifest.layers().iter().zip(&table) {
            assert_eq!(layer.media_type(), kind, "{written}");
        }
    }
}

#[test]
fn what_is_no_image_is_told() {
    let config = "application/vnd.oci.image.config.v1+json";
    let layer = |kind: &str| manifest(config, &[kind]);
    let schema_1 = serde_json::json!({"schemaVersion": 1, "name": "a", "tag": "b", "architecture": "amd64", "fsLayers": [], "history": []});
    let table = [
        (
            OCI,
            serde_json::json!({"layers": [], "manifests": []}),
            "does not fit its media type",
        ),
        (
            INDEX,
            serde_json::json!({"layers": [], "manifests": []}),
            "does not fit its media type",
        ),
        (INDEX, serde_json::json!({"layers": []}), "does not fit its media type"),
        (OCI, serde_json::json!({"manifests": []}), "does not fit its media type"),
        (OCI, serde_json::json!([]), "does not fit its media type"),
        (
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            schema_1.clone(),
            "docker's schema 1",
        ),
        (
            "application/vnd.docker.distribution.manifest.v1+json",
            schema_1.clone(),
            "docker's schema 1",
        ),
        ("application/json", schema_1, "docker's schema 1"),
        (
            "application/vnd.oci.artifact.manifest.v1+json",
            serde_json::json!({"blobs": []}),
            "not an image manifest of a supported type",
        ),
        ("text/html", serde_json::json!({}), "not an image manifest of a supported type"),
        (
            OCI,
            serde_json::json!({"schemaVersion": 3, "config": {"mediaType": config, "size": 1, "digest": sha256(b"x").to_string()}, "layers": []}),
            "schema version 3",
        ),
        (OCI, serde_json::json!({"schemaVersion": 2, "layers": []}), "broken manifest"),
        (INDEX, serde_json::json!({"schemaVersion": 2, "manifests": [{}]}), "broken index"),
        (
            OCI,
            layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"),
            "must not be copied",
        ),
        (
            OCI,
            layer("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"),
            "must not be copied",
        ),
        (
            DOCKER_MANIFEST,
            layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
            "must not be copied",
        ),
        (
            DOCKER_MANIFEST,
            layer("application/vnd.docker.image.rootfs.foreign.diff.tar"),
            "must not be copied",
        ),
        (
            OCI,
            layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted"),
            "unsupported type",
        ),
        (OCI, layer("application/vnd.wasm.content.layer.v1+wasm"), "unsupported type"),
        (
            OCI,
            manifest(config, &["application/vnd.oci.image.layer.v1.tar"; 501]),
            "has 501 layers",
        ),
    ];
    for (kind, document, words) in table {
        let error = read(&at(), &fetched(kind, &document)).expect_err(kind);
        assert_eq!(error.kind(), ErrorKind::Protocol, "{kind} {document}");
        assert!(error.to_string().contains(words), "{error}, not {words}");
    }
    assert!(matches!(
        read(&at(), &fetched(INDEX, &serde_json::json!({"schemaVersion": 2, "manifests": []}))),
        Ok(Document::Index(_))
    ));
    let mut artifact = manifest("application/vnd.oci.empty.v1+json", &["text/plain"]);
    for (artifact_type, told) in [
        (None, "application/vnd.oci.empty.v1+json"),
        (Some("application/vnd.example+sbom"), "application/vnd.example+sbom"),
    ] {
        if let Some(artifact_type) = artifact_type {
            artifact["artifactType"] = artifact_type.into();
        }
        let read = read(&at(), &fetched(OCI, &artifact));
        assert!(matches!(&read, Ok(Document::Artifact(kind)) if kind == told), "{read:?}");
    }
}

/// Errors reach a status and logs: what a document says must not fill or steer them.
#[test]
fn the_words_of_a_document_are_cut_and_cleaned() {
    let mut document = manifest("application/vnd.oci.image.config.v1+json", &["x"]);
    document["layers"][0]["digest"] = format!("s\u{7f}ha256\u{1b}:{}", "x".repeat(5000)).into();
    for document in [document.clone(), manifest("c", &[&format!("y\u{9b}{}", "y".repeat(5000))])] {
        let read = read(&at(), &fetched(OCI, &document));
        let text = match &read {
            Err(error) => error.to_string(),
            other => format!("{other:?}"),
        };
        assert!(text.len() < 400 && !text.chars().any(char::is_control), "{text}");
    }
}
