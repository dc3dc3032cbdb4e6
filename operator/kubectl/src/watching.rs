//! One RobotImage as it changes, until it is gone.
//!
//! Invariant: a connection that breaks is opened again for [`PATIENCE`] and said once; an object made anew under the same
//! name is another object.

use std::pin::Pin;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use kube::api::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{Error as WatchError, watch_object};

use crate::cluster::{Call, Cluster};
use crate::error::Error;
use crate::out::Out;
use crate::resource::Resource;

/// How long the API server may be away.
const PATIENCE: Duration = Duration::from_mins(2);

type Sights = Pin<Box<dyn Stream<Item = Result<Option<DynamicObject>, WatchError>> + Send>>;

/// A RobotImage that is watched.
pub(crate) struct Watching {
    cluster: Cluster,
    out: Out,
    name: String,
    uid: String,
    sights: Sights,
    away_since: Option<Instant>,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Watching {
    /// Watches a resource that was read.
    pub(crate) fn new(cluster: &Cluster, resource: &Resource, out: Out) -> Self {
        Self {
            sights: watch_object(cluster.robot_images(), resource.name()).default_backoff().boxed(),
            cluster: cluster.clone(),
            out,
            name: resource.name().to_owned(),
            uid: resource.uid().to_owned(),
            away_since: None,
        }
    }

    /// The next state of it. May be dropped and called again without losing one.
    pub(crate) async fn next(&mut self) -> Result<Resource, Error> {
        loop {
            match self.sights.next().await {
                Some(Ok(Some(object))) => {
                    self.away_since = None;
                    let resource = self.cluster.read(object)?;
                    if resource.uid() != self.uid {
                        return Err(self.gone());
                    }
                    return Ok(resource);
                }
                Some(Ok(None)) | None => return Err(self.gone()),
                Some(Err(error)) => self.endure(error)?,
            }
        }
    }

    fn gone(&self) -> Error {
        Error::Gone {
            name: self.name.clone(),
            namespace: self.cluster.namespace.clone(),
        }
    }

    /// Refusals are final; everything else may pass.
    fn endure(&mut self, error: WatchError) -> Result<(), Error> {
        let call = Call::robot_images("watch");
        let error = match error {
            WatchError::InitialListFailed(error) => self.cluster.explained(Call::robot_images("list"), error),
            WatchError::WatchStartFailed(error) | WatchError::WatchFailed(error) => self.cluster.explained(call, error),
            // Most often a version that has expired; the watcher lists again.
            WatchError::WatchError(_) | WatchError::NoResourceVersion => return Ok(()),
        };
        if matches!(error, Error::Forbidden { .. } | Error::Unauthenticated { .. }) {
            return Err(error);
        }
        match self.away_since {
            None => {
                self.away_since = Some(Instant::now());
                self.out.note(&format!("{error}; trying again"));
                Ok(())
            }
            Some(since) if since.elapsed() > PATIENCE => Err(error),
            Some(_) => Ok(()),
        }
    }
}
