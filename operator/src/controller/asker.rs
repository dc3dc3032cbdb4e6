//! The look-up as the cluster makes it: the named Secret, where the operator may read it, then the git server.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use robotimage_crds::reason::Reason;

use crate::metrics::Metrics;
use crate::observe::Revision;
use crate::source::{Asker, GitClient, GitCredentials, LookupKey, SourceFailure};

/// Time to read a Secret.
const DEADLINE: Duration = Duration::from_secs(10);

/// Reads Secrets one by one, by name, and asks git servers.
pub(super) struct ClusterAsker {
    pub(super) client: Client,
    pub(super) git: GitClient,
    pub(super) metrics: Arc<Metrics>,
}

impl Asker for ClusterAsker {
    fn ask(&self, key: LookupKey) -> BoxFuture<'static, Result<Revision, SourceFailure>> {
        let (client, git, metrics) = (self.client.clone(), self.git.clone(), Arc::clone(&self.metrics));
        async move {
            let answer = look_up(client, &git, &key).await;
            metrics.polled(answer.as_ref().err().map(|failure| failure.reason));
            answer
        }
        .boxed()
    }
}

async fn look_up(client: Client, git: &GitClient, key: &LookupKey) -> Result<Revision, SourceFailure> {
    let Some((namespace, name)) = &key.secret else {
        return git.ask(&key.question, None).await;
    };
    let credentials = credentials(client, namespace, name).await?;
    git.ask(&key.question, Some((name, &credentials))).await
}

async fn credentials(client: Client, namespace: &str, name: &str) -> Result<GitCredentials, SourceFailure> {
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
                format!("there is no Secret {name}, which spec.source.git.secretRef names"),
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
