//! Metrics. No label grows with the number of objects.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};
use robotimage_crds::api::{BuildPhase, RobotImageStatus, condition::READY};
use robotimage_crds::duration;
use robotimage_crds::reason::Reason;

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    builds: IntCounterVec,
    build_duration: HistogramVec,
    polls: IntCounterVec,
    images: IntGaugeVec,
    running: IntGaugeVec,
    reconciles: Histogram,
    errors: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        let long = vec![1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0];
        let counter =
            |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels).expect("invariant: a valid metric");
        let gauge =
            |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels).expect("invariant: a valid metric");
        let metrics = Self {
            registry: Registry::new(),
            builds: counter("robotimage_builds_total", "Ended builds.", &["result", "reason", "plan"]),
            build_duration: HistogramVec::new(
                HistogramOpts::new(
                    "robotimage_build_duration_seconds",
                    "Time of ended build steps; step all is the whole build from its decision.",
                )
                .buckets(long),
                &["step"],
            )
            .expect("invariant: a valid metric"),
            polls: counter(
                "robotimage_source_polls_total",
                "Look-ups of sources by the operator.",
                &["kind", "result"],
            ),
            images: gauge(
                "robotimage_images",
                "RobotImages by the status of their condition Ready.",
                &["ready"],
            ),
            running: gauge("robotimage_builds", "Live builds by phase.", &["state"]),
            reconciles: Histogram::with_opts(HistogramOpts::new("robotimage_reconcile_duration_seconds", "Time of a reconcile."))
                .expect("invariant: a valid metric"),
            errors: counter("robotimage_reconcile_errors_total", "Failed reconciles.", &["class"]),
        };
        let collectors: [Box<dyn prometheus::core::Collector>; 7] = [
            Box::new(metrics.builds.clone()),
            Box::new(metrics.build_duration.clone()),
            Box::new(metrics.polls.clone()),
            Box::new(metrics.images.clone()),
            Box::new(metrics.running.clone()),
            Box::new(metrics.reconciles.clone()),
            Box::new(metrics.errors.clone()),
        ];
        for collector in collectors {
            metrics
                .registry
                .register(collector)
                .expect("invariant: every metric has its own name");
        }
        metrics
    }
}

impl Metrics {
    /// Counts a look-up.
    pub(super) fn polled(&self, failed: Option<Reason>) {
        self.polls
            .with_label_values(&["git", failed.map_or("Resolved", Reason::as_str)])
            .inc();
    }

    /// Counts a reconcile.
    pub(super) fn reconciled(&self, took: Duration, error: Option<&str>) {
        self.reconciles.observe(took.as_secs_f64());
        if let Some(class) = error {
            self.errors.with_label_values(&[class]).inc();
        }
    }

    /// Counts the build that ended between two states of a status.
    pub(super) fn written(&self, before: Option<&RobotImageStatus>, after: &RobotImageStatus) {
        let Some(build) = &after.latest_build else { return };
        let was_over = before
            .and_then(|status| status.latest_build.as_ref())
            .is_some_and(|old| old.build_id == build.build_id && over(old.phase));
        if was_over || !over(build.phase) {
            return;
        }
        let (result, reason) = match build.phase {
            BuildPhase::Succeeded => ("success", ""),
            BuildPhase::Canceled => ("canceled", ""),
            _ => ("failure", after.last_failure.as_ref().map_or("", |failure| failure.reason.as_str())),
        };
        // The reason comes from the closed list; anything else would be a label that grows.
        let reason = reason.parse::<Reason>().map_or("", Reason::as_str);
        self.builds
            .with_label_values(&[result, reason, build.plan.as_deref().unwrap_or("")])
            .inc();
        let whole = build.duration.as_deref().map(|time| ("all", time));
        let steps = build
            .steps
            .iter()
            .filter_map(|step| Some((step.name.as_str(), step.duration.as_deref()?)));
        for (step, time) in whole.into_iter().chain(steps) {
            if let Some(time) = duration::parse(time) {
                self.build_duration.with_label_values(&[step]).observe(time.as_secs_f64());
            }
        }
    }

    /// The text of a scrape. `statuses` are those of all resources.
    pub fn render(&self, statuses: impl Iterator<Item = Option<RobotImageStatus>>) -> String {
        self.images.reset();
        self.running.reset();
        for state in ["True", "False", "Unknown"] {
            self.images.with_label_values(&[state]).set(0);
        }
        for state in ["Pending", "Running"] {
            self.running.with_label_values(&[state]).set(0);
        }
        for status in statuses.map(Option::unwrap_or_default) {
            let ready = status
                .conditions
                .iter()
                .find(|condition| condition.type_ == READY)
                .map_or("Unknown", |condition| condition.status.as_str());
            self.images
                .with_label_values(&[if ["True", "False"].contains(&ready) { ready } else { "Unknown" }])
                .inc();
            match status.latest_build.map(|build| build.phase) {
                Some(BuildPhase::Pending) => self.running.with_label_values(&["Pending"]).inc(),
                Some(BuildPhase::Running) => self.running.with_label_values(&["Running"]).inc(),
                _ => {}
            }
        }
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_else(|error| format!("# {error}\n"))
    }
}

fn over(phase: BuildPhase) -> bool {
    matches!(phase, BuildPhase::Succeeded | BuildPhase::Failed | BuildPhase::Canceled)
}
