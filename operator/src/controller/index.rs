//! What a watch has told, by the RobotImage that it is about. Only views are kept: a few hundred bytes an object.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Resource, ResourceExt};
use robotimage_crds::api::RobotImage;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use super::again::again;
use crate::labels;

/// Namespace and UID label: a label alone could be copied into another namespace.
type Owner = (String, String);

/// Makes a view of an object, and of what was known of it before.
type View<K, V> = fn(&K, Option<&V>) -> V;

/// The views of one kind.
#[derive(Debug)]
pub(super) struct Index<V> {
    views: Mutex<HashMap<Owner, HashMap<String, V>>>,
    ready: watch::Sender<bool>,
}

impl<V: Clone + Send + 'static> Index<V> {
    pub(super) fn new() -> Self {
        Self {
            views: Mutex::default(),
            ready: watch::Sender::new(false),
        }
    }

    /// The views of one RobotImage.
    pub(super) fn of(&self, image: &RobotImage) -> Vec<V> {
        let owner = (image.namespace().unwrap_or_default(), image.uid().unwrap_or_default());
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(&owner).map(|views| views.values().cloned().collect()).unwrap_or_default()
    }

    /// UID and namespace of the RobotImages with a view like this.
    pub(super) fn owners(&self, like: impl Fn(&V) -> bool) -> Vec<(String, String)> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        let found = views.iter().filter(|(_, views)| views.values().any(&like));
        found.map(|((namespace, uid), _)| (uid.clone(), namespace.clone())).collect()
    }

    /// Whether the first list is in.
    pub(super) fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits for the first list.
    pub(super) async fn ready(&self) {
        // The sender lives as long as `self`: waiting cannot fail.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    fn put(&self, owner: Owner, name: String, view: Option<V>) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        match view {
            Some(view) => {
                views.entry(owner).or_default().insert(name, view);
            }
            None => {
                if let Some(own) = views.get_mut(&owner) {
                    own.remove(&name);
                    if own.is_empty() {
                        views.remove(&owner);
                    }
                }
            }
        }
    }

    /// What was known of an object, seen anew.
    fn seen<K: Resource<DynamicType = ()>>(&self, object: &K, owner: &Owner, view: View<K, V>) -> V {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        view(object, views.get(owner).and_then(|own| own.get(&object.name_any())))
    }

    /// Follows a watch, which the API server ends every `timeout` seconds, for ever and wakes the RobotImage of each change.
    pub(super) async fn follow<K>(&self, api: Api<K>, timeout: u32, view: View<K, V>, wake: mpsc::UnboundedSender<ObjectRef<RobotImage>>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let config = watcher::Config::default()
            .labels(&labels::selector())
            .timeout(timeout)
            .page_size(super::run::PAGE);
        let mut events = watcher(api, config).backoff(again()).boxed();
        let mut listed: HashMap<Owner, HashMap<String, V>> = HashMap::new();
        let mut first = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => {
                    listed.clear();
                    first.clear();
                }
                Ok(watcher::Event::InitApply(object)) => {
                    if let Some((owner, image)) = owner(&object) {
                        let seen = self.seen(&object, &owner, view);
                        listed.entry(owner).or_default().insert(object.name_any(), seen);
                        first.push(image);
                    }
                }
                Ok(watcher::Event::InitDone) => {
                    // Who lost an object while the watch was down notices at its next look: a live build is looked at every minute.
                    let fresh = std::mem::take(&mut listed);
                    *self.views.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
                    self.ready.send_replace(true);
                    first.drain(..).for_each(|image| drop(wake.send(image)));
                }
                Ok(watcher::Event::Apply(object)) => self.changed(&object, Some(view), &wake),
                Ok(watcher::Event::Delete(object)) => self.changed(&object, None, &wake),
                Err(error) => tracing::warn!(kind = %K::kind(&()), %error, "a watch failed; it is tried again"),
            }
        }
    }

    fn changed<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        view: Option<View<K, V>>,
        wake: &mpsc::UnboundedSender<ObjectRef<RobotImage>>,
    ) {
        if let Some((owner, image)) = owner(object) {
            let seen = view.map(|view| self.seen(object, &owner, view));
            self.put(owner, object.name_any(), seen);
            // The receiver ends with the process only.
            drop(wake.send(image));
        }
    }
}

fn owner<K: Resource<DynamicType = ()>>(object: &K) -> Option<(Owner, ObjectRef<RobotImage>)> {
    let namespace = object.namespace()?;
    let (uid, name) = (object.labels().get(labels::UID)?, object.labels().get(labels::NAME)?);
    Some(((namespace.clone(), uid.clone()), ObjectRef::new(name).within(&namespace)))
}
