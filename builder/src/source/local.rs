//! A folder on this machine as the source.
//!
//! What is taken: every regular file and link below the folder, except `.git` at any depth and the content of the
//! artifacts folder, which runs write and git repositories ignore. Empty folders are left out too, because git knows
//! none. Nothing else is left out, as `rcc run` leaves nothing out.
//!
//! Invariant: the hash is git's own hash of the tree that a commit of exactly these files would have.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::error::SourceError;
use super::names::{MAX_DEPTH, MAX_PATH, refuse_link, refuse_name, show};
use super::tree::{Limits, io};

/// A folder whose content was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSource {
    /// The folder.
    pub root: PathBuf,
    /// Git's hash of the tree, 40 hexadecimal digits.
    pub tree: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files, folders and links.
    pub entries: u64,
}

struct Scan<'a> {
    skip: Option<&'a Path>,
    limits: Limits,
    bytes: u64,
    entries: u64,
}

impl LocalSource {
    /// Looks at every file below `root`. `artifacts`, relative to it, is the folder whose content is left out.
    pub fn scan(root: &Path, artifacts: Option<&Path>, limits: Limits) -> Result<Self, SourceError> {
        let mut scan = Scan {
            skip: artifacts,
            limits,
            bytes: 0,
            entries: 0,
        };
        let tree = match scan.folder(root, Path::new(""), 0)? {
            Some(tree) => tree,
            None => hash(Path::new(""), gix::objs::Kind::Tree, b"")?,
        };
        Ok(Self {
            root: root.to_owned(),
            tree: tree.to_string(),
            bytes: scan.bytes,
            entries: scan.entries,
        })
    }
}

impl Scan<'_> {
    /// The hash of a folder, `None` when nothing in it is taken.
    fn folder(&mut self, root: &Path, below: &Path, depth: usize) -> Result<Option<gix::ObjectId>, SourceError> {
        let folder = root.join(below);
        let mut entries = BTreeMap::new();
        let listed = std::fs::read_dir(&folder).map_err(|source| io("list", &folder, source))?;
        for entry in listed {
            let entry = entry.map_err(|source| io("list", &folder, source))?;
            let name = entry.file_name();
            if name == ".git" {
                continue;
            }
            let path = below.join(&name);
            let kind = entry.file_type().map_err(|source| io("read", &entry.path(), source))?;
            self.count(&path)?;
            let (mode, id, sort) = if kind.is_dir() {
                if Some(path.as_path()) == self.skip {
                    continue;
                }
                if depth == MAX_DEPTH {
                    return Err(rejected(&path, "a folder below 128 others; make the tree flatter"));
                }
                let Some(id) = self.folder(root, &path, depth + 1)? else {
                    continue;
                };
                ("40000", id, true)
            } else if kind.is_symlink() {
                let target = std::fs::read_link(entry.path()).map_err(|source| io("read", &entry.path(), source))?;
                let target = target.into_os_string().into_vec();
                if let Some(problem) = refuse_link(&target, depth) {
                    return Err(rejected(&path, problem));
                }
                ("120000", hash(&path, gix::objs::Kind::Blob, &target)?, false)
            } else if kind.is_file() {
                let (id, executable) = self.file(&entry.path(), &path)?;
                (if executable { "100755" } else { "100644" }, id, false)
            } else {
                // Sockets, FIFOs and devices are in no commit and in no layer.
                continue;
            };
            if let Some(problem) = refuse_name(name.as_bytes()) {
                return Err(rejected(&path, problem));
            }
            let mut key = name.as_bytes().to_vec();
            if sort {
                // Git sorts a folder as if its name ended with a slash.
                key.push(b'/');
            }
            entries.insert(key, (mode, name.into_vec(), id));
        }
        if entries.is_empty() && depth > 0 {
            return Ok(None);
        }
        let mut object = Vec::new();
        for (mode, name, id) in entries.into_values() {
            object.extend_from_slice(mode.as_bytes());
            object.push(b' ');
            object.extend_from_slice(&name);
            object.push(0);
            object.extend_from_slice(id.as_slice());
        }
        hash(below, gix::objs::Kind::Tree, &object).map(Some)
    }

    fn count(&mut self, path: &Path) -> Result<(), SourceError> {
        if path.as_os_str().len() > MAX_PATH {
            return Err(rejected(path, "a path longer than 3500 bytes; shorten it"));
        }
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(SourceError::TooLarge {
                what: format!("more than {} files and folders", self.limits.entries),
            });
        }
        Ok(())
    }

    fn file(&mut self, at: &Path, path: &Path) -> Result<(gix::ObjectId, bool), SourceError> {
        let mut file = std::fs::File::open(at).map_err(|source| io("read", at, source))?;
        let metadata = file.metadata().map_err(|source| io("read", at, source))?;
        let size = metadata.len();
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.limits.bytes {
            return Err(SourceError::TooLarge {
                what: format!(
                    "more than {} bytes, passed at \"{}\"",
                    self.limits.bytes,
                    show(path.as_os_str().as_bytes())
                ),
            });
        }
        let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
        hasher.update(format!("blob {size}\0").as_bytes());
        let mut buffer = vec![0; 256 * 1024];
        let mut seen = 0;
        loop {
            let read = file.read(&mut buffer).map_err(|source| io("read", at, source))?;
            if read == 0 {
                break;
            }
            seen += read as u64;
            hasher.update(&buffer[..read]);
        }
        if seen != size {
            return Err(io("read", at, std::io::Error::other("it changes while it is read")));
        }
        let id = hasher.try_finalize().map_err(|_| collision(path))?;
        Ok((id, metadata.permissions().mode() & 0o100 != 0))
    }
}

