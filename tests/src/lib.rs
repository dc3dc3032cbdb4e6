//! The test bed: every real part that RobotImage meets, started in seconds on one Linux machine, ended without
//! leftovers, and able to be broken on purpose.
//!
//! [`node::Node`] is a cluster of one node in namespaces of its own.

pub mod apiproxy;
pub mod audit;
pub mod base;
pub mod bed;
pub mod bench;
pub mod bench_operator;
pub mod blackhole;
pub mod cache;
mod cgroup;
pub mod channel;
pub mod command;
pub mod demo;
pub mod dnsrecorder;
pub mod error;
pub mod faultproxy;
pub mod files;
pub mod git;
pub mod helm;
pub mod image;
pub mod index;
pub mod install;
pub mod instance;
pub mod kstatus;
pub mod kubectl;
pub mod laptop;
pub mod machine;
pub mod mounts;
pub mod namespace;
pub mod node;
pub mod operator;
pub mod parts;
pub mod pki;
pub mod pods;
pub mod prerequisites;
pub mod process;
pub mod product;
pub mod rcc;
pub mod reach;
pub mod registry;
pub mod rootfs;
pub mod runc;
pub mod secret;
pub mod serve;
pub mod site;
pub mod timeline;
pub mod tokenservice;
pub mod verify;
pub mod web;
pub mod wire;

pub use bed::{AddressBook, Bed};
pub use cache::Cache;
pub use error::{Error, Result};
pub use instance::Instance;
pub use namespace::Namespace;
pub use node::Node;
pub use process::Lifetime;
pub use site::Site;
