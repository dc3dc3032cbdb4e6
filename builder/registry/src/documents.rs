//! Manifests and indexes as registries hold them: told apart, checked, rewritten to OCI types.
//!
//! Invariant: pure. Blobs are never changed, only how they are described; a document that two readers could take for two
//! things is refused; no message holds more than a few printable words of a document.

use std::cmp::Reverse;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType, SCHEMA_VERSION};

use crate::client::Fetched;
use crate::context::Context;
use crate::error::Error;

/// Platforms that an error lists at most.
const SHOWN: usize = 20;
/// Layers of an image at most; the kernel stacks no more.
const MAX_LAYERS: usize = 500;
/// Characters of a document's words that a message shows.
const WORDS: usize = 200;

const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";
const DOCKER_FOREIGN: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
const OCI_FOREIGN: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const DOCKER_SCHEMA_1: &str = "application/vnd.docker.distribution.manifest.v1+";
/// BuildKit's mark of what belongs to an image and is none: attestations.
const BELONGS_TO: &str = "vnd.docker.reference.type";

/// What a document is.
#[derive(Debug)]
pub(crate) enum Document {
    /// A list of others.
    Index(Box<ImageIndex>),
    /// An image of one platform, in OCI types.
    Manifest(Box<ImageManifest>),
    /// Something else that registries keep, such as a chart or a signature; its type.
    Artifact(String),
}

/// Reads a document of a type that is known, and is what its type says.
pub(crate) fn read(at: &Context, fetched: &Fetched) -> Result<Document, Error> {
    let document: serde_json::Value = serde_json::from_slice(&fetched.bytes).map_err(|_| protocol(at, "its manifest is not JSON"))?;
    let has = |field: &str| document.get(field).is_some();
    let kind = fetched.media_type.as_ref();
    let schema_1 = document.get("schemaVersion").and_then(serde_json::Value::as_u64) == Some(1);
    if kind.starts_with(DOCKER_SCHEMA_1) || schema_1 {
        return Err(protocol(
            at,
            "its manifest is of docker's schema 1, which no current tool makes; push the image again with a current one",
        ));
    }
    let index = fetched.media_type == MediaType::ImageIndex || kind == DOCKER_LIST;
    let manifest = fetched.media_type == MediaType::ImageManifest || kind == DOCKER_MANIFEST;
    // A document that could be read as both is refused: two readers would see two images.
    match (index, manifest) {
        (true, _) if has("manifests") && !has("layers") => serde_json::from_slice(&fetched.bytes)
            .map(|index| Document::Index(Box::new(index)))
            .map_err(|error| protocol(at, &format!("broken index: {error}"))),
        (_, true) if has("layers") && !has("manifests") => to_oci(at, fetched),
        (false, false) => Err(protocol(at, &format!("{kind:?} is not an image manifest of a supported type"))),
        _ => Err(protocol(at, "its manifest does not fit its media type")),
    }
}

/// A problem in few printable words.
pub(crate) fn protocol(at: &Context, problem: &str) -> Error {
    Error::Protocol {
        at: Box::new(at.clone()),
        problem: words(problem),
    }
}

fn words(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(WORDS).collect()
}

/// The platforms that were met, for a message.
#[derive(Debug, Default)]
pub(crate) struct Offered(Vec<String>);

impl Offered {
    /// Adds those of an index; what states none, or is no image, is left out.
    pub(crate) fn add_index(&mut self, index: &ImageIndex) {
        for platform in index.manifests().iter().filter_map(|entry| entry.platform().as_ref()) {
            let variant = platform
                .variant()
                .as_ref()
                .map_or_else(String::new, |variant| format!("/{variant}"));
            self.add(&format!("{}/{}{variant}", platform.os(), platform.architecture()));
        }
    }

    /// Adds one.
    pub(crate) fn add(&mut self, platform: &str) {
        let name: String = words(platform).chars().take(40).collect();
        if !name.starts_with("unknown/") && !self.0.contains(&name) && self.0.len() < SHOWN {
            self.0.push(name);
        }
    }

    /// Comma separated.
    pub(crate) fn list(&self) -> String {
        self.0.join(", ")
    }
}

