//! An image where it is kept: in a registry, in a layout on disk, in an OCI or docker archive.
//!
//! Invariant: documents are bounded, and verified by their digests where the format has them; names in an archive are looked
//! up and never become paths of this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, ErrorKind, Reference, Repository};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;
use crate::image::oci::{Config, Descriptor, MANIFEST, Manifest, digest};
use crate::image::push::described;
use crate::steps::{self, Side};

/// Operating system and architecture of our images.
const PLATFORM: (&str, &str) = ("linux", "amd64");
/// Largest document that is read from disk.
const MAX_DOCUMENT: u64 = 4 << 20;
/// Entries of an archive, at most.
const MAX_ENTRIES: usize = 100_000;
/// Indexes inside indexes, at most.
const DEPTH: usize = 4;

/// The documents of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Documents {
    /// As it was named.
    pub name: String,
    /// Digest of the manifest; none in a docker archive, which has no manifest.
    pub digest: Option<String>,
    /// The manifest; of a docker archive one with the same layers.
    pub manifest: Manifest,
    /// The configuration.
    pub config: Config,
}

/// Where an image is kept.
#[derive(Debug)]
pub enum Stored {
    /// In a registry.
    Registry {
        /// With the credentials for it.
        client: Client,
        /// Its name.
        reference: Reference,
    },
    /// On this machine.
    Disk(Files),
}

/// Where the files of an image on this machine are.
#[derive(Debug)]
pub struct Files {
    place: PathBuf,
    /// Offset and size of each file of an archive; none for a folder.
    archive: Option<BTreeMap<String, (u64, u64)>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    #[serde(default)]
    manifests: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// A file and its size.
type Opened = (Box<dyn Read + Send>, u64);

/// `manifest.json` of a docker archive.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Loaded {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Stored {
    /// The documents of the image for linux/amd64.
    pub async fn documents(&self, name: &str) -> Result<Documents, Failure> {
        let (client, reference) = match self {
            Self::Disk(files) => return files.documents(name),
            Self::Registry { client, reference } => (client, reference),
        };
        let image = client
            .resolve_image(reference, PLATFORM.0, PLATFORM.1)
            .await
            .map_err(|error| registry_failure(&error))?;
        let wrong = |error: serde_json::Error| Failure::new(Reason::RegistryProtocol, format!("image {name}: {error}"));
        let manifest: Manifest = serde_json::from_slice(&image.manifest_bytes).map_err(wrong)?;
        let config: Config = serde_json::from_slice(&image.config_bytes).map_err(wrong)?;
        if manifest.layers.len() != config.rootfs.diff_ids.len() {
            let problem = "its configuration does not list as many layers as its manifest";
            return Err(Failure::new(Reason::RegistryProtocol, format!("image {name}: {problem}")));
        }
        Ok(Documents {
            name: name.to_owned(),
            digest: image.reference.digest().map(ToString::to_string),
            manifest,
            config,
        })
    }

    /// A layer as it is stored. `scratch` takes what a registry sends.
    pub async fn layer(&self, layer: &Descriptor, scratch: &Path) -> Result<Box<dyn Read + Send>, Failure> {
        match self {
            Self::Disk(files) => files.layer(layer),
            Self::Registry { client, reference } => {
                let repository: Repository = reference.to_repository();
                let descriptor = described(layer).map_err(|error| registry_failure(&error))?;
                let path = scratch.join("layer");
                let io = |error: io::Error| Failure::io("write", &path, &error);
                let mut file = tokio::fs::File::create(&path).await.map_err(io)?;
                client
                    .blob_to_file(&repository, &descriptor, &mut file)
                    .await
                    .map_err(|error| registry_failure(&error))?;
                drop(file);
                Ok(Box::new(File::open(&path).map_err(io)?))
            }
        }
    }
}

fn registry_failure(error: &robotimage_registry::Error) -> Failure {
    let failure = steps::failure(error, Side::Target);
    match error.kind() {
        ErrorKind::Denied | ErrorKind::NotFound => Failure {
            reason: Reason::SourceNotFound,
            ..failure
        },
        _ => failure,
    }
}

