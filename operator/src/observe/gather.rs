//! Gathering: from the indexes that the watches fill, and by a direct read where a stale index would mislead.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use robotimage_crds::api::{BuildPhase, LatestBuild, RobotImage};

use super::{JobView, Known, Observed, PodView, Refusal, refusal_of_events};
use crate::labels;

/// Time for one read.
const DEADLINE: Duration = Duration::from_secs(10);
/// A Job without a pod, or a pod without a started container, for so long is asked for its events.
const PATIENCE: SignedDuration = SignedDuration::from_secs(5);
/// A pod that has not started for so long is read anew each time.
const LONG: SignedDuration = SignedDuration::from_secs(60);

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

    /// Completes what the indexes have: an index may lag behind, and neither a decision that somebody took a Job or pod away
    /// must be made from one, nor that nothing of the builds before still runs.
    pub async fn gather(
        &self,
        image: RobotImage,
        mut jobs: Vec<JobView>,
        mut pods: Vec<PodView>,
        known: Known,
        now: Timestamp,
    ) -> Result<Observed, GatherError> {
        let mut refusal = known.refusal;
        let namespace = image.metadata.namespace.clone().unwrap_or_default();
        let build = image.status.as_ref().and_then(|status| status.latest_build.as_ref());
        if let Some(build) = build.filter(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running)) {
            if !jobs.iter().any(|job| job.name == build.job) {
                jobs = self.jobs(&namespace, &image, Some(&build.job)).await?;
                // After the Jobs: what a Job made that was gone then is seen.
                pods = self.pods(&namespace, &image, &pods, now).await?;
            }
            if let Some(job) = jobs.iter().find(|job| job.name == build.job) {
                if is_doubtful(build, job, &pods, now) {
                    pods = self.pods(&namespace, &image, &pods, now).await?;
                }
                // It was taken in the end; what keeps it now is told by itself, or by events.
                refusal = match is_silent(job, &pods, now) {
                    Some((uid, image)) => self.refusal(&namespace, &uid, &image).await?,
                    None => None,
                };
            }
        }
        pods.sort_by_key(|pod| pod.created);
        Ok(Observed {
            image,
            jobs,
            pods,
            source: known.source,
            checks: known.checks,
            announced: known.announced,
            turn: known.turn,
            refusal,
        })
    }

    /// The same with what the API server says of Jobs and pods now.
    pub async fn anew(&self, mut observed: Observed, now: Timestamp) -> Result<Observed, GatherError> {
        let namespace = observed.image.metadata.namespace.clone().unwrap_or_default();
        let build = observed.image.status.as_ref().and_then(|status| status.latest_build.as_ref());
        let name = build.map(|build| build.job.as_str());
        observed.jobs = self.jobs(&namespace, &observed.image, name).await?;
        observed.pods = self.pods(&namespace, &observed.image, &observed.pods, now).await?;
        observed.pods.sort_by_key(|pod| pod.created);
        Ok(observed)
    }

    /// All that were made for the resource, and the one of this name, which may be somebody else's and lack our labels.
    async fn jobs(&self, namespace: &str, image: &RobotImage, name: Option<&str>) -> Result<Vec<JobView>, GatherError> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let params = of(image);
        let named = async {
            match name {
                Some(name) => within("the build's Job", api.get_opt(name)).await,
                None => Ok(None),
            }
        };
        let (labelled, named) = tokio::try_join!(within("the Jobs of builds", api.list(&params)), named)?;
        let mut jobs: Vec<JobView> = labelled.items.iter().map(JobView::of).collect();
        if !jobs.iter().any(|job| Some(job.name.as_str()) == name) {
            jobs.extend(named.as_ref().map(JobView::of));
        }
        Ok(jobs)
    }

    /// `before` is what was known of them.
    async fn pods(&self, namespace: &str, image: &RobotImage, before: &[PodView], now: Timestamp) -> Result<Vec<PodView>, GatherError> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let pods = within("the build's pods", api.list(&of(image))).await?;
        let views = pods.items.iter().map(PodView::of).map(|pod| {
            let known = before.iter().find(|before| before.uid == pod.uid);
            pod.by_our_clock(known, now)
        });
        Ok(views.collect())
    }

    /// Pod Security, quota and admission refusals, and volumes that cannot be mounted, are told in events alone.
    async fn refusal(&self, namespace: &str, uid: &str, image: &str) -> Result<Option<Refusal>, GatherError> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let list = ListParams::default().fields(&format!("involvedObject.uid={uid}")).limit(50);
        let events = within("the events of the build", api.list(&list)).await?;
        Ok(refusal_of_events(events.items, image))
    }
}

/// Whether what an index says of the pods of a live build's Job must be read anew, because a build may be given up for it: there
/// is none, its node does not answer, or it has not started for long, by the pod's word or by the status, whose time may be
/// another leader's.
pub(crate) fn is_doubtful(build: &LatestBuild, job: &JobView, pods: &[PodView], now: Timestamp) -> bool {
    let blocked = build
        .blocked
        .as_ref()
        .is_some_and(|blocked| has_waited(Some(blocked.since.0), LONG, now));
    let mut own = pods.iter().filter(|pod| pod.owner == job.uid).peekable();
    if own.peek().is_none() {
        return blocked || job.ended.is_some() || job.deleting || has_waited(job.created, PATIENCE, now);
    }
    own.any(|pod| pod.lost(now) || !pod.started() && (blocked || has_waited(pod.created, LONG, now)))
}

/// UID of what only its events explain (the Job, when it has no pod; its pod, when it does not start and does not say why), and
/// the builder image.
fn is_silent(job: &JobView, pods: &[PodView], now: Timestamp) -> Option<(String, String)> {
    let mut own = pods.iter().filter(|pod| pod.owner == job.uid).peekable();
    if own.peek().is_none() {
        let silent = job.ended.is_none() && !job.deleting && has_waited(job.created, PATIENCE, now);
        return silent.then(|| (job.uid.clone(), String::new()));
    }
    let pod = own.find(|pod| !pod.ended(now))?;
    let silent = !pod.started() && pod.refusal.is_none() && has_waited(pod.created, PATIENCE, now);
    silent.then(|| (pod.uid.clone(), pod.image.clone()))
}

fn has_waited(since: Option<Timestamp>, patience: SignedDuration, now: Timestamp) -> bool {
    since.is_none_or(|since| now.duration_since(since) >= patience)
}

/// Everything that we made for this resource. As the API server has it now: no version is named.
fn of(image: &RobotImage) -> ListParams {
    let uid = image.metadata.uid.as_deref().unwrap_or_default();
    ListParams::default().labels(&format!("{},{}={uid}", labels::selector(), labels::UID))
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
