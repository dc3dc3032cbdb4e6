//! From a reference to the image of one platform, in OCI types whatever the registry holds.
//!
//! Invariant: everything returned has been verified by digest, and its configuration says that it is for the platform. However
//! indexes point at one another, a bounded number of documents is read.

use bytes::Bytes;
use oci_spec::image::{Descriptor, Digest, ImageConfiguration, ImageManifest, MediaType};

use crate::client::{Client, Fetched};
use crate::context::{Context, Operation};
use crate::documents::{Document, Offered, candidates, protocol, read};
use crate::error::Error;
use crate::reference::{Reference, Repository};

/// Indexes inside indexes, at most.
const DEPTH: usize = 4;
/// Documents that are looked at for one image, at most.
const LOOKED_AT: usize = 16;

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
    /// indexes and docker manifest lists, which may be nested. An index's entries without a platform are looked at when none
    /// states the platform: their configuration tells.
    pub async fn resolve_image(&self, reference: &Reference, os: &str, architecture: &str) -> Result<ResolvedImage, Error> {
        let repository = reference.to_repository();
        let at = Context::new(Operation::PullManifest, &repository, reference.to_string());
        let mut offered = Offered::default();
        let mut index_digest = None;
        // What is still to be looked at, the next one last, with the number of indexes above it.
        let mut waiting: Vec<(Descriptor, usize)> = Vec::new();
        let (mut fetched, mut depth, mut looked_at) = (self.manifest(reference).await?, 0, 1);
        loop {
            match read(&at, &fetched)? {
                Document::Index(_) if depth == DEPTH => {
                    return Err(protocol(&at, &format!("more than {DEPTH} indexes inside one another")));
                }
                Document::Index(index) => {
                    index_digest.get_or_insert(fetched.digest);
                    offered.add_index(&index);
                    let next = candidates(&index, os, architecture).into_iter().rev();
                    waiting.extend(next.map(|entry| (entry.clone(), depth + 1)));
                }
                Document::Manifest(manifest) => {
                    let (config_bytes, config) = self.configuration(&at, &repository, &manifest).await?;
                    let (own_os, own_architecture) = (config.os().to_string(), config.architecture().to_string());
                    if (own_os.as_str(), own_architecture.as_str()) == (os, architecture) {
                        return Ok(ResolvedImage {
                            reference: reference.with_digest(&fetched.digest),
                            index_digest,
                            manifest_bytes: fetched.bytes,
                            media_type: fetched.media_type,
                            manifest: *manifest,
                            config_bytes,
                            config,
                        });
                    }
                    offered.add(&format!("{own_os}/{own_architecture}"));
                }
                Document::Artifact(kind) if depth == 0 => {
                    return Err(protocol(&at, &format!("it is an artifact of type {kind:?}, not an image")));
                }
                // Beside images, an index may list what belongs to them.
                Document::Artifact(_) => {}
            }
            let Some((entry, below)) = waiting.pop() else {
                return Err(Error::PlatformMissing {
                    at: Box::new(at),
                    wanted: format!("{os}/{architecture}"),
                    offered: offered.list(),
                });
            };
            looked_at += 1;
            if looked_at > LOOKED_AT {
                return Err(protocol(
                    &at,
                    &format!("its indexes lead to more than {LOOKED_AT} documents without a platform"),
                ));
            }
            (fetched, depth) = (self.listed(&at, &repository, &entry).await?, below);
        }
    }

    /// A manifest that an index lists: digest and size are those of the entry.
    async fn listed(&self, at: &Context, repository: &Repository, entry: &Descriptor) -> Result<Fetched, Error> {
        let fetched = self.manifest(&repository.with_digest(entry.digest())).await?;
        if fetched.bytes.len() as u64 != entry.size() {
            return Err(Error::DigestMismatch {
                at: Box::new(at.clone()),
                problem: format!(
                    "its index says that {} has {} bytes, and it has {}",
                    entry.digest(),
                    entry.size(),
                    fetched.bytes.len()
                ),
            });
        }
        Ok(fetched)
    }

    async fn configuration(
        &self,
        at: &Context,
        repository: &Repository,
        manifest: &ImageManifest,
    ) -> Result<(Bytes, ImageConfiguration), Error> {
        let limit = self.options().manifest_limit;
        let bytes = self.blob_bytes(repository, manifest.config(), limit).await?;
        let config: ImageConfiguration =
            serde_json::from_slice(&bytes).map_err(|error| protocol(at, &format!("its configuration is not that of an image: {error}")))?;
        let (layers, diffs) = (manifest.layers().len(), config.rootfs().diff_ids().len());
        if layers != diffs {
            return Err(protocol(at, &format!("it has {layers} layers and its configuration lists {diffs}")));
        }
        Ok((bytes, config))
    }
}
