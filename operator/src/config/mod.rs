//! The platform's configuration: one YAML file, mounted from a ConfigMap that the chart renders.
//!
//! Invariant: an unknown or malformed field ends the start with a message that names it; nothing in here is a secret.
//! `operator/example-config.yaml` shows every field; a test loads it.

mod check;
mod file;
mod network;
mod period;
mod platform;
mod polling;

pub use file::{
    AddressPolicyConfig, BaseConfig, BuildSlots, EnvironmentCacheConfig, IndexConfig, LeaderElectionConfig, Limits, PlatformConfig,
    PullPolicy, RccConfig, ResourceDefaults, VolumeSizes,
};
pub use network::Network;
pub use period::Period;
pub use platform::{ConfigError, Platform};
pub use polling::{PollingMode, RegistryPolling, SourcePolling};
