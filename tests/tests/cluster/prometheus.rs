//! A real Prometheus that scrapes what it is told and evaluates the chart's rules, every second.
//!
//! Invariant: it listens on loopback, keeps everything in the folder that it is given, and ends with the test.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use robotimage_tests::process::{Lifetime, Part, Place, Spec};
use robotimage_tests::{Error, Result};
use serde_json::{Value, json};

use crate::replica::free_address;

/// A running Prometheus; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Prometheus {
    part: Part,
    address: String,
}

impl Prometheus {
    /// Scrapes `targets` (`host:port`) as the job and namespace that the chart's rules ask for. `rules` is the spec of a
    /// PrometheusRule, which is what a file of rules holds.
    pub(crate) fn start(folder: &Path, job: &str, namespace: &str, targets: &[String], rules: &Value) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let address = free_address()?;
        // JSON is YAML.
        let (config, rule_file) = (folder.join("prometheus.yaml"), folder.join("rules.yaml"));
        let text = json!({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": [rule_file],
            "scrape_configs": [{
                "job_name": job,
                "static_configs": [{"targets": targets, "labels": {"namespace": namespace}}],
            }],
        });
        std::fs::write(&config, text.to_string()).map_err(Error::io("write", &config))?;
        std::fs::write(&rule_file, rules.to_string()).map_err(Error::io("write", &rule_file))?;
        let part = Part::start(Spec {
            name: "prometheus".into(),
            program: "prometheus".into(),
            args: vec![
                format!("--config.file={}", config.display()),
                format!("--storage.tsdb.path={}", folder.join("data").display()),
                format!("--web.listen-address={address}"),
            ],
            env: std::collections::BTreeMap::new(),
            log: folder.join("prometheus.log"),
            place: Place::Host,
            lifetime: Lifetime::Harness,
        })?;
        Ok(Self { part, address })
    }

    /// The names of the alerts that fire; `None` when it does not answer.
    pub(crate) async fn firing(&self) -> Option<BTreeSet<String>> {
        let answer = self.ask("/api/v1/alerts").await?;
        let alerts = answer["data"]["alerts"].as_array()?;
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        let names = firing.filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned));
        Some(names.collect())
    }

    /// Waits until this alert fires; `nudge` is called every second. Gives the time that it took.
    pub(crate) async fn wait_for<F: AsyncFnMut()>(&self, alert: &str, limit: Duration, mut nudge: F) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let firing = self.firing().await;
            if firing.as_ref().is_some_and(|firing| firing.contains(alert)) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > limit {
                return Err(self.part.failure(format!("{alert} does not fire after {limit:?}; {firing:?} do")));
            }
            nudge().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Waits until every target was scraped.
    pub(crate) async fn wait_scraped(&self, targets: usize, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        loop {
            let answer = self.ask("/api/v1/targets").await.unwrap_or_default();
            let active = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            if active.iter().filter(|target| target["health"] == "up").count() == targets {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(self.part.failure(format!("not every target is up: {active:?}")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = reqwest::get(format!("http://{}{path}", self.address)).await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.part.kill();
    }
}

/// What `promtool check metrics` says of a scrape.
pub(crate) fn check_metrics(scrape: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::Other(format!("promtool: {error}"));
    let mut command = Command::new("promtool");
    command
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(scrape.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() && output.stderr.is_empty() {
        return Ok(());
    }
    Err(Error::Other(format!(
        "promtool check metrics: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )))
}
