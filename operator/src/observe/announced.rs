//! What was last written into the ConfigMap of `image.publishTo`.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// One ConfigMap, as this process left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its name.
    pub name: String,
    /// The keys.
    pub data: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
    /// Why it was left as it was, when it was.
    pub refused: Option<String>,
}
