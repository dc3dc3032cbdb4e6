//! From a reference to the image of one platform, in OCI types whatever the registry holds.
//!
//! Invariant: blobs are never changed, only how they are described: docker's media types become the OCI types of the
//! same content. Everything returned has been verified by digest.

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageIndex, ImageManifest, MediaType, SCHEMA_VERSION};

use crate::client::{Client, Fetched};
use crate::context::{Context, Operation};
use crate::error::Error;
use crate::reference::Reference;

/// Indexes inside indexes, at most.
const DEPTH: usize = 4;
/// Platforms that an error lists at most.
const SHOWN: usize = 20;

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

/// The image of one platform.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The reference with the digest of the platform's manifest.
    pub reference: Reference,
    /// The digest of the outermost index, when there was one.
    pub index_digest: Option<Digest>,
    /// The manifest as the registry holds it; `reference` has its digest.
    pub manifest_bytes: Bytes,
    /// Its own media type: docker's or OCI's.
    pub media_type: MediaType,
    /// The manifest in OCI types.
    pub manifest: ImageManifest,
    /// The configuration as the registry holds it.
    pub config_bytes: Bytes,
    /// The configuration, parsed.
    pub config: ImageConfiguration,
}

impl Client {
    /// Resolves a reference to the manifest and configuration for `os` and `architecture` (`linux`, `amd64`), through
    /// indexes and docker manifest lists.
    pub async fn resolve_image(&self, reference: &Reference, os: &str, architecture: &str) -> Result<ResolvedImage, Error> {
        let repository = reference.to_repository();
        let at = Context::new(Operation::PullManifest, &repository, reference.to_string());
        let mut fetched = self.manifest(reference).await?;
        let mut index_digest = None;
        let mut depth = 0;
        while is_index(&at, &fetched)? {
            depth += 1;
            if depth > DEPTH {
                return Err(protocol(&at, format!("more than {DEPTH} indexes inside one another")));
            }
            index_digest.get_or_insert_with(|| fetched.digest.clone());
            let index: ImageIndex =
                serde_json::from_slice(&fetched.bytes).map_err(|error| protocol(&at, format!("broken index: {error}")))?;
            let chosen = choose(&at, &index, os, architecture)?;
            fetched = self.manifest(&repository.with_digest(chosen.digest())).await?;
        }
        let manifest = to_oci(&at, &fetched)?;
        let limit = self.options().manifest_limit;
        let config_bytes = self.blob_bytes(&repository, manifest.config(), limit).await?;
        let config: ImageConfiguration = serde_json::from_slice(&config_bytes)
            .map_err(|error| protocol(&at, format!("its configuration is not that of an image: {error}")))?;
        let own = (config.os().to_string(), config.architecture().to_string());
        if own != (os.to_owned(), architecture.to_owned()) {
            let (wanted, offered) = (format!("{os}/{architecture}"), format!("{}/{}", own.0, own.1));
            return Err(Error::PlatformMissing {
                at: Box::new(at),
                wanted,
                offered,
            });
        }
        let (layers, diffs) = (manifest.layers().len(), config.rootfs().diff_ids().len());
        if layers != diffs {
            return Err(protocol(&at, format!("it has {layers} layers and its configuration lists {diffs}")));
        }
        Ok(ResolvedImage {
            reference: reference.with_digest(&fetched.digest),
            index_digest,
            manifest_bytes: fetched.bytes,
            media_type: fetched.media_type,
            manifest,
            config_bytes,
            config,
        })
    }
}

fn protocol(at: &Context, problem: String) -> Error {
    Error::Protocol {
        at: Box::new(at.clone()),
        problem,
    }
}

