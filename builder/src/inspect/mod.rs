//! What an image that is already made holds, and why: read from its documents, wherever it is kept.
//!
//! * [`stored`]: an image in a registry, in a layout on disk or in an archive, behind one way of reading.
//! * [`report`]: what its documents tell. Pure.
//! * [`packages`]: what is installed in its environment, from the layers themselves.
//!
//! Invariant: nothing is written, executed or followed, and what is read is bounded and verified by digest where there is one.

pub mod packages;
pub mod report;
pub mod stored;

pub use report::{Inspected, inspect};
pub use stored::{Documents, Stored};
