//! A duration as the configuration and the API write it: `90s`, `30m`, `1h30m`.

use std::fmt;
use std::time::Duration;

use robotimage_crds::duration;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that reads and writes as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// A period of whole seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&duration::format(self.0))
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration::parse(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("\"{text}\" is not a duration such as 90s, 30m or 1h30m")))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
