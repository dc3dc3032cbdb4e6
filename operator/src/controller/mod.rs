//! The runtime: watches, triggers, and the loop that observes, decides and applies.
//!
//! Invariant: one object can hold up nobody else. Every call and every reconcile has a deadline, a panic ends the reconcile of
//! its object alone, errors back off per object, and no watch but the RobotImages' feeds the controller directly. What is kept
//! in memory only saves work: after a restart the same decisions follow from the API server.

mod again;
mod asker;
mod checks;
mod index;
mod kept;
mod memory;
mod objects;
mod queue;
mod random;
mod reconcile;
mod run;
mod slots;
mod work;

pub use random::process_id;
pub use run::{Controller, RunError};
