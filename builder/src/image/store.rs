//! A finished image to disk: a layout, or an archive of one.
//!
//! Invariant: an archive appears under its name only when it is whole, and a new folder stays only when it is.

use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use robotimage_registry::layout::{LayoutError, OciLayout};
use robotimage_registry::{Descriptor, Digest, MediaType, Repository, archive};

use super::assemble::{Content, Image};
use super::pull::BaseBlobs;
use super::push::described;

/// Why an image cannot be written to disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The layout or archive.
    #[error("{}", with_cause(.0))]
    Layout(#[from] LayoutError),
    /// The base's registry.
    #[error(transparent)]
    Registry(#[from] robotimage_registry::Error),
    /// A layer that only a registry has.
    #[error("a layer is in {0} and not on this machine")]
    Elsewhere(Repository),
    /// A file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The answer of the system.
        source: io::Error,
    },
}

fn with_cause(error: &LayoutError) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

impl StoreError {
    /// The error of the system behind it, if there is one.
    pub fn io(&self) -> Option<&io::Error> {
        match self {
            Self::Io { source, .. } | Self::Layout(LayoutError::Io { source, .. } | LayoutError::Archive(source)) => Some(source),
            Self::Layout(_) | Self::Registry(_) | Self::Elsewhere(_) => None,
        }
    }
}

/// Which archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    /// As `docker load` reads it.
    Docker,
    /// As `podman load` and `skopeo` read it.
    Oci,
}

/// Opens a layout, or makes an empty one.
pub fn layout(root: &Path) -> Result<OciLayout, StoreError> {
    Ok(OciLayout::create(root)?)
}

/// Puts the image into the layout and lists it, under a name if one is given. `scratch` takes the base's blobs on their way.
pub async fn to_layout(image: &Image, base: &BaseBlobs, layout: &OciLayout, name: Option<&str>, scratch: &Path) -> Result<(), StoreError> {
    for layer in &image.layers {
        let descriptor = described(&layer.descriptor)?;
        if layout.has_blob(descriptor.digest(), descriptor.size()) {
            continue;
        }
        match (&layer.content, base) {
            (Content::File(path), _) => {
                layout.add_file(path, descriptor.digest(), descriptor.size())?;
            }
            (Content::Elsewhere(repository), _) => return Err(StoreError::Elsewhere(repository.clone())),
            (Content::Base | Content::Previous, BaseBlobs::Layout(from)) => {
                layout.add_file(&from.blob_path(descriptor.digest()), descriptor.digest(), descriptor.size())?;
            }
            (Content::Base | Content::Previous, BaseBlobs::Registry { client, repository }) => {
                let path = scratch.join("base-blob");
                let io = |action| {
                    let path = path.clone();
                    move |source| StoreError::Io { action, path, source }
                };
                let mut file = tokio::fs::File::create(&path).await.map_err(io("write"))?;
                client.blob_to_file(repository, &descriptor, &mut file).await?;
                drop(file);
                layout.add_file(&path, descriptor.digest(), descriptor.size())?;
                std::fs::remove_file(&path).map_err(io("remove"))?;
            }
        }
    }
    layout.add_bytes(&image.config)?;
    let (digest, size) = layout.add_bytes(&image.manifest)?;
    layout.put_manifest(Descriptor::new(MediaType::ImageManifest, size, digest), name)?;
    Ok(())
}

/// Writes the layout's image as one file. Once `interrupt` is set, it fails.
pub fn to_archive(
    kind: Archive,
    layout: &OciLayout,
    manifest: &str,
    names: &[String],
    path: &Path,
    interrupt: &AtomicBool,
) -> Result<(), StoreError> {
    let manifest =
        Digest::try_from(manifest).map_err(|_| robotimage_registry::Error::Configuration(format!("{manifest} is not a digest")))?;
    let io = |action| {
        move |source| StoreError::Io {
            action,
            path: path.to_owned(),
            source,
        }
    };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("write next to"))?;
    let mut out = BufWriter::new(Interruptible {
        inner: file.as_file_mut(),
        interrupt,
    });
    match kind {
        Archive::Docker => archive::write_docker(layout, &manifest, names, &mut out)?,
        Archive::Oci => archive::write_oci(layout, &mut out)?,
    }
    out.flush().map_err(io("write"))?;
    drop(out);
    file.persist(path).map_err(|error| io("write")(error.error))?;
    Ok(())
}

/// Reads or writes until it is told to stop.
pub(super) struct Interruptible<'a, T> {
    pub(super) inner: T,
    pub(super) interrupt: &'a AtomicBool,
}

impl<T> Interruptible<'_, T> {
    fn check(&self) -> io::Result<()> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(io::Error::other("interrupted"));
        }
        Ok(())
    }
}

impl<T: Read> Read for Interruptible<'_, T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.read(into)
    }
}

impl<T: Write> Write for Interruptible<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_ends_reading_and_writing() {
        let interrupt = AtomicBool::new(false);
        let mut pipe = Interruptible {
            inner: io::Cursor::new(b"some bytes".to_vec()),
            interrupt: &interrupt,
        };
        let mut two = [0; 2];
        assert_eq!(pipe.read(&mut two).unwrap(), 2);
        interrupt.store(true, Ordering::Relaxed);
        assert!(pipe.read(&mut two).is_err() && pipe.write(b"x").is_err());
    }
}
