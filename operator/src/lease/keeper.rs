//! Reading and writing the Lease.

use std::time::{Duration, Instant};

use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{PostParams, WatchParams};
use kube::{Api, Client, ResourceExt};

use super::{Election, Leader, Record, Step};
use crate::labels;

/// Time to give the Lease back at the end.
const RELEASE: Duration = Duration::from_secs(1);
/// Pause after a write that somebody else's overtook.
const OVERTAKEN: Duration = Duration::from_millis(100);

/// What we know of the Lease.
#[derive(Debug)]
enum View {
    Unknown,
    Absent,
    There(Box<Lease>),
}

/// Why a call had no result.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{0}")]
    Api(#[from] kube::Error),
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
}

impl CallError {
    /// Somebody else wrote meanwhile. A PUT without resourceVersion meets an object that is there with 422.
    fn is_overtaken(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() || status.is_invalid())
    }
}

/// Keeps one Lease, or waits for it.
pub struct Keeper {
    api: Api<Lease>,
    name: String,
    election: Election,
    leader: Leader,
    view: View,
    leads: bool,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("election", &self.election).finish_non_exhaustive()
    }
}

impl Keeper {
    /// For the Lease of this name.
    pub fn new(client: Client, namespace: &str, name: &str, election: Election, leader: Leader) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            election,
            leader,
            view: View::Unknown,
            leads: false,
        }
    }

    /// Works until `stop` ends, and then gives the Lease back if it is ours.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.round() => {}
            }
        }
        self.leader.set(None);
        match tokio::time::timeout(RELEASE, self.release()).await {
            Ok(Ok(true)) => tracing::info!(lease = self.name, "gave the lease back"),
            Ok(Ok(false)) => {}
            Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "the lease could not be given back; it ends by itself"),
            Err(_) => tracing::warn!(lease = self.name, "the lease could not be given back in time; it ends by itself"),
        }
    }

    /// One look, one write, or one wait.
    async fn round(&mut self) {
        if self.leads && self.election.until().is_none_or(|until| Instant::now() >= until) {
            self.step_down("it could not be renewed in time");
        }
        let record = match &self.view {
            View::Unknown => return self.look().await,
            View::Absent => None,
            View::There(lease) => Some(record(lease)),
        };
        match self.election.step(record.as_ref(), Instant::now()) {
            Step::Wait(until) => {
                if self.leads {
                    self.step_down("another replica holds it");
                }
                self.follow(until).await;
            }
            Step::Make | Step::Take | Step::Renew => self.write().await,
        }
    }

    async fn look(&mut self) {
        match within(self.deadline(), self.api.get_opt(&self.name)).await {
            Ok(Some(lease)) => self.view = View::There(Box::new(lease)),
            Ok(None) => self.view = View::Absent,
            Err(error) => {
                tracing::warn!(lease = self.name, %error, "the lease cannot be read");
                tokio::time::sleep(self.election.timing().retry).await;
            }
        }
    }

    /// Puts our name into the version that we know.
    async fn write(&mut self) {
        let next = self.next(self.election.me());
        let began = Instant::now();
        match within(self.deadline(), self.api.replace(&self.name, &PostParams::default(), &next)).await {
            Ok(lease) => {
                self.view = View::There(Box::new(lease));
                self.election.won(began);
                self.leader.set(self.election.until());
                if !std::mem::replace(&mut self.leads, true) {
                    tracing::info!(lease = self.name, identity = self.election.me(), "leading");
                }
                tokio::time::sleep(self.election.timing().retry).await;
            }
            Err(error) => {
                self.view = View::Unknown;
                let overtaken = error.is_overtaken();
                if !overtaken {
                    tracing::warn!(lease = self.name, %error, "the lease cannot be written");
                }
                tokio::time::sleep(if overtaken { OVERTAKEN } else { self.election.timing().retry }).await;
            }
        }
    }

    /// Waits for a change of a Lease that is another's, or for its end. One that is gone is looked for again.
    async fn follow(&mut self, until: Instant) {
        let retry = self.election.timing().retry;
        if let View::There(lease) = &self.view {
            let version = lease.resource_version().unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => return,
                changed = self.changed(&version) => if let Err(error) = changed {
                    tracing::warn!(lease = self.name, %error, "the lease cannot be watched");
                    tokio::time::sleep(retry).await;
                },
            }
        } else {
            tokio::time::sleep(retry).await;
        }
        self.view = View::Unknown;
    }

    /// Ends with the first event, or the end of the watch. What has changed is read anew: then all that counts comes from one place.
    async fn changed(&self, version: &str) -> Result<(), kube::Error> {
        let only = WatchParams::default().fields(&format!("metadata.name={}", self.name)).timeout(200);
        let mut events = std::pin::pin!(self.api.watch(&only, version).await?);
        events.try_next().await.map(drop)
    }

    fn step_down(&mut self, why: &str) {
        self.leads = false;
        self.election.lost();
        self.leader.set(None);
        tracing::warn!(lease = self.name, why, "leading no more");
    }

    /// Answers whether it was ours.
    async fn release(&mut self) -> Result<bool, kube::Error> {
        loop {
            // A renewal may have been under way: what we know may be old by one version.
            let Some(lease) = self.api.get_opt(&self.name).await? else {
                return Ok(false);
            };
            if record(&lease).holder != self.election.me() {
                return Ok(false);
            }
            self.view = View::There(Box::new(lease));
            match self.api.replace(&self.name, &PostParams::default(), &self.next("")).await {
                Ok(_) => return Ok(true),
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The Lease with a holder, from the version that we know. Its times are for people and other tools; we do not read them.
    fn next(&self, holder: &str) -> Lease {
        let mut lease = match &self.view {
            View::There(lease) => Lease::clone(lease),
            View::Unknown | View::Absent => Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    labels: Some([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                spec: None,
            },
        };
        lease.metadata.managed_fields = None;
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        let now = MicroTime(Timestamp::now());
        if spec.holder_identity.as_deref() != Some(holder) {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(
                spec.lease_transitions
                    .unwrap_or_default()
                    .saturating_add(i32::from(!holder.is_empty())),
            );
        }
        spec.renew_time = Some(now);
        spec.holder_identity = Some(holder.to_owned());
        let seconds = if holder.is_empty() {
            1
        } else {
            self.election.timing().duration.as_secs()
        };
        spec.lease_duration_seconds = Some(i32::try_from(seconds).unwrap_or(i32::MAX));
        lease
    }

    /// Time for one call: two must fit before a leader stops.
    fn deadline(&self) -> Duration {
        self.election.timing().renew / 2
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    Record {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        duration: Duration::from_secs(
            spec.lease_duration_seconds
                .and_then(|seconds| seconds.try_into().ok())
                .unwrap_or_default(),
        ),
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, CallError> {
    tokio::time::timeout(limit, call)
        .await
        .map_err(|_| CallError::Late(limit))?
        .map_err(CallError::from)
}
