//! What happened to one RobotImage, as watches and the registry's own folder tell it: every version of it, its Jobs and pods,
//! and where its tag led.
//!
//! Invariant: nothing is forgotten. What is gone keeps its last state, and a watch that breaks begins again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{Config, Event, watcher};
use kube::{Api, Resource, ResourceExt};
use robotimage_crds::api::{RobotImage, RobotImageStatus};
use robotimage_tests::registry::RegistryAddress;
use robotimage_tests::{Error, Namespace, Result};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

/// The only tag of every image here: each new one moves it.
pub(crate) const TAG: &str = "latest";
/// After a watch has failed, and between two looks at the tag.
const PAUSE: Duration = Duration::from_millis(50);

/// A pod or Job, and when it was seen to be gone.
#[derive(Debug)]
pub(crate) struct Seen<K> {
    pub(crate) object: K,
    pub(crate) gone: Option<Timestamp>,
}

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    /// In order.
    pub(crate) images: Vec<RobotImage>,
    /// By UID.
    pub(crate) jobs: BTreeMap<String, Seen<Job>>,
    /// By UID.
    pub(crate) pods: BTreeMap<String, Seen<Pod>>,
    /// The digests that the tag led to, in order.
    pub(crate) tag: Vec<String>,
}

impl Trace {
    /// The newest status.
    pub(crate) fn status(&self) -> Option<&RobotImageStatus> {
        self.images.last()?.status.as_ref()
    }

    /// Pods of the newest build.
    pub(crate) fn pods_of_newest(&self) -> impl Iterator<Item = &Pod> {
        let newest = self.status().and_then(|status| status.latest_build.as_ref());
        let number = newest.map_or_else(String::new, |build| build.number.to_string());
        let pods = self.pods.values().filter(|seen| seen.gone.is_none()).map(|seen| &seen.object);
        pods.filter(move |pod| pod.labels().get("robotimage.dev/build") == Some(&number))
    }

    /// Whether a condition or a failure ever gave this reason.
    pub(crate) fn says(&self, reason: &str) -> bool {
        self.images.iter().filter_map(|image| image.status.as_ref()).any(|status| {
            let failed = status.last_failure.as_ref().is_some_and(|failure| failure.reason == reason);
            failed || status.conditions.iter().any(|condition| condition.reason == reason)
        })
    }
}

/// Writes a [`Trace`]; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Recorder {
    trace: Arc<Mutex<Trace>>,
    /// Ended with it.
    _watches: JoinSet<()>,
}

impl Recorder {
    /// Begins with what is there. `repository` without the host.
    pub(crate) fn start(namespace: &Namespace, registry: &RegistryAddress, repository: &str) -> Self {
        let trace: Arc<Mutex<Trace>> = Arc::default();
        let mut watches = JoinSet::new();
        let link = registry
            .storage
            .join("docker/registry/v2/repositories")
            .join(repository)
            .join("_manifests/tags")
            .join(TAG)
            .join("current/link");
        watches.spawn(watch_tag(link, Arc::clone(&trace)));
        watches.spawn(follow(namespace.api(), Arc::clone(&trace), |trace, image: &RobotImage, gone| {
            if gone.is_none() {
                trace.images.push(image.clone());
            }
        }));
        watches.spawn(follow(namespace.api(), Arc::clone(&trace), |trace, job: &Job, gone| {
            note(&mut trace.jobs, job, gone);
        }));
        watches.spawn(follow(namespace.api(), Arc::clone(&trace), |trace, pod: &Pod, gone| {
            note(&mut trace.pods, pod, gone);
        }));
        Self { trace, _watches: watches }
    }

    /// What was seen so far.
    pub(crate) fn trace(&self) -> MutexGuard<'_, Trace> {
        self.trace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something was seen; an error says what was waited for.
    pub(crate) async fn wait(&self, what: &str, limit: Duration, done: impl Fn(&Trace) -> bool) -> Result<()> {
        let end = Instant::now() + limit;
        while !done(&self.trace()) {
            if Instant::now() > end {
                let status = serde_json::to_string(&self.trace().status()).unwrap_or_default();
                return Err(Error::Other(format!("{what}: not within {limit:?}; status: {status}")));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

fn note<K: Resource + Clone>(all: &mut BTreeMap<String, Seen<K>>, object: &K, gone: Option<Timestamp>) {
    let object = object.clone();
    all.insert(object.uid().unwrap_or_default(), Seen { object, gone });
}

async fn follow<K>(api: Api<K>, trace: Arc<Mutex<Trace>>, tell: impl Fn(&mut Trace, &K, Option<Timestamp>))
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, Config::default()));
    let mut there: BTreeMap<String, K> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let uid = object.uid().unwrap_or_default();
                listed.insert(uid.clone());
                let known = there.get(&uid).and_then(ResourceExt::resource_version);
                if known.is_none() || known != object.resource_version() {
                    tell(&mut trace, &object, None);
                    there.insert(uid, object);
                }
            }
            Ok(Event::Delete(object)) => {
                there.remove(&object.uid().unwrap_or_default());
                tell(&mut trace, &object, Some(Timestamp::now()));
            }
            // What went while the watch was broken.
            Ok(Event::InitDone) => there.retain(|uid, object| {
                let is_there = listed.contains(uid);
                if !is_there {
                    tell(&mut trace, object, Some(Timestamp::now()));
                }
                is_there
            }),
            Err(_) => {
                drop(trace);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The registry's own file is read: it is there also while the registry is not.
async fn watch_tag(link: PathBuf, trace: Arc<Mutex<Trace>>) {
    loop {
        if let Some(digest) = read(&link) {
            let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            if trace.tag.last() != Some(&digest) {
                trace.tag.push(digest);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn read(link: &Path) -> Option<String> {
    std::fs::read_to_string(link).ok().filter(|digest| digest.len() == 71)
}
