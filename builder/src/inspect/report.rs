//! What the documents of an image tell: its layers and why each is there, what it was made from, how it runs.
//!
//! Invariant: pure. An image of another tool is described as far as its documents go, and is no error.

use std::collections::BTreeMap;

use serde::Serialize;

use super::stored::Documents;
use crate::environment::Package;
use crate::image::learned::Learned;
use crate::image::oci::{Config, Descriptor};
use crate::image::run::WRITABLE_LABEL;
use crate::image::{KEY_ANNOTATION, PART_ANNOTATION, ROLE_ANNOTATION, Role};

/// Label and annotation with the digest of the base.
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
/// Label and annotation with the name of the base.
const BASE_NAME: &str = "org.opencontainers.image.base.name";
/// Label with the robot's name.
const TITLE: &str = "org.opencontainers.image.title";
/// What the history says of a layer of ours, before its role.
const HISTORY: &str = "robotimage ";

/// All of it; the JSON shape of `robotimage inspect --json`.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    /// As it was named.
    pub image: String,
    /// Digest of the manifest; none in a docker archive, which has no manifest.
    pub digest: Option<String>,
    /// `linux/amd64`.
    pub platform: String,
    /// Bytes of all layers, compressed as they are stored.
    pub size: u64,
    /// Whether RobotImage made it.
    pub robot_image: bool,
    /// From the bottom.
    pub layers: Vec<LayerRow>,
    /// What it stands on.
    pub base: BaseRow,
    /// The rcc in it; none when the image does not say.
    pub rcc: Option<RccRow>,
    /// The robot.
    pub robot: RobotRow,
    /// Its environment; none for a robot without one.
    pub environment: Option<EnvironmentRow>,
    /// How it runs.
    pub run: RunRow,
}

/// A layer.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LayerRow {
    /// `base`, `rcc`, `environment`, `home`, `code`; none for a layer of another tool.
    pub role: Option<Role>,
    /// Which part of an environment that has several layers.
    pub part: Option<String>,
    /// Digest as it is stored.
    pub digest: String,
    /// Digest of its uncompressed bytes.
    pub diff_id: String,
    /// Bytes as it is stored.
    pub size: u64,
    /// Its media type.
    pub media_type: String,
    /// Key of its content, by which later builds find it.
    pub key: Option<String>,
    /// Why it is there.
    pub why: String,
}

/// What an image stands on.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BaseRow {
    /// Its name.
    pub name: Option<String>,
    /// Its digest.
    pub digest: Option<String>,
    /// What it calls itself.
    pub os: Option<String>,
    /// Version of its C library.
    pub glibc: Option<String>,
}

/// The rcc in an image.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct RccRow {
    /// `v19.0.2`.
    pub version: String,
    /// Digest of the binary.
    pub digest: String,
}

/// The robot in an image.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct RobotRow {
    /// The task that runs, or another name that the image was given.
    pub title: Option<String>,
    /// The robot file, absolute.
    pub file: Option<String>,
}

/// The environment in an image.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentRow {
    /// Its key.
    pub key: Option<String>,
    /// Number of layers.
    pub layers: usize,
    /// Bytes as it is stored.
    pub size: u64,
    /// What is installed, sorted; none when it was not asked for.
    pub packages: Option<Vec<Package>>,
}

/// How an image runs.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RunRow {
    /// `user:group`.
    pub user: String,
    /// The program and its fixed arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a user replaces.
    pub cmd: Vec<String>,
    /// Where it starts.
    pub working_dir: String,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Folders that need an emptyDir on a read-only root file system.
    pub writable: Vec<String>,
    /// For people and tools.
    pub labels: BTreeMap<String, String>,
}

