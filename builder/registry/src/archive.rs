//! Images as one file: `oci-archive` and `docker-archive`, as skopeo, podman and docker read them.
//!
//! Invariant: the bytes depend on the content alone: entries sorted, one fixed time, root's ownership.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;

use oci_spec::image::{Digest, ImageManifest, MediaType};
use serde::Serialize;
use tar::{Builder, EntryType, Header};

use crate::json;
use crate::layout::{LayoutError, OciLayout};

/// 1980-01-02T00:00:00Z, the time of every file this project writes.
const MTIME: u64 = 315_619_200;

/// Where the bytes of an entry are.
enum Content {
    Folder,
    Bytes(Vec<u8>),
    File(PathBuf),
}

/// Writes the whole layout as an `oci-archive`.
pub fn write_oci(layout: &OciLayout, out: impl Write) -> Result<(), LayoutError> {
    let mut entries = BTreeMap::new();
    for name in ["index.json", "oci-layout"] {
        entries.insert(name.to_owned(), Content::File(layout.root().join(name)));
    }
    let blobs = layout.root().join("blobs");
    let list = |path: &PathBuf| -> Result<Vec<fs::DirEntry>, LayoutError> {
        let fail = |source| LayoutError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        fs::read_dir(path).map_err(fail)?.map(|entry| entry.map_err(fail)).collect()
    };
    entries.insert("blobs/".to_owned(), Content::Folder);
    for algorithm in list(&blobs)? {
        let folder = format!("blobs/{}/", algorithm.file_name().to_string_lossy());
        for blob in list(&algorithm.path())? {
            let name = blob.file_name().to_string_lossy().into_owned();
            // What begins with a dot is a blob still being written.
            if !name.starts_with('.') {
                entries.insert(format!("{folder}{name}"), Content::File(blob.path()));
            }
        }
        entries.insert(folder, Content::Folder);
    }
    write(entries, out)
}

/// Writes one image of the layout as a `docker-archive` under the given names (`repository:tag`). Its layers must be
/// gzip or uncompressed: nothing that reads this format knows zstd.
pub fn write_docker(layout: &OciLayout, manifest: &Digest, repo_tags: &[String], out: impl Write) -> Result<(), LayoutError> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Image {
        config: String,
        repo_tags: Vec<String>,
        layers: Vec<String>,
    }
    let image = |problem: String| LayoutError::Image {
        digest: manifest.clone(),
        problem,
    };
    let parsed: ImageManifest =
        serde_json::from_slice(&layout.read_document(manifest)?).map_err(|error| image(format!("broken manifest: {error}")))?;
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm(), digest.digest());
    let mut entries = BTreeMap::from([("blobs/".to_owned(), Content::Folder)]);
    for layer in parsed.layers() {
        if !matches!(layer.media_type(), MediaType::ImageLayer | MediaType::ImageLayerGzip) {
            return Err(image(format!(
                "a docker archive holds gzip layers only, and this image has one of type {}; build it with gzip",
                layer.media_type()
            )));
        }
    }
    for blob in parsed.layers().iter().chain([parsed.config()]) {
        let digest = blob.digest();
        entries.insert(format!("blobs/{}/", digest.algorithm()), Content::Folder);
        entries.insert(path(digest), Content::File(layout.blob_path(digest)));
    }
    let list = [Image {
        config: path(parsed.config().digest()),
        repo_tags: repo_tags.to_vec(),
        layers: parsed.layers().iter().map(|layer| path(layer.digest())).collect(),
    }];
    let document = json::canonical(&list).map_err(|error| image(format!("its names are not text: {error}")))?;
    entries.insert("manifest.json".to_owned(), Content::Bytes(document));
    write(entries, out)
}

fn write(entries: BTreeMap<String, Content>, out: impl Write) -> Result<(), LayoutError> {
    let mut tar = Builder::new(out);
    for (name, content) in entries {
        match content {
            Content::Folder => append(&mut tar, &name, EntryType::Directory, 0, &mut std::io::empty())?,
            Content::Bytes(bytes) => {
                append(&mut tar, &name, EntryType::Regular, bytes.len() as u64, &mut bytes.as_slice())?;
            }
            Content::File(path) => {
                let fail = |source| LayoutError::Io {
                    action: "read",
                    path: path.clone(),
                    source,
                };
                let mut file = File::open(&path).map_err(fail)?;
                let size = file.metadata().map_err(fail)?.len();
                append(&mut tar, &name, EntryType::Regular, size, &mut file)?;
            }
        }
    }
    let mut out = tar.into_inner().map_err(LayoutError::Archive)?;
    out.flush().map_err(LayoutError::Archive)
}

fn append(tar: &mut Builder<impl Write>, name: &str, kind: EntryType, size: u64, content: &mut dyn Read) -> Result<(), LayoutError> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(MTIME);
    header.set_size(size);
    // A file that grows meanwhile must not spill into the next entry.
    tar.append_data(&mut header, name, &mut content.take(size))
        .map_err(LayoutError::Archive)
}

#[cfg(test)]
#[path = "archive_tests.rs"]
mod tests;
