//! An OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/`.
//!
//! Invariant: a blob file appears under its digest only when its bytes have that digest, and `index.json` is replaced
//! as a whole. Two processes may add blobs to one layout at once; two that write its index overwrite each other.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::image::{Descriptor, Digest, ImageIndex, MediaType, SCHEMA_VERSION};
use serde::Deserialize;

use crate::digest::{self, Verifier, VerifyError};
use crate::json;

/// The annotation that names an image inside a layout.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
const VERSION: &str = "1.0.0";
/// Largest document of a layout that is read into memory, in bytes.
pub(crate) const DOCUMENT_LIMIT: u64 = 4 * 1024 * 1024;

/// What is wrong with a layout or an archive made of it.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// A file or folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write` and so on.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Archive(#[source] io::Error),
    /// The folder holds something else.
    #[error("{} is not an OCI image layout: {problem}", path.display())]
    NotALayout {
        /// The folder.
        path: PathBuf,
        /// Why.
        problem: String,
    },
    /// A blob is not what its digest says.
    #[error("blob {}: {source}", path.display())]
    Digest {
        /// The file.
        path: PathBuf,
        /// The difference.
        source: VerifyError,
    },
    /// The image cannot be written in this format.
    #[error("cannot write image {digest}: {problem}")]
    Image {
        /// Its manifest.
        digest: Digest,
        /// Why.
        problem: String,
    },
}

/// An image layout on disk.
#[derive(Debug, Clone)]
pub struct OciLayout {
    root: PathBuf,
}

#[derive(Deserialize)]
struct Header {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

impl OciLayout {
    /// Opens the layout at `root`, or makes an empty one there. A folder with other things in it is refused.
    pub fn create(root: &Path) -> Result<Self, LayoutError> {
        let layout = Self { root: root.to_owned() };
        let marker = root.join("oci-layout");
        match read_limited(&marker) {
            Ok(bytes) => layout.check_version(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => layout.initialise(&marker)?,
            Err(source) => {
                return Err(LayoutError::Io {
                    action: "read",
                    path: marker,
                    source,
                });
            }
        }
        Ok(layout)
    }

    fn check_version(&self, bytes: &[u8]) -> Result<(), LayoutError> {
        match serde_json::from_slice::<Header>(bytes) {
            Ok(header) if header.version == VERSION => Ok(()),
            Ok(header) => Err(self.not_a_layout(format!("version {:.20} is not {VERSION}", header.version))),
            Err(error) => Err(self.not_a_layout(format!("broken oci-layout file: {error}"))),
        }
    }

    fn initialise(&self, marker: &Path) -> Result<(), LayoutError> {
        let blobs = self.root.join("blobs/sha256");
        match fs::read_dir(&self.root).map(|mut entries| entries.next().is_none()) {
            Ok(true) => {}
            Ok(false) => return Err(self.not_a_layout("it holds other files and no oci-layout".to_owned())),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                return Err(LayoutError::Io {
                    action: "read",
                    path: self.root.clone(),
                    source,
                });
            }
        }
        fs::create_dir_all(&blobs).map_err(|source| LayoutError::Io {
            action: "make",
            path: blobs,
            source,
        })?;
        self.write_index(&empty_index())?;
        // Last: the marker makes it a layout.
        let header = format!("{{\"imageLayoutVersion\":\"{VERSION}\"}}");
        Self::replace(marker, header.as_bytes())
    }

    fn not_a_layout(&self, problem: String) -> LayoutError {
        LayoutError::NotALayout {
            path: self.root.clone(),
            problem,
        }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where a blob lies, or would.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().as_ref()).join(digest.digest())
    }

