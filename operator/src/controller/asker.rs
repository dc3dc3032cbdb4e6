//! The look-up as the cluster makes it: the named Secret, where the operator may read it, then the server.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use robotimage_crds::reason::Reason;

use crate::metrics::Metrics;
use crate::observe::Revision;
use crate::registry::{LookupFailure, RegistryInspector};
use crate::source::{Asker, GitClient, GitCredentials, HttpClient, LookupKey, Question, SourceFailure};

/// Time to read a Secret.
const DEADLINE: Duration = Duration::from_secs(10);

/// Who is asked.
#[derive(Clone)]
pub(super) struct Servers {
    pub(super) git: GitClient,
    pub(super) http: HttpClient,
    pub(super) registries: RegistryInspector,
}

/// Reads Secrets one by one, by name, and asks servers.
pub(super) struct ClusterAsker {
    pub(super) client: Client,
    pub(super) servers: Servers,
    pub(super) metrics: Arc<Metrics>,
}

impl Asker for ClusterAsker {
    fn ask(&self, key: LookupKey) -> BoxFuture<'static, Result<Revision, SourceFailure>> {
        let (client, servers, metrics) = (self.client.clone(), self.servers.clone(), Arc::clone(&self.metrics));
        async move {
            let answer = look_up(client, &servers, &key).await;
            metrics.polled(key.question.kind(), answer.as_ref().err().map(|failure| failure.reason));
            answer
        }
        .boxed()
    }
}

async fn look_up(client: Client, servers: &Servers, key: &LookupKey) -> Result<Revision, SourceFailure> {
    let credentials = match &key.secret {
        Some((namespace, name)) => Some((name.as_str(), credentials(client, namespace, name, key.question.kind()).await?)),
        None => None,
    };
    let credentials = credentials.as_ref().map(|(name, credentials)| (*name, credentials));
    match &key.question {
        Question::Git(question) => servers.git.ask(question, credentials).await,
        Question::Http { url } => servers.http.ask(url, credentials).await,
        Question::Oci { image } => artifact(servers, image).await,
    }
}

/// The digest of an artifact's tag, as anybody may see it.
async fn artifact(servers: &Servers, image: &str) -> Result<Revision, SourceFailure> {
    match servers.registries.tag(image).await {
        Ok((tag, digest)) => Ok(Revision {
            reference: tag,
            commit: digest,
        }),
        Err(LookupFailure::Refused { host }) => Err(SourceFailure::new(
            Reason::SourceAuthFailed,
            format!("{host} asks for credentials; name a Secret of type kubernetes.io/dockerconfigjson in spec.source.oci.secretRef"),
        )),
        Err(LookupFailure::Missing { reference }) => Err(SourceFailure::new(
            Reason::SourceNotFound,
            format!("there is no artifact {reference}; check spec.source.oci.image"),
        )),
        Err(LookupFailure::Failed {
            reason,
            message,
            retry_after,
        }) => Err(SourceFailure {
            reason,
            message,
            retry_after,
        }),
    }
}

async fn credentials(client: Client, namespace: &str, name: &str, kind: &str) -> Result<GitCredentials, SourceFailure> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let unreachable = || {
        SourceFailure::new(
            Reason::SourceUnreachable,
            format!("Secret {name} could not be read from the API server"),
        )
    };
    let secret = match tokio::time::timeout(DEADLINE, api.get_opt(name)).await {
        Ok(Ok(Some(secret))) => secret,
        Ok(Ok(None)) => {
            return Err(SourceFailure::new(
                Reason::SecretMissing,
                format!("there is no Secret {name}, which spec.source.{kind}.secretRef names"),
            ));
        }
        Ok(Err(kube::Error::Api(status))) if status.is_forbidden() => {
            let message = format!(
                "the operator may not read Secret {name}: the platform lists this namespace under sourcePolling and gave no Role for it"
            );
            return Err(SourceFailure::new(Reason::SecretMissing, message));
        }
        Ok(Err(_)) | Err(_) => return Err(unreachable()),
    };
    GitCredentials::of(name, &secret.data.unwrap_or_default())
}
