//! The test bed: every real part that RobotImage meets, started in seconds on one Linux machine, ended without
//! leftovers, and able to be broken on purpose.
//!
//! [`node::Node`] is a cluster of one node in namespaces of its own.

pub mod cache;
mod cgroup;
pub mod error;
pub mod files;
pub mod git;
pub mod image;
pub mod instance;
pub mod machine;
pub mod node;
pub mod parts;
pub mod pki;
pub mod process;
pub mod registry;
pub mod secret;
pub mod site;
pub mod web;

pub use cache::Cache;
pub use error::{Error, Result};
pub use instance::Instance;
pub use node::Node;
