//! The configuration, read, checked, and with what follows from it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use robotimage_crds::build::{PlanPlatform, PlanRcc};
use robotimage_registry::AddressPolicy;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::check::check;
use super::{PlatformConfig, PollingMode};

/// What stands for an image's own repository in `environmentCache.repository`.
pub(super) const OWN_REPOSITORY: &str = "{{repository}}";

/// The configuration is not usable.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not the YAML that is expected.
    #[error("the configuration is not valid: {0}")]
    Syntax(String),
    /// A field has a value that cannot work.
    #[error("the configuration's field {field} is not valid: {problem}")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong, and what it takes.
        problem: String,
    },
}

/// The configuration and what follows from it. Made once at the start; a change of the file is a restart.
#[derive(Clone, Debug)]
pub struct Platform {
    /// As written.
    pub config: PlatformConfig,
    /// Certificates to trust beside the system's, PEM; empty for none.
    pub ca_bundle: String,
    /// Which addresses a tenant's URL may lead to.
    pub policy: AddressPolicy,
    /// rcc of images that name none.
    pub rcc: PlanRcc,
    /// SHA-256 over what a build's request depends on; a change of it is a reason to look at every image again.
    pub hash: String,
}

/// The part of the configuration that a build depends on. Timeouts, sizes and polling are not in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hashed<'a> {
    builder_image: &'a str,
    base: &'a super::BaseConfig,
    rcc: &'a super::RccConfig,
    compression: robotimage_crds::api::Compression,
    plain_http: &'a [String],
    // Left out when there are none, so that the hash of whoever has none stays what it was.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    registry_mirrors: &'a BTreeMap<String, Vec<String>>,
    address_policy: &'a super::AddressPolicyConfig,
    require_secret_hosts: bool,
    limits: super::Limits,
    ca_bundle: &'a str,
    index: &'a super::IndexConfig,
}

