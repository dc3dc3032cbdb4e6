//! The description of a layer, and the door to writing it.

use std::fmt;
use std::io::Write;
use std::path::Path;

use crate::codec::Codec;
use crate::disk;
use crate::error::Error;
use crate::layer::{Layer, WriteOptions};
use crate::path::components;
use crate::pipeline;
use crate::plan::{Leaf, Node, Tree, conflict};
use crate::walk::Walk;

/// Decides by the path relative to the source, and whether it is a directory, if an entry of a tree is taken.
/// A directory that is refused is not entered.
///
/// Filters also split a tree into several layers, one [`LayerBuilder`] for each. A layer needs the directories on the way
/// to what it takes: they come with the same header in each layer that has them. It should refuse the others, because
/// an empty directory costs a header, and one that need not be listed costs nothing. Names of one inode become hard links
/// where the first of them is in the same layer; in each other layer the first is a file with the content.
pub type Filter = Box<dyn Fn(&Path, bool) -> bool + Send + Sync>;

/// The modes that the entries of a tree get. Set-id and sticky bits never survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModePolicy {
    /// For what is only read: directories 0755, files 0755 when their owner may execute them, else 0644.
    Environment,
    /// For what any user of group 0 may write: directories 0775, files 0775 when their owner may execute them, else 0664.
    Code,
}

impl ModePolicy {
    pub(crate) const fn directory(self) -> u32 {
        match self {
            Self::Environment => 0o755,
            Self::Code => 0o775,
        }
    }

    pub(crate) const fn file(self, executable: bool) -> u32 {
        match (self, executable) {
            (Self::Environment, true) => 0o755,
            (Self::Environment, false) => 0o644,
            (Self::Code, true) => 0o775,
            (Self::Code, false) => 0o664,
        }
    }
}

/// Describes the content of a layer.
///
/// Image paths may begin with a slash or not. Directories that nobody declared but something is below are 0755.
/// Declarations that cannot be right, such as a path with `..` or two files for one path, are kept and reported by
/// [`write`](Self::write); directories merge.
#[derive(Default)]
pub struct LayerBuilder {
    root: Node,
    /// The first declaration that cannot be right.
    refused: Option<Error>,
}

impl fmt::Debug for LayerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerBuilder")
            .field("top", &self.root.children.len())
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

impl LayerBuilder {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places the content of the directory `source` at `image_path`, which may be `/`.
    ///
    /// The directory at `image_path` gets the policy's mode. Symbolic links are kept verbatim and never followed,
    /// `source` itself included. Names that share an inode become hard links to the first of them.
    pub fn tree(&mut self, source: impl AsRef<Path>, image_path: &str, policy: ModePolicy, filter: Filter) -> Result<&mut Self, Error> {
        let source = source.as_ref();
        disk::Directory::open(source)?;
        let parts = components(image_path).map_err(|reason| invalid(image_path, reason))?;
        self.root.put_directory(&parts)?.trees.push(Tree {
            source: source.to_path_buf(),
            policy,
            filter,
        });
        Ok(self)
    }

    /// A file with this content. `mode` is at most 0o7777.
    pub fn file(&mut self, image_path: &str, content: impl Into<Vec<u8>>, mode: u32) -> &mut Self {
        let content = content.into();
        self.declare(image_path, mode, |root, parts| root.put_leaf(parts, Leaf::File { content, mode }))
    }

    /// A file with the content of the regular file `source`, which is read when the layer is written.
    pub fn file_from(&mut self, image_path: &str, source: impl AsRef<Path>, mode: u32) -> &mut Self {
        let source = source.as_ref().to_path_buf();
        self.declare(image_path, mode, |root, parts| {
            root.put_leaf(parts, Leaf::FileFrom { source, mode })
        })
    }

    /// A directory with exactly this mode, whatever trees say about the same path.
    pub fn dir(&mut self, image_path: &str, mode: u32) -> &mut Self {
        self.declare(image_path, mode, |root, parts| {
            let node = root.put_directory(parts)?;
            match node.mode {
                Some(other) if other != mode => Err(conflict(
                    parts,
                    format!("a declared directory of mode {other:04o}"),
                    format!("a declared directory of mode {mode:04o}"),
                )),
                _ => {
                    node.mode = Some(mode);
                    Ok(())
                }
            }
        })
    }

    /// A symbolic link to `target`, verbatim.
    pub fn symlink(&mut self, image_path: &str, target: &str) -> &mut Self {
        if target.is_empty() || target.contains('\0') || target.len() > crate::path::MAX_PATH {
            self.refuse(invalid(
                image_path,
                "its link target is empty, longer than 4095 bytes or contains a NUL byte",
            ));
            return self;
        }
        let target = target.as_bytes().to_vec();
        self.declare(image_path, 0o777, |root, parts| root.put_leaf(parts, Leaf::Symlink { target }))
    }

    /// Hides what lower layers have in the directory at `image_path`.
    pub fn opaque(&mut self, image_path: &str) -> &mut Self {
        self.declare(image_path, 0o755, |root, parts| {
            root.put_directory(parts)?.opaque = true;
            Ok(())
        })
    }

    /// Writes the layer to `sink` and says what it is.
    ///
    /// Blocks until all is written and flushed. After an error the sink holds a part of a layer that must be discarded.
    pub fn write<W: Write + Send>(self, codec: Codec, options: &WriteOptions, sink: W) -> Result<Layer, Error> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let root = &self.root;
        let (output, walked) = pipeline::run(codec, options, sink, |stream| {
            let mut walk = Walk::new(stream);
            walk.root(root)?;
            Ok(walk.finish())
        })?;
        Ok(Layer {
            media_type: codec.media_type(),
            digest: output.digest,
            diff_id: output.diff_id,
            size: output.compressed,
            uncompressed: output.uncompressed,
            files: walked.files,
            skipped: walked.skipped,
        })
    }

    fn declare(&mut self, image_path: &str, mode: u32, put: impl FnOnce(&mut Node, &[&[u8]]) -> Result<(), Error>) -> &mut Self {
        let result = match components(image_path) {
            Err(reason) => Err(invalid(image_path, reason)),
            Ok(parts) if parts.is_empty() => Err(invalid(image_path, "the root of the image cannot be declared")),
            Ok(_) if mode > 0o7777 => Err(invalid(image_path, "its mode is beyond 0o7777")),
            Ok(parts) => put(&mut self.root, &parts),
        };
        if let Err(error) = result {
            self.refuse(error);
        }
        self
    }

    fn refuse(&mut self, error: Error) {
        self.refused.get_or_insert(error);
    }
}

fn invalid(path: &str, reason: &'static str) -> Error {
    Error::InvalidPlacement {
        path: path.chars().take(200).collect(),
        reason,
    }
}
