//! Our own reader of images: it reads an OCI layout again, byte by byte, and refuses whatever differs from what its
//! documents say or from what our layers promise.
//!
//! Invariant: it shares no code with what wrote the image, beyond the decompressors.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
const ROLE: &str = "robotimage.dev/role";
/// 1980-01-02T00:00:00Z, the time of every file of ours.
const MTIME: u64 = 315_619_200;
/// The name of an entry that hides what lower layers have in its folder.
const OPAQUE: &str = ".wh..wh..opq";
/// What a layer that is not ours may be called.
const BASE: &str = "base";
/// The roles of our layers, in the order of the image.
const ROLES: [&str; 4] = ["rcc", "environment", "home", "code"];
/// A manifest or configuration beyond this is none, in bytes.
const DOCUMENT: u64 = 4 << 20;

/// An image that was read to its last byte.
#[derive(Debug, Clone)]
pub struct Image {
    /// Digest of its manifest.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The configuration.
    pub config: Value,
    /// From the bottom.
    pub layers: Vec<Layer>,
}

/// A layer that was read to its last byte.
#[derive(Debug, Clone)]
pub struct Layer {
    /// What it holds; none for layers of the base.
    pub role: Option<String>,
    /// Its media type.
    pub media_type: String,
    /// Of the compressed bytes.
    pub digest: String,
    /// Of the uncompressed bytes.
    pub diff_id: String,
    /// Compressed bytes.
    pub size: u64,
    /// Entries of its archive.
    pub entries: usize,
    /// Folders that it makes opaque; none is looked for in layers of the base.
    pub opaque: Vec<String>,
}

impl Image {
    /// Reads the only image of the layout at `root`, and every blob of it.
    pub fn read(root: &Path) -> Result<Self> {
        let at = |problem: String| Error::Other(format!("image layout {}: {problem}", root.display()));
        let marker = json(&root.join("oci-layout"))?;
        if marker["imageLayoutVersion"] != "1.0.0" {
            return Err(at(format!("oci-layout says {marker}")));
        }
        let index = json(&root.join("index.json"))?;
        let mut found: BTreeSet<&str> = BTreeSet::new();
        for entry in list(&index["manifests"]) {
            found.insert(text(&entry["digest"]));
            equal("media type of the manifest", &entry["mediaType"], MANIFEST).map_err(at)?;
        }
        let [digest] = found.into_iter().collect::<Vec<_>>()[..] else {
            return Err(at(format!("it lists {} images, expected one", list(&index["manifests"]).len())));
        };
        let manifest = document(root, &list(&index["manifests"])[0]).map_err(at)?;
        if manifest["schemaVersion"] != 2 {
            return Err(at(format!("schemaVersion of the manifest is {}", manifest["schemaVersion"])));
        }
        equal("media type in the manifest", &manifest["mediaType"], MANIFEST).map_err(at)?;
        equal("media type of the configuration", &manifest["config"]["mediaType"], CONFIG).map_err(at)?;
        let config = document(root, &manifest["config"]).map_err(at)?;
        let diff_ids = list(&config["rootfs"]["diff_ids"]);
        let descriptors = list(&manifest["layers"]);
        if diff_ids.len() != descriptors.len() {
            return Err(at(format!("{} layers and {} diff ids", descriptors.len(), diff_ids.len())));
        }
        let history = list(&config["history"]).iter().filter(|line| line["empty_layer"] != true).count();
        if history != descriptors.len() {
            return Err(at(format!("{} layers and {history} lines of history", descriptors.len())));
        }
        let layers: Vec<Layer> = descriptors
            .iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| {
                let layer = layer(root, descriptor)?;
                if layer.diff_id == text(diff_id) {
                    Ok(layer)
                } else {
                    Err(format!(
                        "layer {} has diff id {}, the configuration says {diff_id}",
                        layer.digest, layer.diff_id
                    ))
                }
            })
            .collect::<Result<_, String>>()
            .map_err(at)?;
        order(&layers).map_err(at)?;
        let image = Self {
            digest: digest.to_owned(),
            manifest,
            config,
            layers,
        };
        image.nothing_else(root).map_err(at)?;
        Ok(image)
    }

    /// The layers of a role; none for those of the base.
    pub fn of_role(&self, role: Option<&str>) -> impl Iterator<Item = &Layer> {
        self.layers.iter().filter(move |layer| layer.role.as_deref() == role)
    }

    /// A label of the configuration.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.config["config"]["Labels"][name].as_str()
    }

    /// The paths that a read-only root needs volumes at.
    pub fn writable(&self) -> Vec<String> {
        let paths = self.label("robotimage.dev/writable").unwrap_or_default();
        paths.split(',').filter(|path| !path.is_empty()).map(str::to_owned).collect()
    }

    /// Every file below `blobs` is named by the image.
    fn nothing_else(&self, root: &Path) -> Result<(), String> {
        let mut known: BTreeSet<&str> = self.layers.iter().map(|layer| layer.digest.as_str()).collect();
        known.extend([self.digest.as_str(), text(&self.manifest["config"]["digest"])]);
        let folder = root.join("blobs/sha256");
        for entry in fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let name = entry.map_err(|error| error.to_string())?.file_name().to_string_lossy().into_owned();
            if !known.contains(format!("sha256:{name}").as_str()) {
                return Err(format!("blob {name} belongs to nothing"));
            }
        }
        Ok(())
    }
}