/// Describes an image by its documents alone.
pub fn inspect(documents: &Documents) -> Inspected {
    let (manifest, config) = (&documents.manifest, &documents.config);
    let learned = Learned::read(manifest);
    let told = |name: &str| manifest.annotations.get(name).or_else(|| config.config.labels.get(name)).cloned();
    let base = BaseRow {
        name: told(BASE_NAME),
        digest: told(BASE_DIGEST),
        os: None,
        glibc: None,
    };
    let facts = base.digest.as_deref().and_then(|digest| learned.as_ref()?.base(digest));
    let base = BaseRow {
        os: facts.and_then(|facts| facts.os.clone()),
        glibc: facts.and_then(|facts| facts.glibc.clone()),
        ..base
    };
    let rcc = learned.as_ref().map(|learned| {
        let (digest, version) = learned.rcc();
        RccRow {
            version: version.to_owned(),
            digest: digest.to_owned(),
        }
    });
    let layers = layers(&manifest.layers, config, &base, rcc.as_ref());
    let of_environment: Vec<&LayerRow> = layers.iter().filter(|layer| layer.role == Some(Role::Environment)).collect();
    let environment = (!of_environment.is_empty()).then(|| EnvironmentRow {
        key: of_environment.iter().find_map(|layer| layer.key.clone()),
        layers: of_environment.len(),
        size: of_environment.iter().map(|layer| layer.size).sum(),
        packages: None,
    });
    let run = &config.config;
    let after = |word: &str| run.entrypoint.iter().skip_while(|other| *other != word).nth(1).cloned();
    Inspected {
        image: documents.name.clone(),
        digest: documents.digest.clone(),
        platform: format!("{}/{}", config.os, config.architecture),
        size: layers.iter().map(|layer| layer.size).sum(),
        robot_image: layers.iter().any(|layer| layer.role == Some(Role::Code)),
        robot: RobotRow {
            title: run.labels.get(TITLE).cloned(),
            file: after("--robot"),
        },
        layers,
        base,
        rcc,
        environment,
        run: RunRow {
            user: run.user.clone(),
            entrypoint: run.entrypoint.clone(),
            cmd: run.cmd.clone(),
            working_dir: run.working_dir.clone(),
            env: run.env.clone(),
            writable: run
                .labels
                .get(WRITABLE_LABEL)
                .map(|paths| paths.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            labels: run.labels.clone(),
        },
    }
}

fn layers(descriptors: &[Descriptor], config: &Config, base: &BaseRow, rcc: Option<&RccRow>) -> Vec<LayerRow> {
    let made: Vec<&str> = config
        .history
        .iter()
        .filter(|line| !line.empty_layer)
        .map(|line| line.created_by.as_deref().unwrap_or_default())
        .collect();
    let named = |name: &str| Role::ALL.into_iter().find(|role| role.as_str() == name);
    // Formats without annotations keep the history, in which each of our layers has its line.
    let told = |at: usize| {
        let line = made.get(at).filter(|_| made.len() == descriptors.len())?;
        named(line.strip_prefix(HISTORY)?).filter(|role| *role != Role::Base)
    };
    let first = (0..descriptors.len()).find(|at| told(*at).is_some());
    let rows = descriptors.iter().zip(&config.rootfs.diff_ids).enumerate();
    rows.map(|(at, (layer, diff_id))| {
        let annotation = |name: &str| layer.annotations.get(name).cloned();
        let below = first.is_some_and(|first| at < first).then_some(Role::Base);
        let role = match annotation(ROLE_ANNOTATION) {
            Some(name) => named(&name),
            None => told(at).or(below),
        };
        let part = annotation(PART_ANNOTATION);
        LayerRow {
            why: why(role, part.as_deref(), base, rcc),
            role,
            part,
            digest: layer.digest.clone(),
            diff_id: diff_id.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
            key: annotation(KEY_ANNOTATION),
        }
    })
    .collect()
}

/// Why a layer is there, for people.
fn why(role: Option<Role>, part: Option<&str>, base: &BaseRow, rcc: Option<&RccRow>) -> String {
    let text = match role {
        None => "made by another tool",
        Some(Role::Base) => {
            return format!("the base image {}", base.name.as_deref().unwrap_or_default())
                .trim_end()
                .to_owned();
        }
        Some(Role::Rcc) => {
            let version = rcc.map(|rcc| format!(" {}", rcc.version)).unwrap_or_default();
            return format!("rcc{version}, the launcher that starts it, the user's line in /etc/passwd");
        }
        Some(Role::Home) => "the catalog that leads rcc to the environment, and empty folders",
        Some(Role::Code) => "the robot's files and its empty artifacts folder",
        Some(Role::Environment) => match part {
            None | Some("all") => "the environment, whole",
            Some("base") => "the environment's interpreter and what conda brought",
            Some("rest") => "the environment's small packages, scripts and records, which every change touches",
            Some(group) if group.starts_with("group-") => "the environment's packages from 4 MiB on, by a hash of their names",
            Some(name) => return format!("{name} of the environment: large enough for a layer of its own"),
        },
    };
    text.to_owned()
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
