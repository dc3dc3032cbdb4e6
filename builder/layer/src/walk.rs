//! Declarations and directories on disk, merged into one ordered tar stream.
//!
//! Invariant: entries come depth first, the names of a directory bytewise, every directory before what is in it. Only
//! the names of the directories on the current path are held in memory, and the paths of files that have several names.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::disk::{self, Directory};
use crate::error::{Error, shown};
use crate::header::{self, Kind};
use crate::layer::Skipped;
use crate::path::{MAX_DEPTH, MAX_PATH, OPAQUE, WHITEOUT};
use crate::plan::{Leaf, Node, Tree};
use crate::stream::Stream;

/// What a walk alone knows about a layer.
pub(crate) struct Walked {
    pub(crate) files: u64,
    pub(crate) skipped: Skipped,
}

/// A directory of a tree, open.
struct Place<'t> {
    tree: &'t Tree,
    directory: Directory,
    /// The path below the tree's source, as filters see it.
    relative: PathBuf,
}

/// Who contributes a name to a directory of the image.
enum Contributor<'t> {
    Declared(&'t Node),
    /// An entry of the directory with this number.
    Disk(usize, disk::Kind),
}

/// Everything that contributes to one directory of the image.
#[derive(Default)]
struct Sources<'t> {
    declared: Option<&'t Node>,
    places: Vec<Place<'t>>,
}

pub(crate) struct Walk<'s, 'a> {
    stream: &'s mut Stream<'a>,
    /// The image path of the current entry.
    path: Vec<u8>,
    header: Vec<u8>,
    /// The first name of each inode that has several, with the mode it got: a hard link shares it.
    seen: HashMap<(u64, u64, u32), Box<[u8]>>,
    walked: Walked,
}

impl<'s, 'a> Walk<'s, 'a> {
    pub(crate) fn new(stream: &'s mut Stream<'a>) -> Self {
        Self {
            stream,
            path: Vec::new(),
            header: Vec::new(),
            seen: HashMap::new(),
            walked: Walked {
                files: 0,
                skipped: Skipped::default(),
            },
        }
    }

    /// Emits everything below the root of the image; the root itself is the base image's.
    pub(crate) fn root(&mut self, root: &Node) -> Result<(), Error> {
        let mut sources = Sources {
            declared: Some(root),
            places: Vec::new(),
        };
        open_trees(&mut sources, root)?;
        self.content(&sources, 0)
    }

    pub(crate) fn finish(self) -> Walked {
        self.walked
    }

