//! A directory tree to a deterministic, compressed OCI layer.
//!
//! [`LayerBuilder`] describes the content: trees on disk, synthetic files, directories, symbolic links and opaque
//! whiteouts, in any mix and any order of calls. [`LayerBuilder::write`] walks, reads, hashes and compresses in one
//! overlapped pass and hands the finished bytes to a sink, which may be a file or an upload.
//!
//! Invariant: the bytes of a layer depend on names, contents, link structure and executable bits alone, and on
//! [`Codec::recipe`]. They do not depend on the order of directory entries or calls, on umask, time stamps, locale, owner,
//! working directory, or the number of threads.
//!
//! ```
//! use robotimage_layer::{Codec, LayerBuilder, WriteOptions};
//!
//! let mut builder = LayerBuilder::new();
//! builder.file("home/robot/hello.txt", "hello", 0o644).dir("tmp", 0o1777);
//! let mut bytes = Vec::new();
//! let layer = builder.write(Codec::Zstd, &WriteOptions::default(), &mut bytes)?;
//! assert_eq!(layer.size, bytes.len() as u64);
//! assert_eq!(layer.files, 1);
//! # Ok::<(), robotimage_layer::Error>(())
//! ```

mod builder;
mod codec;
mod disk;
mod error;
mod file;
mod header;
mod layer;
mod links;
mod names;
mod path;
mod pipeline;
mod plan;
mod stream;
mod walk;

pub use builder::{Filter, LayerBuilder, ModePolicy};
pub use codec::{BLOCK, Codec, Packer, UnknownCodec};
pub use error::{Change, Error};
pub use layer::{Inspect, Layer, Progress, Skipped, WriteOptions};
