//! Archives and layouts, as skopeo reads them.

use std::path::Path;

use robotimage_registry::{archive, digest};

use crate::image::image;
use crate::skopeo;

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
