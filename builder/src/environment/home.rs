//! The runtime home: what rcc needs at its start to find the sealed environment without building, restoring or calling home.
//!
//! Its heart is a catalog whose top-level folders are links into the sealed environment and whose top-level files are small
//! blobs. rcc then makes a handful of links instead of restoring thousands of files, and never writes into what they point to.
//! Invariant: the bytes depend on the sealed environment's top level, its path, the blueprint and rcc's version alone.

use std::collections::BTreeMap;
use std::path::Path;

use robotimage_layer::LayerBuilder;
use rustix::fs::FileType;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::Error;
use super::gzip;
use super::space::RUNTIME_HOME;
use super::tree::Folder;
use crate::rcc::user;

/// rcc's name of the folder in which an environment is built; any text of this length would do.
const IDENTITY: &str = "h0000000_493f813dad24d3t";
/// Larger top-level files become links as folders do.
const MAX_BLOB: u64 = 1 << 20;
/// Go's directory bit of a file mode.
const DIRECTORY: u32 = 1 << 31;

/// With these endpoints nothing is looked up at a start. Without `downloads` each start waits for a name server.
const SETTINGS: &str = "endpoints:\n  telemetry: \"disabled:\"\n  cloud-api: \"disabled:\"\n  downloads: \"disabled:\"\n";

/// What the runtime home is made from.
#[derive(Clone, Copy, Debug)]
pub struct RuntimeHome<'a> {
    /// The sealed environment on this host; `None` for a shell robot.
    pub sealed: Option<&'a Path>,
    /// Where it lies in the image.
    pub sealed_path: &'a str,
    /// rcc's hash of the environment file that the robot in the image chooses.
    pub blueprint: &'a str,
    /// Version of the image's rcc, `v19.0.2`.
    pub rcc_version: &'a str,
    /// Name of the image's user.
    pub user: &'a str,
}

#[derive(Serialize)]
struct Catalog<'a> {
    rcc: &'a str,
    identity: &'a str,
    path: String,
    controller: &'a str,
    space: &'a str,
    platform: &'a str,
    blueprint: &'a str,
    lifted: bool,
    tree: Directory,
}

#[derive(Serialize)]
struct Directory {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    symlink: Option<String>,
    mode: u32,
    shadow: bool,
    subdirs: BTreeMap<String, Directory>,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Serialize)]
struct FileEntry {
    name: String,
    size: u64,
    mode: u32,
    digest: String,
    rewrite: [u64; 0],
}

/// Adds ROBOCORP_HOME of the image to a layer. Reads only top-level regular files of the sealed environment and follows no link.
pub fn add_runtime_home(layer: &mut LayerBuilder, home: &RuntimeHome<'_>) -> Result<(), Error> {
    let at = |name: &str| format!("{RUNTIME_HOME}/{name}");
    layer.dir(RUNTIME_HOME, 0o777);
    // Anybody may run rcc, and rcc retries with sleeps where it may not write its marks.
    for name in ["holotree", "temp", "journals", "hololib/used", "hololib/pids"] {
        layer.dir(&at(name), 0o1777);
    }
    for name in [
        "hololib/catalog",
        "hololib/library",
        "templates",
        "bin",
        "uv",
        "uvpython",
        "uvcache",
        "pipcache",
        "wheels",
        "robots",
        "pkgs",
    ] {
        layer.dir(&at(name), 0o755);
    }
    layer.file(&at("settings.yaml"), SETTINGS, 0o644);
    layer.file(&at(user::FILE), user::registered(home.user), 0o664);
    if let Some(sealed) = home.sealed {
        let (catalog, blobs) = catalog(home, sealed)?;
        layer.file(
            &at(&format!("hololib/catalog/{}v12.linux_amd64", home.blueprint)),
            gzip::stored(&catalog),
            0o644,
        );
        for (digest, content) in blobs {
            let path = at(&format!(
                "hololib/library/{}/{}/{}/{digest}",
                &digest[..2],
                &digest[2..4],
                &digest[4..6]
            ));
            layer.file(&path, gzip::stored(&content), 0o644);
        }
    }
    Ok(())
}

type Blobs = BTreeMap<String, Vec<u8>>;

