//! The cluster: found as kubectl finds it, asked with a deadline, and its refusals in our words.
//!
//! Invariant: every call but a stream ends within [`DEADLINE`], and a list is read in pages.

use std::error::Error as _;
use std::time::Duration;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::{Api, Client};
use robotimage_crds::api::RobotImage;
use robotimage_operator::labels;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::arguments::ConnectionArguments;
use crate::error::Error;
use crate::kubeconfig;
use crate::near;
use crate::resource::Resource;

/// Time for one call.
const DEADLINE: Duration = Duration::from_secs(30);
/// Time to connect.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for what only makes a message better.
const HINTS: Duration = Duration::from_secs(3);
/// Objects of one page.
const PAGE: u32 = 250;
/// How often a list begins anew when its pages have expired meanwhile.
const LISTS: u32 = 3;
/// Who we are in `managedFields`.
pub(crate) const MANAGER: &str = "kubectl-robotimage";

/// A cluster and a namespace.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    /// Where it is, for messages.
    pub(crate) server: String,
    /// The namespace that was asked for.
    pub(crate) namespace: String,
}

/// An object that was listed: read, or the reason why it cannot be.
#[derive(Debug)]
pub(crate) enum Listed {
    /// As this version understands it.
    Known(Box<Resource>),
    /// Written by a newer version.
    Unreadable {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// What is not understood.
        problem: String,
    },
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects to what the arguments, KUBECONFIG or ~/.kube/config name, or to the cluster around this pod.
    pub(crate) async fn connect(arguments: &ConnectionArguments) -> Result<Self, Error> {
        let mut config = kubeconfig::configuration(arguments).await?;
        config.connect_timeout = Some(CONNECT);
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let namespace = arguments.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| Error::Client(innermost(&error)))?;
        Ok(Self { client, server, namespace })
    }

    /// RobotImages of a namespace, as the server writes them.
    pub(crate) fn robot_images(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &ApiResource::erase::<RobotImage>(&()))
    }

    /// Pods of the namespace.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// One RobotImage.
    pub(crate) async fn get(&self, name: &str) -> Result<Resource, Error> {
        let call = Call::robot_images("get");
        let object = match self.timed(call, self.robot_images().get_opt(name)).await {
            Ok(Some(object)) => object,
            Ok(None) => return Err(self.not_found(name).await),
            Err(Error::Refused { .. }) if self.is_undefined().await? => {
                return Err(Error::NoDefinition {
                    server: self.server.clone(),
                });
            }
            Err(error) => return Err(error),
        };
        self.read(object)
    }

    /// Reads an object that must be understood.
    pub(crate) fn read(&self, object: DynamicObject) -> Result<Resource, Error> {
        let name = object.metadata.name.clone().unwrap_or_default();
        Resource::of(object).map_err(|problem| Error::Unreadable {
            name,
            namespace: self.namespace.clone(),
            problem,
        })
    }

    /// All RobotImages of the namespace or of all namespaces, by namespace and name.
    pub(crate) async fn list(&self, everywhere: bool, selector: Option<&str>) -> Result<Vec<Listed>, Error> {
        let api = if everywhere {
            Api::all_with(self.client.clone(), &ApiResource::erase::<RobotImage>(&()))
        } else {
            self.robot_images()
        };
        let call = Call {
            everywhere,
            ..Call::robot_images("list")
        };
        let parameters = ListParams {
            label_selector: selector.map(str::to_owned),
            ..ListParams::default()
        };
        let objects = self.pages(call, &api, parameters).await?;
        let listed = objects.into_iter().map(|object| {
            let (namespace, name) = (object.metadata.namespace.clone(), object.metadata.name.clone());
            match Resource::of(object) {
                Ok(resource) => Listed::Known(Box::new(resource)),
                Err(problem) => Listed::Unreadable {
                    namespace: namespace.unwrap_or_default(),
                    name: name.unwrap_or_default(),
                    problem,
                },
            }
        });
        Ok(listed.collect())
    }

    /// Pods of a RobotImage, the oldest first.
    pub(crate) async fn build_pods(&self, uid: &str) -> Result<Vec<Pod>, Error> {
        let mut pods = self.pages(Call::new("list", "pods"), &self.pods(), of(uid)).await?;
        pods.sort_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        Ok(pods)
    }

    /// Jobs of a RobotImage.
    pub(crate) async fn build_jobs(&self, uid: &str) -> Result<Vec<Job>, Error> {
        let api: Api<Job> = Api::namespaced(self.client.clone(), &self.namespace);
        self.pages(Call::new("list", "jobs"), &api, of(uid)).await
    }

    /// Events that speak of an object.
    pub(crate) async fn events_of(&self, uid: &str) -> Result<Vec<Event>, Error> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let parameters = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
        self.pages(Call::new("list", "events"), &api, parameters).await
    }

    /// ConfigMaps of another namespace that carry a label.
    pub(crate) async fn config_maps(&self, namespace: &str, selector: &str) -> Result<Vec<ConfigMap>, Error> {
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let parameters = ListParams::default().labels(selector);
        let there = Self {
            namespace: namespace.to_owned(),
            ..self.clone()
        };
        there.pages(Call::new("list", "configmaps"), &api, parameters).await
    }

    /// Changes a RobotImage by a JSON merge patch; `None` when somebody else changed it since it was read.
    pub(crate) async fn patch(&self, name: &str, patch: &Value) -> Result<Option<Resource>, Error> {
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let api = self.robot_images();
        let patch = Patch::Merge(patch);
        let call = async {
            match api.patch(name, &parameters, &patch).await {
                Ok(object) => Ok(Ok(object)),
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(Err(false)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(Err(true)),
                Err(error) => Err(error),
            }
        };
        match self.timed(Call::robot_images("patch"), call).await? {
            Ok(object) => self.read(object).map(Some),
            Err(false) => Ok(None),
            Err(true) => Err(Error::Gone {
                name: name.to_owned(),
                namespace: self.namespace.clone(),
            }),
        }
    }

    async fn pages<K>(&self, call: Call, api: &Api<K>, parameters: ListParams) -> Result<Vec<K>, Error>
    where
        K: Clone + DeserializeOwned + std::fmt::Debug,
    {
        let mut begun = 1;
        let (mut items, mut token) = (Vec::new(), None);
        loop {
            let page = ListParams {
                limit: Some(PAGE),
                continue_token: token.take(),
                ..parameters.clone()
            };
            let answer = async {
                match api.list(&page).await {
                    Ok(list) => Ok(Some(list)),
                    Err(kube::Error::Api(status)) if status.code == 410 && begun < LISTS => Ok(None),
                    Err(error) => Err(error),
                }
            };
            let list = match self.timed(call, answer).await {
                Ok(Some(list)) => list,
                Ok(None) => {
                    begun += 1;
                    items.clear();
                    continue;
                }
                Err(Error::Refused { .. }) if call.resource == ROBOT_IMAGES && self.is_undefined().await? => {
                    return Err(Error::NoDefinition {
                        server: self.server.clone(),
                    });
                }
                Err(error) => return Err(error),
            };
            items.extend(list.items);
            token = list.metadata.continue_.filter(|token| !token.is_empty());
            if token.is_none() {
                return Ok(items);
            }
        }
    }

    /// The group's discovery document is readable by everybody; without a definition there is none.
    async fn is_undefined(&self) -> Result<bool, Error> {
        let answer = async {
            match self.client.list_api_group_resources("robotimage.dev/v1alpha1").await {
                Ok(list) => Ok(!list.resources.iter().any(|resource| resource.name == ROBOT_IMAGES)),
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
                Err(error) => Err(error),
            }
        };
        self.timed(Call::new("get", "the API group robotimage.dev"), answer).await
    }

    /// Why there is no such RobotImage: the definition is missing, or the name is another one, or the namespace.
    async fn not_found(&self, name: &str) -> Error {
        match self.is_undefined().await {
            Ok(true) => {
                return Error::NoDefinition {
                    server: self.server.clone(),
                };
            }
            Ok(false) => {}
            Err(error) => return error,
        }
        let names = |listed: Vec<Listed>| -> Vec<(String, String)> {
            let pair = |listed| match listed {
                Listed::Known(resource) => (resource.namespace().to_owned(), resource.name().to_owned()),
                Listed::Unreadable { namespace, name, .. } => (namespace, name),
            };
            listed.into_iter().map(pair).collect()
        };
        // Hints only: who may not list gets none, and nobody waits long for them.
        let hints = async |everywhere| {
            let listed = tokio::time::timeout(HINTS, self.list(everywhere, None)).await;
            listed.ok().and_then(Result::ok).map(names).unwrap_or_default()
        };
        let (here, elsewhere) = (hints(false).await, hints(true).await);
        Error::NotFound {
            near: near::names(name, here.iter().map(|(_, name)| name.as_str())),
            elsewhere: elsewhere
                .into_iter()
                .filter(|(namespace, other)| other == name && *namespace != self.namespace)
                .map(|(namespace, _)| namespace)
                .take(3)
                .collect(),
            name: name.to_owned(),
            namespace: self.namespace.clone(),
        }
    }

    /// Opens a stream within the deadline.
    pub(crate) async fn timed<T>(&self, call: Call, answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(self.explained(call, error)),
            Err(_) => Err(Error::Late {
                server: self.server.clone(),
                seconds: DEADLINE.as_secs(),
                verb: call.verb,
                resource: call.resource,
            }),
        }
    }

    /// An error of the client in our words.
    pub(crate) fn explained(&self, call: Call, error: kube::Error) -> Error {
        let server = self.server.clone();
        match error {
            kube::Error::Api(status) => match status.code {
                401 => Error::Unauthenticated { server },
                403 => Error::Forbidden {
                    verb: call.verb,
                    resource: call.resource,
                    namespace: (!call.everywhere).then(|| self.namespace.clone()),
                    told: status.message,
                },
                _ => Error::Refused {
                    verb: call.verb,
                    resource: call.resource,
                    told: format!("{} (HTTP {})", status.message.trim(), status.code),
                },
            },
            kube::Error::SerdeError(error) => Error::Garbled {
                server,
                verb: call.verb,
                resource: call.resource,
                problem: error.to_string(),
            },
            error @ kube::Error::Auth(_) => Error::Client(innermost(&error)),
            error => match auth_problem(&error) {
                Some(problem) => Error::Client(problem),
                None => Error::Unreachable {
                    server,
                    problem: innermost(&error),
                },
            },
        }
    }
}

const ROBOT_IMAGES: &str = "robotimages";

/// What a call asks for, for messages about its failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    verb: &'static str,
    resource: &'static str,
    everywhere: bool,
}

impl Call {
    /// A call in one namespace.
    pub(crate) const fn new(verb: &'static str, resource: &'static str) -> Self {
        Self {
            verb,
            resource,
            everywhere: false,
        }
    }

    /// A call about RobotImages.
    pub(crate) const fn robot_images(verb: &'static str) -> Self {
        Self::new(verb, ROBOT_IMAGES)
    }
}

/// Selects what the operator made for a RobotImage.
fn of(uid: &str) -> ListParams {
    ListParams::default().labels(&format!("{}={uid}", labels::UID))
}

/// A plugin that prints credentials can fail inside a request; that is no matter of the network.
fn auth_problem(error: &kube::Error) -> Option<String> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if inner.is::<kube::client::AuthError>() {
            return Some(inner.to_string());
        }
        cause = inner.source();
    }
    None
}

/// The innermost cause: what the layers above it say is that something failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string()
}
