//! The part of the configuration that says who looks at sources and registries, and how often.

use serde::{Deserialize, Serialize};

use super::Period;

/// How private sources are polled.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourcePolling {
    /// Default Pod.
    #[serde(default)]
    pub mode: PollingMode,
    /// With mode Operator: the namespaces in which the operator may `get` a Secret that a git source names; elsewhere a
    /// build pod looks. The chart makes one Role for each.
    #[serde(default)]
    pub namespaces: Vec<String>,
    /// Shortest time between two looks by a build pod. Default 15m.
    #[serde(default = "pod_interval")]
    pub pod_interval: Period,
}

impl Default for SourcePolling {
    fn default() -> Self {
        Self {
            mode: PollingMode::default(),
            namespaces: Vec::new(),
            pod_interval: pod_interval(),
        }
    }
}

/// How the operator polls registries. It asks without credentials; what it may not see so, only builds look at.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RegistryPolling {
    /// Whether it does. Default true.
    pub enabled: bool,
    /// Shortest time between two look-ups of one base or rcc image. Default 5m.
    pub base_interval: Period,
    /// Shortest time between two look-ups of a published image, which is made again when it is gone. Default 1h.
    pub image_interval: Period,
}

impl Default for RegistryPolling {
    fn default() -> Self {
        Self {
            enabled: true,
            base_interval: Period::seconds(5 * 60),
            image_interval: Period::seconds(60 * 60),
        }
    }
}

/// Who looks after private sources.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PollingMode {
    /// The operator, with the Secret, in the listed namespaces.
    Operator,
    /// A build pod, whose fetch step says when there is nothing to do.
    #[default]
    Pod,
    /// Nobody: only a change of the spec resolves anew.
    Off,
}

fn pod_interval() -> Period {
    Period::seconds(15 * 60)
}
