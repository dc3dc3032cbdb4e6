//! A finished image to a registry: blobs, configuration, manifest by digest, then tags.
//!
//! Invariant: no tag is written before the manifest was read back by its digest.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use robotimage_registry::{BlobSource, Client, Digest, Error, MediaType, PushOutcome, Repository};

use super::assemble::{Content, Image, ImageLayer};
use super::oci::Descriptor;
use super::pull::BaseBlobs;

/// Blobs that are sent at once.
const AT_ONCE: usize = 3;

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes sent, by the digest of the layer.
    pub sent: BTreeMap<String, u64>,
}

/// Makes the repository hold the image by its digest.
pub async fn push(client: &Client, repository: &Repository, image: &Image, base: &BaseBlobs) -> Result<Pushed, Error> {
    // An image may name one blob twice, such as an empty layer.
    let layers: BTreeMap<&str, &ImageLayer> = image.layers.iter().map(|layer| (layer.descriptor.digest.as_str(), layer)).collect();
    let work: Vec<BoxFuture<'_, Result<(String, u64), Error>>> = layers
        .into_values()
        .map(|layer| send(client, repository, layer, base).boxed())
        .collect();
    let sent = futures::stream::iter(work).buffer_unordered(AT_ONCE).try_collect().await?;
    let config = BlobSource::from_bytes(image.config.clone());
    client.push_blob(repository, &config, None).await?;
    client
        .push_manifest(repository, image.manifest.clone().into(), &MediaType::ImageManifest)
        .await?;
    Ok(Pushed { sent })
}

/// Makes the repository hold a layer; its digest, and the bytes that were sent for it.
async fn send(client: &Client, repository: &Repository, layer: &ImageLayer, base: &BaseBlobs) -> Result<(String, u64), Error> {
    let bytes = match push_layer(client, repository, layer, base).await? {
        Some(PushOutcome::Uploaded { bytes }) => bytes,
        _ => 0,
    };
    let (role, digest, size) = (layer.role.as_str(), &layer.descriptor.digest, layer.descriptor.size);
    tracing::info!(role, digest, size, sent = bytes, "layer is in the repository");
    Ok((digest.clone(), bytes))
}

async fn push_layer(client: &Client, repository: &Repository, layer: &ImageLayer, base: &BaseBlobs) -> Result<Option<PushOutcome>, Error> {
    let descriptor = described(&layer.descriptor)?;
    let outcome = match (&layer.content, base) {
        // The manifest's own push finds out when one is gone.
        (Content::Previous, _) => return Ok(None),
        (Content::File(path), _) => {
            let source = BlobSource::from_file(path, descriptor.digest().clone(), descriptor.size());
            client.push_blob(repository, &source, None).await?
        }
        (
            Content::Base,
            BaseBlobs::Registry {
                client: from,
                repository: of,
            },
        ) => client.copy_blob(from, of, repository, &descriptor).await?,
        (Content::Base, BaseBlobs::Layout(layout)) => {
            let path = layout.blob_path(descriptor.digest());
            let source = BlobSource::from_file(path, descriptor.digest().clone(), descriptor.size());
            client.push_blob(repository, &source, None).await?
        }
    };
    Ok(Some(outcome))
}

/// Our descriptor in the types of the registry client.
pub fn described(descriptor: &Descriptor) -> Result<robotimage_registry::Descriptor, Error> {
    let digest =
        Digest::try_from(descriptor.digest.as_str()).map_err(|_| Error::Configuration(format!("{} is not a digest", descriptor.digest)))?;
    Ok(robotimage_registry::Descriptor::new(
        MediaType::from(descriptor.media_type.as_str()),
        descriptor.size,
        digest,
    ))
}

/// Points the tags at a manifest that the repository holds; those that do already are left alone.
pub async fn tag(client: &Client, repository: &Repository, manifest: &[u8], tags: &[String]) -> Result<(), Error> {
    for tag in tags {
        let outcome = client
            .tag(repository, manifest.to_vec().into(), &MediaType::ImageManifest, tag)
            .await?;
        tracing::info!(tag, ?outcome, "tag");
    }
    Ok(())
}
