//! The HTTP clients of one kind, each made when the first URL asks for it: for registries here, for git and download servers
//! elsewhere.
//!
//! Invariant: what is spoken to over plain http costs no certificate: reading the authorities of a machine takes longer
//! than a push of new code to a registry beside it.

use std::sync::OnceLock;

use reqwest::{Certificate, ClientBuilder};
use url::Url;

use crate::error::Error;
use crate::hosts::is_loopback;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// A bundle that cannot be read.
    #[error("the CA bundle is not PEM: {0}")]
    NotPem(#[source] reqwest::Error),
    /// A bundle with something else in it.
    #[error("the CA bundle holds no certificate in PEM form")]
    NoCertificate,
    /// The client cannot be made.
    #[error("the HTTP client cannot be made: {0}")]
    Client(#[source] reqwest::Error),
}

impl From<HttpError> for Error {
    fn from(error: HttpError) -> Self {
        Self::Configuration(error.to_string())
    }
}

/// Whom a client trusts, and how it gets there: for a client that somebody else's code makes.
#[derive(Debug, Clone)]
pub struct Trust {
    /// The machine's authorities too, which are there.
    pub machine: bool,
    /// The authorities of the bundles.
    pub authorities: Vec<Certificate>,
    /// By the proxy that the environment names, if it names one.
    pub proxy: bool,
}

struct Made {
    client: reqwest::Client,
    trust: Trust,
}

/// The clients, with what they are made from.
pub struct HttpClients {
    builder: Box<dyn Fn() -> ClientBuilder + Send + Sync>,
    roots: Vec<Certificate>,
    /// A proxy is named in the environment. It is not for loopback addresses: its loopback is not ours.
    proxy: bool,
    plain: OnceLock<Made>,
    tls: OnceLock<Made>,
    proxied: OnceLock<Made>,
}

impl std::fmt::Debug for HttpClients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpClients")
            .field("roots", &self.roots.len())
            .field("proxy", &self.proxy)
            .finish_non_exhaustive()
    }
}

impl HttpClients {
    /// Clients that trust the machine's authorities and those of the PEM bundles. `builder` says all the rest; proxies and
    /// certificates are not its business. Reads the bundles; whatever else can fail does so at the first use.
    pub fn new<'a>(
        bundles: impl IntoIterator<Item = &'a [u8]>,
        builder: impl Fn() -> ClientBuilder + Send + Sync + 'static,
    ) -> Result<Self, HttpError> {
        let mut roots = Vec::new();
        for bundle in bundles {
            let certificates = Certificate::from_pem_bundle(bundle).map_err(HttpError::NotPem)?;
            if certificates.is_empty() {
                return Err(HttpError::NoCertificate);
            }
            roots.extend(certificates);
        }
        Ok(Self {
            builder: Box::new(builder),
            roots,
            proxy: proxy_in_environment(),
            plain: OnceLock::new(),
            tls: OnceLock::new(),
            proxied: OnceLock::new(),
        })
    }

    /// The client that reaches a URL.
    pub fn reaching(&self, url: &Url) -> Result<&reqwest::Client, HttpError> {
        self.made(url).map(|made| &made.client)
    }

    /// How another client is to reach a URL.
    pub fn trust(&self, url: &Url) -> Result<&Trust, HttpError> {
        self.made(url).map(|made| &made.trust)
    }

    fn made(&self, url: &Url) -> Result<&Made, HttpError> {
        let proxy = self.proxy && !is_loopback(url);
        // A proxy may itself speak TLS, whatever the URL does.
        let plain = url.scheme() == "http" && !proxy;
        let place = match (proxy, plain) {
            (true, _) => &self.proxied,
            (false, true) => &self.plain,
            (false, false) => &self.tls,
        };
        if let Some(made) = place.get() {
            return Ok(made);
        }
        let made = if plain {
            self.make(Trust {
                machine: false,
                authorities: Vec::new(),
                proxy,
            })
        } else {
            self.with_authorities(proxy)
        };
        let made = made.map_err(HttpError::Client)?;
        // Two that make one at the same time make it twice, and use one.
        Ok(place.get_or_init(|| made))
    }

    /// A minimal image has no authorities at all; then only the bundles are trusted, possibly nothing.
    fn with_authorities(&self, proxy: bool) -> reqwest::Result<Made> {
        let trust = |machine| Trust {
            machine,
            authorities: self.roots.clone(),
            proxy,
        };
        self.make(trust(true)).or_else(|error| {
            tracing::warn!(%error, "no certificate authorities of the platform; only the CA bundle is trusted");
            self.make(trust(false))
        })
    }

    fn make(&self, trust: Trust) -> reqwest::Result<Made> {
        let (builder, authorities) = ((self.builder)(), trust.authorities.clone());
        let builder = if trust.proxy { builder } else { builder.no_proxy() };
        let builder = if trust.machine {
            builder.tls_certs_merge(authorities)
        } else {
            builder.tls_certs_only(authorities)
        };
        let client = builder.build()?;
        Ok(Made { client, trust })
    }
}

fn proxy_in_environment() -> bool {
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_reads_no_authorities_and_bundles_are_read_at_once() {
        let clients = HttpClients::new([], reqwest::Client::builder).unwrap();
        let made = |clients: &HttpClients| (clients.plain.get().is_some(), clients.tls.get().is_some());
        clients.reaching(&Url::parse("http://127.0.0.1:1/").unwrap()).unwrap();
        assert_eq!(made(&clients), (true, false));
        clients.reaching(&Url::parse("https://127.0.0.1:1/").unwrap()).unwrap();
        assert_eq!(made(&clients), (true, true));
        let read = |bundle: &'static [u8]| HttpClients::new([bundle], reqwest::Client::builder).map(drop);
        assert!(matches!(read(b"not a certificate"), Err(HttpError::NoCertificate)));
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        assert!(matches!(read(broken), Err(HttpError::NotPem(_) | HttpError::NoCertificate)));
    }
}
