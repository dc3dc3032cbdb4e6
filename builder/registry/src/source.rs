//! Where the bytes of a pushed blob come from. A source can be opened again at any offset, because uploads are repeated.
//!
//! Invariant: at most a few buffers of a blob are in memory, unless it was given as bytes.

use std::io::SeekFrom;
use std::path::PathBuf;

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use oci_spec::image::{Descriptor, Digest};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::client::Client;
use crate::context::Context;
use crate::digest;
use crate::error::Error;
use crate::reference::Repository;

/// Size of the pieces a file is read in.
const BUFFER: usize = 256 * 1024;

/// Content to push, with its digest and size.
#[derive(Debug, Clone)]
pub struct BlobSource {
    digest: Digest,
    size: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Bytes(Bytes),
    File(PathBuf),
    Registry(Client, Repository, Box<Descriptor>),
}

impl BlobSource {
    /// Bytes in memory: configurations and other small things.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: digest::sha256(&bytes),
            size: bytes.len() as u64,
            content: Content::Bytes(bytes),
        }
    }

    /// A file, whose digest and size in bytes are known from when it was written.
    pub fn from_file(path: impl Into<PathBuf>, digest: Digest, size: u64) -> Self {
        Self {
            digest,
            size,
            content: Content::File(path.into()),
        }
    }

    /// A blob of a registry, which streams through without being stored.
    pub fn from_registry(client: Client, repository: Repository, descriptor: &Descriptor) -> Self {
        Self {
            digest: descriptor.digest().clone(),
            size: descriptor.size(),
            content: Content::Registry(client, repository, Box::new(descriptor.clone())),
        }
    }

    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The content from `offset` on.
    pub(crate) async fn open(&self, at: &Context, offset: u64) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        match &self.content {
            Content::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let rest = bytes.slice(start..);
                Ok(futures::stream::once(async move { Ok(rest) }).boxed())
            }
            Content::File(path) => {
                let (at, file) = (Box::new(at.clone()), path.display().to_string());
                let fail = move |source| Error::Io {
                    at: at.clone(),
                    file: file.clone(),
                    source,
                };
                let mut handle = tokio::fs::File::open(path).await.map_err(&fail)?;
                let actual = handle.metadata().await.map_err(&fail)?.len();
                if actual != self.size {
                    let problem = format!("it has {actual} bytes instead of {}", self.size);
                    return Err(fail(std::io::Error::new(std::io::ErrorKind::InvalidData, problem)));
                }
                handle.seek(SeekFrom::Start(offset)).await.map_err(&fail)?;
                // A file that grows meanwhile must not send more than was announced.
                let rest = handle.take(self.size.saturating_sub(offset));
                Ok(ReaderStream::with_capacity(rest, BUFFER).map_err(fail).boxed())
            }
            Content::Registry(client, repository, descriptor) => Ok(client.download(repository, descriptor, offset).boxed()),
        }
    }
}