    /// Emits what is in a directory.
    fn content(&mut self, sources: &Sources<'_>, depth: usize) -> Result<(), Error> {
        let mut entries = Vec::new();
        if let Some(node) = sources.declared {
            for (name, child) in &node.children {
                entries.push((name.clone(), Contributor::Declared(child)));
            }
        }
        for (number, place) in sources.places.iter().enumerate() {
            for (name, kind) in place.directory.list()? {
                let relative = place.relative.join(OsStr::from_bytes(&name));
                if !(place.tree.filter)(&relative, kind == disk::Kind::Directory) {
                    continue;
                }
                if name.starts_with(WHITEOUT) {
                    let path = place.directory.join(&name);
                    return Err(Error::WhiteoutName { path });
                }
                if kind == disk::Kind::Special {
                    self.walked.skipped.add(place.directory.join(&name));
                    continue;
                }
                entries.push((name, Contributor::Disk(number, kind)));
            }
        }
        // Stable, so declarations stay before trees, and trees in the order of their declaration.
        entries.sort_by(|a, b| a.0.cmp(&b.0));

        let length = self.path.len();
        for group in entries.chunk_by(|a, b| a.0 == b.0) {
            self.stream.check()?;
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&group[0].0);
            if self.path.len() > MAX_PATH || depth > MAX_DEPTH {
                let start = OsStr::from_bytes(&self.path[..self.path.len().min(200)]);
                return Err(Error::TooDeep { path: start.into() });
            }
            self.entry(sources, group, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    /// Emits one name of a directory, whoever contributes it.
    fn entry(&mut self, sources: &Sources<'_>, group: &[(Vec<u8>, Contributor<'_>)], depth: usize) -> Result<(), Error> {
        let name = &group[0].0;
        let is_directory = |contributor: &Contributor<'_>| match contributor {
            Contributor::Declared(node) => node.leaf.is_none(),
            Contributor::Disk(_, kind) => *kind == disk::Kind::Directory,
        };
        if group.iter().all(|(_, contributor)| is_directory(contributor)) {
            return self.directory(sources, group, depth);
        }
        if let [(_, first), (_, second), ..] = group {
            let describe = |contributor: &Contributor<'_>| match contributor {
                Contributor::Declared(node) => node.describe(),
                Contributor::Disk(number, kind) => {
                    let path = sources.places[*number].directory.join(name);
                    format!("the {} {}", kind.describe(), shown(&path))
                }
            };
            return Err(self.conflict(describe(first), describe(second)));
        }
        match group[0].1 {
            Contributor::Declared(node) => match &node.leaf {
                Some(leaf) => self.leaf(leaf),
                None => self.directory(sources, group, depth),
            },
            Contributor::Disk(number, kind) => {
                let place = &sources.places[number];
                if kind == disk::Kind::Symlink {
                    let target = place.directory.link(name)?;
                    return self.put(0o777, Kind::Symlink { target: &target });
                }
                let file = place.directory.file(name)?;
                let mode = place.tree.policy.file(file.executable());
                if let Some((device, inode)) = file.shared_inode() {
                    let key = (device, inode, mode);
                    if let Some(first) = self.seen.remove(&key) {
                        let result = self.put(mode, Kind::HardLink { target: &first });
                        self.seen.insert(key, first);
                        self.walked.files += 1;
                        return result;
                    }
                    self.seen.insert(key, self.path.clone().into_boxed_slice());
                }
                self.file(file, mode)
            }
        }
    }

    /// Emits a directory and what is in it.
    fn directory(&mut self, sources: &Sources<'_>, group: &[(Vec<u8>, Contributor<'_>)], depth: usize) -> Result<(), Error> {
        let mut below = Sources::default();
        for (name, contributor) in group {
            match contributor {
                Contributor::Declared(node) => {
                    below.declared = Some(node);
                    open_trees(&mut below, node)?;
                }
                Contributor::Disk(number, _) => {
                    let place = &sources.places[*number];
                    below.places.push(Place {
                        tree: place.tree,
                        directory: place.directory.child(name)?,
                        relative: place.relative.join(OsStr::from_bytes(name)),
                    });
                }
            }
        }
        let mode = self.directory_mode(&below)?;
        self.put(mode, Kind::Directory)?;
        if below.declared.is_some_and(|node| node.opaque) {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(OPAQUE);
            self.put(0o644, Kind::File { size: 0 })?;
            self.path.truncate(length);
        }
        self.content(&below, depth + 1)
    }

    fn directory_mode(&self, sources: &Sources<'_>) -> Result<u32, Error> {
        if let Some(mode) = sources.declared.and_then(|node| node.mode) {
            return Ok(mode);
        }
        let Some(first) = sources.places.first() else {
            return Ok(0o755);
        };
        let policy = first.tree.policy;
        match sources.places.iter().find(|p| p.tree.policy != policy) {
            None => Ok(policy.directory()),
            Some(other) => {
                let describe = |place: &Place<'_>| {
                    let mode = place.tree.policy.directory();
                    let path = shown(place.directory.path());
                    format!("the directory {path} of mode {mode:04o}")
                };
                Err(self.conflict(describe(first), describe(other)))
            }
        }
    }

    fn leaf(&mut self, leaf: &Leaf) -> Result<(), Error> {
        match leaf {
            Leaf::Symlink { target } => self.put(0o777, Kind::Symlink { target }),
            Leaf::FileFrom { source, mode } => self.file(disk::File::open(source)?, *mode),
            Leaf::File { content, mode } => {
                self.walked.files += 1;
                let size = content.len() as u64;
                self.put(*mode, Kind::File { size })?;
                self.stream.put(content)?;
                self.stream.pad()
            }
        }
    }

    /// Emits a file of a disk, whole or not at all: what cannot be read whole is an error of the layer.
    fn file(&mut self, file: disk::File, mode: u32) -> Result<(), Error> {
        let mut missing = file.size();
        self.walked.files += 1;
        self.put(mode, Kind::File { size: missing })?;
        while missing > 0 {
            let room = self.stream.room()?;
            let length = usize::try_from(missing).map_or(room.len(), |m| m.min(room.len()));
            let length = file.read(&mut room[..length])?;
            self.stream.advance(length);
            missing -= length as u64;
        }
        file.finish()?;
        self.stream.pad()
    }

    /// Writes the header of the entry at the current path.
    fn put(&mut self, mode: u32, kind: Kind<'_>) -> Result<(), Error> {
        self.header.clear();
        header::encode(&mut self.header, &self.path, mode, kind);
        self.stream.put(&self.header)
    }

    fn conflict(&self, first: String, second: String) -> Error {
        Error::Conflict {
            path: Path::new(OsStr::from_bytes(&self.path)).to_path_buf(),
            first,
            second,
        }
    }
}

/// Opens the trees that were placed at a declared directory.
fn open_trees<'t>(sources: &mut Sources<'t>, node: &'t Node) -> Result<(), Error> {
    for tree in &node.trees {
        sources.places.push(Place {
            tree,
            directory: Directory::open(&tree.source)?,
            relative: PathBuf::new(),
        });
    }
    Ok(())
}
