//! robot.yaml and the environment file: read, validated, and the choices that rcc makes.
//!
//! The parsers are pure (`&str` in, model out) and read what rcc reads: unknown keys are ignored, a scalar of any type is
//! text where text is wanted. Reading from disk is in [`load`], [`Robot::environment_file`] and [`fix`], all of them confined
//! to the context.
//!
//! Invariant: no path that this module returns leaves the context, and no file is read beyond [`MAX_FILE_BYTES`].

pub mod check;
mod choice;
pub mod environment;
mod error;
mod file;
pub mod fix;
mod model;
mod path;
mod task;
pub(crate) mod yaml;

pub use choice::EnvironmentFile;
pub(crate) use environment::credentials_in;
pub use error::{Error, Location, Role};
pub use file::MAX_FILE_BYTES;
pub use model::{Robot, load, parse};
