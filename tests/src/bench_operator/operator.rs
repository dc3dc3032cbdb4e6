//! The operator under measurement, and what it tells of itself.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ground::{Ground, PATIENCE};
use super::usage;
use crate::error::{Error, Result};
use crate::operator::OperatorProcess;

/// Memory and processor time are read when nothing has happened for so long.
const REST: Duration = Duration::from_secs(15);

/// A running one.
#[derive(Debug)]
pub(super) struct Operator {
    process: OperatorProcess,
    address: String,
    /// When it was started.
    pub(super) since: Instant,
}

impl Operator {
    /// Starts it.
    pub(super) fn start(ground: &Ground) -> Result<Self> {
        let since = Instant::now();
        Ok(Self {
            process: OperatorProcess::start(ground.options.clone())?,
            address: ground.address.clone(),
            since,
        })
    }

    /// Ends it, as a node does.
    pub(super) fn stop(mut self) {
        self.process.terminate(Duration::from_secs(10));
    }

    /// Waits until it has listed everything and looked at each of so many objects once; seconds since its start.
    pub(super) async fn settled(&self, objects: usize) -> Result<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts of objects are far below 2^52")]
        let wanted = objects as f64;
        self.until("reconciles", wanted, |text| {
            sum(text, "robotimage_reconcile_duration_seconds_count")
        })
        .await?;
        let seconds = self.since.elapsed().as_secs_f64();
        self.until("objects that it knows", wanted, |text| sum(text, "robotimage_images{"))
            .await?;
        Ok(seconds)
    }

    /// How many builds have succeeded since its start.
    pub(super) async fn succeeded(&self) -> Result<f64> {
        let text = self.metrics().await?;
        Ok(sum(&text, "robotimage_builds_total{") - sum_with(&text, "robotimage_builds_total{", "result=\"failure\""))
    }

    /// Waits until so many builds have succeeded since its start.
    pub(super) async fn built(&self, builds: f64) -> Result<()> {
        self.until("builds that succeeded", builds, |text| {
            sum(text, "robotimage_builds_total{") - sum_with(text, "robotimage_builds_total{", "result=\"failure\"")
        })
        .await
    }

    async fn until(&self, what: &str, wanted: f64, read: impl Fn(&str) -> f64) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        let mut last = 0.0;
        while Instant::now() < end {
            if !self.process.is_alive() {
                return Err(self.process.part().failure("has ended while it was measured"));
            }
            // It does not listen in its first moments.
            last = self.metrics().await.map_or(last, |text| read(&text));
            if last >= wanted {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(self.process.part().failure(format!("{what}: {last} of {wanted}")))
    }

    /// MB in memory after a while of rest, and at most so far.
    pub(super) async fn memory(&self) -> Result<(f64, f64)> {
        tokio::time::sleep(REST).await;
        usage::memory(self.process.identity().pid)
    }

    /// Seconds of processor time so far.
    pub(super) fn processor(&self) -> Result<f64> {
        usage::processor(self.process.identity().pid)
    }

    async fn metrics(&self) -> Result<String> {
        let failed = Error::io("scrape", format!("http://{}/metrics", self.address));
        let ask = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
                .await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            Ok::<_, std::io::Error>(text)
        };
        ask.await.map_err(failed)
    }
}

/// The sum of all samples whose line begins so.
fn sum(text: &str, start: &str) -> f64 {
    sum_with(text, start, "")
}

/// The same of those that hold a text.
fn sum_with(text: &str, start: &str, label: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(start) && line.contains(label))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_name_and_label() {
        let text = "# HELP a_total x\na_total{result=\"success\",plan=\"Full\"} 3\na_total{result=\"failure\",plan=\"\"} 2\na_totals 9\n";
        assert!((sum(text, "a_total{") - 5.0).abs() < f64::EPSILON);
        assert!((sum_with(text, "a_total{", "result=\"failure\"") - 2.0).abs() < f64::EPSILON);
    }
}
