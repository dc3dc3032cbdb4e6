//! The image that is there: its documents, which of its layers can be taken over, and whether its code is the wanted one.
//!
//! Invariant: an image that some other tool made has nothing for us, and is no error.

use std::path::Path;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use robotimage_registry::{Client, Error, Presence, Reference, Repository};

use crate::image::oci::{Config, Descriptor, Manifest};
use crate::image::push::described;
use crate::image::{ImageLayer, Parts, ROLE_ANNOTATION, Reused, Role};

/// Layers that are asked for at once.
const AT_ONCE: usize = 4;

/// A published image of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreviousImage {
    /// Digest of its manifest.
    pub digest: String,
    /// Its manifest.
    pub manifest: Manifest,
    /// Its configuration.
    pub config: Config,
}

impl PreviousImage {
    /// Reads one; none when it is no image of the kind that we make.
    pub async fn read(client: &Client, reference: &Reference) -> Result<Option<Self>, Error> {
        let fetched = client.manifest(reference).await?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&fetched.bytes) else {
            return Ok(None);
        };
        let Ok(descriptor) = described(&manifest.config) else {
            return Ok(None);
        };
        let limit = client.options().manifest_limit;
        let config = client.blob_bytes(&reference.to_repository(), &descriptor, limit).await?;
        Ok(serde_json::from_slice(&config).ok().map(|config| Self {
            digest: fetched.digest.to_string(),
            manifest,
            config,
        }))
    }

    /// Its layers of a role.
    pub fn layers(&self, role: Role) -> Vec<Reused> {
        let of_role = |descriptor: &Descriptor| descriptor.annotations.get(ROLE_ANNOTATION).map(String::as_str) == Some(role.as_str());
        self.manifest
            .layers
            .iter()
            .zip(&self.config.rootfs.diff_ids)
            .filter(|(descriptor, _)| of_role(descriptor))
            .map(|(descriptor, diff_id)| Reused {
                role,
                descriptor: descriptor.clone(),
                diff_id: diff_id.clone(),
                from: None,
            })
            .collect()
    }

    /// Its layer of this role when it is byte for byte this one.
    pub fn same(&self, layer: &ImageLayer) -> Option<Reused> {
        let mut layers = self.layers(layer.role);
        let found = layers.pop().filter(|_| layers.is_empty())?;
        (found.descriptor == layer.descriptor && found.diff_id == layer.diff_id).then_some(found)
    }
}

/// The layers without the environment and its runtime home, unless the repository still has all of these: without them
/// resolve has work to do. Of the others publish finds out by itself.
pub async fn still_there(client: &Client, repository: &Repository, layers: Vec<Reused>) -> Result<Vec<Reused>, Error> {
    let of_environment = |layer: &Reused| matches!(layer.role, Role::Environment | Role::Home);
    let asked: Vec<BoxFuture<'_, _>> = layers
        .iter()
        .filter(|layer| of_environment(layer))
        .map(|layer| is_whole(client, repository, layer).boxed())
        .collect();
    let there: Vec<bool> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    let whole = there.into_iter().all(|there| there);
    Ok(layers.into_iter().filter(|layer| whole || !of_environment(layer)).collect())
}

async fn is_whole(client: &Client, repository: &Repository, layer: &Reused) -> Result<bool, Error> {
    Ok(client.presence(repository, &described(&layer.descriptor)?).await? == Presence::Whole)
}

/// What the code of a robot is made from.
pub fn code_parts(source: &Path) -> Parts<'_> {
    Parts {
        source,
        rcc: Path::new(""),
        launcher: Path::new(""),
        environment: None,
        reused: &[],
    }
}
