//! Which addresses may be connected to: the guard for URLs that tenants choose.
//!
//! Invariant: the check is made on the address that is connected to. Names go through [`PolicyResolver`], which answers
//! only permitted addresses, so a name cannot be resolved twice with two answers; addresses written into a URL never
//! reach a resolver and are checked by [`AddressPolicy::check_url`], which must be called for every hop of a redirect.
//! A connection through an HTTP proxy is the proxy's to judge: there the policy covers the proxy's own address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Addresses that tenants never reach: this host, link-local with the cloud metadata services, multicast, reserved.
const TENANT_DENY: &[&str] = &[
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "192.0.0.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    // Metadata services outside of link-local: Alibaba Cloud, and AWS over IPv6.
    "100.100.100.200/32",
    "fd00:ec2::254/128",
    "::/128",
    "::1/128",
    "fe80::/10",
    "ff00::/8",
];

/// A deny list with exceptions. Empty lists permit everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// Networks that must not be connected to.
    pub deny: Vec<IpNet>,
    /// Networks that may, although a denied network contains them.
    pub allow: Vec<IpNet>,
}

/// A connection was refused by policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host} is at an address that must not be connected to; a platform administrator can allow its network")]
pub struct AddressDenied {
    /// The host as it was asked for. The address is left out: it would tell a tenant about the inside of the network.
    pub host: String,
}

impl AddressPolicy {
    /// Everything may be connected to: for a command line, whose user can do so anyway.
    pub fn open() -> Self {
        Self::default()
    }

    /// For URLs written by tenants: loopback, link-local, multicast and reserved addresses are denied, and `internal`:
    /// the networks of pods, of services, and the API server.
    pub fn tenant(internal: &[IpNet]) -> Self {
        let built_in = TENANT_DENY
            .iter()
            .map(|net| net.parse::<IpNet>().expect("invariant: the list holds valid networks"));
        Self {
            deny: built_in.chain(internal.iter().copied()).collect(),
            allow: Vec::new(),
        }
    }

    /// The same policy with networks that may be reached all the same, such as a registry inside the cluster.
    #[must_use]
    pub fn with_allowed(mut self, allow: impl IntoIterator<Item = IpNet>) -> Self {
        self.allow.extend(allow);
        self
    }

    /// May this address be connected to? An IPv6 address that carries an IPv4 address is judged by both.
    pub fn permits(&self, address: IpAddr) -> bool {
        let one = |address: IpAddr| {
            let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
            within(&self.allow) || !within(&self.deny)
        };
        match address {
            IpAddr::V4(_) => one(address),
            IpAddr::V6(v6) => match embedded(v6) {
                Some(v4) => one(IpAddr::V4(v4)) && one(address),
                None => one(address),
            },
        }
    }

    /// Checks an address written into the URL; names are left to the resolver, where they are connected to.
    pub fn check_url(&self, url: &Url) -> Result<(), AddressDenied> {
        let address = match url.host() {
            Some(Host::Ipv4(v4)) => IpAddr::V4(v4),
            Some(Host::Ipv6(v6)) => IpAddr::V6(v6),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        if self.permits(address) {
            Ok(())
        } else {
            Err(AddressDenied {
                host: url.host_str().unwrap_or("").to_owned(),
            })
        }
    }

    /// A resolver that answers only permitted addresses, for [`reqwest::ClientBuilder::dns_resolver`].
    pub fn resolver(&self) -> PolicyResolver {
        PolicyResolver {
            policy: Arc::new(self.clone()),
        }
    }
}

/// The IPv4 address inside a mapped, compatible, NAT64 or 6to4 address.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |hi: u16, lo: u16| {
        let ([a, b], [c, d]) = (hi.to_be_bytes(), lo.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, hi, lo] if (hi, lo) != (0, 0) && (hi, lo) != (0, 1) => Some(from(hi, lo)),
        [0, 0, 0, 0, 0, 0xffff, hi, lo] | [0x64, 0xff9b, 0, 0, 0, 0, hi, lo] | [0x2002, hi, lo, ..] => Some(from(hi, lo)),
        _ => None,
    }
}

/// The system's resolver behind an [`AddressPolicy`].
#[derive(Debug, Clone)]
pub struct PolicyResolver {
    policy: Arc<AddressPolicy>,
}

impl Resolve for PolicyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let policy = Arc::clone(&self.policy);
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let permitted = filter(&policy, name.as_str(), found)?;
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}

/// A name with permitted and denied addresses is reached at the permitted ones only.
fn filter(policy: &AddressPolicy, host: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, AddressDenied> {
    let any = !found.is_empty();
    let permitted: Vec<SocketAddr> = found.into_iter().filter(|address| policy.permits(address.ip())).collect();
    if any && permitted.is_empty() {
        Err(AddressDenied { host: host.to_owned() })
    } else {
        Ok(permitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant() -> AddressPolicy {
        AddressPolicy::tenant(&["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()])
            .with_allowed(["10.43.0.50/32".parse().unwrap()])
    }

    #[test]
    fn addresses() {
        let table = [
            ("127.0.0.1", false),
            ("127.9.9.9", false),
            ("0.0.0.0", false),
            ("169.254.169.254", false),
            ("10.42.3.4", false),
            ("10.43.0.1", false),
            ("10.43.0.50", true),
            ("10.44.0.1", true),
            ("192.168.1.5", true),
            ("93.184.215.14", true),
            ("100.100.100.200", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("ff02::1", false),
            ("2606:2800:21f::1", true),
            ("::ffff:127.0.0.1", false),
            ("::ffff:0.0.0.1", false),
            ("::ffff:169.254.169.254", false),
            ("::127.0.0.1", false),
            ("64:ff9b::10.42.0.9", false),
            ("64:ff9b::93.184.215.14", true),
            ("2002:7f00:1::", false),
            ("::ffff:10.43.0.50", true),
        ];
        for (address, expected) in table {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(tenant().permits(address), expected, "{address}");
            assert!(AddressPolicy::open().permits(address), "{address}");
        }
    }

    #[test]
    fn literals_in_urls_in_every_spelling() {
        for denied in [
            "https://127.0.0.1/",
            "https://127.1/",
            "https://2130706433/",
            "https://0x7f.0.0.1:444/x",
            "https://0177.0.0.1/",
            "https://[::1]/",
            "https://[::ffff:7f00:1]/",
            "http://169.254.169.254/latest/meta-data",
        ] {
            assert!(tenant().check_url(&Url::parse(denied).unwrap()).is_err(), "{denied}");
        }
        for permitted in ["https://example.com/", "https://93.184.215.14/", "https://localhost/"] {
            assert!(tenant().check_url(&Url::parse(permitted).unwrap()).is_ok(), "{permitted}");
        }
    }

    #[test]
    fn a_name_is_reached_at_its_permitted_addresses_only() {
        let both: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap(), "93.184.215.14:0".parse().unwrap()];
        assert_eq!(filter(&tenant(), "x", both.clone()).unwrap(), [both[1]]);
        assert!(filter(&tenant(), "x", vec![both[0]]).is_err());
        assert_eq!(filter(&tenant(), "x", Vec::new()).unwrap(), []);
    }

    #[tokio::test]
    async fn the_resolver_refuses_localhost() {
        let name: Name = "localhost".parse().unwrap();
        let Err(error) = tenant().resolver().resolve(name).await else {
            panic!("localhost was resolved")
        };
        assert!(error.downcast_ref::<AddressDenied>().is_some(), "{error}");
    }
}
