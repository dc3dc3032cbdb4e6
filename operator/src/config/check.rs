//! What the types of the configuration cannot say: values that are there and cannot work.

use std::time::Duration;

use robotimage_crds::build::PlanRcc;
use robotimage_registry::Repository;

use super::platform::{ConfigError, OWN_REPOSITORY};
use super::{LeaderElectionConfig, PlatformConfig};
use crate::quantity::Quantity;

/// Nobody should wait longer than that for a replica that died.
const LONGEST_LEASE: Duration = Duration::from_mins(10);

/// What the types cannot say. Answers the platform's rcc.
pub(super) fn check(config: &PlatformConfig) -> Result<PlanRcc, ConfigError> {
    let bad = |field: &str, problem: &str| ConfigError::Field {
        field: field.to_owned(),
        problem: problem.to_owned(),
    };
    for (field, value) in [("builderImage", &config.builder_image), ("base.image", &config.base.image)] {
        if value.trim().is_empty() {
            return Err(bad(field, "it is empty; it takes an image reference"));
        }
    }
    if config.ca_bundle.is_some() && config.ca_bundle_file.is_some() {
        return Err(bad("caBundle", "caBundleFile is set as well; keep one of the two"));
    }
    robotimage_registry::check_mirrors(&config.registry_mirrors).map_err(|problem| bad("registryMirrors", &problem))?;
    for (field, number) in [("concurrency", config.concurrency), ("lookupsPerHost", config.lookups_per_host)] {
        if number == 0 {
            return Err(bad(field, "it must be at least 1"));
        }
    }
    for (field, period) in [
        ("minInterval", config.min_interval),
        ("buildTimeout", config.build_timeout),
        ("queueLimit", config.queue_limit),
        ("sourcePolling.podInterval", config.source_polling.pod_interval),
        ("registryPolling.baseInterval", config.registry_polling.base_interval),
        ("registryPolling.imageInterval", config.registry_polling.image_interval),
    ] {
        if period.0.as_millis() < 1000 {
            return Err(bad(field, "it must be at least 1s"));
        }
    }
    check_election(&config.leader_election)?;
    if !["ClusterFirst", "Default"].contains(&config.dns_policy.as_str()) {
        return Err(bad("dnsPolicy", "it is ClusterFirst or Default"));
    }
    for (part, values) in [("requests", &config.resources.requests), ("limits", &config.resources.limits)] {
        for (name, value) in values {
            let field = format!("resources.{part}.{name}");
            if !["cpu", "memory", "ephemeral-storage"].contains(&name.as_str()) {
                return Err(bad(&field, "only cpu, memory and ephemeral-storage are known"));
            }
            if !value.parse::<Quantity>().is_ok_and(Quantity::is_positive) {
                return Err(bad(&field, "it is not a quantity above zero, such as 500m or 2Gi"));
            }
        }
    }
    if !config.resources.max_memory.parse::<Quantity>().is_ok_and(Quantity::is_positive) {
        return Err(bad("resources.maxMemory", "it is not a quantity above zero, such as 8Gi"));
    }
    let cache = config
        .environment_cache
        .repository
        .replace(OWN_REPOSITORY, "registry.example.com/a");
    if !cache.is_empty() && Repository::parse(&cache).is_err() {
        return Err(bad(
            "environmentCache.repository",
            "it is a repository with its registry and without tag, or holds {{repository}}, for example {{repository}}/env",
        ));
    }
    let volumes = &config.volumes;
    for (name, value) in [
        ("source", &volumes.source),
        ("spec", &volumes.spec),
        ("environment", &volumes.environment),
        ("home", &volumes.home),
        ("scratch", &volumes.scratch),
        ("tmp", &volumes.tmp),
    ] {
        if !value.parse::<Quantity>().is_ok_and(Quantity::is_positive) {
            return Err(bad(&format!("volumes.{name}"), "it is not a quantity above zero, such as 2Gi"));
        }
    }
    match (&config.rcc.image, &config.rcc.http) {
        (Some(image), None) => Ok(PlanRcc::Image(image.clone())),
        (None, Some(http)) => {
            if http.sha256.len() == 64 && http.sha256.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
                Ok(PlanRcc::Http(http.clone()))
            } else {
                Err(bad("rcc.http.sha256", "it takes 64 lower-case hexadecimal digits"))
            }
        }
        _ => Err(bad("rcc", "exactly one of image and http must be set")),
    }
}

/// Times that leave no room between one leader's end and the next one's beginning would make two.
fn check_election(election: &LeaderElectionConfig) -> Result<(), ConfigError> {
    let bad = |field: &str, problem: &str| {
        Err(ConfigError::Field {
            field: format!("leaderElection.{field}"),
            problem: problem.to_owned(),
        })
    };
    if election.lease_name.is_empty() {
        return bad("leaseName", "it is empty; it takes the name of a Lease");
    }
    let (duration, renew, retry) = (election.lease_duration.0, election.renew_deadline.0, election.retry_period.0);
    if duration.subsec_nanos() != 0 || duration > LONGEST_LEASE {
        return bad("leaseDuration", "it takes whole seconds, at most 10m");
    }
    if renew >= duration {
        return bad("renewDeadline", "it must be shorter than leaseDuration");
    }
    if retry.is_zero() || retry * 2 > renew {
        return bad("retryPeriod", "it must be above zero and at most half of renewDeadline");
    }
    Ok(())
}
