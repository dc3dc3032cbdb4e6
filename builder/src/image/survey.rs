//! One walk over a sealed environment before it is packed: what it needs of the base, and into which layers it goes.
//!
//! Invariant: nothing is executed, no link is followed, and the order in which the file system lists names does not matter.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use robotimage_crds::reason::Reason;

use super::elf::Needs;
use super::split::{Sizes, Split};
use crate::failure::Failure;

/// Deepest folder; the layer refuses what is deeper.
const MAX_DEPTH: usize = 256;

/// Refuses an environment that needs a newer glibc than the base has, and says how it is split. `cancel` ends it.
pub fn survey(tree: &Path, glibc: Option<&str>, cancel: &AtomicBool) -> Result<Split, Failure> {
    let mut seen = Seen {
        needs: Needs::default(),
        sizes: Sizes::default(),
        cancel,
    };
    seen.folder(tree, tree, 0)?;
    seen.needs.check(glibc)?;
    Ok(Split::of(&seen.sizes))
}

struct Seen<'a> {
    needs: Needs,
    sizes: Sizes,
    cancel: &'a AtomicBool,
}

impl Seen<'_> {
    fn folder(&mut self, tree: &Path, folder: &Path, depth: usize) -> Result<(), Failure> {
        let fail = |error: std::io::Error| Failure::io("read", folder, &error);
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Failure::new(Reason::Canceled, "canceled"));
        }
        if depth > MAX_DEPTH {
            return Ok(());
        }
        for entry in std::fs::read_dir(folder).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let kind = entry.file_type().map_err(fail)?;
            let path = entry.path();
            if kind.is_dir() {
                self.folder(tree, &path, depth + 1)?;
                continue;
            }
            let size = if kind.is_file() { entry.metadata().map_err(fail)?.len() } else { 0 };
            self.sizes.add(path.strip_prefix(tree).unwrap_or(&path), size);
            if kind.is_file() {
                self.needs.look(tree, &path, size)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn survey(tree: &Path, glibc: Option<&str>) -> Result<Split, Failure> {
        super::survey(tree, glibc, &AtomicBool::new(false))
    }

    #[test]
    fn a_newer_need_than_the_base_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("bin")).unwrap();
        std::fs::create_dir_all(folder.path().join("x/sysroot")).unwrap();
        let own = std::env::current_exe().unwrap();
        std::fs::copy(&own, folder.path().join("x/sysroot/libc.so")).unwrap();
        std::fs::copy(&own, folder.path().join("bin/tool.py")).unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("out")).unwrap();
        survey(folder.path(), None).unwrap();
        std::fs::rename(folder.path().join("bin/tool.py"), folder.path().join("bin/tool")).unwrap();
        survey(folder.path(), Some("2.99")).unwrap();
        for (base, said) in [(Some("2.1"), "has 2.1"), (None, "no glibc"), (Some("musl"), "has musl")] {
            let failure = survey(folder.path(), base).unwrap_err();
            assert_eq!(failure.reason, Reason::EnvironmentUnsolvable);
            assert!(failure.message.contains("bin/tool") && failure.message.contains(said), "{failure}");
        }
    }

    #[test]
    fn it_ends_when_it_is_told_to() {
        let failure = super::survey(Path::new("/"), None, &AtomicBool::new(true)).unwrap_err();
        assert_eq!(failure.reason, Reason::Canceled);
    }
}
