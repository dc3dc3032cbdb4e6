//! What the operator stands on: a real API server and etcd, a real git server, a real registry, the chart's own rights and
//! configuration. No controller-manager, scheduler or kubelet: on one machine they would be measured with it.
//!
//! Invariant: the operator runs as the chart runs it but for its slots for builds, which are without limit.

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use robotimage_crds::custom_resource_definition;
use serde_json::{Value, json};

use super::usage;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::git::{GitOptions, GitRepo, GitServer};
use crate::helm::Helm;
use crate::install::{SYSTEM, work_tree};
use crate::kubectl::Kubectl;
use crate::node::Node;
use crate::operator::{OperatorOptions, service_account_kubeconfig};
use crate::registry::{Registry, RegistryOptions};
use crate::{base, site};

/// Kinds of the chart that the process needs in the cluster.
const RIGHTS: [&str; 5] = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];
/// A digest that nobody looks behind: no pod is run.
const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
/// Branches of one repository.
const BRANCHES: usize = 10;

/// Everything that runs but the operator.
pub(super) struct Ground {
    /// With the administrator's rights, which no rate limit slows.
    pub(super) client: kube::Client,
    /// How to start the operator.
    pub(super) options: OperatorOptions,
    /// Where it listens.
    pub(super) address: String,
    /// Its user in the audit log.
    pub(super) user: String,
    /// The repository of all images: there is one image in it, so that whoever looks for an image finds it.
    pub(super) repository: String,
    /// The digest of that image.
    pub(super) digest: String,
    git: GitServer,
    _registry: Registry,
    /// Last, because dropping it ends the servers' network.
    pub(super) node: Node,
}

impl Ground {
    /// Starts all of it.
    pub(super) async fn start(cache: &Cache, program: PathBuf) -> Result<Self> {
        let debian = base::debian(cache)?;
        let node = Node::start_control_plane(cache).await?;
        let site = node.site();
        let git = GitServer::start(
            &site,
            &GitOptions {
                name: "bench".to_owned(),
                port: None,
                tls: true,
            },
        )?;
        let open = RegistryOptions {
            tls: true,
            ..RegistryOptions::open("bench")
        };
        let registry = Registry::start(cache, &site, open).await?;
        registry.at().push_layout(&debian, base::NAME)?;
        registry.at().push_layout(&debian, "robots/all:1")?;
        let client = node.client().await?;
        let kubectl = Kubectl::inside(&node, SYSTEM);
        let definition = serde_json::to_string(&custom_resource_definition()).expect("invariant: a definition is plain data");
        kubectl.apply(&definition)?;
        kubectl.run(&[
            "wait",
            "--for=condition=Established",
            "crd/robotimages.robotimage.dev",
            "--timeout=30s",
        ])?;
        namespace(&client, SYSTEM).await?;
        let address = format!("127.0.0.1:{}", site::free_port("127.0.0.1")?);
        let values = values(&node, &registry)?;
        let (account, config) = install(cache, &node, &kubectl, &values)?;
        let folder = node.run_dir().join("operator");
        let kubeconfig = service_account_kubeconfig(&node, SYSTEM, &account, &folder).await?;
        let path = folder.join("operator.yaml");
        std::fs::write(&path, config).map_err(Error::io("write", &path))?;
        let options = OperatorOptions {
            program,
            kubeconfig,
            args: vec![format!("--config={}", path.display()), format!("--listen={address}")],
            env: vec![("RUST_LOG".to_owned(), "info".to_owned())],
            folder,
        };
        Ok(Self {
            client,
            options,
            address,
            user: format!("system:serviceaccount:{SYSTEM}:{account}"),
            repository: registry.at().reference("robots/all"),
            digest: registry.at().digest("robots/all:1")?,
            git,
            _registry: registry,
            node,
        })
    }

    /// Seconds of processor time that API server and etcd have taken.
    pub(super) fn servers(&self) -> Result<[f64; 2]> {
        let of = |name| usage::processor(self.node.part(name)?.identity().pid);
        Ok([of("kube-apiserver")?, of("etcd")?])
    }

