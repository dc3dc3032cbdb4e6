//! The client against the real distribution registry, with skopeo as the second opinion.

// The helpers of a test crate may end a test like the tests themselves.
#![allow(clippy::unwrap_used)]

mod access;
mod archives;
mod blobs;
mod damage;
mod image;
mod images;
mod mirrors;
mod registry;
mod streams;

use std::process::Command;
use std::time::Duration;

use registry::RealRegistry;
use robotimage_registry::{Client, ClientOptions, Credentials, Repository, RetryPolicy};

fn options() -> ClientOptions {
    ClientOptions {
        retry: RetryPolicy {
            base: Duration::from_millis(200),
            ..RetryPolicy::default()
        },
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(options(), Credentials::none()).unwrap()
}

fn repository(registry: &RealRegistry, name: &str) -> Repository {
    Repository::parse(&format!("{}/{name}", registry.host)).unwrap()
}

/// Runs skopeo and gives its output, JSON if it is.
fn skopeo(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new("skopeo")
        .args(arguments)
        .output()
        .expect("skopeo runs (Debian package `skopeo`)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "skopeo {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))
}