fn hash(path: &Path, kind: gix::objs::Kind, data: &[u8]) -> Result<gix::ObjectId, SourceError> {
    gix::objs::compute_hash(gix::hash::Kind::Sha1, kind, data).map_err(|_| collision(path))
}

/// Hashing fails only where somebody made two contents with one SHA-1, which git refuses too.
fn collision(path: &Path) -> SourceError {
    rejected(path, "content made to collide with another under SHA-1; remove it")
}

fn rejected(path: &Path, problem: &str) -> SourceError {
    SourceError::Rejected {
        path: show(OsStr::as_bytes(path.as_os_str())),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 1 << 20,
        entries: 100,
    };

    fn robot() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("a-dir/empty")).unwrap();
        std::fs::write(root.join("a"), "hello\n").unwrap();
        std::fs::write(root.join("a-dir/run.sh"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(root.join("a-dir/run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("a-dir/run.sh", root.join("link")).unwrap();
        folder
    }

    #[test]
    fn the_hash_is_gits() {
        let folder = robot();
        let found = LocalSource::scan(folder.path(), None, LIMITS).unwrap();
        // `git add -A && git write-tree` in the same folder.
        assert_eq!(found.tree, "5d894869faf3aaa922c02c5a5ef96538e75b4d0d");
        assert_eq!(found.bytes, 16);
    }

    #[test]
    fn runs_leave_no_trace_in_it() {
        let folder = robot();
        let root = folder.path();
        let scan = || LocalSource::scan(root, Some(Path::new("output")), LIMITS).unwrap().tree;
        let before = scan();
        std::fs::create_dir_all(root.join("output/deep")).unwrap();
        std::fs::write(root.join("output/deep/log.html"), "x").unwrap();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        std::fs::write(root.join(".git/HEAD"), "x").unwrap();
        assert_eq!(scan(), before);
        std::fs::write(root.join("b"), "").unwrap();
        assert_ne!(scan(), before);
    }

    #[test]
    fn links_out_and_too_much_are_refused() {
        let folder = robot();
        let few = Limits { entries: 2, ..LIMITS };
        let small = Limits { bytes: 5, ..LIMITS };
        for limits in [few, small] {
            let error = LocalSource::scan(folder.path(), None, limits).unwrap_err();
            assert_eq!(error.reason().as_str(), "SourceTooLarge");
        }
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("out")).unwrap();
        let error = LocalSource::scan(folder.path(), None, LIMITS).unwrap_err();
        assert!(error.to_string().contains("\"out\""), "{error}");
    }
}
