//! An environment resolved at its sealed path, normalised and described.
//!
//! [`resolve`] drives the real rcc, because an environment identical to what `rcc run` makes is the promise. It is the one
//! part that runs foreign code. [`laptop::run_resolve`] does the same for a user without root. What publish needs of the
//! result ([`inventory`], [`home`]) is static reading that follows no link.
//!
//! Invariant: equal [`KeyInputs`] give equal environments, byte for byte, except for the packages that [`Resolved`] names as
//! not reproducible.

mod bytecode;
mod error;
mod gzip;
pub mod home;
pub(crate) mod inventory;
mod key;
pub mod laptop;
mod namespace;
mod plan;
mod resolve;
pub mod seal;
mod secrets;
mod space;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

pub use error::Error;
pub use home::{RuntimeHome, add_runtime_home};
pub use inventory::{Package, PackageKind, inventory};
pub use key::{KeyInputs, archspec, key};
pub use resolve::{ResolveRequest, Resolved, resolve};
pub use space::{HOME, RUNTIME_HOME, SEALED_PATH, SEALED_ROOT, SPACE, SPEC_ROOT, name as space_name};

use crate::rcc::Settings;

/// What of the platform's settings decides where packages come from, for [`KeyInputs::mirrors`]. A folder that does not exist
/// has none.
pub fn mirrors(platform: Option<&Path>) -> Result<BTreeMap<String, String>, Error> {
    Ok(match platform {
        Some(platform) => Settings::read(platform)?.mirrors(),
        None => BTreeMap::new(),
    })
}
