//! The words that operator, builder and users share.
//!
//! * [`api`]: the `RobotImage` resource, spec and status, as the API server stores it.
//! * [`reason`]: every reason a condition or a failure can carry, with its owner, whether a retry can help, and its exit code.
//! * [`build`]: the contract between operator and builder pod: the plan that goes in, the report that comes out, the fixed paths.
//!
//! Invariant: this crate knows no client and no runtime. Whatever it imports, the builder and the operator both pay for.

pub mod api;
pub mod build;
pub mod duration;
pub mod reason;

mod definition;

pub use definition::custom_resource_definition;

/// API group of the resource and prefix of our labels and annotations.
pub const GROUP: &str = "robotimage.dev";
/// Served and stored version.
pub const VERSION: &str = "v1alpha1";
