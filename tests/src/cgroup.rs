//! The cgroup folder of an instance, below which its kubelet keeps those of the pods.
//!
//! Invariant: only folders named after an instance are made or removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// Makes the folder in the one tree of version 2, or in the tree of each controller of version 1: the kubelet demands
/// that its root be there.
pub(crate) fn create(name: &str) -> Result<()> {
    for tree in trees()? {
        let folder = tree.join(name);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        delegate(&tree)?;
        // A new cpuset is empty, and nothing can run in it.
        for file in ["cpuset.mems", "cpuset.cpus"] {
            let (from, to) = (tree.join(file), folder.join(file));
            if from.exists() && to.exists() {
                let value = fs::read(&from).map_err(Error::io("read", &from))?;
                fs::write(&to, value).map_err(Error::io("write", &to))?;
            }
        }
    }
    Ok(())
}

/// In version 2 a folder has the controllers that its parent hands down, and the kubelet demands most of them.
fn delegate(tree: &Path) -> Result<()> {
    let control = tree.join("cgroup.subtree_control");
    let Ok(controllers) = fs::read_to_string(tree.join("cgroup.controllers")) else {
        return Ok(());
    };
    for controller in controllers.split_whitespace() {
        fs::write(&control, format!("+{controller}")).map_err(Error::io("hand down controllers in", &control))?;
    }
    Ok(())
}

/// Removes the folder and all below it; every process in it must be gone.
pub(crate) fn remove(name: &str) -> Result<()> {
    for tree in trees()? {
        remove_folders(&tree.join(name))?;
    }
    Ok(())
}

fn trees() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let entries = fs::read_dir(root).map_err(Error::io("list", root))?;
    // A controller has its tree; a link to one, as `cpu -> cpu,cpuacct`, is the same tree again.
    Ok(entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("cgroup.procs").exists())
        .collect())
}

fn remove_folders(folder: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_folders(&entry.path())?;
    }
    let end = Instant::now() + Duration::from_secs(5);
    loop {
        match fs::remove_dir(folder) {
            // The kernel may still count a process that is already gone.
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", folder)(error)),
            _ => return Ok(()),
        }
    }
}
