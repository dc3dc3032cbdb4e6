//! The fields of the configuration file, with their defaults.

use std::collections::BTreeMap;

use robotimage_crds::api::{Compression, HttpFile};
use serde::{Deserialize, Serialize};

use super::{Network, Period, RegistryPolling, SourcePolling};

/// The whole file.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlatformConfig {
    /// Image of the build pods' containers, best by digest. A change of it builds everything anew.
    pub builder_image: String,
    /// Pull policy of the builder image. Default: Kubernetes' own, which depends on the tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder_image_pull_policy: Option<PullPolicy>,
    /// Names of Secrets to pull the builder image with; they must exist in the namespaces that build.
    #[serde(default)]
    pub image_pull_secrets: Vec<String>,
    /// Base of every image that names none.
    pub base: BaseConfig,
    /// rcc of every image that names none.
    pub rcc: RccConfig,
    /// Compression of layers where the resource names none. Default zstd: smaller, and faster to unpack.
    #[serde(default = "defaults::compression")]
    pub compression: Compression,
    /// Where finished environments are kept, so that other images take them over.
    #[serde(default)]
    pub environment_cache: EnvironmentCacheConfig,

    /// Hosts (`host` or `host:port`) that may be spoken to without TLS, by the operator and by build pods.
    #[serde(default)]
    pub plain_http: Vec<String>,
    /// Mirrors that build pods ask for bases and rcc before the registry itself, in this order: `host[:port]`, with a path
    /// before the repository's name if the mirror has one. By the registry's `host[:port]`; Docker Hub is `docker.io`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registry_mirrors: BTreeMap<String, Vec<String>>,
    /// Which addresses a tenant's URL may lead to.
    #[serde(default)]
    pub address_policy: AddressPolicyConfig,
    /// Whether the Secret of a git or http source must name the hosts it may be sent to. Only a cluster with a single tenant
    /// should turn it off.
    #[serde(default = "defaults::yes")]
    pub require_secret_hosts: bool,

    /// How private sources are polled. Public ones are always asked by the operator.
    #[serde(default)]
    pub source_polling: SourcePolling,
    /// How bases, rcc images and published images are polled.
    #[serde(default)]
    pub registry_polling: RegistryPolling,
    /// Look-ups of the operator at one git server or registry at the same time. Default 8.
    #[serde(default = "defaults::lookups_per_host")]
    pub lookups_per_host: u16,
    /// Shortest polling interval, whatever a resource asks for. Default 10s.
    #[serde(default = "defaults::min_interval")]
    pub min_interval: Period,

    /// Requests and limits of each build step, where the resource names none.
    #[serde(default)]
    pub resources: ResourceDefaults,
    /// Size limits of the build pod's volumes.
    #[serde(default)]
    pub volumes: VolumeSizes,
    /// Time for one attempt, where the resource names none. Default 30m.
    #[serde(default = "defaults::build_timeout")]
    pub build_timeout: Period,
    /// How long a build pod may wait for a node, a quota or its image before the build counts as failed. Default 10m.
    #[serde(default = "defaults::queue_limit")]
    pub queue_limit: Period,
    /// Builds at the same time; others are queued.
    #[serde(default)]
    pub build_slots: BuildSlots,
    /// `dnsPolicy` of build pods. Default ClusterFirst.
    #[serde(default = "defaults::dns_policy")]
    pub dns_policy: String,
    /// Bounds of a source.
    #[serde(default)]
    pub limits: Limits,

    /// Certificates to trust beside the system's, PEM, inline. At most one of this and `caBundleFile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// The same as a path inside the operator's container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle_file: Option<String>,
    /// Files that point rcc, pip and micromamba to the platform's mirrors.
    #[serde(default)]
    pub index: IndexConfig,

    /// Namespaces to serve. Empty: all of them.
    #[serde(default)]
    pub watch_namespaces: Vec<String>,
    /// Resources worked on at the same time. Default 8.
    #[serde(default = "defaults::concurrency")]
    pub concurrency: u16,
    /// Which of several replicas works.
    #[serde(default)]
    pub leader_election: LeaderElectionConfig,
}

/// The election of the replica that works.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LeaderElectionConfig {
    /// Whether there is one; without it there must be one replica only. Default false: whoever gives the operator no Lease to
    /// write gets one that works without.
    pub enabled: bool,
    /// Name of the Lease. Default `robotimage`.
    pub lease_name: String,
    /// Its namespace. Empty, the default: the operator's own.
    pub namespace: String,
    /// How long the Lease must stay unchanged before another replica takes over. Default 15s, at most 10m.
    pub lease_duration: Period,
    /// How long after its last renewal a leader stops; what is left of `leaseDuration` is what the clocks of two nodes may differ
    /// by in that time. Default 10s.
    pub renew_deadline: Period,
    /// Time between two renewals. Default 2s.
    pub retry_period: Period,
}

impl Default for LeaderElectionConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            lease_name: "robotimage".to_owned(),
            namespace: String::new(),
            lease_duration: Period::seconds(15),
            renew_deadline: Period::seconds(10),
            retry_period: Period::seconds(2),
        }
    }
}

/// When the kubelet pulls the builder image.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all.
    Never,
}

