//! The fixed paths of a build pod below a root, which is `/` except in tests.

use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where `/` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// A root.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// One of the paths of [`robotimage_crds::build::paths`].
    pub fn path(&self, fixed: &str) -> PathBuf {
        self.0.join(fixed.trim_start_matches('/'))
    }

    /// The content of a file below one of the paths; `None` when it is not there. At most 4 MiB.
    pub fn read(&self, fixed: &str, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let path = self.path(fixed).join(name);
        read_small(&path)
    }
}

/// A file of at most 4 MiB, or `None` when it is not there.
pub fn read_small(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    const LIMIT: u64 = 4 << 20;
    let fail = |error: &std::io::Error| Failure::io("read", path, error);
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(&error)),
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LIMIT + 1), &mut bytes).map_err(|error| fail(&error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(fail(&std::io::Error::other("it is larger than 4 MiB")));
    }
    Ok(Some(bytes))
}

/// Makes the folder, and removes what an interrupted attempt left in it.
pub fn make_empty(path: &Path) -> Result<(), Failure> {
    let fail = |action: &'static str| move |error: std::io::Error| Failure::io(action, path, &error);
    std::fs::create_dir_all(path).map_err(fail("make"))?;
    for entry in std::fs::read_dir(path).map_err(fail("list"))? {
        let entry = entry.map_err(fail("list"))?;
        let kind = entry.file_type().map_err(fail("list"))?;
        let removed = if kind.is_dir() {
            std::fs::remove_dir_all(entry.path())
        } else {
            std::fs::remove_file(entry.path())
        };
        removed.map_err(fail("empty"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_below_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(root.path("/secrets/git"), folder.path().join("secrets/git"));
        assert_eq!(root.read("/secrets/git", "username").unwrap(), None);
        let path = root.path("/workspace/source");
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        std::os::unix::fs::symlink("/etc", path.join("link")).unwrap();
        std::fs::write(path.join("f"), "x").unwrap();
        make_empty(&path).unwrap();
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        assert!(std::path::Path::new("/etc/passwd").exists());
    }
}
