//! What a run writes to: file systems and a registry that have seen nothing before.
//!
//! A file system that has just lost many files is slow to take new ones, and a registry that knows a blob takes it in no
//! time: so each run of each tool has its own, in memory, where no disk adds its noise. Invariant: nothing of a run is
//! left when its values are dropped, and what a killed run left is removed by the next.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::base;
use crate::cache::{self, Cache};
use crate::error::{Error, Result};
use crate::mounts;
use crate::process::run;
use crate::registry::{Registry, RegistryOptions};
use crate::site::Site;

/// Most bytes that a run may write. Memory is taken as it is written.
const SIZE: &str = "size=20g,nr_inodes=4m,mode=0755";

/// A file system in memory; dropping it unmounts it with all that is mounted below it.
#[derive(Debug)]
pub(super) struct Fresh {
    folder: PathBuf,
}

impl Fresh {
    /// Mounts one at `folder`, which is made.
    pub(super) fn mount(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", SIZE, "robotimage-bench"]).arg(folder);
        run("file system in memory", &mut mount)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Where it is mounted.
    pub(super) fn path(&self) -> &Path {
        &self.folder
    }

    /// Shows another folder at `at` below this one, read-only, as a pod's volume would be.
    pub(super) fn lend(&self, folder: &Path, at: &Path) -> Result<()> {
        let at = self.folder.join(at);
        fs::create_dir_all(&at).map_err(Error::io("create", &at))?;
        let mut mount = Command::new("mount");
        mount.args(["--bind", "-o", "ro"]).arg(folder).arg(&at);
        run("read-only view of a folder", &mut mount).map(drop)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still hold a file. Only an empty folder is removed after it.
        let unmounted = run("unmount", Command::new("umount").arg("--lazy").arg(&self.folder));
        if let Err(error) = unmounted.and_then(|_| fs::remove_dir(&self.folder).map_err(Error::io("remove", &self.folder))) {
            tracing::warn!("{error}");
        }
    }
}

/// Unmounts what a killed run left below `folder`.
pub(super) fn sweep(folder: &Path) -> Result<()> {
    for at in mounts::release(folder)? {
        // A mount inside of another one is gone with it.
        cache::remove(&at)?;
    }
    Ok(())
}

/// A registry on a fresh file system that holds the base image and nothing else.
#[derive(Debug)]
pub(super) struct Stand {
    registry: Registry,
    site: Site,
    /// Dropped last: the registry has ended then.
    fresh: Fresh,
}

impl Stand {
    /// Starts one below `folder`.
    pub(super) async fn start(cache: &Cache, folder: &Path) -> Result<Self> {
        let layout = base::debian(cache)?;
        let fresh = Fresh::mount(folder)?;
        let site = Site::loopback(&fresh.path().join("site"))?;
        let registry = Registry::start(cache, &site, RegistryOptions::open("bench")).await?;
        registry.at().push_layout(&layout, base::NAME)?;
        Ok(Self { registry, site, fresh })
    }

    /// The registry.
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Where further servers of this run stand.
    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// The file system.
    pub(super) fn fresh(&self) -> &Fresh {
        &self.fresh
    }

    /// A reference in its registry.
    pub(super) fn reference(&self, name: &str) -> String {
        self.registry.at().reference(name)
    }

    /// The base image.
    pub(super) fn base(&self) -> String {
        self.reference(base::NAME)
    }
}
