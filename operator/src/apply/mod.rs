//! Carrying decisions out.
//!
//! Invariant: every call has a deadline, every write a precondition (resourceVersion, UID or a name that only one attempt can
//! have), and nothing is written that the decision did not name.

mod error;
pub mod job;
mod plan;
mod pod;
mod volumes;
mod writer;

pub use error::ApplyError;
pub use writer::Writer;

#[cfg(test)]
mod tests;
