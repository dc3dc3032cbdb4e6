//! Declarations and directories on disk, merged into one ordered tar stream.
//!
//! Invariant: entries come depth first, the names of a directory bytewise, every directory before what is in it. Only
//! the names of the directories on the current path are held in memory, and those of files that have several.

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::disk::{self, Directory};
use crate::error::{Error, shown};
use crate::file::File;
use crate::header::{self, Kind};
use crate::layer::Skipped;
use crate::links::Links;
use crate::names::{Contributor, Names};
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
#[derive(Clone, Copy)]
enum Who<'t, 'w> {
    Declared(&'t Node),
    /// An entry of this directory on disk.
    Disk(&'w Place<'t>, disk::Kind),
}

impl Who<'_, '_> {
    fn is_directory(self) -> bool {
        match self {
            Self::Declared(node) => node.leaf.is_none(),
            Self::Disk(_, kind) => kind == disk::Kind::Directory,
        }
    }

    /// This contributor of `name`, in words.
    fn describe(self, name: &CStr) -> String {
        match self {
            Self::Declared(node) => node.describe(),
            Self::Disk(place, kind) => format!("the {} {}", kind.describe(), shown(&place.directory.join(name))),
        }
    }
}

/// Everything that contributes to one directory of the image.
#[derive(Default)]
struct Sources<'t> {
    declared: Option<&'t Node>,
    places: Vec<Place<'t>>,
}

/// Bytes of one answer of the system about a directory: some thousand names.
const LISTING: usize = 64 << 10;

pub(crate) struct Walk<'s, 'a> {
    stream: &'s mut Stream<'a>,
    /// The image path of the current entry.
    path: Vec<u8>,
    header: Vec<u8>,
    links: Links,
    /// For what the system says about directories.
    listing: Vec<u8>,
    walked: Walked,
}

impl<'s, 'a> Walk<'s, 'a> {
    pub(crate) fn new(stream: &'s mut Stream<'a>) -> Self {
        Self {
            stream,
            path: Vec::new(),
            header: Vec::new(),
            links: Links::default(),
            listing: Vec::with_capacity(LISTING),
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
        let declared: Vec<&Node> = sources.declared.iter().flat_map(|node| node.children.values()).collect();
        let names = self.names(sources)?;
        let length = self.path.len();
        for (name, contributors) in names.groups() {
            self.stream.check()?;
            if length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name.to_bytes());
            if self.path.len() > MAX_PATH || depth > MAX_DEPTH {
                let start = OsStr::from_bytes(&self.path[..self.path.len().min(200)]);
                return Err(Error::TooDeep { path: start.into() });
            }
            let contributors = contributors.map(|contributor| match contributor {
                Contributor::Declared(number) => Who::Declared(declared[number]),
                Contributor::Disk(number, kind) => Who::Disk(&sources.places[number], kind),
            });
            self.entry(name, contributors, depth)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    /// All names of a directory that belong into the layer, in order.
    fn names(&mut self, sources: &Sources<'_>) -> Result<Names, Error> {
        let mut names = Names::default();
        for (number, name) in sources.declared.iter().flat_map(|node| node.children.keys()).enumerate() {
            let name = CString::new(name.as_slice()).expect("invariant: declared names hold no NUL");
            let added = names.add(&name, Contributor::Declared(number));
            added.expect("invariant: what is declared is in memory several times already");
        }
        let (skipped, buffer) = (&mut self.walked.skipped, self.listing.spare_capacity_mut());
        for (number, place) in sources.places.iter().enumerate() {
            let (directory, mut relative) = (&place.directory, place.relative.clone());
            directory.list(buffer, |name, kind| {
                relative.push(OsStr::from_bytes(name.to_bytes()));
                let taken = (place.tree.filter)(&relative, kind == disk::Kind::Directory);
                relative.pop();
                if !taken {
                    return Ok(());
                }
                if name.to_bytes().starts_with(WHITEOUT) {
                    let path = directory.join(name);
                    return Err(Error::WhiteoutName { path });
                }
                if kind == disk::Kind::Special {
                    skipped.add(directory.join(name));
                    return Ok(());
                }
                let contributor = Contributor::Disk(number, kind);
                names.add(name, contributor).ok_or_else(|| directory.crowded())
            })?;
        }
        names.sort();
        Ok(names)
    }

    /// Emits one name of a directory, whoever contributes it.
    fn entry<'t: 'w, 'w>(
        &mut self,
        name: &CStr,
        mut contributors: impl Iterator<Item = Who<'t, 'w>> + Clone,
        depth: usize,
    ) -> Result<(), Error> {
        if contributors.clone().all(Who::is_directory) {
            return self.directory(name, contributors, depth);
        }
        let first = contributors.next().expect("invariant: somebody contributes each name");
        if let Some(second) = contributors.next() {
            return Err(self.conflict(first.describe(name), second.describe(name)));
        }
        match first {
            Who::Declared(node) => match &node.leaf {
                Some(leaf) => self.leaf(leaf),
                None => self.directory(name, std::iter::once(first), depth),
            },
            Who::Disk(place, disk::Kind::Symlink) => {
                let target = place.directory.link(name)?;
                self.put(0o777, Kind::Symlink { target: &target })
            }
            Who::Disk(place, _) => {
                let file = place.directory.file(name)?;
                let mode = place.tree.policy.file(file.executable());
                if let Some((device, inode)) = file.shared_inode()
                    && let Some(first) = self.links.first(inode, (device, mode), &self.path)
                {
                    self.walked.files += 1;
                    return self.put(mode, Kind::HardLink { target: &first });
                }
                self.file(file, mode)
            }
        }
    }

    /// Emits a directory and what is in it.
    fn directory<'t: 'w, 'w>(&mut self, name: &CStr, contributors: impl Iterator<Item = Who<'t, 'w>>, depth: usize) -> Result<(), Error> {
        let mut below = Sources::default();
        for contributor in contributors {
            match contributor {
                Who::Declared(node) => {
                    below.declared = Some(node);
                    open_trees(&mut below, node)?;
                }
                Who::Disk(place, _) => below.places.push(Place {
                    tree: place.tree,
                    directory: place.directory.child(name)?,
                    relative: place.relative.join(OsStr::from_bytes(name.to_bytes())),
                }),
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
            Leaf::FileFrom { source, mode } => self.file(File::open(source)?, *mode),
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
    fn file(&mut self, mut file: File<'_>, mode: u32) -> Result<(), Error> {
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
