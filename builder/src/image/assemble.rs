//! Layers, configuration and manifest become one image with one digest.

use std::collections::BTreeMap;
use std::path::PathBuf;

use robotimage_crds::build::LayerReport;
use robotimage_registry::Repository;

use super::learned::ANNOTATION as LEARNED_ANNOTATION;
use super::oci::{CONFIG, Descriptor, MANIFEST, Manifest, digest, to_bytes};
use super::run::{RunSpec, Step, config};
use super::{Base, KEY_ANNOTATION, PART_ANNOTATION, ROLE_ANNOTATION};

/// What a layer holds, from the bottom.
#[derive(serde::Serialize, serde::Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The base image.
    Base,
    /// rcc, the launcher, and the user's line in /etc/passwd.
    Rcc,
    /// The sealed environment.
    Environment,
    /// The runtime home: catalog and empty folders.
    Home,
    /// The robot.
    Code,
}

impl Role {
    /// All of them, from the bottom.
    pub const ALL: [Self; 5] = [Self::Base, Self::Rcc, Self::Environment, Self::Home, Self::Code];

    /// Its name in annotations and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Rcc => "rcc",
            Self::Environment => "environment",
            Self::Home => "home",
            Self::Code => "code",
        }
    }
}

/// Where a layer's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In the base image's repository.
    Base,
    /// In the target repository, below the previous image.
    Previous,
    /// In another repository of the target's registry.
    Elsewhere(Repository),
    /// In a file.
    File(PathBuf),
}

/// One layer of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// What it holds.
    pub role: Role,
    /// As the manifest names it, annotations included.
    pub descriptor: Descriptor,
    /// Digest of its uncompressed bytes.
    pub diff_id: String,
    /// Where its bytes are.
    pub content: Content,
}

impl ImageLayer {
    /// A layer that was just written to a file. `key` names its content for later builds, `part` says which part of it this is.
    pub fn written(role: Role, key: Option<&str>, part: Option<&str>, layer: &robotimage_layer::Layer, file: PathBuf) -> Self {
        let mut annotations = BTreeMap::from([(ROLE_ANNOTATION.to_owned(), role.as_str().to_owned())]);
        annotations.extend(key.map(|key| (KEY_ANNOTATION.to_owned(), key.to_owned())));
        annotations.extend(part.map(|part| (PART_ANNOTATION.to_owned(), part.to_owned())));
        Self {
            role,
            descriptor: Descriptor {
                media_type: layer.media_type.to_owned(),
                digest: layer.digest.clone(),
                size: layer.size,
                annotations,
            },
            diff_id: layer.diff_id.clone(),
            content: Content::File(file),
        }
    }
}

/// A finished image, not yet anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Their digest.
    pub digest: String,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// Their digest.
    pub config_digest: String,
    /// All layers, from the bottom.
    pub layers: Vec<ImageLayer>,
}

/// The layers of a base, which are in its repository.
pub fn base_layers(base: &Base) -> Vec<ImageLayer> {
    base.layers
        .iter()
        .zip(&base.diff_ids)
        .map(|(descriptor, diff_id)| ImageLayer {
            role: Role::Base,
            descriptor: Descriptor {
                annotations: BTreeMap::from([(ROLE_ANNOTATION.to_owned(), Role::Base.as_str().to_owned())]),
                ..descriptor.clone()
            },
            diff_id: diff_id.clone(),
            content: Content::Base,
        })
        .collect()
}

/// Puts layers together, from the bottom; those above the base must be sorted by role.
pub fn assemble(spec: &RunSpec<'_>, annotations: &BTreeMap<String, String>, learned: Option<String>, layers: Vec<ImageLayer>) -> Image {
    let above = layers.iter().filter(|layer| layer.role != Role::Base);
    let steps: Vec<Step<'_>> = above
        .map(|layer| Step {
            role: layer.role.as_str(),
            diff_id: &layer.diff_id,
        })
        .collect();
    let config = to_bytes(&config(spec, &steps));
    let mut all = BTreeMap::from([("org.opencontainers.image.base.digest".to_owned(), spec.base.digest.clone())]);
    if let Some(name) = &spec.base.name {
        all.insert("org.opencontainers.image.base.name".to_owned(), name.clone());
    }
    all.extend(learned.map(|text| (LEARNED_ANNOTATION.to_owned(), text)));
    all.extend(annotations.clone());
    let manifest = Manifest {
        schema_version: 2,
        media_type: MANIFEST.to_owned(),
        config: Descriptor {
            media_type: CONFIG.to_owned(),
            digest: digest(&config),
            size: config.len() as u64,
            annotations: BTreeMap::new(),
        },
        layers: layers.iter().map(|layer| layer.descriptor.clone()).collect(),
        annotations: all,
    };
    let manifest = to_bytes(&manifest);
    Image {
        digest: digest(&manifest),
        config_digest: digest(&config),
        manifest,
        config,
        layers,
    }
}

impl Image {
    /// Bytes of all layers, compressed.
    pub fn size(&self) -> u64 {
        self.layers.iter().map(|layer| layer.descriptor.size).sum()
    }

    /// The layers by role; `sent` says how many bytes of a layer were uploaded.
    pub fn report(&self, sent: impl Fn(&ImageLayer) -> u64) -> Vec<LayerReport> {
        let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        Role::ALL
            .into_iter()
            .filter_map(|role| {
                let layers: Vec<&ImageLayer> = self.layers.iter().filter(|layer| layer.role == role).collect();
                (!layers.is_empty()).then(|| LayerReport {
                    role: role.as_str().to_owned(),
                    count: u32::try_from(layers.len()).unwrap_or(u32::MAX),
                    size: number(layers.iter().map(|layer| layer.descriptor.size).sum()),
                    up: number(layers.iter().map(|layer| sent(layer)).sum()),
                })
            })
            .collect()
    }
}
