//! A kept environment: an ordinary image of the environment's layers and the runtime home's, with their key.
//!
//! Invariant: what [`read`] accepts has the layers of the wanted key, in the wanted codec, each with an uncompressed digest.
//! That the layers hold what the key promises is not checked: whoever may write the repository may replace images too.

use std::collections::BTreeMap;

use crate::image::key::derive;
use crate::image::oci::{CONFIG, CREATED, Config, Descriptor, History, MANIFEST, Manifest, RootFs, Run, digest, to_bytes};
use crate::image::{ImageLayer, KEY_ANNOTATION, ROLE_ANNOTATION, Recipe, Reused, Role};
use crate::rcc::user::FALLBACK;

/// Annotation of the manifest: number of packages in the environment.
pub const PACKAGES_ANNOTATION: &str = "robotimage.dev/packages";
/// Annotation of the manifest: rcc's hash of the environment, for people.
pub const BLUEPRINT_ANNOTATION: &str = "robotimage.dev/blueprint";
/// Most layers that a kept environment may have; ours have far fewer.
const MAX_LAYERS: usize = 64;
/// Most packages that are believed.
const MAX_PACKAGES: i64 = 1_000_000;

/// The documents of a kept environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Their digest.
    pub digest: String,
    /// The configuration's bytes.
    pub config: Vec<u8>,
    /// The layers.
    pub layers: Vec<Descriptor>,
}

/// What a kept environment gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The environment's layers and the runtime home's.
    pub layers: Vec<Reused>,
    /// Number of packages.
    pub packages: i64,
}

/// Why something under a key's tag is not the environment of that key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Bad {
    /// Not a manifest of ours, or a broken one.
    #[error("it is no environment: {0}")]
    Manifest(String),
    /// Its annotation names another key than its tag.
    #[error("it was made for another key")]
    OtherKey,
    /// The configuration cannot be read, or does not fit the layers.
    #[error("its configuration does not fit: {0}")]
    Config(String),
    /// A layer that is none of the wanted.
    #[error("layer {0} does not belong to it")]
    Layer(String),
    /// There is no environment in it, or no runtime home.
    #[error("it lacks the layers of the environment or of the runtime home")]
    Missing,
    /// A layer's bytes are gone.
    #[error("layer {0} is gone")]
    Gone(String),
    /// A layer's bytes are cut, or grew.
    #[error("layer {digest} has {actual} bytes instead of {expected}")]
    Size {
        /// The layer.
        digest: String,
        /// Bytes that the registry has.
        actual: u64,
        /// Bytes that the manifest says.
        expected: u64,
    },
    /// What the registry sent is not what its digest says, or breaks the protocol.
    #[error("{0}")]
    Registry(String),
}

impl Artifact {
    /// The environment of a finished image; none when it has none.
    pub fn of(recipe: &Recipe, layers: &[ImageLayer], packages: i64) -> Option<Self> {
        let (environment, key) = (recipe.environment.as_ref()?, key(recipe)?);
        let layers: Vec<&ImageLayer> = layers
            .iter()
            .filter(|layer| matches!(layer.role, Role::Environment | Role::Home))
            .collect();
        let config = Config {
            created: Some(CREATED.to_owned()),
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            config: Run::default(),
            rootfs: RootFs {
                kind: "layers".to_owned(),
                diff_ids: layers.iter().map(|layer| layer.diff_id.clone()).collect(),
            },
            history: layers
                .iter()
                .map(|layer| History {
                    created: Some(CREATED.to_owned()),
                    created_by: Some(format!("robotimage {}", layer.role.as_str())),
                    ..History::default()
                })
                .collect(),
        };
        let config = to_bytes(&config);
        let descriptors: Vec<Descriptor> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifest = to_bytes(&Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config: Descriptor {
                media_type: CONFIG.to_owned(),
                digest: digest(&config),
                size: config.len() as u64,
                annotations: BTreeMap::new(),
            },
            layers: descriptors.clone(),
            annotations: BTreeMap::from([
                (ROLE_ANNOTATION.to_owned(), Role::Environment.as_str().to_owned()),
                (KEY_ANNOTATION.to_owned(), key),
                (BLUEPRINT_ANNOTATION.to_owned(), environment.blueprint.clone()),
                (PACKAGES_ANNOTATION.to_owned(), packages.to_string()),
            ]),
        });
        Some(Self {
            digest: digest(&manifest),
            manifest,
            config,
            layers: descriptors,
        })
    }
}

