//! The metrics, by name.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use robotimage_crds::reason::Reason;

/// Builds take seconds to an hour.
const LONG: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];
/// Reconciles take milliseconds to their deadline.
const SHORT: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    pub(super) registry: Registry,
    pub(super) builds: IntCounterVec,
    pub(super) build_duration: HistogramVec,
    pub(super) queued: Histogram,
    pub(super) layer_bytes: IntCounterVec,
    pub(super) environments: IntCounterVec,
    polls: IntCounterVec,
    reconciles: Histogram,
    errors: IntCounterVec,
    pub(super) images: IntGaugeVec,
    pub(super) live: IntGaugeVec,
    pub(super) leader: IntGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Registry::new();
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let made = IntCounterVec::new(Opts::new(name, help), labels).expect("invariant: a valid metric");
            kept(&registry, made)
        };
        let gauge = |name: &str, help: &str, labels: &[&str]| {
            let made = IntGaugeVec::new(Opts::new(name, help), labels).expect("invariant: a valid metric");
            kept(&registry, made)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            kept(&registry, Histogram::with_opts(options).expect("invariant: a valid metric"))
        };
        let durations = HistogramOpts::new(
            "robotimage_build_duration_seconds",
            "Time of ended build steps; step all is the whole build from its decision.",
        );
        let durations = HistogramVec::new(durations.buckets(LONG.to_vec()), &["step"]).expect("invariant: a valid metric");
        let leader = IntGauge::new(
            "robotimage_leader",
            "Whether this replica is the one that works: 1, or 0 while another does.",
        );
        let leader = leader.expect("invariant: a valid metric");
        let metrics = Self {
            builds: counter("robotimage_builds_total", "Ended builds.", &["result", "reason", "plan"]),
            build_duration: kept(&registry, durations),
            queued: histogram(
                "robotimage_queue_seconds",
                "Time from the decision to build until the first step of the attempt has started.",
                &LONG,
            ),
            layer_bytes: counter(
                "robotimage_layer_bytes_total",
                "Compressed bytes of the layers of published images: uploaded, or reused because the registry had them.",
                &["role", "direction"],
            ),
            environments: counter(
                "robotimage_environment_cache_total",
                "Questions to the environment cache by its answer.",
                &["result"],
            ),
            polls: counter(
                "robotimage_source_polls_total",
                "Look-ups of sources by the operator.",
                &["kind", "result"],
            ),
            reconciles: histogram("robotimage_reconcile_duration_seconds", "Time of a reconcile.", &SHORT),
            errors: counter("robotimage_reconcile_errors_total", "Failed reconciles.", &["class"]),
            images: gauge(
                "robotimage_images",
                "RobotImages by the status of their condition Ready.",
                &["ready"],
            ),
            live: gauge(
                "robotimage_builds",
                "Builds that have not ended: Pending while something keeps them from starting, else Running.",
                &["state"],
            ),
            leader: kept(&registry, leader),
            registry,
        };
        // What has not happened yet counts 0: an alert on an increase would miss the first time otherwise.
        for class in ["read", "write", "timeout", "panic"] {
            metrics.errors.with_label_values(&[class]);
        }
        for result in super::builds::CACHE {
            metrics.environments.with_label_values(&[result]);
        }
        for result in ["Resolved", "SourceUnreachable", "CertificateUntrusted", "ProxyFailed"] {
            metrics.polls.with_label_values(&["git", result]);
        }
        for reason in Reason::ALL {
            metrics.builds.with_label_values(&["failure", reason.as_str(), ""]);
        }
        for plan in super::builds::PLANS {
            metrics.builds.with_label_values(&["success", "", plan]);
        }
        metrics
    }
}

impl Metrics {
    /// Counts a look-up.
    pub(crate) fn polled(&self, kind: &str, failed: Option<Reason>) {
        self.polls
            .with_label_values(&[kind, failed.map_or("Resolved", Reason::as_str)])
            .inc();
    }

    /// Counts a reconcile.
    pub(crate) fn reconciled(&self, took: Duration, error: Option<&str>) {
        self.reconciles.observe(took.as_secs_f64());
        if let Some(class) = error {
            self.errors.with_label_values(&[class]).inc();
        }
    }
}

fn kept<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> C {
    registry
        .register(Box::new(collector.clone()))
        .expect("invariant: every metric has its own name");
    collector
}
