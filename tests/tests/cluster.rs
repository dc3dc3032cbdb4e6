//! RobotImage on a real cluster: what a user, a GitOps engine and an auditor would see.
//!
//! One binary for all suites, so that they share a cluster, an operator and one link. Each suite has a namespace of its own.

#[path = "cluster/alerts.rs"]
mod alerts;
#[path = "cluster/api.rs"]
mod api;
#[path = "cluster/at_rest.rs"]
mod at_rest;
#[path = "cluster/bad_inputs.rs"]
mod bad_inputs;
#[path = "cluster/campaign/mod.rs"]
mod campaign;
#[path = "cluster/election.rs"]
mod election;
#[path = "cluster/faults.rs"]
mod faults;
#[path = "cluster/happy.rs"]
mod happy;
#[path = "cluster/isolation.rs"]
mod isolation;
#[path = "cluster/kill.rs"]
mod kill;
#[path = "cluster/kubectl.rs"]
mod kubectl;
#[path = "cluster/local.rs"]
mod local;
#[path = "cluster/objects.rs"]
mod objects;
#[path = "cluster/policies.rs"]
mod policies;
#[path = "cluster/prometheus.rs"]
mod prometheus;
#[path = "cluster/queue.rs"]
mod queue;
#[path = "cluster/rebase.rs"]
mod rebase;
#[path = "cluster/replica.rs"]
mod replica;
#[path = "cluster/reuse.rs"]
mod reuse;
#[path = "cluster/rows.rs"]
mod rows;
#[path = "cluster/setup.rs"]
mod setup;
#[path = "cluster/sources.rs"]
mod sources;
#[path = "cluster/survival.rs"]
mod survival;
#[path = "cluster/upgrade.rs"]
mod upgrade;
