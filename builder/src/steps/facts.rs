//! What fetch hands to the later steps: one typed file in the spec volume.
//!
//! Invariant: only fetch writes it, before any foreign code has run in the pod, and a file that is not exactly of this
//! shape, or of another build, is refused.

use robotimage_crds::build::{Fetched, paths};
use robotimage_crds::reason::Reason;
use serde::{Deserialize, Serialize};

use super::root::Root;
use crate::failure::Failure;
use crate::image::{Recipe, Reused};
use crate::reuse::Keep;

/// Name of the file below [`paths::SPEC`].
const FILE: &str = "facts.json";
/// rcc's binary below [`paths::SPEC`].
pub(super) const RCC: &str = "rcc";
/// Folder with the environment file and the local files it names, below [`paths::SPEC`].
pub(super) const ENVIRONMENT: &str = "environment";

/// The facts of a build.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Version of this file; 1.
    pub version: u32,
    /// Build id of the plan.
    pub build_id: String,
    /// What fetch reports.
    pub fetched: Fetched,
    /// What the image is made from.
    pub recipe: Recipe,
    /// Layers that are taken over.
    pub reused: Vec<Reused>,
    /// Number of packages of an environment that is taken over; 0 when that is not known.
    pub packages: i64,
    /// Whether the environment is to be kept for other images once it is made.
    pub keep: Keep,
    /// Tags, rendered.
    pub tags: Vec<String>,
}

impl Facts {
    /// Writes the file.
    pub fn write(&self, root: &Root) -> Result<(), Failure> {
        let path = root.path(paths::SPEC).join(FILE);
        std::fs::write(&path, crate::image::oci::to_bytes(self)).map_err(|error| Failure::io("write", &path, &error))
    }

    /// Reads the file of this build.
    pub fn read(root: &Root, build_id: &str) -> Result<Self, Failure> {
        let bug = |problem: String| Failure::new(Reason::InternalError, format!("the facts of fetch {problem}"));
        let bytes = root
            .read(paths::SPEC, FILE)?
            .ok_or_else(|| bug("are not there: the step did not run".to_owned()))?;
        let facts: Self = serde_json::from_slice(&bytes).map_err(|error| bug(format!("cannot be read: {error}")))?;
        if facts.version != 1 || facts.build_id != build_id {
            return Err(bug("belong to another build".to_owned()));
        }
        Ok(facts)
    }

    /// Whether resolve has something to do.
    pub fn needs_environment(&self) -> bool {
        self.recipe.environment.is_some() && !self.fetched.noop && !self.fetched.reuse
    }
}