impl Platform {
    /// Reads the file, and the CA bundle that it names. `api_server` is denied to tenants when it is an address.
    pub fn load(path: &Path, api_server: Option<IpAddr>) -> Result<Self, ConfigError> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
                path: path.to_owned(),
                source,
            })
        };
        let config = Self::parse(&read(path)?)?;
        let bundle = match &config.ca_bundle_file {
            Some(file) => read(Path::new(file))?,
            None => config.ca_bundle.clone().unwrap_or_default(),
        };
        Self::new(config, bundle, api_server)
    }

    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<PlatformConfig, ConfigError> {
        serde_saphyr::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))
    }

    /// Checks a configuration and computes what follows from it.
    pub fn new(config: PlatformConfig, ca_bundle: String, api_server: Option<IpAddr>) -> Result<Self, ConfigError> {
        let rcc = check(&config)?;
        let internal: Vec<IpNet> = [
            &config.address_policy.pod_cidrs,
            &config.address_policy.service_cidrs,
            &config.address_policy.deny,
        ]
        .into_iter()
        .flatten()
        .map(|network| network.0)
        .chain(api_server.map(IpNet::from))
        .collect();
        let policy = AddressPolicy::tenant(&internal).with_allowed(config.address_policy.allow.iter().map(|network| network.0));
        let hashed = Hashed {
            builder_image: &config.builder_image,
            base: &config.base,
            rcc: &config.rcc,
            compression: config.compression,
            plain_http: &config.plain_http,
            registry_mirrors: &config.registry_mirrors,
            address_policy: &config.address_policy,
            require_secret_hosts: config.require_secret_hosts,
            limits: config.limits,
            ca_bundle: &ca_bundle,
            index: &config.index,
        };
        let text = serde_json::to_vec(&hashed).expect("invariant: the configuration is plain data");
        let hash = hex::encode(Sha256::digest(text));
        Ok(Self {
            config,
            ca_bundle,
            policy,
            rcc,
            hash,
        })
    }

    /// What every step of a build for this repository is held to.
    pub fn plan(&self, repository: &str) -> PlanPlatform {
        let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect();
        PlanPlatform {
            plain_http: self.config.plain_http.clone(),
            mirrors: self.config.registry_mirrors.clone(),
            deny: texts(&self.policy.deny),
            allow: texts(&self.policy.allow),
            require_secret_hosts: self.config.require_secret_hosts,
            max_source_bytes: self.config.limits.max_source_bytes,
            max_source_entries: self.config.limits.max_source_entries,
            environment_cache: self.environment_cache(repository),
        }
    }

    /// Where environments of images of this repository are kept; none when the platform wants none kept.
    fn environment_cache(&self, repository: &str) -> Option<String> {
        let cache = &self.config.environment_cache;
        let wanted = match cache.repository.as_str() {
            "" => repository.to_owned(),
            other => other.replace(OWN_REPOSITORY, repository),
        };
        cache.enabled.then_some(wanted)
    }

    /// Whether plain http to this host is allowed; `port` is the one that the URL leads to.
    pub fn plain_http_allowed(&self, host: &str, port: u16) -> bool {
        let with_port = format!("{host}:{port}");
        self.config.plain_http.iter().any(|listed| listed == host || *listed == with_port)
    }

    /// Whether the operator itself may read the Secrets of git and http sources of this namespace.
    pub fn reads_secrets_of(&self, namespace: &str) -> bool {
        let polling = &self.config.source_polling;
        polling.mode == PollingMode::Operator && polling.namespaces.iter().any(|listed| listed == namespace)
    }

    /// The files of the ConfigMap `robotimage-platform`, by name; those that the platform does not set are left out.
    pub fn files(&self) -> std::collections::BTreeMap<String, String> {
        let index = &self.config.index;
        [
            ("ca-bundle.pem", Some(&self.ca_bundle).filter(|text| !text.is_empty())),
            ("settings.yaml", index.settings_yaml.as_ref()),
            ("piprc", index.piprc.as_ref()),
            ("micromambarc", index.micromambarc.as_ref()),
        ]
        .into_iter()
        .filter_map(|(name, text)| text.map(|text| (name.to_owned(), text.clone())))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../example-config.yaml");

    #[test]
    fn the_example_loads_and_says_the_defaults() {
        let example = Platform::parse(EXAMPLE).unwrap();
        let platform = Platform::new(example.clone(), String::new(), None).unwrap();
        assert!(platform.policy.permits("10.43.0.50".parse().unwrap()));
        assert!(!platform.policy.permits("10.43.0.51".parse().unwrap()));
        assert!(!platform.policy.permits("192.0.2.10".parse().unwrap()));
        let least = "builderImage: a\nbase: {image: b}\nrcc: {image: c}\n";
        let least = Platform::parse(least).unwrap();
        assert_eq!(least.compression, example.compression);
        assert_eq!(least.min_interval, example.min_interval);
        assert_eq!(least.source_polling, example.source_polling);
        assert_eq!(least.registry_polling, example.registry_polling);
        assert_eq!(least.build_slots, example.build_slots);
        assert_eq!(least.lookups_per_host, example.lookups_per_host);
        assert_eq!(least.volumes, example.volumes);
        assert_eq!(least.build_timeout, example.build_timeout);
        assert_eq!(least.queue_limit, example.queue_limit);
        assert_eq!(least.dns_policy, example.dns_policy);
        assert_eq!(least.limits, example.limits);
        assert_eq!(least.concurrency, example.concurrency);
        assert_eq!(least.require_secret_hosts, example.require_secret_hosts);
        assert_eq!(least.environment_cache, example.environment_cache);
        assert_eq!(least.leader_election, example.leader_election);
    }

    #[test]
    fn the_example_shows_every_field() {
        // A field that serializes but is not in the example's text was forgotten there.
        let example = serde_json::to_value(Platform::parse(EXAMPLE).unwrap()).unwrap();
        for field in example.as_object().unwrap().keys() {
            assert!(EXAMPLE.contains(&format!("{field}:")), "{field}");
        }
    }

    #[test]
    fn what_cannot_work_is_named() {
        let least = "builderImage: a\nbase: {image: b}\nrcc: {image: c}\n";
        for (extra, named) in [
            ("surprise: 1\n", "surprise"),
            ("concurrency: 0\n", "concurrency"),
            ("lookupsPerHost: 0\n", "lookupsPerHost"),
            ("registryPolling: {baseInterval: 1ms}\n", "registryPolling.baseInterval"),
            ("queueLimit: soon\n", "soon"),
            ("minInterval: 1ms\n", "minInterval"),
            ("dnsPolicy: None\n", "dnsPolicy"),
            ("resources: {limits: {gpu: '1'}}\n", "resources.limits.gpu"),
            ("resources: {requests: {cpu: lots}}\n", "resources.requests.cpu"),
            ("resources: {maxMemory: much}\n", "resources.maxMemory"),
            ("volumes: {tmp: '0'}\n", "volumes.tmp"),
            ("caBundle: x\ncaBundleFile: y\n", "caBundle"),
            ("sourcePolling: {mode: Sometimes}\n", "Sometimes"),
            ("leaderElection: {leaseName: ''}\n", "leaderElection.leaseName"),
            ("leaderElection: {leaseDuration: 1500ms}\n", "leaderElection.leaseDuration"),
            ("leaderElection: {leaseDuration: 1h}\n", "leaderElection.leaseDuration"),
            ("leaderElection: {renewDeadline: 15s}\n", "leaderElection.renewDeadline"),
            ("leaderElection: {retryPeriod: 6s}\n", "leaderElection.retryPeriod"),
            ("addressPolicy: {deny: [nowhere]}\n", "nowhere"),
            (
                "environmentCache: {repository: 'https://r.example.com/env'}\n",
                "environmentCache.repository",
            ),
            (
                "environmentCache: {repository: 'r.example.com/env:1'}\n",
                "environmentCache.repository",
            ),
            ("registryMirrors: {docker.io: ['https://mirror.example.com']}\n", "registryMirrors"),
        ] {
            let error = Platform::parse(&format!("{least}{extra}"))
                .and_then(|config| Platform::new(config, String::new(), None))
                .unwrap_err();
            assert!(error.to_string().contains(named), "{extra}: {error}");
        }
        let error = Platform::parse("builderImage: a\nbase: {image: b}\nrcc: {}\n")
            .and_then(|config| Platform::new(config, String::new(), None))
            .unwrap_err();
        assert!(error.to_string().contains("rcc"), "{error}");
    }

    #[test]
    fn the_hash_knows_what_a_build_depends_on_and_nothing_else() {
        let hash = |change: &dyn Fn(&mut PlatformConfig), bundle: &str| {
            let mut config = Platform::parse(EXAMPLE).unwrap();
            change(&mut config);
            Platform::new(config, bundle.to_owned(), None).unwrap().hash
        };
        let same = hash(&|_| {}, "");
        assert_eq!(same, hash(&|config| config.concurrency = 1, ""));
        assert_eq!(same, hash(&|config| config.environment_cache.enabled = false, ""));
        assert_eq!(same, hash(&|config| config.build_timeout = super::super::Period::seconds(77), ""));
        assert_ne!(same, hash(&|config| config.builder_image = "other".to_owned(), ""));
        assert_ne!(same, hash(&|config| config.index.piprc = None, ""));
        assert_ne!(same, hash(&|config| config.registry_mirrors.clear(), ""));
        assert_ne!(same, hash(&|_| {}, "another bundle"));
    }

    #[test]
    fn environments_are_kept_where_the_platform_says() {
        let plan = |extra: &str| {
            let config = Platform::parse(&format!("builderImage: a\nbase: {{image: b}}\nrcc: {{image: c}}\n{extra}")).unwrap();
            let platform = Platform::new(config, String::new(), None).unwrap();
            platform.plan("r.example.com/robots/a").environment_cache
        };
        for (extra, expected) in [
            ("", Some("r.example.com/robots/a")),
            (
                "environmentCache: {repository: '{{repository}}/env'}",
                Some("r.example.com/robots/a/env"),
            ),
            ("environmentCache: {repository: r.example.com/env}", Some("r.example.com/env")),
            ("environmentCache: {enabled: false}", None),
        ] {
            assert_eq!(plan(extra).as_deref(), expected, "{extra}");
        }
    }

    #[test]
    fn plain_http_is_by_host_or_host_and_port() {
        let mut config = Platform::parse(EXAMPLE).unwrap();
        config.plain_http = vec!["a.example".to_owned(), "b.example:8080".to_owned()];
        let platform = Platform::new(config, String::new(), None).unwrap();
        assert!(platform.plain_http_allowed("a.example", 80) && platform.plain_http_allowed("a.example", 81));
        assert!(platform.plain_http_allowed("b.example", 8080) && !platform.plain_http_allowed("b.example", 80));
    }
}
