//! Look-ups at registries: which digest a base or rcc image has now, and whether a published image is still there.
//!
//! Invariant: the operator asks without credentials, so it learns nothing that is not public and can lend no tenant its
//! rights. A reference may be a tenant's, so every answer is hostile until parsed: 10 seconds and 1 MiB a look-up, addresses
//! checked where the connection is made. Each reference is asked for once for everybody who names it.

mod failure;
mod inspector;
mod pool;

pub use failure::LookupFailure;
pub use inspector::{Found, Inspector, RegistryInspector};
pub use pool::Registries;

/// `host[:port]` of the registry that a reference leads to; none when it is no reference.
pub fn host_of(reference: &str) -> Option<String> {
    let reference = robotimage_registry::Reference::parse(reference).ok()?;
    Some(reference.registry().to_owned())
}
