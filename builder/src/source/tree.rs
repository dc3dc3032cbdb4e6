//! A git tree as a folder, written by us from the object database.
//!
//! Invariant: every object's size is asked before it is read, every name and link is checked before it is made, files are
//! created and never opened, and links are made last, so that nothing is ever written through one.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use gix::objs::tree::EntryKind;

use super::error::SourceError;
use super::names::{MAX_DEPTH, MAX_PATH, refuse_link, refuse_name, show};

/// How much a source may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all its files.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: u64,
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) bytes: u64,
    pub(super) entries: u64,
}

/// Writes trees of one repository.
pub(super) struct Writer<'a> {
    pub(super) repository: &'a gix::Repository,
    /// For messages.
    pub(super) url: &'a str,
    pub(super) limits: Limits,
    /// Raised to end the work.
    pub(super) interrupt: &'a AtomicBool,
}

/// A link to be made at the end.
struct Link {
    at: PathBuf,
    target: Vec<u8>,
}

impl Writer<'_> {
    /// The id of the tree at `path` below the tree `root`; `commit` is for messages.
    pub(super) fn subtree(&self, root: gix::ObjectId, path: &str, commit: &str) -> Result<gix::ObjectId, SourceError> {
        let mut id = root;
        let missing = |problem: String| SourceError::PathNotFound {
            path: path.to_owned(),
            commit: commit.get(..12).unwrap_or(commit).to_owned(),
            url: self.url.to_owned(),
            problem,
        };
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let tree = self.repository.find_tree(id).map_err(|error| self.broken(&error))?;
            let entry = tree
                .find_entry(part)
                .ok_or_else(|| missing(format!("there is no \"{}\"", show(part.as_bytes()))))?;
            let what = match entry.mode().kind() {
                EntryKind::Tree => {
                    id = entry.object_id();
                    continue;
                }
                EntryKind::Commit => "a submodule, which is not fetched",
                EntryKind::Link => "a link",
                EntryKind::Blob | EntryKind::BlobExecutable => "a file",
            };
            return Err(missing(format!("\"{}\" is {what}, not a folder", show(part.as_bytes()))));
        }
        Ok(id)
    }

    /// Writes the tree into the empty folder `to`.
    pub(super) fn write(&self, tree: gix::ObjectId, to: &Path) -> Result<Written, SourceError> {
        let mut written = Written::default();
        let mut links = Vec::new();
        self.folder(tree, &mut Vec::new(), 0, to, &mut written, &mut links)?;
        for link in links {
            std::os::unix::fs::symlink(OsStr::from_bytes(&link.target), &link.at).map_err(|source| io("write", &link.at, source))?;
        }
        Ok(written)
    }

    fn folder(
        &self,
        id: gix::ObjectId,
        below: &mut Vec<u8>,
        depth: usize,
        to: &Path,
        written: &mut Written,
        links: &mut Vec<Link>,
    ) -> Result<(), SourceError> {
        let tree = self.repository.find_tree(id).map_err(|error| self.broken(&error))?;
        let parsed = tree.decode().map_err(|error| self.broken(&error))?;
        for entry in parsed.entries {
            if self.interrupt.load(Ordering::Relaxed) {
                return Err(interrupted(self.url));
            }
            let length = below.len();
            if length > 0 {
                below.push(b'/');
            }
            below.extend_from_slice(entry.filename);
            self.entry(entry, below, depth, to, written, links)?;
            below.truncate(length);
        }
        Ok(())
    }

    fn entry(
        &self,
        entry: gix::objs::tree::EntryRef<'_>,
        path: &mut Vec<u8>,
        depth: usize,
        to: &Path,
        written: &mut Written,
        links: &mut Vec<Link>,
    ) -> Result<(), SourceError> {
        let rejected = |problem: &str| SourceError::Rejected {
            path: show(path),
            problem: problem.to_owned(),
        };
        if let Some(problem) = refuse_name(entry.filename) {
            return Err(rejected(problem));
        }
        if path.len() > MAX_PATH {
            return Err(rejected("a path longer than 3500 bytes; shorten it"));
        }
        written.entries += 1;
        if written.entries > self.limits.entries {
            return Err(SourceError::TooLarge {
                what: format!("more than {} files and folders", self.limits.entries),
            });
        }
        let at = to.join(OsStr::from_bytes(entry.filename));
        let id = entry.oid.to_owned();
        match entry.mode.kind() {
            EntryKind::Tree if depth == MAX_DEPTH => Err(rejected("a folder below 128 others; make the tree flatter")),
            EntryKind::Tree => {
                std::fs::create_dir(&at).map_err(|source| twice(path, &at, source))?;
                self.folder(id, path, depth + 1, &at, written, links)
            }
            EntryKind::Blob => self.file(id, path, &at, 0o640, written),
            EntryKind::BlobExecutable => self.file(id, path, &at, 0o750, written),
            EntryKind::Link => {
                let target = self.blob(id, path, MAX_PATH as u64, written)?;
                if let Some(problem) = refuse_link(&target, depth) {
                    return Err(rejected(problem));
                }
                links.push(Link { at, target });
                Ok(())
            }
            EntryKind::Commit => Err(rejected(
                "a submodule, which is not fetched; copy its files into the repository, or set source.path to a folder without it",
            )),
        }
    }

    fn file(&self, id: gix::ObjectId, path: &[u8], at: &Path, mode: u32, written: &mut Written) -> Result<(), SourceError> {
        let data = self.blob(id, path, u64::MAX, written)?;
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(at)
            .map_err(|source| twice(path, at, source))?;
        file.write_all(&data).map_err(|source| io("write", at, source))
    }

    /// A blob's bytes, once its size is known to be allowed.
    fn blob(&self, id: gix::ObjectId, path: &[u8], most: u64, written: &mut Written) -> Result<Vec<u8>, SourceError> {
        let size = self.repository.find_header(id).map_err(|error| self.broken(&error))?.size();
        if size > most {
            return Err(SourceError::Rejected {
                path: show(path),
                problem: "a link whose target is no path; remove it".to_owned(),
            });
        }
        written.bytes = written.bytes.saturating_add(size);
        if written.bytes > self.limits.bytes {
            return Err(SourceError::TooLarge {
                what: format!("more than {} bytes, passed at \"{}\"", self.limits.bytes, show(path)),
            });
        }
        let mut blob = self.repository.find_blob(id).map_err(|error| self.broken(&error))?;
        Ok(blob.take_data())
    }

    fn broken(&self, error: &gix::Error) -> SourceError {
        SourceError::Broken {
            url: self.url.to_owned(),
            problem: super::web::chain(error),
        }
    }
}

/// The end that the caller asked for; its deadline or cancellation is reported by who raised the flag.
pub(super) fn interrupted(url: &str) -> SourceError {
    SourceError::Unreachable {
        url: url.to_owned(),
        problem: "the fetch was interrupted".to_owned(),
        retry_after: None,
    }
}

fn twice(path: &[u8], at: &Path, source: std::io::Error) -> SourceError {
    if source.kind() == std::io::ErrorKind::AlreadyExists {
        return SourceError::Rejected {
            path: show(path),
            problem: "a name that one folder has twice; the repository is damaged".to_owned(),
        };
    }
    io("write", at, source)
}

pub(super) fn io(action: &'static str, path: &Path, source: std::io::Error) -> SourceError {
    SourceError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
