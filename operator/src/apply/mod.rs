//! Carrying decisions out.
//!
//! Invariant: every call has a deadline, every write a precondition (resourceVersion, UID or a name that only one attempt can
//! have), and nothing is written that the decision did not name.

pub mod job;
mod plan;
mod pod;
mod volumes;
mod writer;

pub use writer::{ApplyError, Writer};

#[cfg(test)]
mod tests;
