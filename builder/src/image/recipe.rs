//! Everything that an image is made from, as plain facts.
//!
//! Invariant: two equal recipes over equal trees give one image, on a laptop and in a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use robotimage_crds::api::Compression;
use robotimage_crds::reason::Reason;
use robotimage_layer::Codec;
use robotimage_registry::Repository;
use serde::{Deserialize, Serialize};

use super::assemble::Role;
use super::key::{BuildKeyInputs, derive};
use super::oci::{Config, Descriptor, Manifest};
use super::{APP, Base, KEY_ANNOTATION, ROLE_ANNOTATION, layers, split};
use crate::failure::Failure;
use crate::rcc::user::{FALLBACK, name_of};
use crate::robot::Robot;

/// Platform of our images.
const PLATFORM: &str = "linux/amd64";

/// All facts of an image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Git's hash of the context's tree.
    pub tree: String,
    /// The base.
    pub base: Base,
    /// Digest of rcc's binary.
    pub rcc: String,
    /// What it says of its version, for example `v19.0.2`.
    pub rcc_version: String,
    /// Digest of the launcher's binary.
    pub launcher: String,
    /// The robot.
    pub robot: RobotFacts,
    /// Its environment; none for a shell robot without one.
    pub environment: Option<EnvironmentFacts>,
    /// `user:group`.
    pub user: String,
    /// Labels, rendered.
    pub labels: BTreeMap<String, String>,
    /// Annotations, rendered.
    pub annotations: BTreeMap<String, String>,
    /// Compression of our layers.
    pub compression: Compression,
    /// Recipe version of the layers.
    pub compatibility: u32,
}

/// What is known of the robot.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct RobotFacts {
    /// The robot file, relative to the context.
    pub file: String,
    /// The task for the image's command, when one must be named.
    pub task: Option<String>,
    /// The task that runs, for the title.
    pub title: Option<String>,
    /// The artifacts folder, relative to the context; empty for the context itself.
    pub artifacts: String,
}

/// What is known of the environment.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentFacts {
    /// Its key.
    pub key: String,
    /// The key of its files, however they are compressed.
    pub files: String,
    /// rcc's hash of the file that the shipped robot selects.
    pub blueprint: String,
    /// The environment file, relative to the context.
    pub file: String,
    /// SHA-256 over its name and text, which are all that rcc's hash depends on.
    pub file_digest: String,
}

/// A layer of another image that this one takes over.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Reused {
    /// What it holds.
    pub role: Role,
    /// As the other manifest names it.
    pub descriptor: Descriptor,
    /// Digest of its uncompressed bytes.
    pub diff_id: String,
    /// The repository that has it; none for the target's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Repository>,
}

/// Everything beside its files that the layers of an environment depend on: codec, level, block and split.
pub fn packing(codec: Codec) -> String {
    format!("{}+{}", codec.recipe(), split::RECIPE)
}

impl RobotFacts {
    /// The facts of a robot whose task was chosen.
    pub fn of(robot: &Robot, task: Option<String>) -> Result<Self, Failure> {
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| {
                Failure::new(
                    Reason::RobotYamlInvalid,
                    format!("{}: the path is not UTF-8; rename it", path.display()),
                )
            })
        };
        let tasks = robot.tasks();
        let only = (tasks.len() == 1).then(|| tasks[0].to_owned());
        Ok(Self {
            file: text(robot.file())?,
            title: task.clone().or(only),
            task,
            artifacts: text(&robot.artifacts_path())?,
        })
    }

    /// The artifacts folder in the image.
    pub fn artifacts_in_image(&self) -> String {
        if self.artifacts.is_empty() {
            APP.to_owned()
        } else {
            format!("{APP}/{}", self.artifacts)
        }
    }

    /// The artifacts folder, when leaving its content out leaves no code out: it must not hold the robot file.
    pub fn artifacts_to_skip(&self) -> Option<PathBuf> {
        let artifacts = PathBuf::from(&self.artifacts);
        let holds_code = self.artifacts.is_empty() || Path::new(&self.file).starts_with(&artifacts);
        (!holds_code).then_some(artifacts)
    }
}

