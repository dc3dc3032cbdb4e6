//! Files of a source that are left out: they are taken away before anything looks at the context, so that neither the image
//! nor the hash of the tree knows of them.
//!
//! Invariant: nothing outside the folder is touched, and no link in it followed.

mod git;
mod rcc;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

pub(super) use git::GitPatterns;
pub(super) use rcc::RccPatterns;

use super::error::SourceError;
use super::tree::io;

/// Says what is left out.
pub(super) trait Matcher {
    /// Whether this entry is, with all that is below it. `path` is relative to the folder, `/` between its names.
    fn is_ignored(&self, path: &[u8], name: &[u8], folder: bool) -> bool;
}

/// Takes away what `matcher` leaves out below `root`.
pub(super) fn prune(root: &Path, matcher: &dyn Matcher) -> Result<(), SourceError> {
    let mut waiting = vec![PathBuf::new()];
    while let Some(below) = waiting.pop() {
        let folder = root.join(&below);
        let listed = std::fs::read_dir(&folder).map_err(|source| io("list", &folder, source))?;
        // Taking entries away while a folder is listed may hide others.
        let mut entries: Vec<(OsString, bool)> = Vec::new();
        for entry in listed {
            let entry = entry.map_err(|source| io("list", &folder, source))?;
            let kind = entry.file_type().map_err(|source| io("read", &entry.path(), source))?;
            entries.push((entry.file_name(), kind.is_dir()));
        }
        for (name, is_folder) in entries {
            let path = below.join(&name);
            let at = root.join(&path);
            if matcher.is_ignored(path.as_os_str().as_bytes(), name.as_bytes(), is_folder) {
                let removed = if is_folder {
                    std::fs::remove_dir_all(&at)
                } else {
                    std::fs::remove_file(&at)
                };
                removed.map_err(|source| io("remove", &at, source))?;
            } else if is_folder {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_not_followed() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("kept.pyc"), "").unwrap();
        std::fs::create_dir_all(folder.path().join("a/__pycache__")).unwrap();
        std::fs::write(folder.path().join("a/__pycache__/x"), "").unwrap();
        std::fs::write(folder.path().join("a/b.pyc"), "").unwrap();
        std::fs::write(folder.path().join("a/b.py"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), folder.path().join("link.pyc")).unwrap();
        prune(folder.path(), &GitPatterns::parse("*.pyc\n__pycache__/\n").unwrap()).unwrap();
        assert!(outside.path().join("kept.pyc").exists());
        assert!(folder.path().join("a/b.py").exists() && folder.path().join("link").is_symlink());
        for gone in ["a/__pycache__", "a/b.pyc", "link.pyc"] {
            assert!(folder.path().join(gone).symlink_metadata().is_err(), "{gone}");
        }
    }
}
