//! The HTTP client for addresses that others write down, and what its failures mean.
//!
//! Invariant: it follows no redirect by itself, connects only to addresses that the policy permits, and speaks plain http
//! only to hosts that were named for it or are this machine.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use robotimage_registry::{AddressPolicy, HttpClients, HttpError};
use url::{Host, Url};

/// How addresses of others are reached.
#[derive(Clone, Debug, Default)]
pub struct Web {
    /// Addresses that may be connected to.
    pub policy: AddressPolicy,
    /// Hosts (`host` or `host:port`) that may be spoken to without TLS.
    pub plain_http: Vec<String>,
    /// PEM bundles of certificate authorities, trusted beside the machine's.
    pub roots: Vec<Vec<u8>>,
}

/// Why a request got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// The name does not exist.
    #[error("there is no host {0}; check the spelling of the address")]
    NoSuchHost(String),
    /// The policy forbids the address.
    #[error("{0} is at an address that must not be connected to; a platform administrator can allow its network")]
    AddressDenied(String),
    /// The certificate is not trusted.
    #[error("the server's certificate is not trusted: {0}; add its CA to the CA bundle")]
    Untrusted(String),
    /// The proxy failed.
    #[error("the proxy refused or failed: {0}")]
    Proxy(String),
    /// No byte came for too long.
    #[error("the server did not answer in time")]
    Timeout,
    /// Anything else on the way.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The client itself cannot be made.
    #[error("{0}")]
    Setup(String),
}

impl Web {
    /// May this address be spoken to in its scheme, and is it one at all?
    pub fn check(&self, url: &Url) -> Result<(), String> {
        let Some(host) = url.host_str() else {
            return Err("it names no host".to_owned());
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("user and password do not belong in an address; put them into a Secret".to_owned());
        }
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(url) || names(&self.plain_http, url) => {}
            "http" => {
                return Err(format!(
                    "plain http is used only for hosts that are listed for it; use https, or have {host} listed"
                ));
            }
            _ => return Err("only https addresses are fetched from".to_owned()),
        }
        self.policy.check_url(url).map_err(|denied| denied.to_string())
    }

    /// The HTTP clients for these addresses.
    pub fn clients(&self) -> Result<HttpClients, WebError> {
        let resolver = Arc::new(self.policy.resolver());
        let clients = HttpClients::new(self.roots.iter().map(Vec::as_slice), move || {
            reqwest::Client::builder()
                .user_agent(concat!("robotimage/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(Duration::from_secs(10))
                .read_timeout(Duration::from_secs(30))
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(Arc::clone(&resolver))
        });
        Ok(clients?)
    }
}

impl From<HttpError> for WebError {
    fn from(error: HttpError) -> Self {
        Self::Setup(chain(&error))
    }
}

impl WebError {
    /// What a failed exchange with `host` means.
    pub fn of(error: reqwest::Error, host: &str) -> Self {
        let timeout = error.is_timeout();
        let error = error.without_url();
        Self::of_chain(&error, host, timeout)
    }

    /// The same for an error that some other client wrapped.
    pub(super) fn of_chain(error: &(dyn StdError + 'static), host: &str, timeout: bool) -> Self {
        let mut next = Some(error);
        while let Some(current) = next {
            if find::<robotimage_registry::AddressDenied>(current).is_some() {
                return Self::AddressDenied(host.to_owned());
            }
            if let Some(tls) = find::<rustls::Error>(current) {
                return match tls {
                    rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Self::Untrusted(tls.to_string()),
                    rustls::Error::InvalidMessage(_) => Self::Unreachable("it does not speak TLS".to_owned()),
                    other => Self::Unreachable(format!("TLS: {other}")),
                };
            }
            next = current.source();
        }
        if timeout {
            return Self::Timeout;
        }
        let text = chain(error);
        let lower = text.to_lowercase();
        if lower.contains("temporary failure in name resolution") || lower.contains("try again") {
            Self::Unreachable(format!("the name {host} cannot be looked up at the moment"))
        } else if lower.contains("failed to lookup address") || lower.contains("dns error") {
            Self::NoSuchHost(host.to_owned())
        } else if lower.contains("proxy") || lower.contains("tunnel") {
            Self::Proxy(text)
        } else {
            Self::Unreachable(text)
        }
    }
}

/// Looks into an error, and into the error that an I/O error wraps, which `source` skips.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    error.downcast_ref::<T>().or_else(|| {
        let inner: &(dyn StdError + 'static) = error.downcast_ref::<std::io::Error>()?.get_ref()?;
        find::<T>(inner)
    })
}

/// The chain of an error in one line of at most 256 characters, repetitions left out.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(current) = next {
        let part = current.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = current.source();
    }
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

/// `host`, or `host:port` when the port is not the scheme's.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Does a list of `host` and `host:port` entries name this address? A bare host covers every port.
pub(super) fn names(list: &[String], url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let with_port = format!("{host}:{}", url.port_or_known_default().unwrap_or_default());
    list.iter()
        .any(|entry| entry.eq_ignore_ascii_case(host) || entry.eq_ignore_ascii_case(&with_port))
}

/// Is it this machine by the way it is written?
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn schemes_and_hosts() {
        let web = Web {
            plain_http: vec!["git.internal".to_owned(), "other:8080".to_owned()],
            ..Web::default()
        };
        for (address, good) in [
            ("https://git.example.com/a.git", true),
            ("http://git.example.com/a.git", false),
            ("http://git.internal:3000/a.git", true),
            ("http://other:8080/a.git", true),
            ("http://other/a.git", false),
            ("http://127.0.0.1:3000/a.git", true),
            ("http://localhost/a.git", true),
            ("https://user@git.example.com/a.git", false),
            ("https://user:secret@git.example.com/a.git", false),
            ("ssh://git.example.com/a.git", false),
            ("file:///etc/passwd", false),
        ] {
            let result = web.check(&url(address));
            assert_eq!(result.is_ok(), good, "{address}: {result:?}");
            assert!(!result.err().unwrap_or_default().contains("secret@"), "{address}");
        }
    }

    #[test]
    fn tenants_do_not_reach_loopback() {
        let web = Web {
            policy: AddressPolicy::tenant(&[]),
            ..Web::default()
        };
        assert!(web.check(&url("https://127.0.0.1/a.git")).is_err());
        assert!(web.check(&url("https://[::ffff:169.254.169.254]/a.git")).is_err());
    }

    #[test]
    fn hosts_are_named_with_and_without_port() {
        let list = ["a".to_owned(), "b:8443".to_owned(), "C:443".to_owned()];
        for (address, named) in [
            ("https://a/x", true),
            ("https://a:9/x", true),
            ("https://b/x", false),
            ("https://b:8443/x", true),
            ("https://c/x", true),
            ("https://aa/x", false),
        ] {
            assert_eq!(names(&list, &url(address)), named, "{address}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_and_an_unknown_name_are_told_apart() {
        let exchange = async |web: Web, address: &str| {
            let clients = web.clients().unwrap();
            clients.reaching(&url(address)).unwrap().get(address).send().await.unwrap_err()
        };
        let error = exchange(Web::default(), "http://127.0.0.1:1/").await;
        assert!(matches!(WebError::of(error, "127.0.0.1"), WebError::Unreachable(_)));
        let tenant = Web {
            policy: AddressPolicy::tenant(&[]),
            ..Web::default()
        };
        let error = exchange(tenant, "http://localhost:1/").await;
        assert_eq!(WebError::of(error, "localhost"), WebError::AddressDenied("localhost".to_owned()));
    }
}