    /// Is the blob there with that size?
    pub fn has_blob(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob_path(digest)).is_ok_and(|file| file.is_file() && file.len() == size)
    }

    /// Adds bytes; their digest and size.
    pub fn add_bytes(&self, bytes: &[u8]) -> Result<(Digest, u64), LayoutError> {
        let (digest, size) = (digest::sha256(bytes), bytes.len() as u64);
        if !self.has_blob(&digest, size) {
            self.add_reader(&mut &*bytes, &digest, size)?;
        }
        Ok((digest, size))
    }

    /// Copies a file in, verifying digest and size on the way. True when it was not there before.
    pub fn add_file(&self, file: &Path, digest: &Digest, size: u64) -> Result<bool, LayoutError> {
        if self.has_blob(digest, size) {
            return Ok(false);
        }
        let mut reader = File::open(file).map_err(|source| LayoutError::Io {
            action: "read",
            path: file.to_owned(),
            source,
        })?;
        self.add_reader(&mut reader, digest, size)?;
        Ok(true)
    }

    /// Writes what a reader gives as the blob with that digest and size in bytes.
    pub fn add_reader(&self, reader: &mut impl Read, digest: &Digest, size: u64) -> Result<(), LayoutError> {
        let path = self.blob_path(digest);
        let wrong = |source| LayoutError::Digest {
            path: path.clone(),
            source,
        };
        let mut verifier = Verifier::new(digest, Some(size)).map_err(wrong)?;
        let parent = path.parent().expect("invariant: a blob lies in a folder");
        fs::create_dir_all(parent).map_err(|source| LayoutError::Io {
            action: "make",
            path: parent.to_owned(),
            source,
        })?;
        let temporary = Temporary::beside(&path);
        let fail = |source| LayoutError::Io {
            action: "write",
            path: temporary.0.clone(),
            source,
        };
        let mut file = File::create_new(&temporary.0).map_err(fail)?;
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(fail(error)),
            };
            verifier.update(&buffer[..count]).map_err(wrong)?;
            file.write_all(&buffer[..count]).map_err(fail)?;
        }
        verifier.finish().map_err(wrong)?;
        drop(file);
        fs::rename(&temporary.0, &path).map_err(fail)
    }

    /// Lists a manifest or index in `index.json`, under a name if one is given. An entry with the same name, or the
    /// same digest without a name, is replaced; the order depends on names and digests alone.
    pub fn put_manifest(&self, mut descriptor: Descriptor, name: Option<&str>) -> Result<(), LayoutError> {
        if let Some(name) = name {
            let mut annotations = descriptor.annotations().clone().unwrap_or_default();
            annotations.insert(REF_NAME.to_owned(), name.to_owned());
            descriptor.set_annotations(Some(annotations));
        }
        let mut index = self.index()?;
        let mut manifests = index.manifests().clone();
        manifests.retain(|entry| match (ref_name(entry), name) {
            (Some(existing), Some(name)) => existing != name,
            (None, _) => entry.digest() != descriptor.digest(),
            (Some(_), None) => true,
        });
        manifests.push(descriptor);
        manifests.sort_by(|a, b| (ref_name(a), a.digest().as_ref()).cmp(&(ref_name(b), b.digest().as_ref())));
        index.set_manifests(manifests);
        self.write_index(&index)
    }

    /// Its `index.json`.
    pub fn index(&self) -> Result<ImageIndex, LayoutError> {
        let path = self.root.join("index.json");
        let bytes = read_limited(&path).map_err(|source| LayoutError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        serde_json::from_slice(&bytes).map_err(|error| self.not_a_layout(format!("broken index.json: {error}")))
    }

    /// A small blob, verified.
    pub fn read_document(&self, digest: &Digest) -> Result<Vec<u8>, LayoutError> {
        let path = self.blob_path(digest);
        let bytes = read_limited(&path).map_err(|source| LayoutError::Io {
            action: "read",
            path: path.clone(),
            source,
        })?;
        digest::verify(digest, &bytes).map_err(|source| LayoutError::Digest { path, source })?;
        Ok(bytes)
    }

    fn write_index(&self, index: &ImageIndex) -> Result<(), LayoutError> {
        let bytes = json::canonical(index).map_err(|error| self.not_a_layout(format!("its index cannot be written as JSON: {error}")))?;
        Self::replace(&self.root.join("index.json"), &bytes)
    }

    fn replace(path: &Path, bytes: &[u8]) -> Result<(), LayoutError> {
        let temporary = Temporary::beside(path);
        fs::write(&temporary.0, bytes)
            .and_then(|()| fs::rename(&temporary.0, path))
            .map_err(|source| LayoutError::Io {
                action: "write",
                path: path.to_owned(),
                source,
            })
    }
}

/// A file that is gone when it was not renamed.
struct Temporary(PathBuf);

impl Temporary {
    fn beside(path: &Path) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Self(path.with_file_name(format!(".{name}.{}-{number}", std::process::id())))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // Usually it has been renamed; one that cannot be removed is only litter.
        let _gone = fs::remove_file(&self.0);
    }
}

fn empty_index() -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_schema_version(SCHEMA_VERSION);
    index.set_media_type(Some(MediaType::ImageIndex));
    index.set_manifests(Vec::new());
    index
}

/// The name of an entry of `index.json`.
pub fn ref_name(descriptor: &Descriptor) -> Option<&str> {
    descriptor.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {DOCUMENT_LIMIT} bytes"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
