//! Everything that an image is made from, as plain facts, and the making.
//!
//! Invariant: two equal recipes over equal trees give one image, on a laptop and in a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use robotimage_crds::api::Compression;
use robotimage_crds::reason::Reason;
use robotimage_layer::{Codec, LayerBuilder};
use serde::{Deserialize, Serialize};

use super::assemble::{Content, Image, ImageLayer, Role, assemble};
use super::elf;
use super::key::{BuildKeyInputs, derive};
use super::layers::{self, Code, Spool};
use super::oci::{Config, Descriptor, Manifest};
use super::run::RunSpec;
use super::{APP, Base, HOME, KEY_ANNOTATION, ROLE_ANNOTATION};
use crate::environment::SEALED_PATH;
use crate::environment::home::{RuntimeHome, add_runtime_home};
use crate::failure::Failure;
use crate::rcc::user::{FALLBACK, name_of};
use crate::robot::fix;
use crate::robot::{self, Robot};

/// Platform of our images.
const PLATFORM: &str = "linux/amd64";
/// Largest script whose line ends are mended, in bytes.
const MAX_SCRIPT: u64 = 16 << 20;

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
}

/// A layer of the previous image that this one takes over.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Reused {
    /// What it holds.
    pub role: Role,
    /// As the previous manifest names it.
    pub descriptor: Descriptor,
    /// Digest of its uncompressed bytes.
    pub diff_id: String,
}

/// The folders and files that an image is made from.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The context.
    pub source: &'a Path,
    /// rcc's binary.
    pub rcc: &'a Path,
    /// The launcher's binary.
    pub launcher: &'a Path,
    /// The sealed environment on disk; not needed when its layers are reused.
    pub environment: Option<&'a Path>,
    /// Layers of the previous image.
    pub reused: &'a [Reused],
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
            codec: self.codec().recipe(),
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

    fn passwd(&self) -> Option<String> {
        layers::passwd(self.base.facts.passwd.as_deref(), &self.user)
    }

    /// The name of the image's user, as rcc finds it: the base's for the id, or the one of our line in passwd.
    fn user_name(&self) -> &str {
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
                })
                .collect()
        };
        if previous.layers.len() != config.rootfs.diff_ids.len() {
            return Vec::new();
        }
        let mut reused = of(Role::Rcc);
        let (environment, home) = (of(Role::Environment), of(Role::Home));
        if !environment.is_empty() && !home.is_empty() {
            reused.extend(environment);
            reused.extend(home);
        }
        reused
    }

    /// Writes what is not reused, and puts the image together. Blocks.
    pub fn make(&self, parts: &Parts<'_>, spool: &Spool<'_>) -> Result<Image, Failure> {
        self.check_base()?;
        let mut above = Vec::new();
        for role in [Role::Rcc, Role::Environment, Role::Home, Role::Code] {
            let reused: Vec<&Reused> = parts.reused.iter().filter(|layer| layer.role == role).collect();
            if !reused.is_empty() {
                above.extend(reused.into_iter().map(|layer| ImageLayer {
                    role,
                    descriptor: layer.descriptor.clone(),
                    diff_id: layer.diff_id.clone(),
                    content: Content::Previous,
                }));
                continue;
            }
            let Some((layer, blame)) = self.layer(role, parts)? else {
                continue;
            };
            let (written, file) = spool.write(role.as_str(), layer, blame)?;
            above.push(ImageLayer::written(role, self.layer_key(role).as_deref(), &written, file));
        }
        let spec = RunSpec {
            base: &self.base,
            robot_file: &self.robot.file,
            task: self.robot.task.as_deref(),
            title: self.robot.title.as_deref(),
            artifacts: &self.robot.artifacts_in_image(),
            user: &self.user,
            labels: &self.labels,
        };
        Ok(assemble(&spec, &self.annotations, above))
    }

    fn layer(&self, role: Role, parts: &Parts<'_>) -> Result<Option<(LayerBuilder, Reason)>, Failure> {
        let tree = || {
            parts
                .environment
                .ok_or_else(|| Failure::new(Reason::InternalError, "the environment is neither resolved nor reused"))
        };
        Ok(match (role, &self.environment) {
            (Role::Rcc, _) => {
                let layer = layers::rcc(parts.rcc, parts.launcher, self.passwd().as_deref());
                Some((layer, Reason::InternalError))
            }
            (Role::Environment, Some(_)) => {
                elf::check(tree()?, self.base.facts.glibc.as_deref())?;
                let layer = layers::environment(tree()?, SEALED_PATH)?;
                Some((layer, Reason::PackageBuildFailed))
            }
            (Role::Home, environment) => {
                let mut layer = LayerBuilder::new();
                layer.dir(HOME, 0o775).dir(&format!("{HOME}/.cache"), 0o775);
                let home = RuntimeHome {
                    sealed: environment.as_ref().map(|_| tree()).transpose()?,
                    sealed_path: SEALED_PATH,
                    blueprint: environment.as_ref().map_or("", |environment| &environment.blueprint),
                    rcc_version: &self.rcc_version,
                    user: self.user_name(),
                };
                add_runtime_home(&mut layer, &home)?;
                Some((layer, Reason::PackageBuildFailed))
            }
            (Role::Code, _) => {
                let robot = robot::load(parts.source, &self.robot.file)?;
                self.check_choice(parts.source, &robot)?;
                let artifacts = self.robot.artifacts_to_skip();
                let fixed = fixes(parts.source, &robot, artifacts.as_deref())?;
                let layer = layers::code(&Code {
                    source: parts.source,
                    artifacts,
                    // rcc would restore it at every start instead of using the sealed environment.
                    left_out: vec![robot.folder().join("hololib.zip")],
                    fixed,
                })?;
                Some((layer, Reason::SourceRejected))
            }
            (Role::Base | Role::Environment, _) => None,
        })
    }

    /// rcc chooses the environment file anew at every start, from the robot that is shipped: the catalog must be for that one.
    fn check_choice(&self, source: &Path, robot: &Robot) -> Result<(), Failure> {
        let chosen = robot.environment_file(source)?.map(|file| file.relative.display().to_string());
        let resolved = self.environment.as_ref().map(|environment| environment.file.clone());
        if chosen == resolved {
            return Ok(());
        }
        let shown = |file: Option<String>| file.unwrap_or_else(|| "none".to_owned());
        let message = format!(
            "the robot to be shipped selects the environment file {}, and {} was resolved",
            shown(chosen),
            shown(resolved)
        );
        Err(Failure::new(Reason::InternalError, message))
    }

    /// Our folders must be folders in the base too: behind a link our files would land somewhere else.
    fn check_base(&self) -> Result<(), Failure> {
        match self.base.facts.links.iter().next() {
            None => Ok(()),
            Some((path, target)) => Err(Failure::new(
                Reason::BaseNotFound,
                format!("the base image has a link at {path} (to {target}), where folders of the robot belong; choose another base"),
            )),
        }
    }
}