/// The key under which an environment is kept: its own; with a runtime home for another user than ours, one derived from
/// it, because the two are kept together.
pub fn key(recipe: &Recipe) -> Option<String> {
    let environment = recipe.environment.as_ref()?;
    let user = recipe.user_name();
    Some(match user {
        FALLBACK => environment.key.clone(),
        _ => derive("robotimage-kept-v1", &(&environment.key, user)),
    })
}

/// The tag of a key.
pub fn tag(key: &str) -> String {
    format!("env-{key}")
}

/// The tag beside a bad one: of these very bytes.
pub fn tag_beside(key: &str, digest: &str) -> String {
    let hash = digest.strip_prefix("sha256:").unwrap_or(digest);
    format!("{}-{}", tag(key), hash.get(..8).unwrap_or(hash))
}

/// Reads a manifest as far as it says what else is to be read.
pub fn manifest(recipe: &Recipe, bytes: &[u8]) -> Result<Manifest, Bad> {
    let wrong = |problem: &str| Bad::Manifest(problem.to_owned());
    let manifest: Manifest = serde_json::from_slice(bytes).map_err(|_| wrong("it is no image manifest"))?;
    let annotation = |name: &str| manifest.annotations.get(name).map(String::as_str);
    if manifest.schema_version != 2 || manifest.media_type != MANIFEST || manifest.config.media_type != CONFIG {
        return Err(wrong("its media types are others"));
    }
    if annotation(ROLE_ANNOTATION) != Some(Role::Environment.as_str()) {
        return Err(wrong("it does not say that it is one"));
    }
    if annotation(KEY_ANNOTATION) != key(recipe).as_deref() {
        return Err(Bad::OtherKey);
    }
    if manifest.layers.len() > MAX_LAYERS {
        return Err(wrong("it has too many layers"));
    }
    Ok(manifest)
}

/// Reads a manifest, whose head [`manifest`] accepted, together with its configuration.
pub fn read(recipe: &Recipe, manifest: &Manifest, config: &[u8]) -> Result<Kept, Bad> {
    let wrong = |problem: &str| Bad::Config(problem.to_owned());
    let config: Config = serde_json::from_slice(config).map_err(|_| wrong("it is not that of an image"))?;
    if (config.os.as_str(), config.architecture.as_str()) != ("linux", "amd64") {
        return Err(wrong("it is for another platform"));
    }
    let diff_ids = &config.rootfs.diff_ids;
    if diff_ids.len() != manifest.layers.len() {
        return Err(Bad::Config(format!(
            "it lists {} layers and the manifest {}",
            diff_ids.len(),
            manifest.layers.len()
        )));
    }
    if !diff_ids.iter().all(|digest| is_sha256(digest)) {
        return Err(wrong("it lists something that is no digest"));
    }
    // The image's own reading says what fits; here nothing else may be there.
    let fitting = recipe.reusable(manifest, &config);
    let layers: Vec<Reused> = fitting
        .into_iter()
        .filter(|layer| matches!(layer.role, Role::Environment | Role::Home))
        .collect();
    if layers.is_empty() {
        return Err(Bad::Missing);
    }
    let codec = recipe.codec().media_type();
    for (number, descriptor) in manifest.layers.iter().enumerate() {
        let known = layers.get(number).is_some_and(|layer| layer.descriptor == *descriptor);
        if !known || descriptor.media_type != codec || !is_sha256(&descriptor.digest) || descriptor.size == 0 {
            return Err(Bad::Layer(clip(&descriptor.digest)));
        }
    }
    let packages = manifest.annotations.get(PACKAGES_ANNOTATION).and_then(|text| text.parse().ok());
    let packages = packages
        .filter(|count| (0..=MAX_PACKAGES).contains(count))
        .ok_or_else(|| Bad::Manifest("it does not say how many packages it holds".to_owned()))?;
    Ok(Kept { layers, packages })
}

fn is_sha256(text: &str) -> bool {
    text.strip_prefix("sha256:")
        .is_some_and(|digits| digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
}

/// Foreign text for a message: the beginning of it, printable.
fn clip(text: &str) -> String {
    text.chars().filter(char::is_ascii_graphic).take(19).collect()
}

#[cfg(test)]
#[path = "artifact_tests.rs"]
mod tests;
