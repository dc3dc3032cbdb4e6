//! What is mounted below a folder, and its release: a run that was killed leaves its file systems mounted, and a folder with
//! one of them inside can't be removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};
use crate::process::run;

/// Unmounts all that is mounted below `folder`, the youngest first, and says where it was.
pub fn release(folder: &Path) -> Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(Error::io("read", "/proc/self/mounts"))?;
    let left = below(&mounts, folder);
    for at in &left {
        // Lazily: a process that is just ending may still hold a file.
        run("unmount of what an earlier run left", Command::new("umount").arg("--lazy").arg(at))?;
    }
    Ok(left)
}

/// Mount points below `folder` in lines of `/proc/self/mounts`, the youngest first.
fn below(mounts: &str, folder: &Path) -> Vec<PathBuf> {
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    // Our folders hold no space; one that does is written `\040` there and matches no path of ours.
    let mut found: Vec<PathBuf> = points.map(PathBuf::from).filter(|at| at.starts_with(folder)).collect();
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_is_found_youngest_first() {
        let mounts = "proc /proc proc rw 0 0\noverlay /cache/image/run/1/root overlay rw,lowerdir=/a:/b 0 0\n\
                      tmpfs /cache/image/run/1/root/tmp tmpfs rw 0 0\ntmpfs /cache/image/runner tmpfs rw 0 0\n";
        let found = below(mounts, Path::new("/cache/image/run"));
        assert_eq!(
            found,
            [Path::new("/cache/image/run/1/root/tmp"), Path::new("/cache/image/run/1/root")]
        );
    }

    #[test]
    #[ignore = "needs root: make test runs it"]
    fn a_folder_with_a_mount_inside_can_be_removed_after_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("root");
        fs::create_dir(&at).expect("a mount point");
        run("mount", Command::new("mount").args(["-t", "tmpfs", "left"]).arg(&at)).expect("a mount");
        fs::remove_dir_all(&at).expect_err("what is mounted can't be removed");
        assert_eq!(release(folder.path()).expect("released"), [at.as_path()]);
        fs::remove_dir_all(&at).expect("removed");
    }
}
