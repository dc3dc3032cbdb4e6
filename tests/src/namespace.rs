//! A namespace for one test: Pod Security `restricted`, and Secrets for the registry and the git server.
//!
//! Invariant: two tests never share one, and what a test made in it goes with it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace as Object, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::bed::Bed;
use crate::error::{Error, Result};
use crate::secret::Login;

/// Name of the Secret with the private registry's login, type `kubernetes.io/dockerconfigjson`.
pub const REGISTRY_SECRET: &str = "registry";
/// Name of the Secret with the git server's login: `username`, `password`, `hosts`, `ca.crt`.
pub const GIT_SECRET: &str = "git";

/// A namespace and a client for it.
#[derive(Clone)]
pub struct Namespace {
    name: String,
    client: Client,
}

impl std::fmt::Debug for Namespace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Namespace").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Namespace {
    /// One with this name, as it is asked for.
    pub async fn create(bed: &Bed, name: &str) -> Result<Self> {
        let client = bed.node().client().await?;
        let labels = BTreeMap::from([
            ("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned()),
            ("robotimage.dev/testbed".to_owned(), "true".to_owned()),
        ]);
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        };
        let object = Object {
            metadata,
            ..Object::default()
        };
        let all: Api<Object> = Api::all(client.clone());
        let made = all.create(&PostParams::default(), &object).await;
        made.map_err(Error::cluster(format!("creation of namespace {name}")))?;
        let namespace = Self {
            name: name.to_owned(),
            client,
        };
        let config = bed.book().registry.docker_config().to_string();
        let kind = "kubernetes.io/dockerconfigjson";
        namespace
            .secret(REGISTRY_SECRET, kind, &[(".dockerconfigjson", config.as_str())])
            .await?;
        namespace
            .git_secret(
                GIT_SECRET,
                &bed.book().git_login,
                &bed.book().git.host(),
                &bed.node().authority().pem()?,
            )
            .await?;
        namespace.use_pull_secret().await?;
        Ok(namespace)
    }

    /// One for a test: the name is made unique.
    pub async fn fresh(bed: &Bed, prefix: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::create(bed, &format!("{prefix}-{}-{count}", std::process::id())).await
    }

    /// One that is there, with a client of its own: a client does not outlive the runtime that made it.
    pub async fn open(bed: &Bed, name: &str) -> Result<Self> {
        let client = bed.node().client().await?;
        Ok(Self {
            name: name.to_owned(),
            client,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client with the administrator's rights.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The objects of a kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Server-side applies an object given as JSON, for test objects that are easier to read so.
    pub async fn apply<K>(&self, object: serde_json::Value) -> Result<K>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let patched = self
            .api::<K>()
            .patch(&name, &PatchParams::apply("testbed").force(), &Patch::Apply(object))
            .await;
        patched.map_err(Error::cluster(format!("apply of {} {}/{name}", K::kind(&()), self.name)))
    }

    /// A Secret of any type.
    pub async fn secret(&self, name: &str, kind: &str, data: &[(&str, &str)]) -> Result<()> {
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect();
        let metadata = ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        };
        let secret = Secret {
            metadata,
            type_: Some(kind.to_owned()),
            data: Some(data),
            ..Secret::default()
        };
        let made = self.api().create(&PostParams::default(), &secret).await;
        made.map_err(Error::cluster(format!("creation of Secret {}/{name}", self.name)))
            .map(drop)
    }

    /// A Secret for a git source, bound to its host.
    pub async fn git_secret(&self, name: &str, login: &Login, host: &str, ca: &str) -> Result<()> {
        let data = [
            ("username", login.user.as_str()),
            ("password", login.password.reveal()),
            ("hosts", host),
            ("ca.crt", ca),
        ];
        self.secret(name, "Opaque", &data).await
    }

    /// Deletes it, without waiting.
    pub async fn delete(self) -> Result<()> {
        let all: Api<Object> = Api::all(self.client.clone());
        let deleted = all.delete(&self.name, &DeleteParams::default()).await;
        deleted
            .map_err(Error::cluster(format!("deletion of namespace {}", self.name)))
            .map(drop)
    }

    /// Pods of the default service account may pull from the private registry.
    async fn use_pull_secret(&self) -> Result<()> {
        let account = json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"},
            "imagePullSecrets": [{"name": REGISTRY_SECRET}]});
        self.apply::<k8s_openapi::api::core::v1::ServiceAccount>(account).await.map(drop)
    }
}

/// Names of the namespaces that [`Namespace::create`] made and that are still there.
pub async fn all(bed: &Bed) -> Result<Vec<String>> {
    let api: Api<Object> = Api::all(bed.node().client().await?);
    let params = kube::api::ListParams::default().labels("robotimage.dev/testbed=true");
    let list = api.list(&params).await.map_err(Error::cluster("list of namespaces"))?;
    Ok(list.items.into_iter().filter_map(|object| object.metadata.name).collect())
}
