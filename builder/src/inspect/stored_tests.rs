use std::collections::BTreeMap;

use robotimage_registry::layout::OciLayout;
use robotimage_registry::{Descriptor as Listed, MediaType, archive};

use super::*;

fn config() -> Vec<u8> {
    let layer = "sha256:".to_owned() + &"1".repeat(64);
    serde_json::json!({"architecture": "amd64", "os": "linux", "config": {"User": "1000:0"},
        "rootfs": {"type": "layers", "diff_ids": [layer]}, "history": [{"created_by": "robotimage code"}]})
    .to_string()
    .into_bytes()
}

/// A layout with an image of one layer.
fn layout(folder: &Path) -> (OciLayout, robotimage_registry::Digest) {
    let layout = OciLayout::create(folder).unwrap();
    let (layer, size) = layout.add_bytes(b"not a tar").unwrap();
    let (config_digest, config_size) = layout.add_bytes(&config()).unwrap();
    let descriptor = |media_type: &str, digest: &robotimage_registry::Digest, size| Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        size,
        annotations: BTreeMap::new(),
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        config: descriptor("application/vnd.oci.image.config.v1+json", &config_digest, config_size),
        layers: vec![descriptor("application/vnd.oci.image.layer.v1.tar", &layer, size)],
        annotations: BTreeMap::new(),
    };
    let (digest, size) = layout.add_bytes(&crate::image::oci::to_bytes(&manifest)).unwrap();
    layout
        .put_manifest(Listed::new(MediaType::ImageManifest, size, digest.clone()), Some("r/a:1"))
        .unwrap();
    (layout, digest)
}

fn read(files: Result<Files, Failure>) -> Result<Documents, Failure> {
    files?.documents("image")
}

#[test]
fn the_same_image_is_read_from_folder_and_archives() {
    let folder = tempfile::tempdir().unwrap();
    let (made, digest) = layout(&folder.path().join("layout"));
    let of_layout = read(Files::layout(made.root())).unwrap();
    assert_eq!(of_layout.digest.as_deref(), Some(digest.as_ref()));
    let (oci, docker) = (folder.path().join("oci.tar"), folder.path().join("docker.tar"));
    archive::write_oci(&made, File::create(&oci).unwrap()).unwrap();
    archive::write_docker(&made, &digest, &["r/a:1".to_owned()], File::create(&docker).unwrap()).unwrap();
    assert_eq!(read(Files::archive(&oci)).unwrap(), of_layout);
    let of_docker = read(Files::archive(&docker)).unwrap();
    assert_eq!((of_docker.digest.clone(), of_docker.name.as_str()), (None, "image (r/a:1)"));
    assert_eq!(of_docker.config, of_layout.config);
    assert_eq!(of_docker.manifest.layers[0].digest, of_layout.manifest.layers[0].digest);
    assert_eq!(of_docker.manifest.layers[0].size, 9);
    for files in [Files::layout(made.root()), Files::archive(&oci), Files::archive(&docker)] {
        let mut bytes = Vec::new();
        files
            .unwrap()
            .layer(&of_layout.manifest.layers[0])
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert_eq!(bytes, b"not a tar");
    }
}

#[test]
fn what_is_damaged_or_hostile_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("layout");
    let refused = |reason: Reason, words: &str| {
        let failure = read(Files::layout(&root)).unwrap_err();
        assert!(failure.reason == reason && failure.message.contains(words), "{failure:?}");
    };
    refused(Reason::SourceNotFound, "oci-layout");
    let (made, digest) = layout(&root);
    let manifest = made.blob_path(&digest);
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, b"{}").unwrap();
    refused(Reason::DigestMismatch, "damaged");
    std::fs::remove_file(&manifest).unwrap();
    refused(Reason::SourceRejected, "it lacks blobs/sha256/");
    std::fs::write(&manifest, good).unwrap();
    let index = root.join("index.json");
    std::fs::write(&index, r#"{"manifests":[{"digest":"sha256:../../../etc/passwd"}]}"#).unwrap();
    refused(Reason::SourceRejected, "is no SHA-256 digest");
    std::fs::write(
        &index,
        r#"{"manifests":[{"digest":"x","platform":{"os":"linux","architecture":"arm64"}}]}"#,
    )
    .unwrap();
    refused(Reason::SourceRejected, "no image for linux/amd64");
    std::fs::write(&index, r#"{"manifests":[{"digest":"a"},{"digest":"b"}]}"#).unwrap();
    refused(Reason::SourceRejected, "several images");
    std::fs::write(&index, "no json").unwrap();
    refused(Reason::SourceRejected, "index.json is not what it should be");
    std::fs::write(&index, vec![b' '; 5 << 20]).unwrap();
    refused(Reason::SourceRejected, "at most");
}

#[test]
fn an_index_that_leads_to_itself_ends() {
    let folder = tempfile::tempdir().unwrap();
    let (made, _) = layout(folder.path());
    // No document can hold its own digest, so the chain is long instead.
    let mut entry = r#"{"digest":"x"}"#.to_owned();
    for _ in 0..8 {
        let text = format!(r#"{{"manifests":[{entry}]}}"#);
        let (digest, _) = made.add_bytes(text.as_bytes()).unwrap();
        entry = format!(r#"{{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"{digest}"}}"#);
    }
    std::fs::write(folder.path().join("index.json"), format!(r#"{{"manifests":[{entry}]}}"#)).unwrap();
    let failure = read(Files::layout(folder.path())).unwrap_err();
    assert!(failure.message.contains("more than 4 indexes"), "{failure}");
}

#[test]
fn what_is_no_archive_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    assert_eq!(read(Files::archive(&path)).unwrap_err().reason, Reason::SourceNotFound);
    std::fs::write(&path, vec![b'x'; 2000]).unwrap();
    assert_eq!(read(Files::archive(&path)).unwrap_err().reason, Reason::SourceRejected);
    let mut tar = tar::Builder::new(File::create(&path).unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    tar.append_data(&mut header, "readme.md", &b"x"[..]).unwrap();
    tar.finish().unwrap();
    let failure = read(Files::archive(&path)).unwrap_err();
    assert!(failure.message.contains("neither index.json nor manifest.json"), "{failure}");
}
