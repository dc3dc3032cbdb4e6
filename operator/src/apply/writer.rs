//! Writing: status, Jobs, the platform's ConfigMap, events.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Api, Client, Resource};
use robotimage_crds::api::{RobotImage, RobotImageStatus};
use robotimage_crds::reason::Reason;
use serde_json::json;

use crate::config::Platform;
use crate::decide::{Note, NoteKind, full_name};
use crate::labels;
use crate::lease::Leadership;
use crate::observe::Refusal;
use crate::text;

/// Time for one write.
const DEADLINE: Duration = Duration::from_secs(15);
/// A namespace's ConfigMap is applied again after this, in case somebody has edited it.
const REAPPLY: Duration = Duration::from_mins(10);
/// Most bytes of an event's note, by the API.
const NOTE: usize = 1000;

/// A write did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The object is not the one that the decision was made from: observe again.
    #[error("{what} has changed since it was read")]
    Conflict {
        /// What was written.
        what: &'static str,
    },
    /// The object is gone.
    #[error("{what} is gone")]
    Gone {
        /// What was written.
        what: &'static str,
    },
    /// The API server does not take it: a quota, an admission rule, or a value that it does not allow.
    #[error("the API server refuses {what}: {}", .refusal.message)]
    Refused {
        /// What was written.
        what: &'static str,
        /// For the status.
        refusal: Refusal,
    },
    /// Its namespace is being deleted, and takes nothing new.
    #[error("{what} cannot be made: its namespace is being deleted")]
    Terminating {
        /// What was written.
        what: &'static str,
    },
    /// It answered with an error.
    #[error("cannot write {what}: {source}")]
    Api {
        /// What was written.
        what: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Another replica leads by now: it decides, not we.
    #[error("{what} is not written: this replica leads no more")]
    NotLeading {
        /// What was to be written.
        what: &'static str,
    },
    /// It did not answer.
    #[error("cannot write {what}: no answer within {} seconds", DEADLINE.as_secs())]
    Late {
        /// What was written.
        what: &'static str,
    },
}

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
    /// which sees whose it is.
    pub async fn create_job(&self, job: &Job) -> Result<(), ApplyError> {
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

fn classify(what: &'static str, error: kube::Error) -> ApplyError {
    let kube::Error::Api(status) = &error else {
        return ApplyError::Api {
            what,
            source: Box::new(error),
        };
    };
    if status.is_not_found() {
        ApplyError::Gone { what }
    } else if status.is_conflict() && !status.is_already_exists() {
        ApplyError::Conflict { what }
    } else if is_terminating(status) {
        ApplyError::Terminating { what }
    } else if status.is_forbidden() || status.is_invalid() {
        let reason = if status.message.contains("exceeded quota") {
            Reason::QuotaExceeded
        } else {
            Reason::PodRejected
        };
        let message = text::line(&format!("the API server refuses {what}: {}", status.message), 300);
        ApplyError::Refused {
            what,
            refusal: Refusal { reason, message },
        }
    } else {
        ApplyError::Api {
            what,
            source: Box::new(error),
        }
    }
}

/// Whether a namespace that is being deleted refuses it.
fn is_terminating(status: &Status) -> bool {
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes[..]);
    status.is_forbidden() && causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
}

fn already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_already_exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        let error = |code: u16, reason: &str, message: &str, cause: &str| {
            let status = serde_json::from_value(json!({
                "status": "Failure", "code": code, "reason": reason, "message": message,
                "details": {"causes": [{"reason": cause, "message": "", "field": ""}]},
            }));
            classify("it", kube::Error::Api(Box::new(status.unwrap())))
        };
        let terminating = "jobs.batch \"a\" is forbidden: unable to create new content in namespace b because it is being terminated";
        assert!(matches!(
            error(403, "Forbidden", terminating, "NamespaceTerminating"),
            ApplyError::Terminating { .. }
        ));
        for (message, wanted) in [
            ("jobs.batch \"a\" is forbidden: exceeded quota: q", Reason::QuotaExceeded),
            ("jobs.batch \"a\" is forbidden: some policy says no", Reason::PodRejected),
        ] {
            let ApplyError::Refused { refusal, .. } = error(403, "Forbidden", message, "") else {
                panic!("{message}")
            };
            assert_eq!(refusal.reason, wanted);
        }
        assert!(matches!(error(409, "Conflict", "changed", ""), ApplyError::Conflict { .. }));
        assert!(matches!(error(409, "AlreadyExists", "there", ""), ApplyError::Api { .. }));
        assert!(matches!(error(404, "NotFound", "gone", ""), ApplyError::Gone { .. }));
        assert!(matches!(error(500, "InternalError", "etcd", ""), ApplyError::Api { .. }));
    }
}