impl Files {
    /// A folder with an OCI layout.
    pub fn layout(folder: &Path) -> Result<Self, Failure> {
        let files = Self {
            place: folder.to_owned(),
            archive: None,
        };
        if folder.join("oci-layout").is_file() {
            return Ok(files);
        }
        let reason = if folder.exists() {
            Reason::SourceRejected
        } else {
            Reason::SourceNotFound
        };
        let message = format!(
            "{} is no OCI layout: it has no file oci-layout; name the folder that was given as oci:DIR",
            folder.display()
        );
        Err(Failure::new(reason, message))
    }

    /// An archive, as `--save` and `--output oci-archive:FILE` write it, or docker and podman.
    pub fn archive(file: &Path) -> Result<Self, Failure> {
        let unreadable = |error: io::Error| {
            let reason = if error.kind() == io::ErrorKind::NotFound {
                Reason::SourceNotFound
            } else {
                Reason::SourceRejected
            };
            Failure::new(reason, format!("cannot read the archive {}: {error}", file.display()))
        };
        let mut names = BTreeMap::new();
        let mut archive = tar::Archive::new(File::open(file).map_err(unreadable)?);
        for entry in archive.entries_with_seek().map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path().map_err(unreadable)?;
            let name = path.to_string_lossy().trim_start_matches("./").to_owned();
            names.insert(name, (entry.raw_file_position(), entry.size()));
            if names.len() > MAX_ENTRIES {
                return Err(unreadable(io::Error::other(format!("it has more than {MAX_ENTRIES} entries"))));
            }
        }
        Ok(Self {
            place: file.to_owned(),
            archive: Some(names),
        })
    }

    fn wrong(&self, problem: impl std::fmt::Display) -> Failure {
        Failure::new(Reason::SourceRejected, format!("{}: {problem}", self.place.display()))
    }

    fn open(&self, name: &str) -> Result<Option<Opened>, Failure> {
        let unreadable = |error: io::Error| self.wrong(format!("cannot read {name}: {error}"));
        match &self.archive {
            None => match File::open(self.place.join(name)) {
                Ok(file) => {
                    let size = file.metadata().map_err(unreadable)?.len();
                    Ok(Some((Box::new(file), size)))
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(unreadable(error)),
            },
            Some(names) => {
                let Some((offset, size)) = names.get(name).copied() else {
                    return Ok(None);
                };
                let mut file = File::open(&self.place).map_err(unreadable)?;
                file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
                Ok(Some((Box::new(file.take(size)), size)))
            }
        }
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let Some((file, size)) = self.open(name)? else { return Ok(None) };
        if size > MAX_DOCUMENT {
            return Err(self.wrong(format!("{name} has {size} bytes, and at most {MAX_DOCUMENT} are read")));
        }
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)
            .map_err(|error| self.wrong(format!("cannot read {name}: {error}")))?;
        Ok(Some(bytes))
    }

    fn parse<T: DeserializeOwned>(&self, name: &str, bytes: &[u8]) -> Result<T, Failure> {
        serde_json::from_slice(bytes).map_err(|error| self.wrong(format!("{name} is not what it should be: {error}")))
    }

    /// The path of a blob, whose digest a stranger wrote.
    fn blob(&self, text: &str) -> Result<String, Failure> {
        match text.split_once(':') {
            Some(("sha256", hash)) if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Ok(format!("blobs/sha256/{hash}"))
            }
            _ => Err(self.wrong(format!("{text:?} is no SHA-256 digest"))),
        }
    }

    fn document<T: DeserializeOwned>(&self, wanted: &str) -> Result<T, Failure> {
        let name = self.blob(wanted)?;
        let bytes = self.read(&name)?.ok_or_else(|| self.wrong(format!("it lacks {name}")))?;
        let found = digest(&bytes);
        if found != wanted {
            return Err(Failure::new(
                Reason::DigestMismatch,
                format!("{}: {name} has the digest {found}; it is damaged", self.place.display()),
            ));
        }
        self.parse(&name, &bytes)
    }

    fn documents(&self, name: &str) -> Result<Documents, Failure> {
        // An archive of a newer docker has both; the layout says more.
        if let Some(index) = self.read("index.json")? {
            return self.of_index(name, self.parse("index.json", &index)?);
        }
        let list = self.read("manifest.json")?;
        let list = list.ok_or_else(|| self.wrong("it is no archive of an image: it has neither index.json nor manifest.json"))?;
        self.of_list(name, &self.parse::<Vec<Loaded>>("manifest.json", &list)?)
    }

    fn of_index(&self, name: &str, mut index: Index) -> Result<Documents, Failure> {
        for _ in 0..=DEPTH {
            let fits = |entry: &&Listed| {
                let platform = entry.platform.as_ref();
                platform.is_none_or(|platform| (platform.os.as_str(), platform.architecture.as_str()) == PLATFORM)
            };
            let mut fitting = index.manifests.iter().filter(fits);
            let entry = fitting.next().ok_or_else(|| self.wrong("it holds no image for linux/amd64"))?;
            if let Some(other) = fitting.find(|other| other.digest != entry.digest) {
                return Err(self.wrong(format!(
                    "it holds several images for linux/amd64, such as {} and {}; write each to a layout of its own",
                    entry.digest, other.digest
                )));
            }
            if entry.media_type.contains("index") || entry.media_type.contains("manifest.list") {
                index = self.document(&entry.digest)?;
                continue;
            }
            let digest = entry.digest.clone();
            let manifest: Manifest = self.document(&digest)?;
            let config: Config = self.document(&manifest.config.digest)?;
            if manifest.layers.len() != config.rootfs.diff_ids.len() {
                return Err(self.wrong("its configuration does not list as many layers as its manifest"));
            }
            return Ok(Documents {
                name: name.to_owned(),
                digest: Some(digest),
                manifest,
                config,
            });
        }
        Err(self.wrong(format!("it has more than {DEPTH} indexes inside one another")))
    }

    fn of_list(&self, name: &str, list: &[Loaded]) -> Result<Documents, Failure> {
        let [image] = list else {
            return Err(self.wrong(format!("it holds {} images; save one alone", list.len())));
        };
        let bytes = self
            .read(&image.config)?
            .ok_or_else(|| self.wrong(format!("it lacks {}", image.config)))?;
        let config: Config = self.parse(&image.config, &bytes)?;
        if image.layers.len() != config.rootfs.diff_ids.len() {
            return Err(self.wrong("its configuration does not list as many layers as manifest.json"));
        }
        let mut layers = Vec::new();
        for path in &image.layers {
            let (_, size) = self.open(path)?.ok_or_else(|| self.wrong(format!("it lacks {path}")))?;
            let hash = path.trim_end_matches("/layer.tar").rsplit('/').next().unwrap_or(path);
            layers.push(Descriptor {
                media_type: String::new(),
                digest: format!("sha256:{hash}"),
                size,
                annotations: BTreeMap::new(),
            });
        }
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: Descriptor {
                media_type: String::new(),
                digest: digest(&bytes),
                size: bytes.len() as u64,
                annotations: BTreeMap::new(),
            },
            layers,
            annotations: BTreeMap::new(),
        };
        let tag = image.repo_tags.iter().flatten().next();
        Ok(Documents {
            name: tag.map_or_else(|| name.to_owned(), |tag| format!("{name} ({tag})")),
            digest: None,
            manifest,
            config,
        })
    }

    fn layer(&self, layer: &Descriptor) -> Result<Box<dyn Read + Send>, Failure> {
        let hash = layer.digest.trim_start_matches("sha256:");
        // The second is where docker puts layers in its own archives.
        for name in [self.blob(&layer.digest)?, format!("{hash}/layer.tar")] {
            if let Some((file, _)) = self.open(&name)? {
                return Ok(file);
            }
        }
        Err(self.wrong(format!("it lacks the layer {}", layer.digest)))
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
