//! The root file system of an image as container engines make it: each layer in a folder of its own, stacked by overlayfs.
//!
//! Invariant: a container writes to its own upper folder; a layer that was unpacked once is never changed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, mknod};

use crate::cache::lock;
use crate::error::{Error, Result};
use crate::process::run;
use crate::verify::Image;

/// Unpacked layers, by their uncompressed digest.
#[derive(Debug, Clone)]
pub struct Layers {
    folder: PathBuf,
}

impl Layers {
    /// Keeps them in this folder.
    pub fn at(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Unpacks the layers of an image that are not there yet; gives their folders from the bottom.
    pub fn unpack(&self, layout: &Path, image: &Image) -> Result<Vec<PathBuf>> {
        let unpacked = |layer: &crate::verify::Layer| {
            // Short: all of them must fit one page of mount options.
            let done = self.folder.join(&layer.diff_id[7..23]);
            let _lock = lock(&done.with_added_extension("lock"))?;
            if !done.exists() {
                let partial = done.with_added_extension("partial");
                crate::cache::remove(&partial)?;
                fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
                let path = layout.join("blobs/sha256").join(&layer.digest[7..]);
                let file = File::open(&path).map_err(Error::io("open", &path))?;
                let plain: Box<dyn Read> = if layer.media_type.ends_with("zstd") {
                    Box::new(zstd::Decoder::new(file).map_err(Error::io("read", &path))?)
                } else {
                    Box::new(flate2::read::MultiGzDecoder::new(file))
                };
                unpack(plain, &partial).map_err(Error::io("unpack", &path))?;
                fs::rename(&partial, &done).map_err(Error::io("rename", &partial))?;
            }
            Ok(done)
        };
        image.layers.iter().map(unpacked).collect()
    }
}

/// Writes an archive below `root`, whiteouts in overlayfs' own form.
fn unpack(reader: impl Read, root: &Path) -> std::io::Result<()> {
    let mut archive = tar::Archive::new(reader);
    let mut folders = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = root.join(below(&entry.path()?)?);
        let header = entry.header().clone();
        let (parent, name) = (
            path.parent().unwrap_or(root),
            path.file_name().unwrap_or_default().to_string_lossy(),
        );
        if name == ".wh..wh..opq" {
            set_opaque(parent)?;
            continue;
        }
        if let Some(hidden) = name.strip_prefix(".wh.") {
            mknod(&parent.join(hidden), SFlag::S_IFCHR, Mode::empty(), 0)?;
            continue;
        }
        let kind = header.entry_type();
        let target = entry.link_name()?.unwrap_or_default();
        if kind.is_dir() {
            fs::create_dir_all(&path)?;
            // A folder may be closed for writing, and its files come after it.
            folders.push((path.clone(), header.mode()?));
        } else if kind.is_symlink() {
            symlink(&target, &path)?;
        } else if kind.is_hard_link() {
            fs::hard_link(root.join(below(&target)?), &path)?;
            continue;
        } else if kind.is_file() {
            std::io::copy(&mut entry, &mut File::create(&path)?)?;
        } else {
            // Devices: engines give a container its own /dev.
            continue;
        }
        let number = |value: u64| u32::try_from(value).map_err(std::io::Error::other);
        lchown(&path, Some(number(header.uid()?)?), Some(number(header.gid()?)?))?;
        if kind.is_file() {
            fs::set_permissions(&path, fs::Permissions::from_mode(header.mode()?))?;
        }
    }
    folders
        .into_iter()
        .rev()
        .try_for_each(|(path, mode)| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
}

/// A path of an archive, as one below its root.
fn below(path: &Path) -> std::io::Result<PathBuf> {
    let strange = path.components().any(|part| matches!(part, Component::ParentDir));
    if strange {
        return Err(std::io::Error::other(format!("{} leaves the root", path.display())));
    }
    Ok(path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

fn set_opaque(folder: &Path) -> std::io::Result<()> {
    rustix::fs::setxattr(folder, "trusted.overlay.opaque", b"y", rustix::fs::XattrFlags::empty())?;
    Ok(())
}

/// A mounted root file system; dropping it unmounts it and removes what was written to it.
#[derive(Debug)]
pub struct RootFs {
    folder: PathBuf,
}

impl RootFs {
    /// Stacks layers, from the bottom, with an empty upper folder in `folder`, which is made.
    pub fn mount(layers: &[PathBuf], folder: &Path) -> Result<Self> {
        for name in ["upper", "work", "root"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(Error::io("create", &path))?;
        }
        let lower: Vec<String> = layers.iter().rev().map(|layer| layer.display().to_string()).collect();
        let mounted = Self { folder: folder.to_owned() };
        let at = |name: &str| folder.join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", lower.join(":"), at("upper"), at("work"));
        run(
            "root file system",
            Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, &at("root")]),
        )?;
        Ok(mounted)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// What a container wrote, below this folder.
    pub fn upper(&self) -> PathBuf {
        self.folder.join("upper")
    }
}

impl Drop for RootFs {
    fn drop(&mut self) {
        let root = self.path();
        let unmounted = run("unmount of a root file system", Command::new("umount").arg("--lazy").arg(&root));
        if let Err(error) = unmounted.and_then(|_| crate::cache::remove(&self.folder)) {
            tracing::warn!("{error}");
        }
    }
}
