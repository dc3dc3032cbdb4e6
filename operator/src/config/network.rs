//! An address range as the configuration writes it: `10.42.0.0/16`, or one address.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A range that reads and writes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(pub IpNet);

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse::<IpNet>()
            .or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error))
            .map(Self)
            .map_err(|_| serde::de::Error::custom(format!("\"{text}\" is not an address range such as 10.42.0.0/16")))
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
