//! The layers of an image unpacked into folders, for a Dockerfile to copy.
//!
//! Invariant: nothing is written outside the folder, and what is not whole does not stay.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::assemble::{Content, Image, Role};
use super::decoded::Decoded;
use super::entries::MOST_BYTES;
use super::store::{Interruptible, StoreError};

/// Unpacks our layers below an empty or new folder, each role in a folder of its name: what a Dockerfile copies. Deletions of
/// what a base has are left out, because only layers can tell them. Once `interrupt` is set, it fails.
pub fn to_tree(image: &Image, root: &Path, interrupt: &AtomicBool) -> Result<(), StoreError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }
    };
    let unfinished = Unfinished::at(root).map_err(io("read", root))?;
    let Some(unfinished) = unfinished else {
        let taken = io::Error::other("it is not empty; name a new folder");
        return Err(io("write to", root)(taken));
    };
    // A COPY of a folder that is not there fails, and a robot without an environment has no layer of that role.
    for role in Role::ALL.into_iter().filter(|role| *role != Role::Base) {
        let folder = root.join(role.as_str());
        std::fs::create_dir_all(&folder).map_err(io("make", &folder))?;
    }
    for layer in image.layers.iter().filter(|layer| layer.role != Role::Base) {
        let folder = root.join(layer.role.as_str());
        match &layer.content {
            Content::File(file) => unpack(file, &folder, interrupt)?,
            Content::Elsewhere(repository) => return Err(StoreError::Elsewhere(repository.clone())),
            Content::Base | Content::Previous => {
                let missing = io::Error::other("the layer is not on this machine");
                return Err(io("read", Path::new(&layer.descriptor.digest))(missing));
            }
        }
    }
    unfinished.keep();
    Ok(())
}

/// Unpacks a layer of ours.
fn unpack(file: &Path, folder: &Path, interrupt: &AtomicBool) -> Result<(), StoreError> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| StoreError::Io { action, path, source }
    };
    let bytes = std::fs::File::open(file).map_err(io("read", file))?;
    let bytes = Interruptible { inner: bytes, interrupt };
    let mut archive = tar::Archive::new(Decoded::new(bytes, MOST_BYTES).map_err(io("read", file))?);
    archive.set_preserve_permissions(true);
    for entry in archive.entries().map_err(io("read", file))? {
        let mut entry = entry.map_err(io("read", file))?;
        let deletes = entry
            .path()
            .map_err(io("read", file))?
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with(".wh."));
        if !deletes && !entry.unpack_in(folder).map_err(io("unpack to", folder))? {
            let outside = io::Error::other("an entry leads out of it");
            return Err(io("unpack to", folder)(outside));
        }
    }
    Ok(())
}

/// A folder that was absent or empty, and is so again unless its content is finished.
#[derive(Debug)]
pub struct Unfinished {
    path: PathBuf,
    existed: bool,
    finished: bool,
}

impl Unfinished {
    /// Of a folder that will be filled; none where something is in it already.
    pub fn at(path: &Path) -> io::Result<Option<Self>> {
        let existed = match std::fs::read_dir(path) {
            Ok(mut entries) => match entries.next() {
                Some(_) => return Ok(None),
                None => true,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        Ok(Some(Self {
            path: path.to_owned(),
            existed,
            finished: false,
        }))
    }

    /// Its content is whole, and stays.
    pub fn keep(mut self) {
        self.finished = true;
    }

    fn empty(&self) -> io::Result<()> {
        if !self.existed {
            return std::fs::remove_dir_all(&self.path);
        }
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        match self.empty() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %self.path.display(), %error, "what is not finished cannot be removed");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::assemble::ImageLayer;
    use super::super::oci::Descriptor;
    use super::*;

    fn image(layers: Vec<ImageLayer>) -> Image {
        Image {
            manifest: Vec::new(),
            digest: String::new(),
            config: Vec::new(),
            config_digest: String::new(),
            layers,
        }
    }

    #[test]
    fn layers_are_unpacked_by_role_and_deletions_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(Vec::new());
        for (path, mode) in [
            ("home/", 0o755),
            ("home/.wh..wh..opq", 0o644),
            ("home/run.sh", 0o775),
            ("../outside", 0o644),
        ] {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(if path.ends_with('/') {
                tar::EntryType::Directory
            } else {
                tar::EntryType::Regular
            });
            header.set_mode(mode);
            header.set_size(0);
            header.set_cksum();
            if path == "../outside" {
                std::fs::write(folder.path().join("good"), tar.get_ref()).unwrap();
            }
            tar.append(&header, io::empty()).unwrap();
        }
        std::fs::write(folder.path().join("bad"), tar.into_inner().unwrap()).unwrap();
        let layer = |name: &str| ImageLayer {
            role: Role::Code,
            descriptor: Descriptor {
                media_type: String::new(),
                digest: "sha256:1".to_owned(),
                size: 0,
                annotations: std::collections::BTreeMap::new(),
            },
            diff_id: String::new(),
            content: Content::File(folder.path().join(name)),
        };
        let (out, go) = (folder.path().join("out"), AtomicBool::new(false));
        to_tree(&image(vec![layer("good")]), &out, &go).unwrap();
        let code = out.join("code/home");
        let names: Vec<_> = std::fs::read_dir(&code).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["run.sh"]);
        let mode = std::os::unix::fs::PermissionsExt::mode(&code.join("run.sh").metadata().unwrap().permissions());
        assert_eq!(mode & 0o7777, 0o775);
        assert!(out.join("environment").is_dir(), "every role has a folder");
        let refuse = |image: &Image, out: &Path, interrupt: &AtomicBool| to_tree(image, out, interrupt).unwrap_err().to_string();
        assert!(refuse(&image(Vec::new()), &out, &go).contains("not empty"));
        let other = folder.path().join("other");
        assert!(refuse(&image(vec![layer("bad")]), &other, &go).contains("leads out of it"));
        assert!(refuse(&image(vec![layer("good")]), &other, &AtomicBool::new(true)).contains("interrupted"));
        let elsewhere = ImageLayer {
            content: Content::Previous,
            ..layer("good")
        };
        assert!(refuse(&image(vec![elsewhere]), &other, &go).contains("not on this machine"));
        assert!(!other.exists() && !folder.path().join("outside").exists());
    }

    #[test]
    fn what_is_not_finished_goes() {
        let folder = tempfile::tempdir().unwrap();
        let new = folder.path().join("new");
        for (path, stays) in [(new.as_path(), false), (folder.path(), true)] {
            let unfinished = Unfinished::at(path).unwrap().unwrap();
            std::fs::create_dir_all(path.join("half/of")).unwrap();
            std::fs::write(path.join("file"), "half").unwrap();
            assert!(Unfinished::at(path).unwrap().is_none(), "something is in it");
            drop(unfinished);
            assert_eq!(path.exists(), stays);
            assert!(Unfinished::at(path).unwrap().is_some(), "it is empty");
        }
        let finished = Unfinished::at(&new).unwrap().unwrap();
        std::fs::create_dir(&new).unwrap();
        finished.keep();
        assert!(new.is_dir());
        std::fs::write(folder.path().join("file"), "x").unwrap();
        assert!(Unfinished::at(&folder.path().join("file")).is_err());
    }
}
