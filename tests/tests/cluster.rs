//! RobotImage on a real cluster: what a user, a GitOps engine and an auditor would see.
//!
//! One binary for all suites, so that they share a cluster, an operator and one link. Each suite has a namespace of its own.

#[path = "cluster/api.rs"]
mod api;
