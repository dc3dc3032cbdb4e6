//! Archives of a small layout, and their bytes.

use oci_spec::image::{Descriptor, ImageManifestBuilder};

use super::*;
use crate::digest::sha256;

/// A layout with one image whose blobs are no real tar files: the format does not look inside.
fn layout(folder: &std::path::Path, layer_type: MediaType) -> (OciLayout, Digest) {
    let layout = OciLayout::create(folder).unwrap();
    let (config, config_size) = layout.add_bytes(b"{}").unwrap();
    let (layer, layer_size) = layout.add_bytes(b"layer").unwrap();
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .config(Descriptor::new(MediaType::ImageConfig, config_size, config))
        .layers(vec![Descriptor::new(layer_type, layer_size, layer)])
        .build()
        .unwrap();
    let (digest, size) = layout.add_bytes(&json::canonical(&manifest).unwrap()).unwrap();
    layout
        .put_manifest(Descriptor::new(MediaType::ImageManifest, size, digest.clone()), Some("v1"))
        .unwrap();
    (layout, digest)
}

fn names(archive: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().unwrap().map(|entry| {
        let entry = entry.unwrap();
        assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (MTIME, 0));
        entry.path().unwrap().display().to_string()
    });
    entries.collect()
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    let write = || {
        let folder = tempfile::tempdir().unwrap();
        let (layout, digest) = layout(folder.path(), MediaType::ImageLayerGzip);
        let (mut oci, mut docker) = (Vec::new(), Vec::new());
        write_oci(&layout, &mut oci).unwrap();
        write_docker(&layout, &digest, &["r.example.com/a:v1".to_owned()], &mut docker).unwrap();
        (oci, docker)
    };
    let (oci, docker) = write();
    assert_eq!((&oci, &docker), (&write().0, &write().1));
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(names(&oci), sorted(names(&oci)));
    assert_eq!(
        names(&oci).len(),
        7,
        "two folders, three blobs, index.json, oci-layout: {:?}",
        names(&oci)
    );
    let listed = names(&docker);
    assert_eq!(listed.last().map(String::as_str), Some("manifest.json"));
    assert!(
        listed.contains(&format!("blobs/sha256/{}", sha256(b"layer").digest())),
        "{listed:?}"
    );
}

#[test]
fn zstd_in_a_docker_archive_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(folder.path(), MediaType::ImageLayerZstd);
    let error = write_docker(&layout, &digest, &[], Vec::new()).unwrap_err().to_string();
    assert!(error.contains("zstd") && error.contains("gzip"), "{error}");
}

#[test]
fn a_missing_blob_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (layout, digest) = layout(folder.path(), MediaType::ImageLayerGzip);
    let layer = layout.blob_path(&sha256(b"layer"));
    std::fs::remove_file(&layer).unwrap();
    let error = write_docker(&layout, &digest, &[], Vec::new()).unwrap_err().to_string();
    assert!(error.contains(&layer.display().to_string()), "{error}");
}
