//! Small images made by hand: pause and busybox, as OCI layouts and archives.
//!
//! Invariant: the same input gives the same bytes, so an artifact of the cache has one digest on every machine.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::cache::Cache;
use crate::error::{Error, Result};

/// Where Debian puts a busybox that needs no libraries.
const BUSYBOX: &str = "/bin/busybox";
/// The commands that test pods use; glibc's static linking makes name resolution crash, so no network tools here.
const APPLETS: [&str; 24] = [
    "sh",
    "sleep",
    "echo",
    "cat",
    "ls",
    "id",
    "env",
    "true",
    "false",
    "head",
    "tail",
    "mkdir",
    "rm",
    "cp",
    "mv",
    "touch",
    "test",
    "printf",
    "date",
    "kill",
    "stat",
    "sha256sum",
    "mount",
    "find",
];

/// An image's configuration besides its root file system.
#[derive(Debug, Default, Clone)]
pub struct Run {
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Environment, `NAME=value`.
    pub env: Vec<String>,
    /// `uid:gid`.
    pub user: String,
}

/// An archive of the image that holds a pod's namespaces: a process that sleeps.
pub fn pause(cache: &Cache) -> Result<PathBuf> {
    let folder = small(cache, "pause", &["sleep"], &["/bin/sleep", "infinity"])?;
    Ok(folder.join("image.tar"))
}

/// An OCI layout of busybox: a shell and a few commands, no libraries, no name resolution.
pub fn busybox(cache: &Cache) -> Result<PathBuf> {
    Ok(small(cache, "busybox", &APPLETS, &["/bin/sh"])?.join("layout"))
}

fn small(cache: &Cache, name: &str, applets: &[&str], entrypoint: &[&str]) -> Result<PathBuf> {
    let binary = fs::read(BUSYBOX).map_err(Error::io("read (Debian package busybox-static)", BUSYBOX))?;
    let words = format!("1 {applets:?} {entrypoint:?}");
    cache.artifact(name, &[&binary, words.as_bytes()], "at once", |out| {
        let layer = out.join("layer.tar");
        fs::write(&layer, busybox_layer(&binary, applets).map_err(Error::io("write", &layer))?).map_err(Error::io("write", &layer))?;
        let run = Run {
            entrypoint: entrypoint.iter().map(ToString::to_string).collect(),
            env: vec!["PATH=/bin".into()],
            user: "65532:65532".into(),
        };
        let layout = out.join("layout");
        write_layout(&layout, &layer, &run, Some(crate::node::PAUSE_IMAGE))?;
        archive(&layout, &out.join("image.tar"))?;
        fs::remove_file(&layer).map_err(Error::io("remove", &layer))
    })
}

fn busybox_layer(binary: &[u8], applets: &[&str]) -> std::io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for folder in ["bin/", "tmp/"] {
        let mut header = header(tar::EntryType::Directory, if folder == "tmp/" { 0o1777 } else { 0o755 }, 0);
        tar.append_data(&mut header, folder, std::io::empty())?;
    }
    let size = binary.len() as u64;
    tar.append_data(&mut header(tar::EntryType::Regular, 0o755, size), "bin/busybox", binary)?;
    for applet in applets {
        let mut link = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut link, format!("bin/{applet}"), "busybox")?;
    }
    tar.into_inner()
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Writes an OCI layout of one layer from an uncompressed tar.
pub fn write_layout(layout: &Path, layer: &Path, run: &Run, name: Option<&str>) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(Error::io("create", &blobs))?;
    let plain = fs::read(layer).map_err(Error::io("read", layer))?;
    let diff_id = digest(&plain);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
    let packed = encoder
        .write_all(&plain)
        .and_then(|()| encoder.finish())
        .map_err(Error::io("compress", layer))?;
    let layer = put(&blobs, &packed, "application/vnd.oci.image.layer.v1.tar+gzip")?;
    let config = json!({
        "architecture": "amd64", "os": "linux", "created": "1980-01-02T00:00:00Z",
        "config": {"Entrypoint": run.entrypoint, "Env": run.env, "User": run.user, "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "1980-01-02T00:00:00Z", "created_by": "robotimage test bed"}],
    });
    let config = put(&blobs, config.to_string().as_bytes(), "application/vnd.oci.image.config.v1+json")?;
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": [layer]});
    let mut manifest = put(&blobs, manifest.to_string().as_bytes(), media_type)?;
    if let Some(name) = name {
        manifest["annotations"] = json!({"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name});
    }
    let index = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [manifest]});
    for (file, text) in [
        ("index.json", index.to_string()),
        ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#.into()),
    ] {
        fs::write(layout.join(file), text).map_err(Error::io("write", layout.join(file)))?;
    }
    Ok(())
}

fn put(blobs: &Path, bytes: &[u8], media_type: &str) -> Result<serde_json::Value> {
    let digest = digest(bytes);
    let path = blobs.join(digest.trim_start_matches("sha256:"));
    fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// An OCI layout as one tar file, for `ctr images import`.
fn archive(layout: &Path, file: &Path) -> Result<()> {
    let out = File::create(file).map_err(Error::io("create", file))?;
    let mut tar = tar::Builder::new(out);
    tar.mode(tar::HeaderMode::Deterministic);
    tar.append_dir_all("", layout)
        .and_then(|()| tar.finish())
        .map_err(Error::io("write", file))
}
