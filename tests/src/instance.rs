//! Which of the eight possible test beds of this machine one is: its interface and address ranges.
//!
//! Invariant: two instances share no address, no interface name and no folder.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How many test beds one machine can hold.
pub const INSTANCES: u8 = 8;

/// The number of a test bed, and everything that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance(u8);

impl Instance {
    /// All of them, lowest first.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..INSTANCES).map(Self)
    }

    /// 0 to 7.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The host's end of the link to the node; also the name of the node's nft table and of its cgroup.
    pub fn interface(self) -> String {
        format!("rimg{}", self.0)
    }

    /// The host's own address on the link: registries, git servers and channels listen here, so that pods and host
    /// reach them under the same name.
    pub fn host_ip(self) -> String {
        format!("10.89.{}.1", self.0)
    }

    /// The node's address: API server, kubelet, cluster DNS.
    pub fn node_ip(self) -> String {
        format!("10.89.{}.2", self.0)
    }

    /// A second address of the host, for "another host" in redirect and credential tests.
    pub fn other_host_ip(self) -> String {
        format!("10.89.{}.3", self.0)
    }

    /// The link's subnet.
    pub fn link_cidr(self) -> String {
        format!("10.89.{}.0/24", self.0)
    }

    /// Where pods live.
    pub fn pod_cidr(self) -> String {
        format!("10.{}.{}.0/18", 88 - self.0 / 4, u16::from(self.0 % 4) * 64)
    }

    /// Where services live.
    pub fn service_cidr(self) -> String {
        format!("10.{}.0.0/16", 96 + u16::from(self.0))
    }

    /// The service `kubernetes`.
    pub fn api_service_ip(self) -> String {
        format!("10.{}.0.1", 96 + u16::from(self.0))
    }

    /// The service `kube-dns`.
    pub fn dns_service_ip(self) -> String {
        format!("10.{}.0.10", 96 + u16::from(self.0))
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_instances_share_an_address() {
        let mut seen = std::collections::BTreeSet::new();
        for instance in Instance::all() {
            for range in [
                instance.pod_cidr(),
                instance.service_cidr(),
                instance.link_cidr(),
                instance.interface(),
            ] {
                assert!(seen.insert(range.clone()), "{range} twice");
            }
        }
    }
}
