//! Gathering: from the indexes that the watches fill, and by a direct read where a stale index would mislead.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use robotimage_crds::api::{BuildPhase, RobotImage};

use super::{JobView, Observed, PodView, Refusal, SourceKnowledge, refusal_of_event};
use crate::labels;

/// Time for one read.
const DEADLINE: Duration = Duration::from_secs(10);
/// A Job without a pod for so long is asked for its events.
const PODLESS: SignedDuration = SignedDuration::from_secs(5);

/// The API server could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// It answered with an error.
    #[error("cannot read {what}: {source}")]
    Api {
        /// What was read.
        what: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// It did not answer.
    #[error("cannot read {what}: no answer within {} seconds", DEADLINE.as_secs())]
    Late {
        /// What was read.
        what: &'static str,
    },
}

/// Reads what the watches do not tell for sure.
#[derive(Clone)]
pub struct Reader {
    client: Client,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader by this client.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// The resource as it is now; `None` when it is gone.
    pub async fn image(&self, namespace: &str, name: &str) -> Result<Option<RobotImage>, GatherError> {
        let api: Api<RobotImage> = Api::namespaced(self.client.clone(), namespace);
        within("the RobotImage", api.get_opt(name)).await
    }

    /// Completes what the indexes have: an index may lag behind, and a decision that somebody took a Job or pod away must
    /// not be made from one. `refused` is what the API server said when the live build's Job was offered to it.
    pub async fn gather(
        &self,
        image: RobotImage,
        mut jobs: Vec<JobView>,
        mut pods: Vec<PodView>,
        source: SourceKnowledge,
        refused: Option<Refusal>,
        now: Timestamp,
    ) -> Result<Observed, GatherError> {
        let mut refusal = refused;
        let namespace = image.metadata.namespace.clone().unwrap_or_default();
        let build = image.status.as_ref().and_then(|status| status.latest_build.as_ref());
        if let Some(build) = build.filter(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running)) {
            if !jobs.iter().any(|job| job.name == build.job) {
                let api: Api<Job> = Api::namespaced(self.client.clone(), &namespace);
                jobs.extend(within("the build's Job", api.get_opt(&build.job)).await?.as_ref().map(JobView::of));
            }
            if let Some(job) = jobs.iter().find(|job| job.name == build.job)
                && !pods.iter().any(|pod| pod.owner == job.uid)
            {
                let waited = job.created.is_none_or(|created| now.duration_since(created) >= PODLESS);
                if job.ended.is_some() || job.deleting {
                    pods.extend(self.pods(&namespace, &image).await?);
                } else if waited {
                    refusal = self.refusal(&namespace, &job.uid).await?;
                }
            }
        }
        pods.sort_by_key(|pod| pod.created);
        pods.dedup_by(|a, b| a.name == b.name);
        Ok(Observed {
            image,
            jobs,
            pods,
            source,
            refusal,
        })
    }

    async fn pods(&self, namespace: &str, image: &RobotImage) -> Result<Vec<PodView>, GatherError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let uid = image.metadata.uid.as_deref().unwrap_or_default();
        let selector = format!("{},{}={uid}", labels::selector(), labels::UID);
        let pods = within("the build's pods", api.list(&ListParams::default().labels(&selector))).await?;
        Ok(pods.items.iter().map(PodView::of).collect())
    }

    /// Pod Security, quota and admission refusals are told in events alone. The latest counts.
    async fn refusal(&self, namespace: &str, job: &str) -> Result<Option<Refusal>, GatherError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let list = ListParams::default().fields(&format!("involvedObject.uid={job}")).limit(50);
        let mut events = within("the events of the build's Job", api.list(&list)).await?.items;
        events.sort_by_key(|event| {
            event
                .last_timestamp
                .clone()
                .map(|time| time.0)
                .or_else(|| event.event_time.clone().map(|time| time.0))
        });
        Ok(events.iter().rev().find_map(refusal_of_event))
    }
}

async fn within<T>(what: &'static str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, GatherError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(answer) => answer.map_err(|source| GatherError::Api {
            what,
            source: Box::new(source),
        }),
        Err(_) => Err(GatherError::Late { what }),
    }
}