fn order(layers: &[Layer]) -> Result<(), String> {
    let place = |layer: &Layer| {
        layer
            .role
            .as_ref()
            .map_or(Some(0), |role| ROLES.iter().position(|known| known == role).map(|at| at + 1))
    };
    let places: Vec<_> = layers.iter().map(place).collect();
    if places.contains(&None) || !places.is_sorted() {
        let roles: Vec<_> = layers.iter().map(|layer| layer.role.as_deref().unwrap_or(BASE)).collect();
        return Err(format!("the layers are {roles:?}, which is not the order of an image"));
    }
    Ok(())
}

/// A small blob as JSON, its size and digest checked.
fn document(root: &Path, descriptor: &Value) -> Result<Value, String> {
    let path = blob(root, descriptor)?;
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if bytes.len() as u64 > DOCUMENT || descriptor["size"].as_u64() != Some(bytes.len() as u64) {
        return Err(format!(
            "{} has {} bytes, its descriptor says {}",
            path.display(),
            bytes.len(),
            descriptor["size"]
        ));
    }
    equal("digest", &descriptor["digest"], &name(&Sha256::digest(&bytes))).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
}

fn blob(root: &Path, descriptor: &Value) -> Result<std::path::PathBuf, String> {
    match text(&descriptor["digest"]).split_once(':') {
        Some(("sha256", hex)) if hex.len() == 64 => Ok(root.join("blobs/sha256").join(hex)),
        _ => Err(format!("{descriptor} is no descriptor")),
    }
}

fn layer(root: &Path, descriptor: &Value) -> Result<Layer, String> {
    let path = blob(root, descriptor)?;
    let at = |problem: String| format!("layer {}: {problem}", path.display());
    let file = File::open(&path).map_err(|error| at(error.to_string()))?;
    let mut packed = Hashed::new(file);
    let media_type = text(&descriptor["mediaType"]).to_owned();
    let role = descriptor["annotations"][ROLE]
        .as_str()
        .filter(|role| *role != BASE)
        .map(str::to_owned);
    let (diff_id, content) = {
        let plain: Box<dyn Read + '_> = match media_type.as_str() {
            GZIP => Box::new(flate2::read::MultiGzDecoder::new(&mut packed)),
            ZSTD => Box::new(zstd::Decoder::new(&mut packed).map_err(|error| at(error.to_string()))?),
            other => return Err(at(format!("media type {other}"))),
        };
        let mut plain = Hashed::new(plain);
        let content = if role.is_some() {
            ours(&mut plain, role.as_deref()).map_err(at)?
        } else {
            Content::default()
        };
        // An archive may end before its stream does.
        io::copy(&mut plain, &mut io::sink()).map_err(|error| at(error.to_string()))?;
        (plain.finish().0, content)
    };
    io::copy(&mut packed, &mut io::sink()).map_err(|error| at(error.to_string()))?;
    let (digest, size) = packed.finish();
    if digest != text(&descriptor["digest"]) || descriptor["size"].as_u64() != Some(size) {
        return Err(at(format!("has digest {digest} and {size} bytes, its descriptor is {descriptor}")));
    }
    Ok(Layer {
        role,
        media_type,
        digest,
        diff_id,
        size,
        entries: content.entries,
        opaque: content.opaque,
    })
}

