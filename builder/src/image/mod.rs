//! From files to an image: what the base holds, keys, layers, configuration and manifest.
//!
//! Invariant: the bytes of an image depend on the build key's inputs alone. Time, machine, user and the place of files on
//! disk are not among them.

pub mod assemble;
pub mod base;
pub(crate) mod decoded;
pub mod dockerfile;
pub mod elf;
pub(crate) mod entries;
mod files;
pub mod key;
pub mod layers;
pub mod learned;
pub mod oci;
pub mod pack;
pub mod pipeline;
pub mod pull;
pub mod push;
pub mod recipe;
pub mod rootfs;
pub mod run;
pub mod split;
pub mod store;
pub mod survey;
pub mod unpacked;

pub use assemble::{Content, Image, ImageLayer, Role, assemble, base_layers};
pub use base::{BaseFacts, BaseReader};
pub use files::layer_files;
pub use key::BuildKeyInputs;
pub use pack::Parts;
pub use recipe::{EnvironmentFacts, Recipe, Reused, RobotFacts};

use serde::{Deserialize, Serialize};

use oci::{Descriptor, History};

/// Where the robot's code is in the image.
pub const APP: &str = "/home/robot/app";
/// HOME in the image.
pub const HOME: &str = "/home/robot";
/// ROBOCORP_HOME in the image.
pub const ROBOCORP_HOME: &str = "/home/robot/.robocorp";
/// Layer annotation with the role.
pub const ROLE_ANNOTATION: &str = "robotimage.dev/role";
/// Layer annotation with the key of its content.
pub const KEY_ANNOTATION: &str = "robotimage.dev/key";
/// Layer annotation with the part of an environment that it holds, where the environment has several layers.
pub const PART_ANNOTATION: &str = "robotimage.dev/part";

/// A base image, as far as ours depends on it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Base {
    /// Its name with tag, for the label; none for one on disk.
    pub name: Option<String>,
    /// Digest of its platform's manifest.
    pub digest: String,
    /// Its layers in OCI types, from the bottom.
    pub layers: Vec<Descriptor>,
    /// Their uncompressed digests.
    pub diff_ids: Vec<String>,
    /// Its environment variables.
    pub env: Vec<String>,
    /// How it was made.
    pub history: Vec<History>,
    /// What its layers hold.
    pub facts: BaseFacts,
}
