//! Reading images from registries that are broken, hostile, busy or far away.

// The helpers of a test crate may end a test like the tests themselves.
#![allow(clippy::unwrap_used)]

mod blobs;
mod images;
mod mirrors;
mod mock_answers;

use std::time::Duration;

use mock_answers::MockAnswers;
use robotimage_registry::{Client, ClientOptions, Credentials, Descriptor, MediaType, Reference, Repository, RetryPolicy, digest};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn options() -> ClientOptions {
    ClientOptions {
        retry: RetryPolicy {
            base: Duration::from_millis(1),
            retry_after_cap: Duration::from_millis(20),
            ..RetryPolicy::default()
        },
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(options(), Credentials::none()).unwrap()
}

fn repository(server: &MockAnswers) -> Repository {
    Repository::parse(&format!("{}/robots/a", server.host)).unwrap()
}

fn tagged(server: &MockAnswers) -> Reference {
    repository(server).with_tag("v1").unwrap()
}

fn descriptor(kind: MediaType, bytes: &[u8]) -> Descriptor {
    Descriptor::new(kind, bytes.len() as u64, digest::sha256(bytes))
}

fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// The documents of an image for a platform, without layers: its configuration and its manifest.
fn documents(architecture: &str, kind: &str) -> (Vec<u8>, Vec<u8>) {
    let config = serde_json::json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}});
    let config = config.to_string().into_bytes();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": kind, "layers": [], "config": descriptor(MediaType::ImageConfig, &config),
    });
    (config, manifest.to_string().into_bytes())
}
