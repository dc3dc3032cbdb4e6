//! Why a layer could not be written. Every variant names the entry at fault; paths are shown quoted and escaped.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::Codec;

/// Why a layer could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path, mode or link target given to the builder cannot be in a layer.
    #[error("{path:?} cannot be placed in the image: {reason}")]
    InvalidPlacement {
        /// The path as it was given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two contributors give different things for one path of the image.
    #[error("{path:?} in the image has two contributors: {first} and {second}; leave one of them out")]
    Conflict {
        /// The path in the image.
        path: PathBuf,
        /// One contributor, in words.
        first: String,
        /// The other contributor, in words.
        second: String,
    },
    /// A file or directory on disk could not be read.
    #[error("cannot {action} {path:?}: {source}")]
    Unreadable {
        /// The path on disk.
        path: PathBuf,
        /// What was tried: `open`, `list`, `read`.
        action: &'static str,
        /// The answer of the system.
        source: io::Error,
    },
    /// The source of a tree is not a directory, or of a file not a regular file.
    #[error("{path:?} is {found}, not {wanted}; give the {wanted} itself")]
    WrongKind {
        /// The path on disk.
        path: PathBuf,
        /// What is there, in words.
        found: &'static str,
        /// What is needed, in words.
        wanted: &'static str,
    },
    /// An entry changed between the moment its directory was listed and the moment it was wholly read.
    #[error("{path:?} {change} while the layer was written; let nothing write to the source and try again")]
    Changed {
        /// The path on disk.
        path: PathBuf,
        /// What happened to it.
        change: Change,
    },
    /// A name on disk begins with `.wh.`, which layers reserve for deletions.
    #[error("{path:?} begins with .wh., which image layers reserve for deletions; rename or exclude it")]
    WhiteoutName {
        /// The path on disk.
        path: PathBuf,
    },
    /// A path in the image is longer than 4095 bytes or nested deeper than 256 directories.
    #[error("{path:?} is nested too deep or too long for an image: at most 256 directories and 4095 bytes")]
    TooDeep {
        /// The path on disk, or in the image when nothing on disk stands for it; cut to its first 200 bytes.
        path: PathBuf,
    },
    /// The compressor refused a block: a bug or exhausted memory.
    #[error("{codec} compression failed: {message}")]
    Compress {
        /// The compression.
        codec: Codec,
        /// What the compressor said.
        message: String,
    },
    /// The sink did not take the bytes.
    #[error("cannot write the layer: {0}")]
    Sink(#[source] io::Error),
    /// [`WriteOptions::inspect`](crate::WriteOptions::inspect) did not want a block.
    #[error("a block of the layer was refused")]
    Refused,
    /// The flag of [`WriteOptions::cancel`](crate::WriteOptions::cancel) was raised.
    #[error("writing the layer was canceled")]
    Canceled,
}

impl Error {
    pub(crate) fn compress(codec: Codec, message: String) -> Self {
        Self::Compress { codec, message }
    }

    /// Whether the caller itself asked for the end.
    pub fn is_canceled(&self) -> bool {
        matches!(self, Self::Canceled)
    }

    /// Whether the sink failed, and not the source.
    pub fn is_sink(&self) -> bool {
        matches!(self, Self::Sink(_))
    }
}

/// A path inside a message: quoted, control characters escaped, because names on disk are anybody's.
pub(crate) fn shown(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}

/// How an entry changed while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Change {
    /// It was listed and is gone.
    #[error("vanished")]
    Vanished,
    /// It is longer than when it was opened.
    #[error("grew")]
    Grew,
    /// It is shorter than when it was opened.
    #[error("was truncated")]
    Shrank,
    /// It has the same length, but was written to.
    #[error("was written to")]
    Modified,
    /// It is another kind of entry than its directory listed.
    #[error("was replaced by something else")]
    Replaced,
}
