//! A finished image to a registry: what it takes beside packing, and the tags at the end.
//!
//! Invariant: no tag is written before the manifest was read back by its digest.

use std::collections::BTreeMap;
use std::sync::Arc;

use robotimage_registry::{Client, Digest, Error, MediaType, Repository};

use super::assemble::Image;
use super::oci::Descriptor;
use super::pipeline::{Making, PublishError, Target, publish};

/// What was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes sent, by the digest of the layer.
    pub sent: BTreeMap<String, u64>,
}

/// Makes the repository hold an image whose layers lie on disk.
pub async fn push(target: &Target<'_>, image: &Image) -> Result<Pushed, PublishError> {
    let made = Arc::new(image.clone());
    let pack = Arc::new(move |_: &Making| Ok(Image::clone(&made)));
    let target = Target { keep: true, ..*target };
    let (_, pushed) = publish(&target, |_| image.layers.clone(), pack).await?;
    Ok(pushed)
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
