//! The control plane alone: etcd and API server, for measurements whose pods nobody runs.
//!
//! Invariant: both are started as a whole node starts them, audit log included; what a controller-manager, a scheduler and a
//! kubelet would do is left to whoever asked for this.

use super::{Node, PATIENCE, answers, config};
use crate::cache::Cache;
use crate::error::Result;
use crate::machine::Machine;
use crate::parts;
use crate::pki::Authority;
use crate::process::{Lifetime, ready};

/// Without a controller-manager no namespace has a service account for its pods.
const NO_SERVICE_ACCOUNTS: &str = "--disable-admission-plugins=ServiceAccount";

impl Node {
    /// Starts etcd and an API server on a free instance number; they end with this process.
    pub async fn start_control_plane(cache: &Cache) -> Result<Self> {
        let programs = parts::kubenode(cache)?;
        let machine = Machine::start(cache, Lifetime::Harness)?;
        let authority = Authority::open(&machine.run_dir().join("pki"))?;
        let mut node = Self {
            parts: Vec::new(),
            authority,
            programs,
            machine,
        };
        node.configure()?;
        match node.boot_control_plane().await {
            Ok(()) => Ok(node),
            Err(error) => {
                // Its logs stay, because the error names one of them.
                node.machine.abandon()?;
                std::mem::forget(node.machine);
                Err(error)
            }
        }
    }

    async fn boot_control_plane(&mut self) -> Result<()> {
        let (instance, run) = (self.instance(), self.run_dir().to_owned());
        let (etcd, apiserver) = (self.programs.join("etcd"), self.programs.join("kube-apiserver"));
        self.launch("etcd", &etcd, config::etcd(instance, &run))?;
        self.launch(
            "kube-apiserver",
            &apiserver,
            config::apiserver(instance, &run, &[NO_SERVICE_ACCOUNTS.to_owned()]),
        )?;
        let client = self.client().await?;
        let serving = [self.part("kube-apiserver")?, self.part("etcd")?];
        ready(&serving, PATIENCE, async || answers(&client, "/readyz").await).await
    }
}
