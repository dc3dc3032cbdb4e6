//! A small image to push, and the pushing of it.

use bytes::Bytes;
use robotimage_registry::layout::OciLayout;
use robotimage_registry::{BlobSource, Client, Descriptor, Digest, Error, MediaType, PushOutcome, Repository, json};

/// A small image in a layout: one gzip layer, a large uncompressed one, a configuration, a manifest.
pub(crate) struct Image {
    pub(crate) layout: OciLayout,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) config: Descriptor,
    pub(crate) manifest: Bytes,
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

pub(crate) fn image(seed: u8) -> Image {
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

pub(crate) fn source(image: &Image, blob: &Descriptor) -> BlobSource {
    BlobSource::from_file(image.layout.blob_path(blob.digest()), blob.digest().clone(), blob.size())
}

pub(crate) async fn push(client: &Client, repository: &Repository, image: &Image) -> Result<(Digest, Vec<PushOutcome>), Error> {
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
