//! The agent that enforces NetworkPolicies on a node, for suites that ask for it: kube-router, by iptables and ipset.
//!
//! Invariant: a node without it enforces nothing and is not slower for it; its chains and sets lie in the network namespace
//! of the machine and go with that.

use super::{Node, PATIENCE, config};
use crate::cache::Cache;
use crate::error::Result;
use crate::parts;
use crate::process::{ready, run};

/// Name of the part.
const AGENT: &str = "kube-router";
/// What it says after each pass over all policies and pods, also after one that failed.
const PASSED: &str = "sync iptables took";
/// What it said before, when the pass failed.
const ABORTED: &str = "Aborting sync";

impl Node {
    /// Starts the agent and waits until it has written its rules once; from then on every policy of the cluster is enforced, a
    /// moment after it or a pod was made. It goes on until the node ends.
    pub async fn enforce_policies(&mut self, cache: &Cache) -> Result<()> {
        let program = parts::kube_router(cache)?;
        let args = config::kube_router(self.instance(), self.run_dir());
        // A refusal is an ICMP message, of which the kernel sends six to a pod and then one a second: whoever tries many doors
        // would wait for those it does not send.
        let mut unlimited = self.machine.command("sh");
        unlimited.args(["-c", "echo 0 > /proc/sys/net/ipv4/icmp_ratelimit"]);
        run("limit of refusals", &mut unlimited)?;
        self.launch(AGENT, &program, args)?;
        let written = self.has_written_rules().await;
        if written.is_err() {
            self.part_mut(AGENT)?.kill();
            self.parts.retain(|part| part.name() != AGENT);
        }
        written
    }

    async fn has_written_rules(&self) -> Result<()> {
        let agent = self.part(AGENT)?;
        let passed = async || {
            let passed = agent.has_said(PASSED);
            passed.then_some(()).ok_or_else(|| "it has written no rules yet".to_owned())
        };
        ready(&[agent, self.part("kube-apiserver")?], PATIENCE, passed).await?;
        if agent.has_said(ABORTED) {
            return Err(agent.failure("cannot write its rules"));
        }
        Ok(())
    }
}
