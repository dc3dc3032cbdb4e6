//! An artifact in a registry: one archive, as `flux push artifact` makes it, or files and folders, as `oras push` makes them.
//!
//! Invariant: every blob has the digest that the manifest says, and the manifest the one that it was asked for by.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use robotimage_crds::build::Want;
use robotimage_registry::{Client, Descriptor, Digest, ImageManifest, MediaType, Reference};
use tempfile::NamedTempFile;

use super::archive::{Target, Writer, unpack};
use super::error::SourceError;
use super::tree::{Limits, io};
use super::{Checkout, tree_of};

/// Name of a blob's file or folder.
const TITLE: &str = "org.opencontainers.image.title";
/// Whether a blob is a folder in an archive, whose names begin with the folder's.
const UNPACK: &str = "io.deis.oras.content.unpack";

/// A source to fetch.
#[derive(Debug)]
pub struct OciRequest<'a> {
    /// Reads the registry.
    pub client: &'a Client,
    /// The artifact's reference.
    pub image: &'a str,
    /// The revision, where it is known already: the digits of the digest.
    pub want: &'a Want,
    /// Folder of it that is the context.
    pub path: &'a str,
    /// How much may be written.
    pub limits: Limits,
    /// Existing folder for blobs, which are removed at the end.
    pub scratch: &'a Path,
    /// Existing empty folder that gets the context.
    pub into: &'a Path,
    /// Raised by the caller to end the work.
    pub interrupt: Arc<AtomicBool>,
}

/// A blob and what it is.
struct Part {
    content: Content,
    size: u64,
    blob: NamedTempFile,
}

enum Content {
    /// Its entries stand at the root.
    Archive,
    /// It is the file of this name.
    File(String),
}

/// Pulls the artifact and writes its context.
pub async fn pull(request: &OciRequest<'_>) -> Result<Checkout, SourceError> {
    let (reference, commit, name) = locate(request)?;
    let of = reference.to_string();
    let fetched = request.client.manifest(&reference).await.map_err(|error| registry(&of, error))?;
    let commit = commit.unwrap_or_else(|| fetched.digest.digest().to_owned());
    let layers = layers(&of, &fetched.media_type, &fetched.bytes)?;
    let total = layers.iter().fold(0u64, |total, (layer, _)| total.saturating_add(layer.size()));
    if total > request.limits.bytes || layers.len() as u64 > request.limits.entries {
        return Err(SourceError::TooLarge {
            what: format!("{of} has {} blobs of {total} bytes", layers.len()),
        });
    }
    let mut parts = Vec::new();
    for (layer, content) in layers {
        let blob = NamedTempFile::new_in(request.scratch).map_err(|source| io("write to", request.scratch, source))?;
        let handle = blob.reopen().map_err(|source| io("write", blob.path(), source))?;
        let mut file = tokio::fs::File::from_std(handle);
        request
            .client
            .blob_to_file(&reference.to_repository(), &layer, &mut file)
            .await
            .map_err(|error| registry(&of, error))?;
        parts.push(Part {
            content,
            size: layer.size(),
            blob,
        });
    }
    let (path, into, limits) = (request.path.to_owned(), request.into.to_owned(), request.limits);
    let interrupt = Arc::clone(&request.interrupt);
    let work = tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(Target {
            of: &of,
            path: &path,
            limits,
            into: &into,
            interrupt: &interrupt,
        });
        for part in parts {
            place(part, &of, &mut writer)?;
        }
        let written = writer.finish()?;
        Ok(Checkout {
            commit,
            reference: name,
            tree: tree_of(&into, limits)?,
            author: String::new(),
            message: String::new(),
            bytes: written.bytes,
            entries: written.entries,
        })
    });
    work.await
        .unwrap_or_else(|error| Err(SourceError::broke_off(request.image, &error)))
}

/// What is asked for; the digits of its digest, if they are known; and the name that people know it by.
fn locate(request: &OciRequest<'_>) -> Result<(Reference, Option<String>, String), SourceError> {
    let refuse = |problem: String| SourceError::Address {
        url: request.image.chars().filter(|c| !c.is_control()).take(200).collect(),
        problem,
    };
    let reference = Reference::parse(request.image).map_err(|error| refuse(error.to_string()))?;
    match request.want {
        Want::Commit { id, reference: name } => {
            let digest = Digest::try_from(format!("sha256:{id}").as_str()).map_err(|error| refuse(error.to_string()))?;
            Ok((reference.with_digest(&digest), Some(id.clone()), name.clone()))
        }
        Want::Reference(_) => {
            let name = reference
                .tag()
                .unwrap_or(if reference.digest().is_some() { "digest" } else { "latest" });
            Ok((reference.clone(), None, name.to_owned()))
        }
    }
}