/// The entries of an index that may lead to an image for a platform, in the order in which they are to be tried: the best of
/// those that state it; where none does, all that state nothing.
pub(crate) fn candidates<'a>(index: &'a ImageIndex, os: &str, architecture: &str) -> Vec<&'a Descriptor> {
    let images = || index.manifests().iter().filter(|entry| is_image(entry));
    let fitting = images().filter(|entry| {
        entry
            .platform()
            .as_ref()
            .is_some_and(|platform| platform.os().to_string() == os && platform.architecture().to_string() == architecture)
    });
    // The first of equals; indexes are read first to last everywhere else.
    match fitting.min_by_key(|entry| rank(entry, architecture)) {
        Some(best) => vec![best],
        None => images().filter(|entry| entry.platform().is_none()).collect(),
    }
}

/// An image or an index of images, not something that belongs to one.
fn is_image(entry: &Descriptor) -> bool {
    let belongs = entry
        .annotations()
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(BELONGS_TO));
    let kind = entry.media_type();
    let known = matches!(kind, MediaType::ImageIndex | MediaType::ImageManifest) || matches!(kind.as_ref(), DOCKER_LIST | DOCKER_MANIFEST);
    // Some writers repeat there what the configuration of an image is.
    let artifact = entry
        .artifact_type()
        .as_ref()
        .filter(|kind| oci_type(kind) != MediaType::ImageConfig);
    known && !belongs && artifact.is_none()
}

/// Smaller is better: no variant, then for amd64 the lowest, since its variants are what a processor must have beyond the first
/// (`v3` does not run everywhere), and for others the highest by name (`v8` before `v7`).
fn rank(entry: &Descriptor, architecture: &str) -> (bool, Option<String>, Reverse<Option<String>>) {
    let variant = entry.platform().as_ref().and_then(|platform| platform.variant().clone());
    let variant = variant.filter(|variant| !(variant.is_empty() || architecture == "amd64" && variant == "v1"));
    if architecture == "amd64" {
        (variant.is_some(), variant, Reverse(None))
    } else {
        (variant.is_some(), None, Reverse(variant))
    }
}

/// Parses a manifest and rewrites docker's media types to those of OCI.
fn to_oci(at: &Context, fetched: &Fetched) -> Result<Document, Error> {
    let mut manifest: ImageManifest =
        serde_json::from_slice(&fetched.bytes).map_err(|error| protocol(at, &format!("broken manifest: {error}")))?;
    if manifest.schema_version() != SCHEMA_VERSION {
        let problem = format!("manifests of schema version {} are not supported", manifest.schema_version());
        return Err(protocol(at, &problem));
    }
    let kind = oci_type(manifest.config().media_type());
    if kind != MediaType::ImageConfig {
        let kind = manifest.artifact_type().as_ref().unwrap_or(&kind);
        return Ok(Document::Artifact(words(kind.as_ref())));
    }
    manifest.set_media_type(Some(MediaType::ImageManifest));
    let mut config = manifest.config().clone();
    config.set_media_type(kind);
    manifest.set_config(config);
    if manifest.layers().len() > MAX_LAYERS {
        let problem = format!(
            "it has {} layers, and no system stacks more than {MAX_LAYERS}",
            manifest.layers().len()
        );
        return Err(protocol(at, &problem));
    }
    for layer in manifest.layers_mut() {
        let kind = oci_type(layer.media_type());
        match &kind {
            MediaType::ImageLayer | MediaType::ImageLayerGzip | MediaType::ImageLayerZstd => {}
            kind if is_foreign(kind.as_ref()) => {
                let problem = format!(
                    "its layer {} must not be copied to another registry ({}); choose an image without such layers",
                    layer.digest(),
                    kind.as_ref()
                );
                return Err(protocol(at, &problem));
            }
            kind => return Err(protocol(at, &format!("its layers have the unsupported type {:?}", kind.as_ref()))),
        }
        layer.set_media_type(kind);
    }
    Ok(Document::Manifest(Box::new(manifest)))
}

fn is_foreign(kind: &str) -> bool {
    kind.starts_with(DOCKER_FOREIGN) || kind.starts_with(OCI_FOREIGN)
}

fn oci_type(kind: &MediaType) -> MediaType {
    match kind.as_ref() {
        DOCKER_CONFIG => MediaType::ImageConfig,
        DOCKER_LAYER => MediaType::ImageLayer,
        DOCKER_LAYER_GZIP => MediaType::ImageLayerGzip,
        DOCKER_LAYER_ZSTD => MediaType::ImageLayerZstd,
        _ => kind.clone(),
    }
}

#[cfg(test)]
#[path = "documents_tests.rs"]
mod tests;
