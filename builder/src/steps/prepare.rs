//! What a robot is, before anything is built: read, validated, its environment's key known.
//!
//! Invariant: pod and laptop come to the same facts for the same files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use robotimage_crds::api::Compression;
use robotimage_crds::build::PlanEnvironment;
use robotimage_crds::reason::Reason;
use robotimage_layer::Codec;
use sha2::{Digest as _, Sha256};

use crate::environment::{self, KeyInputs, SEALED_PATH};
use crate::failure::Failure;
use crate::image::recipe::packing;
use crate::image::{Base, EnvironmentFacts, RobotFacts};
use crate::rcc::Rcc;
use crate::robot::check::{self, Finding, Severity};
use crate::robot::environment::Specification;
use crate::robot::{self, EnvironmentFile, Robot};

/// A robot that can be built.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The robot.
    pub robot: Robot,
    /// What the image needs to know of it.
    pub facts: RobotFacts,
    /// What will surprise at run time.
    pub warnings: Vec<Finding>,
    /// Its environment file, understood; none for a shell robot without one.
    pub environment: Option<(EnvironmentFile, Specification)>,
    /// The regular files that the environment file names, relative to the context.
    pub named: Vec<PathBuf>,
}

/// Reads and validates the robot `file` of the folder `context`, and chooses its task.
pub fn robot(context: &Path, file: &str, task: Option<&str>) -> Result<Prepared, Failure> {
    let robot = robot::load(context, file)?;
    let task = robot.select_task(task)?;
    let facts = RobotFacts::of(&robot, task.clone())?;
    let warnings = check::check(context, file, task.as_deref());
    if let Some(error) = warnings.iter().find(|finding| finding.severity == Severity::Error) {
        return Err(Failure::new(error.reason.unwrap_or(Reason::RobotYamlInvalid), error.to_string()));
    }
    let (environment, named) = match robot.environment_file(context)? {
        None => (None, Vec::new()),
        Some(file) => {
            let name = file.relative.to_str().ok_or_else(|| {
                let message = format!("{}: the name is not UTF-8; rename it", file.relative.display());
                Failure::new(Reason::EnvironmentFileInvalid, message)
            })?;
            let specification = robot::environment::parse(name, &file.text)?;
            let named = specification.local_files(context, robot.folder())?;
            (Some((file, specification)), named)
        }
    };
    Ok(Prepared {
        robot,
        facts,
        warnings,
        environment,
        named,
    })
}

/// What the environment's key depends on beside its files.
#[derive(Clone, Copy, Debug)]
pub struct EnvironmentInputs<'a> {
    /// The folder with the robot.
    pub context: &'a Path,
    /// rcc.
    pub rcc: &'a Rcc,
    /// Existing folder that is its home for the question.
    pub rcc_home: &'a Path,
    /// rcc's hash of the environment file, where it is known: rcc is then not asked.
    pub blueprint: Option<&'a str>,
    /// The base.
    pub base: &'a Base,
    /// Folder with the platform's settings, if there are any.
    pub settings: Option<&'a Path>,
    /// Compression of the layers.
    pub compression: Compression,
    /// Recipe version of the layers.
    pub compatibility: u32,
    /// What tells it from another environment of the same files.
    pub plan: PlanEnvironment,
}

impl Prepared {
    /// SHA-256 over the environment file's name and text, 64 hexadecimal digits; none for a robot without one.
    pub fn environment_file_digest(&self) -> Option<String> {
        self.environment.as_ref().map(|(file, _)| file_digest(file))
    }

    /// The key of the environment and rcc's hash of it. Runs rcc when the hash is not known.
    pub fn environment(&self, inputs: &EnvironmentInputs<'_>) -> Result<Option<EnvironmentFacts>, Failure> {
        let Some((file, specification)) = &self.environment else {
            return Ok(None);
        };
        let blueprint = match inputs.blueprint {
            Some(blueprint) => blueprint.to_owned(),
            None => inputs.rcc.blueprint(inputs.rcc_home, &inputs.context.join(&file.relative))?,
        };
        let mut local_files = BTreeMap::new();
        for relative in &self.named {
            let digest = super::digest(&inputs.context.join(relative))?;
            local_files.insert(relative.display().to_string(), digest);
        }
        let codec = match inputs.compression {
            Compression::Gzip => Codec::Gzip,
            Compression::Zstd => Codec::Zstd,
        };
        let of_files = KeyInputs {
            environment: specification.canonical(),
            blueprint: blueprint.clone(),
            local_files,
            platform: "linux/amd64".to_owned(),
            glibc: inputs.base.facts.glibc.clone().unwrap_or_default(),
            archspec: environment::archspec().map_err(|error| Failure::io("read", Path::new("/proc/cpuinfo"), &error))?,
            rcc_digest: inputs.rcc.sha256.clone(),
            // The version and not the image's digest, so that a laptop comes to the same key.
            builder_digest: env!("CARGO_PKG_VERSION").to_owned(),
            mirrors: environment::mirrors(inputs.settings)?,
            bytecode: true,
            sealed_path: SEALED_PATH.to_owned(),
            compatibility: inputs.compatibility,
            refresh: inputs.plan.refresh,
            base: inputs.plan.of_base.then(|| inputs.base.digest.clone()),
            ..KeyInputs::default()
        };
        let files = environment::key(&of_files);
        let key = environment::key(&KeyInputs {
            codec: packing(codec),
            ..of_files
        });
        Ok(Some(EnvironmentFacts {
            key,
            files,
            blueprint,
            file: file.relative.display().to_string(),
            file_digest: file_digest(file),
        }))
    }

    /// Copies the environment file and the files it names below `to`, at their places in the context: all that the step with
    /// foreign code may see of the source.
    pub fn copy_environment(&self, context: &Path, to: &Path) -> Result<(), Failure> {
        let file = self.environment.as_ref().map(|(file, _)| &file.relative);
        std::fs::create_dir_all(to).map_err(|error| Failure::io("make", to, &error))?;
        for relative in file.into_iter().chain(&self.named) {
            let target = to.join(relative);
            if let Some(folder) = target.parent() {
                std::fs::create_dir_all(folder).map_err(|error| Failure::io("make", folder, &error))?;
            }
            std::fs::copy(context.join(relative), &target).map_err(|error| Failure::io("copy to", &target, &error))?;
        }
        // The folder in which rcc runs pip and post-install commands.
        let folder = to.join(self.robot.folder());
        std::fs::create_dir_all(&folder).map_err(|error| Failure::io("make", &folder, &error))
    }
}

fn file_digest(file: &EnvironmentFile) -> String {
    let mut hash = Sha256::new();
    hash.update(file.relative.as_os_str().as_encoded_bytes());
    hash.update([0]);
    hash.update(file.text.as_bytes());
    hex::encode(hash.finalize())
}
