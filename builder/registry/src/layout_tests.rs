//! Layouts in temporary folders.

use super::*;

fn descriptor(layout: &OciLayout, bytes: &[u8]) -> Descriptor {
    let (digest, size) = layout.add_bytes(bytes).unwrap();
    Descriptor::new(MediaType::ImageManifest, size, digest)
}

#[test]
fn the_index_does_not_depend_on_the_order() {
    let write = |names: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let layout = OciLayout::create(folder.path()).unwrap();
        for (content, name) in names {
            let entry = descriptor(&layout, content.as_bytes());
            layout.put_manifest(entry, (!name.is_empty()).then_some(*name)).unwrap();
        }
        fs::read_to_string(folder.path().join("index.json")).unwrap()
    };
    let one = write(&[("a", "x"), ("b", "y"), ("c", ""), ("c", "")]);
    assert_eq!(
        one,
        write(&[("c", ""), ("b", "y"), ("other", "x"), ("a", "x")]),
        "an entry of the same name is replaced"
    );
    assert_eq!(one.matches("\"digest\"").count(), 3, "{one}");
}

#[test]
fn a_layout_is_opened_again_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("new/layout");
    let layout = OciLayout::create(&root).unwrap();
    let entry = descriptor(&layout, b"a");
    layout.put_manifest(entry.clone(), Some("x")).unwrap();
    let again = OciLayout::create(&root).unwrap();
    assert!(again.has_blob(entry.digest(), 1));
    assert_eq!(ref_name(&again.index().unwrap().manifests()[0]), Some("x"));
    assert_eq!(
        fs::read_to_string(root.join("oci-layout")).unwrap(),
        r#"{"imageLayoutVersion":"1.0.0"}"#
    );

    fs::write(folder.path().join("file"), "x").unwrap();
    let error = OciLayout::create(folder.path()).unwrap_err().to_string();
    assert!(error.contains("not an OCI image layout"), "{error}");
    fs::write(root.join("oci-layout"), r#"{"imageLayoutVersion":"9"}"#).unwrap();
    assert!(OciLayout::create(&root).unwrap_err().to_string().contains("version 9"));
    assert!(OciLayout::create(&folder.path().join("file")).is_err());
}

#[test]
fn a_wrong_blob_never_appears() {
    let folder = tempfile::tempdir().unwrap();
    let layout = OciLayout::create(&folder.path().join("layout")).unwrap();
    let file = folder.path().join("content");
    fs::write(&file, b"content").unwrap();
    let good = digest::sha256(b"content");
    let bad = digest::sha256(b"other");
    assert!(matches!(layout.add_file(&file, &bad, 7), Err(LayoutError::Digest { .. })));
    assert!(matches!(layout.add_file(&file, &good, 6), Err(LayoutError::Digest { .. })));
    assert!(matches!(
        layout.add_file(&folder.path().join("none"), &good, 7),
        Err(LayoutError::Io { .. })
    ));
    let left = fs::read_dir(layout.root().join("blobs/sha256")).unwrap().count();
    assert_eq!(left, 0, "no file is left behind");
    assert!(layout.add_file(&file, &good, 7).unwrap());
    assert!(!layout.add_file(&file, &good, 7).unwrap(), "it is there already");
    assert_eq!(layout.read_document(&good).unwrap(), b"content");
    fs::write(layout.blob_path(&good), b"CONTENT").unwrap();
    assert!(matches!(layout.read_document(&good), Err(LayoutError::Digest { .. })));
}
