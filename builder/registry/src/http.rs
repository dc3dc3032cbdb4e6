//! The HTTP clients of a registry client, each made when the first URL asks for it.
//!
//! Invariant: what is spoken to over plain http costs no certificate: reading the authorities of a machine takes longer
//! than a push of new code to a registry beside it.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::Certificate;
use url::Url;

use crate::address::AddressPolicy;
use crate::error::Error;
use crate::hosts::is_loopback;
use crate::options::ClientOptions;

/// The clients, with what they are made from.
#[derive(Debug)]
pub(crate) struct Http {
    user_agent: String,
    connect_timeout: Duration,
    probe: Duration,
    policy: AddressPolicy,
    roots: Vec<Certificate>,
    /// A proxy is named in the environment. It is not for loopback addresses: its loopback is not ours.
    proxy: bool,
    plain: OnceLock<reqwest::Client>,
    tls: OnceLock<reqwest::Client>,
    proxied: OnceLock<reqwest::Client>,
}

impl Http {
    /// Reads the CA bundles; whatever else can fail does so at the first use.
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, Error> {
        let mut roots = Vec::new();
        for bundle in &options.ca_bundle_pem {
            let certificates =
                Certificate::from_pem_bundle(bundle).map_err(|error| Error::Configuration(format!("the CA bundle is not PEM: {error}")))?;
            if certificates.is_empty() {
                return Err(Error::Configuration("the CA bundle holds no certificate in PEM form".to_owned()));
            }
            roots.extend(certificates);
        }
        Ok(Self {
            user_agent: options.user_agent.clone(),
            connect_timeout: options.connect_timeout,
            // All requests to a host share one connection there; if it falls silent, it must be given up before they are, or
            // every new attempt would wait on it again.
            probe: options.idle_timeout.min(options.request_timeout) / 4,
            policy: options.address_policy.clone(),
            roots,
            proxy: proxy_in_environment(),
            plain: OnceLock::new(),
            tls: OnceLock::new(),
            proxied: OnceLock::new(),
        })
    }

    /// The client that reaches a URL.
    pub(crate) fn reaching(&self, url: &Url) -> Result<&reqwest::Client, Error> {
        if self.proxy && !is_loopback(url) {
            // The proxy itself may speak TLS, whatever the URL does.
            return made(&self.proxied, || self.with_authorities(true));
        }
        if url.scheme() == "http" {
            return made(&self.plain, || self.builder(false).tls_certs_only([]).build());
        }
        made(&self.tls, || self.with_authorities(false))
    }

    /// Trusts the machine's authorities and the bundles. A minimal image has no authorities at all; then only the bundles
    /// are trusted, possibly nothing.
    fn with_authorities(&self, proxy: bool) -> reqwest::Result<reqwest::Client> {
        self.builder(proxy).tls_certs_merge(self.roots.clone()).build().or_else(|error| {
            tracing::warn!(%error, "no certificate authorities of the platform; only the CA bundle is trusted");
            self.builder(proxy).tls_certs_only(self.roots.clone()).build()
        })
    }

    fn builder(&self, proxy: bool) -> reqwest::ClientBuilder {
        let builder = reqwest::Client::builder()
            .user_agent(&self.user_agent)
            .connect_timeout(self.connect_timeout)
            .http2_keep_alive_interval(self.probe)
            .http2_keep_alive_timeout(self.probe)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .dns_resolver(self.policy.resolver());
        if proxy { builder } else { builder.no_proxy() }
    }
}

/// Two that make one at the same time make it twice, and use one.
fn made(place: &OnceLock<reqwest::Client>, make: impl FnOnce() -> reqwest::Result<reqwest::Client>) -> Result<&reqwest::Client, Error> {
    if let Some(client) = place.get() {
        return Ok(client);
    }
    let client = make().map_err(|error| Error::Configuration(error.to_string()))?;
    Ok(place.get_or_init(|| client))
}

fn proxy_in_environment() -> bool {
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}
