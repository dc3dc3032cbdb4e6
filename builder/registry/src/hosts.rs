//! Which scheme a registry is spoken to with, and which other hosts an answer may lead to.
//!
//! Invariant: nothing leaves https for http, and no hop is made that [`Hosts::check`] has not seen.

use std::net::IpAddr;

use url::{Host, Url};

use crate::address::{AddressDenied, AddressPolicy};
use crate::options::ClientOptions;
use crate::reference::{DOCKER_HUB, valid_host};

/// Why a hop is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// By the address policy.
    Address(AddressDenied),
    /// By the rules for hosts; a sentence that names the host.
    Host(String),
    /// Because it would leave https; the host.
    Plain(String),
}

/// The host rules of one client.
#[derive(Debug)]
pub(crate) struct Hosts {
    plain: Vec<String>,
    tls: Vec<String>,
    allowed: Option<Vec<String>>,
    policy: AddressPolicy,
}

impl Hosts {
    /// Takes the rules out of the options; an entry that is no host is an error that quotes it.
    pub(crate) fn new(options: &ClientOptions) -> Result<Self, String> {
        let clean = |list: &[String]| -> Result<Vec<String>, String> {
            list.iter()
                .map(|entry| {
                    let host = entry.trim().to_ascii_lowercase();
                    let plain = host.strip_prefix("*.").unwrap_or(&host);
                    if valid_host(plain) {
                        Ok(host)
                    } else {
                        Err(format!("{entry:?} is not a host or host:port"))
                    }
                })
                .collect()
        };
        Ok(Self {
            plain: clean(&options.plain_http)?,
            tls: clean(&options.tls_hosts)?,
            allowed: options.allowed_hosts.as_deref().map(clean).transpose()?,
            policy: options.address_policy.clone(),
        })
    }

    /// `scheme://host[:port]/` of a registry as references name it.
    pub(crate) fn endpoint(&self, registry: &str) -> Result<Url, Refused> {
        let host = if registry == DOCKER_HUB { "registry-1.docker.io" } else { registry };
        let wrong = |error: url::ParseError| Refused::Host(format!("{registry} is not a valid host: {error}"));
        let mut url = Url::parse(&format!("https://{host}/")).map_err(wrong)?;
        if self.is_plain(&url) {
            url = Url::parse(&format!("http://{host}/")).map_err(wrong)?;
        }
        self.policy.check_url(&url).map_err(Refused::Address)?;
        Ok(url)
    }

    /// May the host be spoken to over plain http?
    fn is_plain(&self, url: &Url) -> bool {
        listed(&self.plain, url) || (is_loopback(url) && !listed(&self.tls, url))
    }

    /// May an answer of the registry at `origin` lead to `next`? The registry's own origin always may.
    pub(crate) fn check(&self, origin: &Url, next: &Url) -> Result<(), Refused> {
        let host = next.host_str().unwrap_or("").to_owned();
        if !matches!(next.scheme(), "http" | "https") || host.is_empty() {
            return Err(Refused::Host(
                "the registry leads to an address that is not http or https".to_owned(),
            ));
        }
        if !next.username().is_empty() || next.password().is_some() {
            return Err(Refused::Host(format!(
                "the registry leads to {host} with a user name in the address"
            )));
        }
        self.policy.check_url(next).map_err(Refused::Address)?;
        if same_origin(origin, next) {
            return Ok(());
        }
        if next.scheme() == "http" && !(origin.scheme() == "http" && self.is_plain(next)) {
            return Err(Refused::Plain(host));
        }
        match &self.allowed {
            Some(allowed) if !listed(allowed, next) => Err(Refused::Host(format!(
                "the registry leads to {host}, which is not among the allowed hosts; an administrator can add it"
            ))),
            _ => Ok(()),
        }
    }
}