#[derive(Default)]
struct Content {
    entries: usize,
    opaque: Vec<String>,
}

/// What every layer of ours promises.
fn ours(reader: impl Read, role: Option<&str>) -> Result<Content, String> {
    let mut content = Content::default();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| error.to_string())?;
        let path = entry
            .path()
            .map_err(|error| error.to_string())?
            .to_string_lossy()
            .trim_end_matches('/')
            .to_owned();
        let at = |problem: &str| Err(format!("entry {path}: {problem}"));
        content.entries += 1;
        if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return at("is no path below the root");
        }
        if !seen.insert(path.clone()) {
            return at("is there twice");
        }
        let (parent, last) = path.rsplit_once('/').unwrap_or(("", &path));
        if !parent.is_empty() && !seen.contains(parent) {
            return at("comes before its parent");
        }
        let header = entry.header().clone();
        let number = |value: io::Result<u64>| value.map_err(|error| error.to_string());
        if (number(header.uid())?, number(header.gid())?) != (0, 0) {
            return at("does not belong to root");
        }
        if number(header.mtime())? != MTIME {
            return at("has another time");
        }
        let mode = header.mode().map_err(|error| error.to_string())?;
        let kind = header.entry_type();
        if kind.is_hard_link() {
            let target = entry
                .link_name()
                .ok()
                .flatten()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            if !seen.contains(&target) {
                return at("is a hard link to something that does not come before it");
            }
        } else if !kind.is_file() && !kind.is_dir() && !kind.is_symlink() {
            return at("is neither file, folder nor link");
        }
        if mode & 0o6000 != 0 || (role == Some("environment") && !kind.is_symlink() && !matches!(mode, 0o755 | 0o644)) {
            return at(&format!("has mode {mode:o}"));
        }
        if let Some(extensions) = entry.pax_extensions().map_err(|error| error.to_string())? {
            for extension in extensions.flatten() {
                if extension.key().is_ok_and(|key| key.contains("xattr")) {
                    return Err(format!("entry {path}: has extended attributes"));
                }
            }
        }
        if last == OPAQUE {
            content.opaque.push(parent.to_owned());
        } else if last.starts_with(".wh.") {
            return at("is a whiteout");
        }
    }
    Ok(content)
}

/// Passes bytes on, hashing and counting them.
struct Hashed<R> {
    inner: R,
    hash: Sha256,
    size: u64,
}

impl<R> Hashed<R> {
    fn new(inner: R) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            size: 0,
        }
    }

    fn finish(self) -> (String, u64) {
        (name(&self.hash.finalize()), self.size)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.inner.read(buffer)?;
        self.hash.update(&buffer[..size]);
        self.size += size as u64;
        Ok(size)
    }
}

fn name(hash: &[u8]) -> String {
    format!("sha256:{}", hex::encode(hash))
}

fn json(path: &Path) -> Result<Value> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::Other(format!("{}: {error}", path.display())))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn equal(what: &str, found: &Value, expected: &str) -> Result<(), String> {
    if found == expected {
        Ok(())
    } else {
        Err(format!("{what} is {found}, expected {expected}"))
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
