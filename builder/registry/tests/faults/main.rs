//! What a registry, a proxy or a network can do to us, against `MockRegistry`.

// The helpers of a test crate may end a test like the tests themselves.
#![allow(clippy::unwrap_used)]

mod credentials;
mod mirrors;
mod mock_registry;
mod pull;
mod push;

use std::time::Duration;

use mock_registry::{Fault, MockRegistry};
use robotimage_registry::{BlobSource, Client, ClientOptions, Credentials, Descriptor, MediaType, Repository, RetryPolicy};

fn options() -> ClientOptions {
    ClientOptions {
        retry: RetryPolicy {
            base: Duration::from_millis(1),
            retry_after_cap: Duration::from_millis(50),
            ..RetryPolicy::default()
        },
        ..ClientOptions::default()
    }
}

fn client() -> Client {
    Client::new(options(), Credentials::none()).unwrap()
}

fn repository(registry: &MockRegistry) -> Repository {
    Repository::parse(&format!("{}/robots/a", registry.host)).unwrap()
}

fn blob(size: usize) -> BlobSource {
    let bytes: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
    BlobSource::from_bytes(bytes)
}

fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor::new(
        MediaType::ImageLayer,
        bytes.len() as u64,
        robotimage_registry::digest::sha256(bytes),
    )
}

fn answer(status: u16) -> Fault {
    Fault::Answer(status, Vec::new(), String::new())
}

fn with_token(registry: &MockRegistry, realm: &str) {
    let mut store = registry.store();
    store.token = Some("token-one".into());
    store.token_answer = r#"{"token":"token-one","expires_in":300}"#.into();
    store.challenge = format!(r#"Bearer realm="{realm}",service="mock",scope="repository:robots/a:pull""#);
}
