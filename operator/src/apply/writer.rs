//! Writing: status, Jobs, the platform's ConfigMap, events.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use robotimage_crds::api::{RobotImage, RobotImageStatus};
use robotimage_crds::reason::Reason;
use serde_json::json;

use super::error::{ApplyError, DEADLINE, already_exists, classify};
use crate::config::Platform;
use crate::decide::{Note, NoteKind, full_name};
use crate::labels;
use crate::lease::Leadership;
use crate::observe::Refusal;
use crate::text;

/// A namespace's ConfigMap is applied again after this, in case somebody has edited it.
const REAPPLY: Duration = Duration::from_mins(10);
/// Most bytes of an event's note, by the API.
const NOTE: usize = 1000;

/// Writes to the API server.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    platform: Arc<Platform>,
    recorder: Recorder,
    leadership: Leadership,
    applied: Arc<Mutex<HashMap<String, Instant>>>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// A writer by this client, that writes only while this replica leads.
    pub fn new(client: Client, platform: Arc<Platform>, leadership: Leadership) -> Self {
        let reporter = Reporter {
            controller: labels::MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            platform,
            leadership,
            applied: Arc::default(),
        }
    }

    /// Writes the status that was decided on from this very state of the resource; answers the new state.
    pub async fn status(&self, image: &RobotImage, status: &RobotImageStatus) -> Result<RobotImage, ApplyError> {
        let (namespace, name) = names(image);
        let body = json!({
            "apiVersion": RobotImage::api_version(&()),
            "kind": RobotImage::kind(&()),
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": image.metadata.uid,
                "resourceVersion": image.metadata.resource_version,
            },
            "status": status,
        });
        let api: Api<RobotImage> = Api::namespaced(self.client.clone(), namespace);
        self.within(
            "the status",
            api.patch_status(name, &PatchParams::apply(labels::MANAGER).force(), &Patch::Apply(body)),
        )
        .await
    }

    /// Makes a Job, after the ConfigMap that its pod mounts. One that is there already is left to the next observation,
    /// which sees whose it is. No answer is a refusal, too: the API server waits for its admission webhooks, and the one that
    /// hangs now hangs the next time. Should the Job have been made all the same, the next observation finds it.
    pub async fn create_job(&self, job: &Job) -> Result<(), ApplyError> {
        self.try_create_job(job).await.map_err(|error| match error {
            ApplyError::Late { what } => ApplyError::Refused {
                what,
                refusal: Refusal::new(Reason::PodRejected, &format!("{error}; look for an admission webhook that hangs")),
            },
            other => other,
        })
    }

    async fn try_create_job(&self, job: &Job) -> Result<(), ApplyError> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        self.platform_config_map(namespace).await?;
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        match self
            .within(
                "the build's Job",
                api.create(
                    &PostParams {
                        field_manager: Some(labels::MANAGER.to_owned()),
                        ..PostParams::default()
                    },
                    job,
                ),
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(ApplyError::Api { source, .. }) if already_exists(&source) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes a Job of this UID, and its pods before it. One that is gone is deleted.
    pub async fn delete_job(&self, namespace: &str, name: &str, uid: &str) -> Result<(), ApplyError> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), namespace);
        let only = Preconditions {
            uid: Some(uid.to_owned()),
            resource_version: None,
        };
        match self
            .within(
                "a Job that is not needed",
                api.delete(name, &DeleteParams::foreground().preconditions(only)),
            )
            .await
        {
            Ok(_) | Err(ApplyError::Gone { .. } | ApplyError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The platform's settings, where a build pod can mount them.
    async fn platform_config_map(&self, namespace: &str) -> Result<(), ApplyError> {
        let fresh = |applied: &HashMap<String, Instant>| applied.get(namespace).is_some_and(|at| at.elapsed() < REAPPLY);
        if fresh(&self.applied.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(labels::PLATFORM_CONFIG_MAP.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(self.platform.files()),
            ..ConfigMap::default()
        };
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        self.within(
            "the platform's ConfigMap",
            api.patch(
                labels::PLATFORM_CONFIG_MAP,
                &PatchParams::apply(labels::MANAGER).force(),
                &Patch::Apply(map),
            ),
        )
        .await?;
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        applied.retain(|_, at| at.elapsed() < REAPPLY);
        applied.insert(namespace.to_owned(), Instant::now());
        Ok(())
    }

    /// One call. The question whether we lead is asked last: a process that stood still since it decided learns of it here.
    async fn within<T>(&self, what: &'static str, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApplyError> {
        if !self.leadership.is_leading() {
            return Err(ApplyError::NotLeading { what });
        }
        match tokio::time::timeout(DEADLINE, call).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(classify(what, error)),
            Err(_) => Err(ApplyError::Late { what }),
        }
    }

    /// Writes `data` into the ConfigMap `name` beside the resource, which owns it. Answers why it was left as it is, when it is
    /// somebody else's.
    pub async fn announce(&self, image: &RobotImage, name: &str, data: &BTreeMap<String, String>) -> Result<Option<String>, ApplyError> {
        const WHAT: &str = "the ConfigMap of image.publishTo";
        let (namespace, _) = names(image);
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let mut map = ConfigMap {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                labels: Some(BTreeMap::from([(labels::MANAGED_BY.to_owned(), labels::MANAGER.to_owned())])),
                owner_references: image.controller_owner_ref(&()).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            data: Some(data.clone()),
            ..ConfigMap::default()
        };
        let Some(there) = self.within(WHAT, api.get_opt(name)).await? else {
            let params = PostParams {
                field_manager: Some(labels::MANAGER.to_owned()),
                ..PostParams::default()
            };
            return match self.within(WHAT, api.create(&params, &map)).await {
                Ok(_) => Ok(None),
                Err(ApplyError::Api { source, .. }) if already_exists(&source) => Err(ApplyError::Conflict { what: WHAT }),
                Err(error) => Err(error),
            };
        };
        let owners = there.metadata.owner_references.iter().flatten();
        if !owners.into_iter().any(|owner| Some(&owner.uid) == image.metadata.uid.as_ref()) {
            return Ok(Some(format!(
                "ConfigMap {name}, which image.publishTo names, was not made for this RobotImage and stays as it is; delete it, or choose another name"
            )));
        }
        let has = |(key, value): (&String, &String)| there.data.as_ref().and_then(|data| data.get(key)) == Some(value);
        if data.iter().all(has) {
            return Ok(None);
        }
        // What was looked at is what is written, and nothing that took its place.
        (map.metadata.uid, map.metadata.resource_version) = (there.metadata.uid, there.metadata.resource_version);
        let params = PatchParams::apply(labels::MANAGER).force();
        self.within(WHAT, api.patch(name, &params, &Patch::Apply(map))).await?;
        Ok(None)
    }

    /// Tells an event. A failure to do so is logged and changes nothing.
    pub async fn tell(&self, image: &RobotImage, note: &Note) {
        let event = Event {
            type_: match note.kind {
                NoteKind::Normal => EventType::Normal,
                NoteKind::Warning => EventType::Warning,
            },
            reason: note.reason.to_owned(),
            note: Some(text::line(&note.message, NOTE)),
            action: "Build".to_owned(),
            secondary: None,
        };
        match tokio::time::timeout(DEADLINE, self.recorder.publish(&event, &image.object_ref(&()))).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(image = full_name(image), event = note.reason, %error, "an event could not be told"),
            Err(_) => tracing::warn!(image = full_name(image), event = note.reason, "an event could not be told in time"),
        }
    }
}

fn names(image: &RobotImage) -> (&str, &str) {
    (
        image.metadata.namespace.as_deref().unwrap_or_default(),
        image.metadata.name.as_deref().unwrap_or_default(),
    )
}
