//! A base image from a registry or from a layout on disk: its manifest in OCI types, and the facts of its layers.
//!
//! Invariant: layers stream through memory; nothing of them is stored, and what is read is verified by digest.

use std::io::{self, Read};
use std::path::Path;

use bytes::{Buf as _, Bytes};
use futures::TryStreamExt as _;
use futures::stream::BoxStream;
use robotimage_registry::layout::OciLayout;
use robotimage_registry::{Client, Digest, ErrorKind, MediaType, Reference, Repository};

use super::base::FACTS_VERSION;
use super::learned::Learned;
use super::oci::{Config, Descriptor, Manifest};
use super::{Base, BaseFacts, BaseReader};

/// Operating system and architecture of our images.
const PLATFORM: (&str, &str) = ("linux", "amd64");

/// Why a base cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] robotimage_registry::Error),
    /// The layout on disk.
    #[error("base {}: {problem}", folder.display())]
    Layout {
        /// Its folder.
        folder: std::path::PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A layer that is no archive, or none that can be read.
    #[error("base image {name}: layer {digest} cannot be read: {source}")]
    Layer {
        /// The image.
        name: String,
        /// The layer.
        digest: String,
        /// Why.
        source: io::Error,
    },
    /// The documents are not those of an image.
    #[error("base image {name}: {problem}")]
    Documents {
        /// The image.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// Where the blobs of a base are, for copying.
#[derive(Clone, Debug)]
pub enum BaseBlobs {
    /// A repository.
    Registry {
        /// With the credentials for it.
        client: Client,
        /// Which one.
        repository: Repository,
    },
    /// A layout on disk.
    Layout(OciLayout),
}

/// Reads a base from a registry, or from its mirrors. `cache` is a folder that keeps facts by digest, `learned` what an earlier
/// image says: where one of them knows the base, its layers are not read. What a mirror sends is verified like everything
/// else; when it is something else, the registry itself is read instead.
pub async fn from_registry(
    client: &Client,
    reference: &Reference,
    cache: Option<&Path>,
    learned: Option<&Learned>,
) -> Result<(Base, BaseBlobs), PullError> {
    match read(client, reference, cache, learned).await {
        Err(PullError::Registry(error)) if error.kind() == ErrorKind::DigestMismatch && client.has_mirrors() => {
            tracing::warn!(%error, "a mirror sends something else than the registry has; it is not asked again");
            read(&client.without_mirrors(), reference, cache, learned).await
        }
        result => result,
    }
}

async fn read(
    client: &Client,
    reference: &Reference,
    cache: Option<&Path>,
    learned: Option<&Learned>,
) -> Result<(Base, BaseBlobs), PullError> {
    let image = client.resolve_image(reference, PLATFORM.0, PLATFORM.1).await?;
    let name = reference.to_string();
    let repository = reference.to_repository();
    let digest = image
        .reference
        .digest()
        .map(Digest::to_string)
        .ok_or_else(|| documents(&name, "it has no digest"))?;
    let layers: Vec<Descriptor> = image
        .manifest
        .layers()
        .iter()
        .map(|layer| Descriptor {
            media_type: layer.media_type().to_string(),
            digest: layer.digest().to_string(),
            size: layer.size(),
            annotations: std::collections::BTreeMap::default(),
        })
        .collect();
    let known = learned.and_then(|learned| learned.base(&digest)).cloned();
    let facts = if let Some(facts) = known.or_else(|| cached(cache, &digest)) {
        facts
    } else {
        let mut reader = BaseReader::default();
        for layer in image.manifest.layers() {
            reader = read_layer(client.blob_stream(&repository, layer), reader)
                .await
                .map_err(|failed| match failed {
                    Failed::Stream(error) => PullError::Registry(error),
                    Failed::Archive(source) => PullError::Layer {
                        name: name.clone(),
                        digest: layer.digest().to_string(),
                        source,
                    },
                })?;
        }
        let facts = reader.finish();
        remember(cache, &digest, &facts);
        facts
    };
    let config: Config = serde_json::from_slice(&image.config_bytes).map_err(|error| documents(&name, &error.to_string()))?;
    let shown = match reference.tag() {
        Some(tag) => format!("{repository}:{tag}"),
        None => repository.to_string(),
    };
    let base = base(Some(shown), digest, layers, config, facts);
    let blobs = BaseBlobs::Registry {
        client: client.clone(),
        repository,
    };
    Ok((base, blobs))
}

/// Why a layer was not read.
enum Failed {
    Stream(robotimage_registry::Error),
    Archive(io::Error),
}

/// Reads a layer on a thread of its own as it arrives; the reader comes back.
async fn read_layer(
    mut stream: BoxStream<'static, Result<Bytes, robotimage_registry::Error>>,
    mut reader: BaseReader,
) -> Result<BaseReader, Failed> {
    let (sender, pieces) = tokio::sync::mpsc::channel(8);
    let work = tokio::task::spawn_blocking(move || {
        let result = reader.layer(Pieces { pieces, now: Bytes::new() });
        result.map(|()| reader)
    });
    let mut sender = Some(sender);
    let failed = loop {
        match stream.try_next().await {
            Ok(Some(piece)) => {
                // The reader may have ended early, with an error. Whether it was given the right bytes shows at the end only.
                if let Some(open) = &sender
                    && open.send(piece).await.is_err()
                {
                    sender = None;
                }
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(sender);
    let read = work.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    // A stream that broke, or that has other bytes, makes a broken archive too, and is the cause of it.
    match failed {
        Some(error) => Err(Failed::Stream(error)),
        None => read.map_err(Failed::Archive),
    }
}

/// Reads a base from a layout on disk, such as `skopeo copy docker://… oci:DIR` makes.
pub fn from_layout(folder: &Path, cache: Option<&Path>) -> Result<(Base, BaseBlobs), PullError> {
    let wrong = |problem: String| PullError::Layout {
        folder: folder.to_owned(),
        problem,
    };
    if !folder.join("oci-layout").is_file() {
        return Err(wrong("it is no OCI image layout: there is no file oci-layout in it".to_owned()));
    }
    let layout = OciLayout::create(folder).map_err(|error| wrong(error.to_string()))?;
    let mut index = layout.index().map_err(|error| wrong(error.to_string()))?;
    let mut depth = 0;
    let digest = loop {
        let fits = |entry: &&robotimage_registry::Descriptor| {
            entry
                .platform()
                .as_ref()
                .is_none_or(|platform| platform.os().to_string() == PLATFORM.0 && platform.architecture().to_string() == PLATFORM.1)
        };
        let fitting: Vec<_> = index.manifests().iter().filter(fits).collect();
        let entry = match fitting.as_slice() {
            [] => return Err(wrong("it holds no image for linux/amd64".to_owned())),
            [entry] => (*entry).clone(),
            _ => {
                return Err(wrong(
                    "it holds several images for linux/amd64; make a layout with one of them".to_owned(),
                ));
            }
        };
        if *entry.media_type() != MediaType::ImageIndex {
            break entry.digest().clone();
        }
        depth += 1;
        if depth > 4 {
            return Err(wrong("it has indexes inside indexes, more than four deep".to_owned()));
        }
        index = document(&layout, entry.digest()).map_err(wrong)?;
    };
    let manifest: Manifest = document(&layout, &digest).map_err(wrong)?;
    let config_digest = Digest::try_from(manifest.config.digest.as_str()).map_err(|error| wrong(error.to_string()))?;
    let config: Config = document(&layout, &config_digest).map_err(wrong)?;
    if (config.os.as_str(), config.architecture.as_str()) != PLATFORM {
        return Err(wrong(format!(
            "its image is for {}/{}, not linux/amd64",
            config.os, config.architecture
        )));
    }
    if config.rootfs.diff_ids.len() != manifest.layers.len() {
        return Err(wrong("its configuration does not list as many layers as its manifest".to_owned()));
    }
    let digest = digest.to_string();
    let facts = if let Some(facts) = cached(cache, &digest) {
        facts
    } else {
        let mut reader = BaseReader::default();
        for layer in &manifest.layers {
            if !layer.media_type.starts_with("application/vnd.oci.image.layer.v1.tar") {
                return Err(wrong(format!(
                    "its layer has the type {}, not that of an image layer",
                    layer.media_type
                )));
            }
            let unreadable = |source| PullError::Layer {
                name: folder.display().to_string(),
                digest: layer.digest.clone(),
                source,
            };
            let blob = Digest::try_from(layer.digest.as_str()).map_err(|error| wrong(error.to_string()))?;
            let file = std::fs::File::open(layout.blob_path(&blob)).map_err(unreadable)?;
            reader.layer(io::BufReader::new(file)).map_err(unreadable)?;
        }
        let facts = reader.finish();
        remember(cache, &digest, &facts);
        facts
    };
    let layers = manifest
        .layers
        .into_iter()
        .map(|layer| Descriptor {
            annotations: std::collections::BTreeMap::default(),
            ..layer
        })
        .collect();
    Ok((base(None, digest, layers, config, facts), BaseBlobs::Layout(layout)))
}

fn base(name: Option<String>, digest: String, layers: Vec<Descriptor>, config: Config, facts: BaseFacts) -> Base {
    Base {
        name,
        digest,
        layers,
        diff_ids: config.rootfs.diff_ids,
        env: config.config.env,
        history: config.history,
        facts,
    }
}

fn documents(name: &str, problem: &str) -> PullError {
    PullError::Documents {
        name: name.to_owned(),
        problem: problem.to_owned(),
    }
}

fn document<T: serde::de::DeserializeOwned>(layout: &OciLayout, digest: &Digest) -> Result<T, String> {
    let bytes = layout.read_document(digest).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{digest}: {error}"))
}

/// Those of an older way are not used.
fn facts_path(cache: &Path, digest: &str) -> std::path::PathBuf {
    cache.join(format!("{}.{FACTS_VERSION}.json", digest.replace(':', "-")))
}

/// Facts from an earlier build. A file that cannot be read is the same as none.
fn cached(cache: Option<&Path>, digest: &str) -> Option<BaseFacts> {
    serde_json::from_slice(&std::fs::read(facts_path(cache?, digest)).ok()?).ok()
}

/// Keeps facts for later builds; one that cannot be kept costs only time.
fn remember(cache: Option<&Path>, digest: &str, facts: &BaseFacts) {
    let Some(cache) = cache else { return };
    let path = facts_path(cache, digest);
    let part = path.with_extension(format!("part-{}", std::process::id()));
    let written = std::fs::create_dir_all(cache)
        .and_then(|()| std::fs::write(&part, super::oci::to_bytes(facts)))
        .and_then(|()| std::fs::rename(&part, &path));
    if let Err(error) = written {
        tracing::debug!(path = %path.display(), %error, "the facts of the base are not kept");
    }
}

/// The pieces of a stream for a reader on a thread of its own. The end of the pieces is the end of the file.
struct Pieces {
    pieces: tokio::sync::mpsc::Receiver<Bytes>,
    now: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.now = piece,
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.now.len());
        into[..length].copy_from_slice(&self.now[..length]);
        self.now.advance(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use robotimage_registry::{Context, Error, Operation};

    use super::*;

    /// What a mirror sends need not be an archive: that its digest is wrong is what helps.
    #[tokio::test]
    async fn other_bytes_are_told_from_a_broken_archive() {
        let at = || {
            Box::new(Context {
                operation: Operation::PullBlob,
                host: "mirror.example.com".to_owned(),
                subject: String::new(),
            })
        };
        let garbage = || (0..50).map(|_| Ok(Bytes::from_static(&[b'x'; 1024])));
        let problem = String::new();
        let wrong = garbage().chain([Err(Error::DigestMismatch { at: at(), problem })]);
        let read = read_layer(futures::stream::iter(wrong.collect::<Vec<_>>()).boxed(), BaseReader::default()).await;
        assert!(matches!(read, Err(Failed::Stream(Error::DigestMismatch { .. }))));
        let broken = futures::stream::iter(garbage().collect::<Vec<_>>()).boxed();
        assert!(matches!(read_layer(broken, BaseReader::default()).await, Err(Failed::Archive(_))));
    }
}
