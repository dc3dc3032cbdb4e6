//! What goes with a write, and what comes out of it.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

/// How to write, none of which changes a byte of the layer.
pub struct WriteOptions {
    /// Compressing threads, by default as many as the process may use, but at most [`WriteOptions::MOST_THREADS`].
    /// Memory is about 8 MiB times (threads + 2).
    pub threads: NonZeroUsize,
    /// Called after each block that the sink took, on the thread of the caller.
    pub on_progress: Option<Box<dyn Fn(Progress) + Send + Sync>>,
    /// Raised by the caller to end the write at the next file or block with [`Error::Canceled`](crate::Error::Canceled).
    pub cancel: Option<Arc<AtomicBool>>,
    /// Shown every block of the tar stream, before it is compressed.
    pub inspect: Option<Box<Inspect>>,
}

/// Looks at a block of the tar stream, given its number from 0, on the threads that compress, so in any order. All blocks
/// but the last are 4 MiB long. `false` ends the write with [`Error::Refused`](crate::Error::Refused).
pub type Inspect = dyn Fn(u64, &[u8]) -> bool + Send + Sync;

impl WriteOptions {
    /// More threads by default would only cost memory: SHA-256 of the tar stream, which is one chain, is as fast as four
    /// threads that compress by zstd, or nine by gzip.
    pub const MOST_THREADS: NonZeroUsize = NonZeroUsize::new(8).expect("invariant: 8 is not 0");
}

impl Default for WriteOptions {
    fn default() -> Self {
        let available = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            threads: available.min(Self::MOST_THREADS),
            on_progress: None,
            cancel: None,
            inspect: None,
        }
    }
}

impl fmt::Debug for WriteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteOptions")
            .field("threads", &self.threads)
            .field("on_progress", &self.on_progress.is_some())
            .field("cancel", &self.cancel)
            .field("inspect", &self.inspect.is_some())
            .finish()
    }
}

/// How far a write has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the tar stream that the sink has taken in compressed form.
    pub uncompressed: u64,
    /// Bytes that the sink has taken.
    pub compressed: u64,
}

/// A finished layer: what a manifest and a config say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The OCI media type.
    pub media_type: &'static str,
    /// `sha256:` and the hex digest of the compressed bytes.
    pub digest: String,
    /// `sha256:` and the hex digest of the tar stream.
    pub diff_id: String,
    /// The number of compressed bytes.
    pub size: u64,
    /// The number of bytes of the tar stream.
    pub uncompressed: u64,
    /// How many names lead to a regular file, hard links included.
    pub files: u64,
    /// What the source trees hold and a layer cannot.
    pub skipped: Skipped,
}

/// Sockets, FIFOs and device nodes of the source trees: they are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    /// How many there were.
    pub count: u64,
    /// The first of them, by their paths on disk; at most [`Skipped::NAMED`].
    pub first: Vec<PathBuf>,
}

impl Skipped {
    /// The most entries that are named.
    pub const NAMED: usize = 20;

    pub(crate) fn add(&mut self, path: PathBuf) {
        self.count += 1;
        if self.first.len() < Self::NAMED {
            self.first.push(path);
        }
    }
}
