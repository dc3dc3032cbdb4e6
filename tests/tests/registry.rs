//! The registry client against real registries: what they refuse, break and lose, and what is there in the end.
//!
//! What only a broken world shows is put between client and registry by the fault proxy, over real sockets.

#![allow(clippy::unwrap_used)] // a suite says what is wrong by panicking

#[path = "registry/campaign.rs"]
mod campaign;
#[path = "registry/ground.rs"]
mod ground;
#[path = "registry/kinds.rs"]
mod kinds;
#[path = "registry/lookups.rs"]
mod lookups;
#[path = "registry/matrix.rs"]
mod matrix;
#[path = "registry/requests.rs"]
mod requests;
#[path = "registry/semantic.rs"]
mod semantic;
#[path = "registry/steps.rs"]
mod steps;
#[path = "registry/table.rs"]
mod table;
#[path = "registry/tags.rs"]
mod tags;
