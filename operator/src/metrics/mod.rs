//! What is counted and measured, as Prometheus reads it.
//!
//! Invariant: no label grows with the number of objects, and none takes its value from what a build pod or a person wrote:
//! whatever is not in a closed list is counted as `other` or as nothing. What is a fact of the objects and not of this process is
//! told by the replica that leads alone, so that sums over replicas are right.

mod builds;
mod families;
mod scrape;

pub use families::Metrics;
pub(crate) use scrape::Standing;

#[cfg(test)]
mod tests;
