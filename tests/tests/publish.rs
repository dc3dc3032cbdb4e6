//! The publish step as a program, against a real registry: killed at any point, with lost layers, with credentials in the
//! source; and fetch before it, which takes over what was learned, and reads every kind of source. Takes about a minute.

#![allow(clippy::unwrap_used)] // a suite says what is wrong by panicking

#[path = "publish/faults.rs"]
mod faults;
#[path = "publish/kill.rs"]
mod kill;
#[path = "publish/learned.rs"]
mod learned;
#[path = "publish/pod.rs"]
mod pod;
#[path = "publish/requests.rs"]
mod requests;
#[path = "publish/sources.rs"]
mod sources;
