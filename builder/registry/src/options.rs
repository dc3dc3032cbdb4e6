//! Settings of a client.
//!
//! Invariant: the defaults are those of a command line on a developer's machine; whoever handles URLs of others sets
//! `address_policy` and `allowed_hosts`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::address::AddressPolicy;
use crate::retry::RetryPolicy;

/// Settings of a [`crate::Client`]. Start from `ClientOptions::default()`.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// PEM bundles with certificate authorities, trusted beside the platform's.
    pub ca_bundle_pem: Vec<Vec<u8>>,
    /// Hosts (`host` or `host:port`; a bare host covers every port) that are talked to over plain http. Loopback hosts are by default.
    pub plain_http: Vec<String>,
    /// Loopback hosts that are talked to over https all the same, in the same spelling.
    pub tls_hosts: Vec<String>,
    /// Mirrors to ask for manifests and blobs before a registry, in this order: `host[:port]`, with a path before the name of a
    /// repository where the mirror has one for each registry it mirrors. By the registry's `host[:port]`; Docker Hub is `docker.io`.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts besides the registry itself that redirects, upload locations and token services may name: `host`,
    /// `host:port`, or `*.domain`. `None` is docker's practice: any host, over https, and none gets the registry's credentials except the token service.
    pub allowed_hosts: Option<Vec<String>>,
    /// Addresses that may be connected to.
    pub address_policy: AddressPolicy,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Limit for connecting, TLS included.
    pub connect_timeout: Duration,
    /// Limit without any byte moved in either direction.
    pub idle_timeout: Duration,
    /// Limit for a whole small request: manifests, tokens, look-ups.
    pub request_timeout: Duration,
    /// Limit for the registry to commit a blob after its last byte was sent.
    pub commit_timeout: Duration,
    /// Retries of each call.
    pub retry: RetryPolicy,
    /// When all work must have ended; no retry begins that would pass it.
    pub deadline: Option<Instant>,
    /// Ends every call at once with `Canceled`.
    pub cancel: CancellationToken,
    /// Blobs smaller than this many bytes are sent in one request; larger ones so that an upload can be resumed.
    pub single_put_limit: u64,
    /// Largest manifest, index or image configuration, in bytes.
    pub manifest_limit: u64,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            ca_bundle_pem: Vec::new(),
            plain_http: Vec::new(),
            tls_hosts: Vec::new(),
            mirrors: BTreeMap::new(),
            allowed_hosts: None,
            address_policy: AddressPolicy::open(),
            user_agent: concat!("robotimage/", env!("CARGO_PKG_VERSION")).to_owned(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            request_timeout: Duration::from_mins(1),
            commit_timeout: Duration::from_mins(5),
            retry: RetryPolicy::default(),
            deadline: None,
            cancel: CancellationToken::new(),
            single_put_limit: 64 * 1024 * 1024,
            // What the distribution specification asks registries to accept at least.
            manifest_limit: 4 * 1024 * 1024,
        }
    }
}