/// Scheme, host and port agree: the reach of a credential.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// `host`, `host:port` or `*.domain` entries against the host of a URL.
fn listed(list: &[String], url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let with_port = url.port_or_known_default().map(|port| format!("{host}:{port}"));
    list.iter().any(|entry| {
        entry == host || Some(entry) == with_port.as_ref() || entry.strip_prefix('*').is_some_and(|domain| host.ends_with(domain))
    })
}

/// This machine, by name or address.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(change: impl FnOnce(&mut ClientOptions)) -> Hosts {
        let mut options = ClientOptions::default();
        change(&mut options);
        Hosts::new(&options).unwrap()
    }

    #[test]
    fn schemes() {
        let hosts = hosts(|options| {
            options.plain_http = vec!["plain.example.com".into(), "ported.example.com:5000".into()];
            options.tls_hosts = vec!["127.0.0.1:5443".into()];
        });
        let table = [
            ("docker.io", "https://registry-1.docker.io/"),
            ("r.example.com", "https://r.example.com/"),
            ("r.example.com:5000", "https://r.example.com:5000/"),
            ("plain.example.com:81", "http://plain.example.com:81/"),
            ("plain.example.com", "http://plain.example.com/"),
            ("ported.example.com:5000", "http://ported.example.com:5000/"),
            ("ported.example.com", "https://ported.example.com/"),
            ("notplain.example.com", "https://notplain.example.com/"),
            ("localhost:5000", "http://localhost:5000/"),
            ("127.3.2.1", "http://127.3.2.1/"),
            ("[::1]:5000", "http://[::1]:5000/"),
            ("127.0.0.1:5443", "https://127.0.0.1:5443/"),
        ];
        for (registry, expected) in table {
            assert_eq!(hosts.endpoint(registry).unwrap().as_str(), expected, "{registry}");
        }
        let tenant = Hosts::new(&ClientOptions {
            address_policy: AddressPolicy::tenant(&[]),
            ..ClientOptions::default()
        });
        assert!(matches!(tenant.unwrap().endpoint("127.0.0.1:5000"), Err(Refused::Address(_))));
    }

    #[test]
    fn hops() {
        let open = hosts(|options| options.plain_http = vec!["plain.example.com".into()]);
        let strict = hosts(|options| options.allowed_hosts = Some(vec!["auth.example.com".into(), "*.cdn.example.com".into()]));
        let table = [
            ("https://r.example.com/", "https://r.example.com/v2/x?y=1", true, true),
            ("https://r.example.com/", "https://r.example.com:443/v2/x", true, true),
            ("https://r.example.com/", "https://auth.example.com/token", true, true),
            ("https://r.example.com/", "https://a.cdn.example.com/x", true, true),
            ("https://r.example.com/", "https://evilcdn.example.com/x", true, false),
            ("https://r.example.com/", "https://r.example.com:8443/x", true, false),
            ("https://r.example.com/", "http://r.example.com/x", false, false),
            ("https://r.example.com/", "http://127.0.0.1/x", false, false),
            ("https://r.example.com/", "https://user:pw@r.example.com/x", false, false),
            ("https://r.example.com/", "file:///etc/passwd", false, false),
            ("http://127.0.0.1:5000/", "http://127.0.0.1:5001/token", true, false),
            ("http://127.0.0.1:5000/", "http://plain.example.com/x", true, false),
            ("http://127.0.0.1:5000/", "http://other.example.com/x", false, false),
        ];
        for (origin, next, by_default, when_listed) in table {
            let (origin, next) = (Url::parse(origin).unwrap(), Url::parse(next).unwrap());
            assert_eq!(open.check(&origin, &next).is_ok(), by_default, "{origin} -> {next}");
            assert_eq!(strict.check(&origin, &next).is_ok(), when_listed, "{origin} -> {next}, listed");
        }
    }

    #[test]
    fn a_bad_entry_is_quoted() {
        let options = ClientOptions {
            plain_http: vec!["http://x".into()],
            ..ClientOptions::default()
        };
        assert!(Hosts::new(&options).unwrap_err().contains("http://x"));
    }
}
