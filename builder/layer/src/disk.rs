//! Directories on a disk, while others may still be writing to them.
//!
//! Invariant: nothing here follows a symbolic link or blocks on a FIFO, and every entry is opened relative to the
//! directory that listed it.

use std::ffi::{CStr, OsStr};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::error::{Change, Error};
use crate::file::File;

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
    /// All kinds, each at the place of its number.
    pub(crate) const ALL: [Self; 4] = [Self::Directory, Self::File, Self::Symlink, Self::Special];

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
pub(crate) const FILE: OFlags = OFlags::RDONLY
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
    pub(crate) fn child(&self, name: &CStr) -> Result<Self, Error> {
        match rustix::fs::openat(&self.handle, name, DIRECTORY, Mode::empty()) {
            Ok(handle) => Ok(Self {
                handle,
                path: self.join(name),
            }),
            Err(error) => Err(self.lost(name, error)),
        }
    }

    /// Tells all names with their kinds, in the order of the file system; once only for each open directory. `buffer` is
    /// for the system's answers: its spare capacity holds at least one.
    pub(crate) fn list(&self, buffer: &mut [MaybeUninit<u8>], mut tell: impl FnMut(&CStr, Kind) -> Result<(), Error>) -> Result<(), Error> {
        let failed = |error| unreadable(self.path.clone(), "list", error);
        let mut entries = RawDir::new(&self.handle, buffer);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => self.kind(name)?,
                known => known.into(),
            };
            tell(name, kind)?;
        }
        Ok(())
    }

    /// The error of a directory with more names than can be held.
    pub(crate) fn crowded(&self) -> Error {
        unreadable(self.path.clone(), "list", Errno::OVERFLOW)
    }

    fn kind(&self, name: &CStr) -> Result<Kind, Error> {
        let stat = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| self.lost(name, error))?;
        Ok(FileType::from_raw_mode(stat.st_mode).into())
    }

    /// Opens a regular file that this directory listed.
    pub(crate) fn file<'d>(&'d self, name: &'d CStr) -> Result<File<'d>, Error> {
        let handle = rustix::fs::openat(&self.handle, name, FILE, Mode::empty()).map_err(|error| self.lost(name, error))?;
        File::listed(handle, self, name)
    }

    /// The target of a symbolic link that this directory listed, verbatim.
    pub(crate) fn link(&self, name: &CStr) -> Result<Vec<u8>, Error> {
        match rustix::fs::readlinkat(&self.handle, name, Vec::new()) {
            Ok(target) => Ok(target.into_bytes()),
            Err(Errno::INVAL) => Err(changed(self.join(name), Change::Replaced)),
            Err(error) => Err(self.lost(name, error)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }

    /// What it means that an entry cannot be opened that was listed a moment ago.
    fn lost(&self, name: &CStr, error: Errno) -> Error {
        let path = self.join(name);
        match error {
            Errno::NOENT => changed(path, Change::Vanished),
            // A link where a file or directory was, a file where a directory was, a socket where a file was.
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => changed(path, Change::Replaced),
            other => unreadable(path, "open", other),
        }
    }
}

pub(crate) fn unreadable(path: PathBuf, action: &'static str, error: Errno) -> Error {
    Error::Unreadable {
        path,
        action,
        source: error.into(),
    }
}

pub(crate) fn changed(path: PathBuf, change: Change) -> Error {
    Error::Changed { path, change }
}

/// The source a caller gave is something else than it must be.
pub(crate) fn wrong_kind(path: PathBuf, wanted: &'static str) -> Error {
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