impl PullPolicy {
    /// Its name in a pod.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The platform's base image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaseConfig {
    /// Reference by tag or digest.
    pub image: String,
    /// Name of a Secret (kubernetes.io/dockerconfigjson) to read it with, in the namespaces that build. Without it the
    /// resource's own registry Secret is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// The platform's rcc: exactly one of image and http.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RccConfig {
    /// An image with the binary at /rcc or /usr/local/bin/rcc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// A file behind a URL, with its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFile>,
    /// Name of a Secret (kubernetes.io/dockerconfigjson) to read the image with, in the namespaces that build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// The environment cache: finished environments as images tagged `env-<key>`.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EnvironmentCacheConfig {
    /// Whether there is one. Default true.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// The repository, in the registry of the images; `{{repository}}` stands for the image's own. Empty, the default: the
    /// image's own. Whoever may push to it decides what runs in all images that share it.
    #[serde(default)]
    pub repository: String,
}

impl Default for EnvironmentCacheConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            repository: String::new(),
        }
    }
}

/// Addresses that tenants' URLs must not reach: loopback, link-local (with the clouds' metadata services), multicast and
/// reserved ranges always, and those named here.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressPolicyConfig {
    /// Ranges of pod addresses.
    #[serde(default)]
    pub pod_cidrs: Vec<Network>,
    /// Ranges of service addresses.
    #[serde(default)]
    pub service_cidrs: Vec<Network>,
    /// Further ranges, for example the API server's and the nodes' addresses.
    #[serde(default)]
    pub deny: Vec<Network>,
    /// Exceptions, for example a registry or git server inside the cluster or on this machine.
    #[serde(default)]
    pub allow: Vec<Network>,
}

/// Builds at the same time, those included whose pods wait or end. 0: as many as there are.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BuildSlots {
    /// In all namespaces. Default 50.
    pub total: u32,
    /// In each namespace. Default 20.
    pub per_namespace: u32,
}

impl Default for BuildSlots {
    fn default() -> Self {
        Self {
            total: 50,
            per_namespace: 20,
        }
    }
}

/// Requests and limits by the names `cpu`, `memory` and `ephemeral-storage`; a name left out keeps its default here.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResourceDefaults {
    /// What the scheduler reserves. Default cpu 100m, memory 256Mi, ephemeral-storage 1Gi.
    #[serde(default)]
    pub requests: BTreeMap<String, String>,
    /// What a step may use at most. Default cpu 2, memory 2Gi, ephemeral-storage 10Gi.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// What the memory limit of a build grows to at most, doubled after each OutOfMemory. Default 8Gi.
    #[serde(default = "defaults::max_memory")]
    pub max_memory: String,
}

impl Default for ResourceDefaults {
    fn default() -> Self {
        Self {
            requests: BTreeMap::new(),
            limits: BTreeMap::new(),
            max_memory: defaults::max_memory(),
        }
    }
}

/// Size limits of the build pod's volumes, as quantities.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VolumeSizes {
    /// The robot's code. Default 2Gi.
    pub source: String,
    /// Facts, rcc, and the files that resolve may see. Default 1Gi.
    pub spec: String,
    /// The environment. Default 10Gi.
    pub environment: String,
    /// HOME of resolve. Default 2Gi.
    pub home: String,
    /// Private scratch of one step. Default 10Gi.
    pub scratch: String,
    /// /tmp of one step. Default 2Gi.
    pub tmp: String,
}

impl Default for VolumeSizes {
    fn default() -> Self {
        let size = |text: &str| text.to_owned();
        Self {
            source: size("2Gi"),
            spec: size("1Gi"),
            environment: size("10Gi"),
            home: size("2Gi"),
            scratch: size("10Gi"),
            tmp: size("2Gi"),
        }
    }
}

/// Bounds of a source.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Most bytes of its files. Default 1 GiB.
    pub max_source_bytes: u64,
    /// Most files and folders. Default 100000.
    pub max_source_entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_source_bytes: 1 << 30,
            max_source_entries: 100_000,
        }
    }
}

/// Files for the resolve step, as they are; never a secret.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IndexConfig {
    /// rcc's settings.yaml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings_yaml: Option<String>,
    /// pip's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub piprc: Option<String>,
    /// micromamba's configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micromambarc: Option<String>,
}

/// Defaults that are not their type's own.
mod defaults {
    use robotimage_crds::api::Compression;

    use super::Period;

    pub(super) fn compression() -> Compression {
        Compression::Zstd
    }
    pub(super) fn yes() -> bool {
        true
    }
    pub(super) fn max_memory() -> String {
        "8Gi".to_owned()
    }
    pub(super) fn min_interval() -> Period {
        Period::seconds(10)
    }
    pub(super) fn lookups_per_host() -> u16 {
        8
    }
    pub(super) fn build_timeout() -> Period {
        Period::seconds(30 * 60)
    }
    pub(super) fn queue_limit() -> Period {
        Period::seconds(10 * 60)
    }
    pub(super) fn dns_policy() -> String {
        "ClusterFirst".to_owned()
    }
    // More do not make an API server faster whose processors are all taken; all of them only wait longer for each answer.
    pub(super) fn concurrency() -> u16 {
        8
    }
}