/// The catalog's JSON, and the blobs it names by their SHA-256.
fn catalog(home: &RuntimeHome<'_>, sealed: &Path) -> Result<(Vec<u8>, Blobs), Error> {
    let unreadable = |path: &Path, source| Error::Tree {
        action: "read",
        path: path.to_path_buf(),
        source,
    };
    let folder = Folder::open(sealed).map_err(|source| unreadable(sealed, source))?;
    let mut tree = Directory {
        name: String::new(),
        symlink: None,
        mode: DIRECTORY | 0o755,
        shadow: false,
        subdirs: BTreeMap::new(),
        files: BTreeMap::new(),
    };
    let mut blobs = Blobs::new();
    for entry in folder.entries().map_err(|source| unreadable(sealed, source))? {
        let path = sealed.join(&entry.name);
        let name = entry.name.into_string().map_err(|_| Error::Rejected {
            path: path.clone(),
            problem: "has a name that is not UTF-8, which rcc's catalog cannot hold",
        })?;
        match entry.kind {
            FileType::RegularFile if entry.size <= MAX_BLOB => {
                let content = folder.read(&name, MAX_BLOB).map_err(|source| unreadable(&path, source))?;
                let content = content.ok_or(Error::Rejected {
                    path,
                    problem: "changed while it was read",
                })?;
                let digest = hex::encode(Sha256::digest(&content));
                let file = FileEntry {
                    name: name.clone(),
                    size: content.len() as u64,
                    mode: if entry.mode & 0o100 == 0 { 0o644 } else { 0o755 },
                    digest: digest.clone(),
                    rewrite: [],
                };
                tree.files.insert(name, file);
                blobs.insert(digest, content);
            }
            FileType::RegularFile | FileType::Directory | FileType::Symlink => {
                let link = Directory {
                    symlink: Some(format!("{}/{name}", home.sealed_path)),
                    name: name.clone(),
                    mode: DIRECTORY | 0o755,
                    shadow: false,
                    subdirs: BTreeMap::new(),
                    files: BTreeMap::new(),
                };
                tree.subdirs.insert(name, link);
            }
            // The layer leaves sockets and FIFOs out, and so does the catalog.
            _ => {}
        }
    }
    if tree.files.is_empty() {
        // rcc divides by the number of files.
        return Err(Error::Rejected {
            path: sealed.to_path_buf(),
            problem: "has no file at its top, so it is no environment that rcc made",
        });
    }
    let catalog = Catalog {
        rcc: home.rcc_version,
        identity: IDENTITY,
        path: format!("{RUNTIME_HOME}/holotree/{IDENTITY}"),
        controller: "",
        space: "",
        platform: "linux_amd64",
        blueprint: home.blueprint,
        lifted: true,
        tree,
    };
    Ok((serde_json::to_vec(&catalog).expect("invariant: texts and numbers are JSON"), blobs))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use robotimage_layer::{Codec, WriteOptions};

    use super::*;

    fn home(sealed: Option<&Path>) -> RuntimeHome<'_> {
        RuntimeHome {
            sealed,
            sealed_path: "/opt/rcc/holotree/x",
            blueprint: "873a70b30de4a4c9",
            rcc_version: "v19.0.2",
            user: "robot",
        }
    }

    fn sealed() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::write(folder.path().join("identity.yaml"), "channels: []\n").unwrap();
        fs::write(folder.path().join("big"), vec![0; 2 << 20]).unwrap();
        symlink("/etc", folder.path().join("etc")).unwrap();
        folder
    }

    #[test]
    fn the_catalog_links_folders_and_carries_small_files() {
        let folder = sealed();
        let (json, blobs) = catalog(&home(Some(folder.path())), folder.path()).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(read["path"], "/home/robot/.robocorp/holotree/h0000000_493f813dad24d3t");
        assert_eq!(read["identity"].as_str().unwrap().len(), 24);
        let tree = &read["tree"];
        assert_eq!(tree["subdirs"]["bin"]["symlink"], "/opt/rcc/holotree/x/bin");
        assert_eq!(tree["subdirs"]["etc"]["symlink"], "/opt/rcc/holotree/x/etc");
        assert_eq!(tree["subdirs"]["big"]["symlink"], "/opt/rcc/holotree/x/big");
        let digest = tree["files"]["identity.yaml"]["digest"].as_str().unwrap();
        assert_eq!(blobs[digest], b"channels: []\n");
        assert_eq!(blobs.len(), 1);
    }

    #[test]
    fn equal_environments_give_equal_layers() {
        let write = || {
            let folder = sealed();
            let mut layer = LayerBuilder::new();
            add_runtime_home(&mut layer, &home(Some(folder.path()))).unwrap();
            layer.write(Codec::Gzip, &WriteOptions::default(), Vec::new()).unwrap()
        };
        let layer = write();
        assert_eq!(layer.diff_id, write().diff_id);
        assert_eq!(layer.files, 4);
    }

    #[test]
    fn a_shell_robot_has_a_home_without_catalog() {
        let mut layer = LayerBuilder::new();
        add_runtime_home(&mut layer, &home(None)).unwrap();
        assert_eq!(layer.write(Codec::Gzip, &WriteOptions::default(), Vec::new()).unwrap().files, 2);
    }

    #[test]
    fn what_rcc_did_not_make_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = add_runtime_home(&mut LayerBuilder::new(), &home(Some(folder.path()))).unwrap_err();
        assert!(error.to_string().contains("no file at its top"), "{error}");
        assert!(add_runtime_home(&mut LayerBuilder::new(), &home(Some(Path::new("/nonexistent")))).is_err());
    }
}
