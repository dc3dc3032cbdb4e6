//! The operator as a local process: started, killed and started again, with its log at hand.
//!
//! Invariant: it has the rights of its own service account when it is given that account's kubeconfig, so what works
//! here works in the cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::process::{Identity, Lifetime, Part, Place, Spec};

/// How to run it.
#[derive(Debug, Clone)]
pub struct OperatorOptions {
    /// The binary.
    pub program: PathBuf,
    /// Whose rights it has: a node's, a proxy's or a service account's.
    pub kubeconfig: PathBuf,
    /// Arguments.
    pub args: Vec<String>,
    /// Environment besides `KUBECONFIG`.
    pub env: Vec<(String, String)>,
    /// Its log goes here.
    pub folder: PathBuf,
}

/// A running operator; dropping it ends it.
#[derive(Debug)]
pub struct OperatorProcess {
    part: Part,
}

impl OperatorProcess {
    /// Starts it.
    pub fn start(options: OperatorOptions) -> Result<Self> {
        let mut env: BTreeMap<String, String> = options.env.into_iter().collect();
        env.insert("KUBECONFIG".into(), options.kubeconfig.display().to_string());
        let part = Part::start(Spec {
            name: "operator".into(),
            program: options.program,
            args: options.args,
            env,
            log: options.folder.join("operator.log"),
            place: Place::Host,
            lifetime: Lifetime::Harness,
        })?;
        Ok(Self { part })
    }

    /// Process id and start time, for [`crate::apiproxy::ApiProxy::kill_at`].
    pub fn identity(&self) -> Identity {
        self.part.identity()
    }

    /// The process: freeze, exit status, failure.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.part.is_alive()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.part.kill();
    }

    /// SIGTERM, and SIGKILL after the grace period.
    pub fn terminate(&mut self, grace: Duration) {
        self.part.terminate(grace);
    }

    /// Starts it again as it was; its log goes on.
    pub fn restart(&mut self) -> Result<()> {
        self.part.restart()
    }

    /// Waits until it has ended by itself or by another's hand.
    pub async fn wait_for_end(&self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        while self.part.is_alive() {
            if Instant::now() > end {
                return Err(self.part.failure(format!("still runs after {} s", limit.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// All that it has logged.
    pub fn log(&self) -> Result<String> {
        std::fs::read_to_string(self.part.log()).map_err(Error::io("read", self.part.log()))
    }
}

impl Drop for OperatorProcess {
    fn drop(&mut self) {
        self.part.kill();
    }
}

/// Writes a kubeconfig with a token of a service account, valid for an hour.
pub async fn service_account_kubeconfig(node: &Node, namespace: &str, name: &str, folder: &Path) -> Result<PathBuf> {
    let accounts: Api<ServiceAccount> = Api::namespaced(node.client().await?, namespace);
    let spec = TokenRequestSpec {
        expiration_seconds: Some(3600),
        ..TokenRequestSpec::default()
    };
    let request = TokenRequest {
        spec,
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request(name, &PostParams::default(), &request).await;
    let made = made.map_err(Error::cluster(format!("token of service account {namespace}/{name}")))?;
    let token = made.status.map(|status| status.token).unwrap_or_default();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {
            "server": format!("https://{}:6443", node.instance().node_ip()),
            "certificate-authority": node.authority().certificate()}}],
        "users": [{"name": "testbed", "user": {"token": token}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
    });
    let path = folder.join(format!("{namespace}-{name}.conf"));
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    std::fs::write(&path, config.to_string()).map_err(Error::io("write", &path))?;
    Ok(path)
}