impl Recipe {
    /// The codec of our layers.
    pub fn codec(&self) -> Codec {
        match self.compression {
            Compression::Gzip => Codec::Gzip,
            Compression::Zstd => Codec::Zstd,
        }
    }

    /// The key of the whole build.
    pub fn build_key(&self) -> String {
        BuildKeyInputs {
            tree: &self.tree,
            robot_file: &self.robot.file,
            task: self.robot.task.as_deref(),
            environment: self.environment.as_ref().map(|environment| environment.key.as_str()),
            blueprint: self.environment.as_ref().map(|environment| environment.blueprint.as_str()),
            base_name: self.base.name.as_deref(),
            base: &self.base.digest,
            rcc: &self.rcc,
            launcher: &self.launcher,
            user: &self.user,
            labels: &self.labels,
            annotations: &self.annotations,
            platform: PLATFORM,
            codec: &packing(self.codec()),
            compatibility: self.compatibility,
        }
        .key()
    }

    /// The key of a layer's content; none for code, which is never looked for.
    pub fn layer_key(&self, role: Role) -> Option<String> {
        match (role, &self.environment) {
            (Role::Rcc, _) => Some(derive(
                "robotimage-rcc-v1",
                &(&self.rcc, &self.launcher, self.passwd(), self.codec().recipe(), self.compatibility),
            )),
            (Role::Environment, Some(environment)) => Some(environment.key.clone()),
            (Role::Home, Some(environment)) => Some(derive(
                "robotimage-home-v1",
                &(
                    &environment.key,
                    &environment.blueprint,
                    &self.rcc_version,
                    self.user_name(),
                    self.codec().recipe(),
                    self.compatibility,
                ),
            )),
            _ => None,
        }
    }

    pub(super) fn passwd(&self) -> Option<String> {
        layers::passwd(self.base.facts.passwd.as_deref(), &self.user)
    }

    /// The name of the image's user, as rcc finds it: the base's for the id, or the one of our line in passwd.
    pub(crate) fn user_name(&self) -> &str {
        let uid = self.user.split(':').next().unwrap_or_default();
        let passwd = self.base.facts.passwd.as_deref().unwrap_or_default();
        name_of(passwd, uid).unwrap_or(FALLBACK)
    }

    /// What this image can take over from the previous one. The environment and its runtime home only together, because
    /// the home is made from the environment's files.
    pub fn reusable(&self, previous: &Manifest, config: &Config) -> Vec<Reused> {
        let of = |role: Role| -> Vec<Reused> {
            let Some(key) = self.layer_key(role) else {
                return Vec::new();
            };
            let fits = |descriptor: &Descriptor| {
                let annotation = |name: &str| descriptor.annotations.get(name).map(String::as_str);
                annotation(ROLE_ANNOTATION) == Some(role.as_str()) && annotation(KEY_ANNOTATION) == Some(key.as_str())
            };
            previous
                .layers
                .iter()
                .zip(&config.rootfs.diff_ids)
                .filter(|(descriptor, _)| fits(descriptor))
                .map(|(descriptor, diff_id)| Reused {
                    role,
                    descriptor: descriptor.clone(),
                    diff_id: diff_id.clone(),
                    from: None,
                })
                .collect()
        };
        if previous.layers.len() != config.rootfs.diff_ids.len() {
            return Vec::new();
        }
        let of_base = previous.layers.iter().zip(&config.rootfs.diff_ids).filter(|(descriptor, diff_id)| {
            let mut layers = self.base.layers.iter().zip(&self.base.diff_ids);
            layers.any(|(layer, known)| layer.digest == descriptor.digest && known == *diff_id)
        });
        let mut reused: Vec<Reused> = of_base
            .map(|(descriptor, diff_id)| Reused {
                role: Role::Base,
                descriptor: descriptor.clone(),
                diff_id: diff_id.clone(),
                from: None,
            })
            .collect();
        reused.extend(of(Role::Rcc));
        let (environment, home) = (of(Role::Environment), of(Role::Home));
        if !environment.is_empty() && !home.is_empty() {
            reused.extend(environment);
            reused.extend(home);
        }
        reused
    }
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
