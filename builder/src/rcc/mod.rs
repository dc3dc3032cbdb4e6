//! The rcc binary: what it is, how it is called, what its output means.
//!
//! Invariant: rcc never inherits our environment, never outlives its deadline, and what it says is bounded in memory.

mod child;
mod error;
mod output;
mod probe;
mod settings;
pub(crate) mod user;

pub use error::Error;
pub use probe::Rcc;

pub(crate) use child::{Child, Ended, Limits, Stopped};
pub(crate) use output::{Verdict, classify, is_ambiguous, phase};
pub(crate) use settings::{Settings, environment};
