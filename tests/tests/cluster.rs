//! RobotImage on a real cluster: what a user, a GitOps engine and an auditor would see.
//!
//! One binary for all suites, so that they share a cluster, an operator and one link. Each suite has a namespace of its own.

#[path = "cluster/api.rs"]
mod api;
#[path = "cluster/at_rest.rs"]
mod at_rest;
#[path = "cluster/bad_inputs.rs"]
mod bad_inputs;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/happy.rs"]
mod happy;
#[path = "cluster/isolation.rs"]
mod isolation;
#[path = "cluster/kill.rs"]
mod kill;
#[path = "cluster/local.rs"]
mod local;
#[path = "cluster/objects.rs"]
mod objects;
#[path = "cluster/reuse.rs"]
mod reuse;
#[path = "cluster/setup.rs"]
mod setup;