/// What rcc would change in the robot's files at its start, done already.
fn fixes(source: &Path, robot: &Robot, artifacts: Option<&Path>) -> Result<Vec<layers::Fixed>, Failure> {
    let mut fixed = Vec::new();
    for found in fix::executables(source, robot)? {
        if artifacts.is_some_and(|artifacts| found.relative.starts_with(artifacts)) {
            continue;
        }
        let Some(path) = found.relative.to_str() else {
            let message = format!("{}: the name is not UTF-8; rename it", found.relative.display());
            return Err(Failure::new(Reason::RobotYamlInvalid, message));
        };
        let at = source.join(&found.relative);
        let io = |error: &std::io::Error| Failure::io("read", &at, error);
        let metadata = std::fs::symlink_metadata(&at).map_err(|error| io(&error))?;
        let content = if found.strip_cr {
            if metadata.len() > MAX_SCRIPT {
                let message = format!("{path}: rcc would mend the line ends of this script, but it is larger than 16 MiB");
                return Err(Failure::new(Reason::RobotYamlInvalid, message));
            }
            let mut bytes = std::fs::read(&at).map_err(|error| io(&error))?;
            bytes.retain(|byte| *byte != b'\r');
            Some(bytes)
        } else {
            None
        };
        let owner = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o100 != 0;
        fixed.push(layers::Fixed {
            path: path.to_owned(),
            content,
            executable: found.executable || owner,
        });
    }
    Ok(fixed)
}

#[cfg(test)]
#[path = "recipe_tests.rs"]
mod tests;