/// The blobs of an artifact, and what each is.
fn layers(of: &str, media_type: &MediaType, manifest: &[u8]) -> Result<Vec<(Descriptor, Content)>, SourceError> {
    let refuse = |problem: &str| SourceError::Archive {
        of: of.to_owned(),
        problem: problem.to_owned(),
    };
    if *media_type != MediaType::ImageManifest {
        return Err(refuse(
            "is no artifact but an index or something else; push one with `flux push artifact` or `oras push`",
        ));
    }
    let manifest: ImageManifest = serde_json::from_slice(manifest).map_err(|_| refuse("has a manifest that cannot be read"))?;
    let layers = manifest.layers();
    let mut found = Vec::new();
    for layer in layers {
        let note = |name: &str| {
            layer
                .annotations()
                .as_ref()
                .and_then(|notes: &HashMap<String, String>| notes.get(name))
        };
        let content = match (note(TITLE), note(UNPACK).is_some_and(|value| value == "true")) {
            (_, true) => Content::Archive,
            (Some(title), false) => Content::File(title.clone()),
            (None, false) if layers.len() == 1 => Content::Archive,
            (None, false) => return Err(refuse("has several blobs without names: it is an image and no artifact")),
        };
        found.push((layer.clone(), content));
    }
    if found.is_empty() {
        return Err(refuse("has no content"));
    }
    Ok(found)
}

fn place(part: Part, of: &str, writer: &mut Writer<'_>) -> Result<(), SourceError> {
    let read = |source| io("read", &PathBuf::from(of), source);
    let mut blob = part.blob.into_file();
    match part.content {
        Content::Archive => unpack(&blob, of, writer),
        Content::File(name) => {
            blob.rewind().map_err(read)?;
            if let Some(mut file) = writer.file(name.as_bytes(), false, part.size)? {
                std::io::copy(&mut (&mut blob).take(part.size), &mut file).map_err(read)?;
            }
            Ok(())
        }
    }
}

fn registry(of: &str, error: robotimage_registry::Error) -> SourceError {
    SourceError::Registry {
        of: of.to_owned(),
        cause: Box::new(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(layers: &[serde_json::Value]) -> Vec<u8> {
        let empty = serde_json::json!({"mediaType": "application/vnd.oci.empty.v1+json", "size": 2,
            "digest": format!("sha256:{}", "4".repeat(64))});
        let document = serde_json::json!({"schemaVersion": 2, "config": empty, "layers": layers});
        serde_json::to_vec(&document).unwrap()
    }

    fn layer(notes: &serde_json::Value) -> serde_json::Value {
        serde_json::json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": 3, "annotations": notes,
            "digest": format!("sha256:{}", "5".repeat(64))})
    }

    #[test]
    fn what_a_blob_is() {
        let read = |list: &[serde_json::Value]| {
            let found = layers("r.example/a:1", &MediaType::ImageManifest, &manifest(list))?;
            Ok::<Vec<_>, SourceError>(
                found
                    .into_iter()
                    .map(|(_, content)| match content {
                        Content::Archive => "archive".to_owned(),
                        Content::File(name) => name,
                    })
                    .collect(),
            )
        };
        let plain = layer(&serde_json::json!({}));
        let file = layer(&serde_json::json!({TITLE: "robot.yaml"}));
        let folder = layer(&serde_json::json!({TITLE: "lib", UNPACK: "true"}));
        assert_eq!(read(std::slice::from_ref(&plain)).unwrap(), ["archive"]);
        assert_eq!(read(&[file, folder]).unwrap(), ["robot.yaml", "archive"]);
        for (bad, said) in [(vec![], "no content"), (vec![plain.clone(), plain], "several blobs without names")] {
            let error = read(&bad).unwrap_err();
            assert_eq!(error.reason().as_str(), "SourceRejected");
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(layers("a", &MediaType::ImageIndex, &manifest(&[])).is_err());
    }
}
