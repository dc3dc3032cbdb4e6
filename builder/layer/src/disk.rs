//! Reading what others wrote to a disk, while they may still be writing to it.
//!
//! Invariant: nothing here follows a symbolic link or blocks on a FIFO, every entry is opened relative to the directory
//! that listed it, and a file whose bytes may not be one consistent state is an error.

use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Change, Error};

/// What an entry is, as far as layers distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File,
    Symlink,
    /// A socket, FIFO or device node.
    Special,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::Directory => Self::Directory,
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            _ => Self::Special,
        }
    }
}

impl Kind {
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Symlink => "link",
            Self::Special => "socket, FIFO or device",
        }
    }
}

/// An open directory.
pub(crate) struct Directory {
    handle: OwnedFd,
    path: PathBuf,
}

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const FILE: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

impl Directory {
    /// Opens the source of a tree.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        // A trailing slash would make the system follow a link in the last component.
        let path: PathBuf = path.components().collect();
        match rustix::fs::openat(CWD, &path, DIRECTORY, Mode::empty()) {
            Ok(handle) => Ok(Self { handle, path }),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(wrong_kind(path, "a directory")),
            Err(error) => Err(unreadable(path, "open", error)),
        }
    }

    /// Opens a directory that this one listed.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Self, Error> {
        let path = self.join(name);
        match rustix::fs::openat(&self.handle, name, DIRECTORY, Mode::empty()) {
            Ok(handle) => Ok(Self { handle, path }),
            Err(error) => Err(self.lost(name, error)),
        }
    }

    /// All names with their kinds, in the order of the file system.
    pub(crate) fn list(&self) -> Result<Vec<(Vec<u8>, Kind)>, Error> {
        let failed = |error| unreadable(self.path.clone(), "list", error);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.handle).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(name)?,
                known => known.into(),
            };
            names.push((name.to_bytes().to_vec(), kind));
        }
        Ok(names)
    }

    fn kind(&self, name: &CStr) -> Result<Kind, Error> {
        let stat = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.lost(name.to_bytes(), error))?;
        Ok(FileType::from_raw_mode(stat.st_mode).into())
    }

    /// Opens a regular file that this directory listed.
    pub(crate) fn file(&self, name: &[u8]) -> Result<File, Error> {
        let handle = rustix::fs::openat(&self.handle, name, FILE, Mode::empty()).map_err(|error| self.lost(name, error))?;
        let path = self.join(name);
        let file = File::new(handle, path)?;
        if FileType::from_raw_mode(file.stat.st_mode) == FileType::RegularFile {
            Ok(file)
        } else {
            Err(changed(file.path, Change::Replaced))
        }
    }

    /// The target of a symbolic link that this directory listed, verbatim.
    pub(crate) fn link(&self, name: &[u8]) -> Result<Vec<u8>, Error> {
        match rustix::fs::readlinkat(&self.handle, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(Errno::INVAL) => Err(changed(self.join(name), Change::Replaced)),
            Err(error) => Err(self.lost(name, error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(name))
    }

    /// What it means that an entry cannot be opened that was listed a moment ago.
    fn lost(&self, name: &[u8], error: Errno) -> Error {
        let path = self.join(name);
        match error {
            Errno::NOENT => changed(path, Change::Vanished),
            // A link where a file or directory was, a file where a directory was, a socket where a file was.
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => changed(path, Change::Replaced),
            other => unreadable(path, "open", other),
        }
    }
}

/// An open regular file and what it was when it was opened.
pub(crate) struct File {
    handle: OwnedFd,
    path: PathBuf,
    stat: Stat,
}

impl File {
    /// Opens the source of a declared file.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path: PathBuf = path.components().collect();
        let handle = match rustix::fs::openat(CWD, &path, FILE, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::LOOP | Errno::NXIO) => return Err(wrong_kind(path, "a regular file")),
            Err(error) => return Err(unreadable(path, "open", error)),
        };
        let file = Self::new(handle, path)?;
        if FileType::from_raw_mode(file.stat.st_mode) == FileType::RegularFile {
            Ok(file)
        } else {
            Err(wrong_kind(file.path, "a regular file"))
        }
    }

    fn new(handle: OwnedFd, path: PathBuf) -> Result<Self, Error> {
        match rustix::fs::fstat(&handle) {
            Ok(stat) => Ok(Self { handle, path, stat }),
            Err(error) => Err(unreadable(path, "read", error)),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).expect("invariant: no file has a negative size")
    }

    pub(crate) fn executable(&self) -> bool {
        Mode::from_raw_mode(self.stat.st_mode).contains(Mode::XUSR)
    }

    /// Device and inode, when other names may lead to them too.
    pub(crate) fn shared_inode(&self) -> Option<(u64, u64)> {
        (self.stat.st_nlink > 1).then_some((self.stat.st_dev, self.stat.st_ino))
    }

    /// Reads on, into at most the whole of `into`, and says how many bytes it got: at least one.
    pub(crate) fn read(&self, into: &mut [u8]) -> Result<usize, Error> {
        loop {
            match rustix::io::read(&self.handle, &mut *into) {
                Ok(0) => return Err(changed(self.path.clone(), Change::Shrank)),
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(unreadable(self.path.clone(), "read", error)),
            }
        }
    }

    /// Asserts, after [`size`](Self::size) bytes were read, that they are the file: nobody wrote to it meanwhile.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let now = match rustix::fs::fstat(&self.handle) {
            Ok(stat) => stat,
            Err(error) => return Err(unreadable(self.path, "read", error)),
        };
        let was = &self.stat;
        let written = (now.st_mtime, now.st_mtime_nsec) != (was.st_mtime, was.st_mtime_nsec);
        match now.st_size.cmp(&was.st_size) {
            std::cmp::Ordering::Greater => Err(changed(self.path, Change::Grew)),
            std::cmp::Ordering::Less => Err(changed(self.path, Change::Shrank)),
            std::cmp::Ordering::Equal if written => Err(changed(self.path, Change::Modified)),
            std::cmp::Ordering::Equal if was.st_size == 0 => self.finish_empty(),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Some virtual file systems say 0 for the size of files that have content.
    fn finish_empty(self) -> Result<(), Error> {
        match self.read(&mut [0]) {
            Err(Error::Changed { .. }) => Ok(()),
            Ok(_) => Err(changed(self.path, Change::Grew)),
            Err(error) => Err(error),
        }
    }
}

fn unreadable(path: PathBuf, action: &'static str, error: Errno) -> Error {
    Error::Unreadable {
        path,
        action,
        source: error.into(),
    }
}

fn changed(path: PathBuf, change: Change) -> Error {
    Error::Changed { path, change }
}

/// The source a caller gave is something else than it must be.
fn wrong_kind(path: PathBuf, wanted: &'static str) -> Error {
    match rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Error::WrongKind {
            path,
            found: match Kind::from(FileType::from_raw_mode(stat.st_mode)) {
                Kind::Directory => "a directory",
                Kind::File => "a regular file",
                Kind::Symlink => "a symbolic link",
                Kind::Special => "a socket, FIFO or device",
            },
            wanted,
        },
        Err(error) => unreadable(path, "open", error),
    }
}
