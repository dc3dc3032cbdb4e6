//! RobotImages that people apply: one after another, or very many at once while somebody else applies one now and then.
//!
//! Invariant: a latency runs from the moment at which a client sends the resource until another client has the first Job of it
//! from its watch, and nobody whose Job does not come is left out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use kube::Client;

use super::fleet::{apply, robot_image};
use super::ground::PATIENCE;
use super::runner::MockJobRunner;
use crate::error::{Error, Result};

/// Clients of a burst.
const CLIENTS: usize = 50;
/// Time between two resources of the other tenant: few enough that its half of what the servers can do is more than it asks for.
const OTHER: Duration = Duration::from_secs(1);

/// What was applied, and when.
#[derive(Debug, Default)]
pub(super) struct Sent(Mutex<HashMap<String, Instant>>);

/// Where a tenant's resources come from.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    /// The namespace; names of resources begin with it.
    pub(super) namespace: String,
    /// Address and branch of the repository of each resource, in turn.
    pub(super) sources: Vec<(String, String)>,
    /// Where images go.
    pub(super) repository: String,
}

/// What a burst came to.
#[derive(Debug)]
pub(super) struct Burst {
    /// Seconds from sending to Job, of each resource.
    pub(super) latencies: Vec<f64>,
    /// The same of the other tenant.
    pub(super) other: Vec<f64>,
    /// From the first resource sent to the last Job.
    pub(super) seconds: f64,
    /// From the first resource sent to the last one accepted.
    pub(super) applied: f64,
}

impl Sent {
    async fn apply(&self, client: &Client, tenant: &Tenant, number: usize) -> Result<()> {
        let name = format!("{}-{number:04}", tenant.namespace);
        let (url, branch) = &tenant.sources[number % tenant.sources.len()];
        let object = robot_image(&name, url, branch, &tenant.repository);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name, Instant::now());
        apply(client, &tenant.namespace, &object).await
    }

    /// Waits for the Job of each; seconds, and when the last one came.
    async fn arrived(&self, runner: &MockJobRunner) -> Result<(Vec<f64>, Instant)> {
        let sent = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let end = Instant::now() + PATIENCE;
        let (mut latencies, mut last) = (Vec::new(), None);
        for (name, sent) in sent {
            let arrived = loop {
                match runner.arrived(&name)? {
                    Some(arrived) => break arrived,
                    None if Instant::now() > end => return Err(Error::Other(format!("RobotImage {name} got no Job"))),
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            };
            latencies.push(arrived.duration_since(sent).as_secs_f64());
            last = last.max(Some(arrived));
        }
        Ok((latencies, last.unwrap_or_else(Instant::now)))
    }
}

/// One after another, with a pause after each.
pub(super) async fn one_by_one(
    client: &Client,
    runner: &MockJobRunner,
    tenant: &Tenant,
    count: usize,
    pause: Duration,
) -> Result<Vec<f64>> {
    let sent = Sent::default();
    for number in 0..count {
        sent.apply(client, tenant, number).await?;
        tokio::time::sleep(pause).await;
    }
    Ok(sent.arrived(runner).await?.0)
}

/// All at once by many clients; meanwhile the other tenant applies one now and then, until the last Job is there.
pub(super) async fn burst(client: &Client, runner: &MockJobRunner, tenant: &Tenant, other: &Tenant, count: usize) -> Result<Burst> {
    let (sent, others, over) = (Sent::default(), Sent::default(), AtomicBool::new(false));
    let began = Instant::now();
    let meanwhile = async {
        for number in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            others.apply(client, other, number).await?;
            tokio::time::sleep(OTHER).await;
        }
        Ok::<_, Error>(())
    };
    let storm = async {
        futures::stream::iter((0..count).map(|number| sent.apply(client, tenant, number)))
            .buffer_unordered(CLIENTS)
            .try_collect::<Vec<()>>()
            .await?;
        let applied = began.elapsed().as_secs_f64();
        let arrived = sent.arrived(runner).await;
        over.store(true, Ordering::Relaxed);
        arrived.map(|(latencies, last)| (latencies, last, applied))
    };
    let ((), (latencies, last, applied)) = tokio::try_join!(meanwhile, storm)?;
    let (other, _) = others.arrived(runner).await?;
    Ok(Burst {
        latencies,
        other,
        seconds: last.duration_since(began).as_secs_f64(),
        applied,
    })
}
