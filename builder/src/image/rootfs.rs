//! A base that is unpacked already: the root file system that a stage of a Dockerfile stands on.
//!
//! Invariant: it comes to the same facts as the layers it was unpacked from, by the same reader; nothing is executed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tar::{Builder, EntryType, Header};

use super::base::{FOLDERS, LIBRARIES, LOADER, TEXTS};
use super::pull::PullError;
use super::{Base, BaseFacts, BaseReader};

/// Largest file that is read: a C library has a few megabytes.
const MAX_FILE: u64 = 64 << 20;

/// The base at this folder, which has no layers, no name and no digest.
pub fn from_rootfs(root: &Path) -> Result<Base, PullError> {
    let facts = facts(root).map_err(|error| PullError::Layout {
        folder: root.to_owned(),
        problem: error.to_string(),
    })?;
    Ok(Base {
        name: None,
        digest: String::new(),
        layers: Vec::new(),
        diff_ids: Vec::new(),
        env: Vec::new(),
        history: Vec::new(),
        facts,
    })
}

/// The few files that facts are made of, as a layer for the reader of layers.
fn facts(root: &Path) -> io::Result<BaseFacts> {
    if !root.is_dir() {
        return Err(io::Error::other("it is no folder"));
    }
    let mut layer = Builder::new(Vec::new());
    for folder in FOLDERS {
        add(&mut layer, root, folder)?;
    }
    for text in TEXTS {
        add(&mut layer, root, text)?;
    }
    let mut seen = Vec::new();
    for folder in LIBRARIES {
        let path = root.join(folder);
        // Most of them are links to others of them, and each library counts once, at its real place.
        let Ok(metadata) = fs::metadata(&path) else { continue };
        if !metadata.is_dir() || is_behind_link(root, folder) || seen.contains(&(metadata.dev(), metadata.ino())) {
            continue;
        }
        seen.push((metadata.dev(), metadata.ino()));
        for entry in fs::read_dir(&path)? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name == LOADER || name == "libc.so.6" || (name.starts_with("libc-2.") && name.rsplit('.').next() == Some("so")) {
                add(&mut layer, root, &format!("{folder}/{name}"))?;
            }
        }
    }
    let mut reader = BaseReader::default();
    reader.layer(layer.into_inner()?.as_slice())?;
    Ok(reader.finish())
}

fn is_behind_link(root: &Path, folder: &str) -> bool {
    let mut path = root.to_owned();
    folder.split('/').any(|part| {
        path.push(part);
        path.is_symlink()
    })
}

/// Adds what is at a path, if there is something; a link as a link.
fn add(layer: &mut Builder<Vec<u8>>, root: &Path, name: &str) -> io::Result<()> {
    let path = root.join(name);
    let metadata = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut header = Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(0);
    if metadata.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        layer.append_link(&mut header, name, fs::read_link(&path)?)
    } else if metadata.is_dir() {
        header.set_entry_type(EntryType::Directory);
        layer.append_data(&mut header, format!("{name}/"), io::empty())
    } else if metadata.is_file() {
        if metadata.len() > MAX_FILE {
            return Err(io::Error::other(format!("{} has more than {MAX_FILE} bytes", path.display())));
        }
        let content = fs::read(&path)?;
        header.set_size(content.len() as u64);
        layer.append_data(&mut header, name, content.as_slice())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn this_machine_is_a_base() {
        let facts = facts(Path::new("/")).unwrap();
        assert!(facts.glibc.is_some() && facts.loader, "{facts:?}");
        assert!(facts.passwd.unwrap().contains("root"));
    }

    #[test]
    fn links_on_our_ways_are_facts() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::create_dir_all(root.join("etc")).unwrap();
        symlink("usr/lib", root.join("lib")).unwrap();
        symlink("/data/opt", root.join("opt")).unwrap();
        fs::write(root.join("etc/passwd"), "robot:x:7:0::/home/robot:/bin/sh\n").unwrap();
        fs::write(root.join("usr/lib").join(LOADER), "").unwrap();
        let facts = facts(root).unwrap();
        assert_eq!(facts.links.get("/opt").map(String::as_str), Some("/data/opt"));
        assert_eq!(facts.passwd.as_deref(), Some("robot:x:7:0::/home/robot:/bin/sh\n"));
        assert!(facts.loader && facts.glibc.is_none());
        assert!(from_rootfs(&root.join("none")).is_err());
    }
}