    /// A repository with one branch, `main`.
    pub(super) fn repository(&self, name: &str) -> Result<GitRepo> {
        let repo = self.git.create(name, None)?;
        repo.commit(&[("robots/a/robot.yaml", b"tasks: {}\n")], "a robot")?;
        Ok(repo)
    }

    /// So many branches, each with a commit of its own: addresses and names.
    pub(super) fn branches(&self, count: usize) -> Result<Vec<(String, String)>> {
        let mut made = Vec::new();
        let mut repo = self.repository("fleet-0")?;
        for number in 0..count {
            if number > 0 && number % BRANCHES == 0 {
                repo = self.repository(&format!("fleet-{}", number / BRANCHES))?;
            }
            let branch = format!("release-{number}");
            repo.commit_to(&branch, &[("robots/a/robot.yaml", branch.as_bytes())], &[], &branch)?;
            made.push((repo.url().to_owned(), branch));
        }
        Ok(made)
    }
}

/// Makes a namespace.
pub(super) async fn namespace(client: &kube::Client, name: &str) -> Result<()> {
    let api: Api<Namespace> = Api::all(client.clone());
    let object = serde_json::from_value(json!({"metadata": {"name": name}})).expect("invariant: a namespace");
    let made = api.create(&PostParams::default(), &object).await;
    made.map(drop).map_err(Error::cluster(format!("creation of namespace {name}")))
}

fn values(node: &Node, registry: &Registry) -> Result<Value> {
    let authority = node.authority().certificate();
    let authority = std::fs::read_to_string(&authority).map_err(Error::io("read", &authority))?;
    let instance = node.instance();
    Ok(json!({
        "operator": {"image": format!("registry.example.com/operator@{DIGEST}"), "replicas": 1},
        "builder": {"image": format!("registry.example.com/builder@{DIGEST}")},
        "base": {"image": registry.at().reference(base::NAME)},
        "rcc": {"http": {"url": "https://files.example.com/rcc", "sha256": &DIGEST["sha256:".len()..]}},
        "caBundle": authority,
        "addressPolicy": {"podCidrs": [instance.pod_cidr()], "serviceCidrs": [instance.service_cidr()]},
        "builds": {"slots": {"total": 0, "perNamespace": 0}},
        // One that was killed would keep its next start waiting for as long as its lease lasts.
        "leaderElection": {"enabled": false},
        "crds": {"install": false},
        "rbac": {"userRoles": false},
    }))
}

/// Gives the chart's rights; answers the service account's name and the configuration.
fn install(cache: &Cache, node: &Node, kubectl: &Kubectl, values: &Value) -> Result<(String, String)> {
    let helm = Helm::new(cache, &node.kubeconfig(), &node.run_dir().join("helm"))?;
    let text = helm.template("robotimage", SYSTEM, &work_tree().join("charts/robotimage"), values)?;
    let (mut account, mut config) = (None, None);
    for document in text.split("\n---\n").map(str::trim).filter(|document| !document.is_empty()) {
        let object: Value = serde_saphyr::from_str(document)
            .map_err(|error| Error::Other(format!("the chart renders something that is no YAML: {error}\n{document}")))?;
        let kind = object["kind"].as_str().unwrap_or_default();
        if RIGHTS.contains(&kind) {
            kubectl.apply(&object.to_string())?;
        }
        let text = |value: &Value| value.as_str().map(str::to_owned);
        match kind {
            "ServiceAccount" => account = text(&object["metadata"]["name"]),
            "ConfigMap" => config = config.or(text(&object["data"]["operator.yaml"])),
            _ => {}
        }
    }
    account
        .zip(config)
        .ok_or_else(|| Error::Other("the chart renders no service account or no configuration".to_owned()))
}

/// How long any one thing is waited for.
pub(super) const PATIENCE: Duration = Duration::from_mins(20);
