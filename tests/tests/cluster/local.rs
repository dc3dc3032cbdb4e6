//! An operator as a process of this machine, in a namespace of its own: with the rights and the configuration that the chart
//! gives it, but at our mercy.

use std::path::{Path, PathBuf};
use std::time::Duration;

use robotimage_tests::apiproxy::ApiProxy;
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::operator::{OperatorOptions, OperatorProcess, service_account_kubeconfig};
use robotimage_tests::{Error, Namespace, Result, install};
use serde_json::{Value, json};

use crate::objects::merge;
use crate::setup::{Setup, rendered};

/// Kinds of the chart that the process needs in the cluster.
const RIGHTS: [&str; 3] = ["ServiceAccount", "Role", "RoleBinding"];

/// An operator for one namespace; not running until it is started.
#[derive(Debug)]
pub(crate) struct Local {
    /// Between the operator and the API server.
    pub(crate) proxy: ApiProxy,
    options: OperatorOptions,
    direct: PathBuf,
    process: Option<OperatorProcess>,
    /// Its user in the audit log.
    pub(crate) user: String,
}

/// What the chart makes for an operator that serves one namespace and lives in it.
pub(crate) fn objects(setup: &Setup, namespace: &Namespace, change: &Value) -> Result<Vec<Value>> {
    let name = namespace.name();
    let mut values = install::values(setup.bed.book(), &setup.images, &[name])?;
    merge(
        &mut values,
        &json!({
            "watchNamespaces": [name], "crds": {"install": false}, "rbac": {"userRoles": false},
            // A killed one would keep its next start waiting for as long as its lease lasts.
            "leaderElection": {"enabled": false}, "operator": {"replicas": 1},
        }),
    );
    merge(&mut values, change);
    rendered(setup, name, &values)
}

impl Local {
    /// Gives the namespace a service account with the chart's own Role, and writes the chart's own configuration, changed by
    /// `change` (a merge patch of the chart's values).
    pub(crate) async fn prepare(setup: &Setup, namespace: &Namespace, change: &Value) -> Result<Self> {
        let name = namespace.name();
        let kubectl = Kubectl::within(&setup.bed, name);
        let (mut account, mut config) = (None, None);
        for object in objects(setup, namespace, change)? {
            let kind = object["kind"].as_str().unwrap_or_default();
            if RIGHTS.contains(&kind) {
                kubectl.apply(&object.to_string())?;
            }
            let text = |value: &Value| value.as_str().map(str::to_owned);
            match kind {
                "ServiceAccount" => account = text(&object["metadata"]["name"]),
                "ConfigMap" => config = text(&object["data"]["operator.yaml"]),
                _ => {}
            }
        }
        let (Some(account), Some(config)) = (account, config) else {
            return Err(Error::Other("the chart renders no service account or no configuration".to_owned()));
        };
        let folder: PathBuf = setup.bed.node().run_dir().join("operators").join(name);
        let kubeconfig = service_account_kubeconfig(setup.bed.node(), name, &account, &folder).await?;
        let path = folder.join("operator.yaml");
        std::fs::write(&path, config).map_err(Error::io("write", &path))?;
        let proxy = ApiProxy::start(&kubeconfig, &folder)?;
        let options = OperatorOptions {
            program: setup.binaries.operator.clone(),
            kubeconfig: proxy.kubeconfig().to_owned(),
            args: vec![format!("--config={}", path.display()), "--listen=127.0.0.1:0".to_owned()],
            env: vec![("RUST_LOG".to_owned(), "info".to_owned())],
            folder,
        };
        let user = format!("system:serviceaccount:{name}:{account}");
        Ok(Self {
            proxy,
            options,
            direct: kubeconfig,
            process: None,
            user,
        })
    }

    /// Starts it.
    pub(crate) fn start(&mut self) -> Result<&OperatorProcess> {
        let process = OperatorProcess::start(self.options.clone())?;
        Ok(self.process.insert(process))
    }

    /// How it is started: through the proxy.
    pub(crate) fn options(&self) -> &OperatorOptions {
        &self.options
    }

    /// The service account's own kubeconfig, which leads to the API server directly.
    pub(crate) fn direct(&self) -> &Path {
        &self.direct
    }

    /// Its folder, with the configuration.
    pub(crate) fn folder(&self) -> &Path {
        &self.options.folder
    }

    /// Starts a further replica, by a host name of its own, whose /healthz, /readyz and /metrics are at `listen`.
    pub(crate) fn replica(&self, host: &str, listen: &str, kubeconfig: Option<&Path>) -> Result<OperatorProcess> {
        let mut options = self.options.clone();
        if let Some(kubeconfig) = kubeconfig {
            kubeconfig.clone_into(&mut options.kubeconfig);
        }
        options.folder = options.folder.join(host);
        options.args.retain(|argument| !argument.starts_with("--listen="));
        options.args.push(format!("--listen={listen}"));
        options.env.push(("HOSTNAME".to_owned(), host.to_owned()));
        OperatorProcess::start(options)
    }

    /// The running process.
    pub(crate) fn process(&self) -> Result<&OperatorProcess> {
        self.process
            .as_ref()
            .ok_or_else(|| Error::Other("the operator was not started".to_owned()))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, as the kubelet does it.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.terminate(Duration::from_secs(10));
        }
    }

    /// The last lines of its log, for a failed test.
    pub(crate) fn tail(&self) -> String {
        robotimage_tests::process::tail(&self.options.folder.join("operator.log"))
    }
}
