//! What callers declared, as a tree of image paths.
//!
//! Invariant: a node is either a directory or a leaf. Whatever contradicts that is a conflict when it is declared, so
//! the walk only has to compare declarations with what it finds on disk.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::builder::{Filter, ModePolicy};
use crate::error::{Error, shown};

/// One declared path of the image. The default is a directory that only exists because something is below it.
#[derive(Default)]
pub(crate) struct Node {
    pub(crate) children: BTreeMap<Vec<u8>, Node>,
    /// The mode of a directory that was declared as such.
    pub(crate) mode: Option<u32>,
    /// Whether the directory hides what lower layers have in it.
    pub(crate) opaque: bool,
    /// Directories on disk whose content belongs here.
    pub(crate) trees: Vec<Tree>,
    pub(crate) leaf: Option<Leaf>,
}

/// A directory on disk, placed in the image.
pub(crate) struct Tree {
    pub(crate) source: PathBuf,
    pub(crate) policy: ModePolicy,
    pub(crate) filter: Filter,
}

/// A declared entry that is no directory.
pub(crate) enum Leaf {
    File { content: Vec<u8>, mode: u32 },
    FileFrom { source: PathBuf, mode: u32 },
    Symlink { target: Vec<u8> },
}

impl Leaf {
    /// This contributor, in words.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::File { .. } => "a declared file".to_owned(),
            Self::FileFrom { source, .. } => format!("the file {}", shown(source)),
            Self::Symlink { target } => {
                format!("a declared link to {}", shown(Path::new(OsStr::from_bytes(target))))
            }
        }
    }
}

impl Node {
    /// The node at `components`, made with its parents when there is none yet.
    pub(crate) fn at(&mut self, components: &[&[u8]]) -> Result<&mut Self, Error> {
        let mut node = self;
        for (depth, name) in components.iter().enumerate() {
            if let Some(leaf) = &node.leaf {
                return Err(conflict(
                    &components[..depth],
                    leaf.describe(),
                    "a directory that other entries need".to_owned(),
                ));
            }
            node = node.children.entry(name.to_vec()).or_default();
        }
        Ok(node)
    }

    /// Makes the node at `components` a leaf.
    pub(crate) fn put_leaf(&mut self, components: &[&[u8]], leaf: Leaf) -> Result<(), Error> {
        let fresh = !self.has(components);
        let node = self.at(components)?;
        if fresh {
            node.leaf = Some(leaf);
            return Ok(());
        }
        Err(conflict(components, node.describe(), leaf.describe()))
    }

    /// The node at `components`, made a directory.
    pub(crate) fn put_directory(&mut self, components: &[&[u8]]) -> Result<&mut Self, Error> {
        let node = self.at(components)?;
        if let Some(leaf) = &node.leaf {
            let second = "a declared directory".to_owned();
            return Err(conflict(components, leaf.describe(), second));
        }
        Ok(node)
    }

    fn has(&self, components: &[&[u8]]) -> bool {
        let mut node = self;
        for name in components {
            match node.children.get(*name) {
                Some(child) => node = child,
                None => return false,
            }
        }
        true
    }

    /// This contributor, in words.
    pub(crate) fn describe(&self) -> String {
        match (&self.leaf, self.trees.first()) {
            (Some(leaf), _) => leaf.describe(),
            (None, Some(tree)) => format!("the directory {}", shown(&tree.source)),
            (None, None) => "a declared directory".to_owned(),
        }
    }
}

/// The error of two contributors for the path of these components.
pub(crate) fn conflict(components: &[&[u8]], first: String, second: String) -> Error {
    let path = Path::new(OsStr::from_bytes(&components.join(&b'/'))).to_path_buf();
    Error::Conflict { path, first, second }
}
