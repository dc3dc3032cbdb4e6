//! A recipe and the folders it needs become layers and an image.
//!
//! Invariant: everything that can be refused is refused before the first layer is written, and the order in which layers are
//! written does not show in the image.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use robotimage_crds::reason::Reason;
use robotimage_layer::{LayerBuilder, WriteOptions};

use super::assemble::{Content, Image, ImageLayer, Role, assemble, base_layers};
use super::layers::{self, Code, Draft, Spool};
use super::learned::Learned;
use super::oci::Run;
use super::run::{RunSpec, config};
use super::{HOME, Recipe, Reused, survey};
use crate::environment::SEALED_PATH;
use crate::environment::home::{RuntimeHome, add_runtime_home};
use crate::failure::Failure;
use crate::robot::{self, Robot, fix};

/// Largest script whose line ends are mended, in bytes.
const MAX_SCRIPT: u64 = 16 << 20;

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
    /// Layers of other images that are taken over.
    pub reused: &'a [Reused],
}

/// A place in the image, from the bottom.
enum Slot {
    Reused(ImageLayer),
    Draft(Box<Drafted>),
}

/// A layer that is to be written, with what the manifest says of it.
struct Drafted {
    role: Role,
    part: Option<String>,
    /// About how many bytes it will have.
    bytes: u64,
    draft: Draft,
}

impl Recipe {
    /// Writes what is not reused, the largest layers first, and puts the image together. `done` is told of each layer when it
    /// is written, and ends the work with an error. Blocks.
    pub fn make(
        &self,
        parts: &Parts<'_>,
        spool: &Spool<'_>,
        done: &mut dyn FnMut(&ImageLayer) -> Result<(), Failure>,
    ) -> Result<Image, Failure> {
        self.check_base()?;
        let mut drafts = Vec::new();
        let mut layers: Vec<Option<ImageLayer>> = self.below(parts.reused).into_iter().map(Some).collect();
        for slot in self.slots(parts, &spool.cancel)? {
            match slot {
                Slot::Reused(layer) => {
                    if matches!(layer.content, Content::Elsewhere(_)) {
                        done(&layer)?;
                    }
                    layers.push(Some(layer));
                }
                Slot::Draft(drafted) => {
                    drafts.push((layers.len(), drafted));
                    layers.push(None);
                }
            }
        }
        // The upload of the last one is the only one that nothing is packed beside.
        drafts.sort_by_key(|(_, drafted)| Reverse(drafted.bytes));
        for (place, drafted) in drafts {
            let Drafted { role, part, draft, .. } = *drafted;
            let (written, file) = spool.write(draft)?;
            let layer = ImageLayer::written(role, self.layer_key(role).as_deref(), part.as_deref(), &written, file);
            done(&layer)?;
            layers[place] = Some(layer);
        }
        Ok(self.image(layers.into_iter().flatten().collect()))
    }

    /// A layer as it will be, without keeping its bytes; none when the image has no such layer. Blocks; for roles that need no
    /// environment.
    pub fn measure(&self, role: Role, parts: &Parts<'_>, cancel: &Arc<AtomicBool>) -> Result<Option<ImageLayer>, Failure> {
        let Some(Drafted { part, draft, .. }) = self.drafts(role, parts, cancel)?.pop() else {
            return Ok(None);
        };
        let options = WriteOptions {
            cancel: Some(Arc::clone(cancel)),
            ..WriteOptions::default()
        };
        let written = draft
            .layer
            .write(self.codec(), &options, std::io::sink())
            .map_err(|error| layers::failure(&error, draft.blame))?;
        let key = self.layer_key(role);
        Ok(Some(ImageLayer::written(
            role,
            key.as_deref(),
            part.as_deref(),
            &written,
            PathBuf::new(),
        )))
    }

    /// The image of these layers, from the bottom; those above the base must be sorted by role.
    pub fn image(&self, layers: Vec<ImageLayer>) -> Image {
        self.spec(|spec| assemble(spec, &self.annotations, Learned::of(self).text(), layers))
    }

    /// How the image will be run.
    pub fn run(&self) -> Run {
        self.spec(|spec| config(spec, &[])).config
    }

    fn spec<T>(&self, with: impl FnOnce(&RunSpec<'_>) -> T) -> T {
        with(&RunSpec {
            base: &self.base,
            robot_file: &self.robot.file,
            task: self.robot.task.as_deref(),
            title: self.robot.title.as_deref(),
            artifacts: &self.robot.artifacts_in_image(),
            user: &self.user,
            labels: &self.labels,
        })
    }

    /// The base's layers; those that the previous image has too are in the target repository already.
    pub fn below(&self, reused: &[Reused]) -> Vec<ImageLayer> {
        let mut layers = base_layers(&self.base);
        for layer in &mut layers {
            if reused
                .iter()
                .any(|known| known.role == Role::Base && known.descriptor.digest == layer.descriptor.digest)
            {
                layer.content = Content::Previous;
            }
        }
        layers
    }

    fn slots(&self, parts: &Parts<'_>, cancel: &AtomicBool) -> Result<Vec<Slot>, Failure> {
        let mut slots = Vec::new();
        for role in [Role::Rcc, Role::Environment, Role::Home, Role::Code] {
            let before = slots.len();
            let of_role = parts.reused.iter().filter(|layer| layer.role == role);
            slots.extend(of_role.map(|layer| {
                Slot::Reused(ImageLayer {
                    role,
                    descriptor: layer.descriptor.clone(),
                    diff_id: layer.diff_id.clone(),
                    content: layer.from.clone().map_or(Content::Previous, Content::Elsewhere),
                })
            }));
            if slots.len() == before {
                slots.extend(
                    self.drafts(role, parts, cancel)?
                        .into_iter()
                        .map(|drafted| Slot::Draft(Box::new(drafted))),
                );
            }
        }
        Ok(slots)
    }

    fn drafts(&self, role: Role, parts: &Parts<'_>, cancel: &AtomicBool) -> Result<Vec<Drafted>, Failure> {
        let tree = || {
            parts
                .environment
                .ok_or_else(|| Failure::new(Reason::InternalError, "the environment is neither resolved nor reused"))
        };
        let one = |layer: LayerBuilder, blame: Reason, root: Option<&Path>| Drafted {
            role,
            part: None,
            bytes: 0,
            draft: Draft {
                name: role.as_str().to_owned(),
                layer,
                blame,
                root: root.map(Path::to_owned),
            },
        };
        Ok(match (role, &self.environment) {
            (Role::Rcc, _) => {
                let layer = layers::rcc(parts.rcc, parts.launcher, self.passwd().as_deref());
                vec![one(layer, Reason::InternalError, None)]
            }
            (Role::Environment, Some(_)) => {
                let tree = tree()?;
                let split = Arc::new(survey::survey(tree, self.base.facts.glibc.as_deref(), cancel)?);
                let several = split.parts().len() > 1;
                let part = |(number, part): (usize, &super::split::Part)| {
                    let layer = layers::environment(tree, SEALED_PATH, &split, number)?;
                    let mut drafted = one(layer, Reason::PackageBuildFailed, Some(tree));
                    drafted.bytes = part.bytes;
                    if several {
                        drafted.part = Some(part.name.clone());
                        drafted.draft.name = format!("{}-{number}", role.as_str());
                    }
                    Ok(drafted)
                };
                split.parts().iter().enumerate().map(part).collect::<Result<_, Failure>>()?
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
                vec![one(layer, Reason::PackageBuildFailed, None)]
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
                vec![one(layer, Reason::SourceRejected, Some(parts.source))]
            }
            (Role::Base | Role::Environment, _) => Vec::new(),
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