/// A document that could be read both as an index and as a manifest is refused: two readers would see two images.
fn is_index(at: &Context, fetched: &Fetched) -> Result<bool, Error> {
    let document: serde_json::Value =
        serde_json::from_slice(&fetched.bytes).map_err(|_| protocol(at, "its manifest is not JSON".to_owned()))?;
    let (manifests, layers) = (document.get("manifests").is_some(), document.get("layers").is_some());
    let index = matches!(&fetched.media_type, MediaType::ImageIndex)
        || matches!(&fetched.media_type, MediaType::Other(name) if name == DOCKER_LIST);
    let manifest = matches!(&fetched.media_type, MediaType::ImageManifest)
        || matches!(&fetched.media_type, MediaType::Other(name) if name == DOCKER_MANIFEST);
    match (index, manifest) {
        (true, _) if manifests && !layers => Ok(true),
        (_, true) if layers && !manifests => Ok(false),
        (false, false) => Err(protocol(
            at,
            format!("{:?} is not an image manifest of a supported type", clip(&fetched.media_type)),
        )),
        _ => Err(protocol(at, "its manifest does not fit its media type".to_owned())),
    }
}

fn clip(media_type: &MediaType) -> String {
    media_type.to_string().chars().filter(|c| !c.is_control()).take(100).collect()
}

/// The entry for a platform: without a variant if there is one, else the highest variant by name (v8 before v7).
fn choose<'a>(at: &Context, index: &'a ImageIndex, os: &str, architecture: &str) -> Result<&'a Descriptor, Error> {
    let fitting = index.manifests().iter().filter(|entry| {
        entry
            .platform()
            .as_ref()
            .is_some_and(|platform| platform.os().to_string() == os && platform.architecture().to_string() == architecture)
    });
    let variant = |entry: &Descriptor| entry.platform().as_ref().and_then(|platform| platform.variant().clone());
    // max_by_key takes the last of equals; indexes are read first to last everywhere else.
    let best = fitting.rev().max_by_key(|entry| (variant(entry).is_none(), variant(entry)));
    // An index of artifacts or a nested index may state no platform at all.
    let only = match index.manifests().as_slice() {
        [one] if one.platform().is_none() => Some(one),
        _ => None,
    };
    best.or(only).ok_or_else(|| {
        let mut offered: Vec<String> = Vec::new();
        for platform in index.manifests().iter().filter_map(|entry| entry.platform().as_ref()) {
            let name: String = format!("{}/{}", platform.os(), platform.architecture()).chars().take(40).collect();
            if !name.contains("unknown") && !offered.contains(&name) && offered.len() < SHOWN {
                offered.push(name);
            }
        }
        Error::PlatformMissing {
            at: Box::new(at.clone()),
            wanted: format!("{os}/{architecture}"),
            offered: offered.join(", "),
        }
    })
}

/// Parses a manifest and rewrites docker's media types to those of OCI.
fn to_oci(at: &Context, fetched: &Fetched) -> Result<ImageManifest, Error> {
    let mut manifest: ImageManifest =
        serde_json::from_slice(&fetched.bytes).map_err(|error| protocol(at, format!("broken manifest: {error}")))?;
    if manifest.schema_version() != SCHEMA_VERSION {
        return Err(protocol(
            at,
            format!("manifests of schema version {} are not supported", manifest.schema_version()),
        ));
    }
    manifest.set_media_type(Some(MediaType::ImageManifest));
    let kind = oci_type(manifest.config().media_type());
    if kind != MediaType::ImageConfig {
        return Err(protocol(at, format!("it is an artifact of type {:?}, not an image", clip(&kind))));
    }
    let mut config = manifest.config().clone();
    config.set_media_type(kind);
    manifest.set_config(config);
    for layer in manifest.layers_mut() {
        let kind = oci_type(layer.media_type());
        if !kind.to_string().starts_with("application/vnd.oci.image.layer.") {
            return Err(protocol(at, format!("its layers have the unsupported type {:?}", clip(&kind))));
        }
        layer.set_media_type(kind);
    }
    Ok(manifest)
}

fn oci_type(kind: &MediaType) -> MediaType {
    match kind.as_ref() {
        DOCKER_CONFIG => MediaType::ImageConfig,
        DOCKER_LAYER => MediaType::ImageLayer,
        DOCKER_LAYER_GZIP => MediaType::ImageLayerGzip,
        DOCKER_LAYER_ZSTD => MediaType::ImageLayerZstd,
        DOCKER_FOREIGN => MediaType::ImageLayerNonDistributableGzip,
        _ => kind.clone(),
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
