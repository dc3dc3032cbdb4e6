//! Which of several replicas works: the one that holds a Lease of `coordination.k8s.io`.
//!
//! Invariant: at no moment do two replicas believe that they lead, as long as their clocks run at about the same *speed*. What
//! the clocks *say* does not matter: a replica measures with its own clock how long the Lease has not changed before its eyes,
//! and gives up earlier, by the time between `renew` and `duration`, than any other may take over. Should two lead all the
//! same (a process that stood still in the middle of a write), they do no harm: every write carries what it was decided on.
//!
//! [`Election`] decides and does no I/O, [`Keeper`] does the I/O, [`Leadership`] tells everybody else.

mod election;
mod keeper;
mod leadership;

pub use election::{Election, Record, Step, Timing};
pub use keeper::Keeper;
pub use leadership::{Leader, Leadership};

#[cfg(test)]
mod model;
