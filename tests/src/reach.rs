//! What answers when somebody connects: tried from inside a pod's network by programs of the node, so that the pod needs
//! neither a shell nor rights, or from the host, which is outside of the cluster.
//!
//! Invariant: what does not answer in time counts as closed, so a closed door says something only where the same door was
//! open before.

use std::collections::BTreeSet;
use std::process::Command;

use k8s_openapi::api::core::v1::Pod;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::process::{Part, run};

/// Seconds for one connection; a refused one ends at once.
const LIMIT: u32 = 3;
/// A question for the address of the API server's service, as bytes for `printf`.
const QUESTION: &str = concat!(
    r"\022\064\001\000\000\001\000\000\000\000\000\000",
    r"\012kubernetes\007default\003svc\007cluster\005local\000\000\001\000\001"
);

/// Somewhere to connect to.
#[derive(Debug, Clone)]
pub struct Door {
    /// What it is called in results: one word.
    pub name: &'static str,
    /// Its address.
    pub ip: String,
    /// What is done there.
    pub knock: Knock,
}

/// How a door is tried.
#[derive(Debug, Clone, Copy)]
pub enum Knock {
    /// A TCP connection to this port.
    Tcp(u16),
    /// A question to a name server over UDP.
    Dns,
}

impl Door {
    /// A TCP port.
    pub fn tcp(name: &'static str, ip: impl Into<String>, port: u16) -> Self {
        Self {
            name,
            ip: ip.into(),
            knock: Knock::Tcp(port),
        }
    }

    /// The cluster's name server over UDP.
    pub fn dns(name: &'static str, ip: impl Into<String>) -> Self {
        Self {
            name,
            ip: ip.into(),
            knock: Knock::Dns,
        }
    }

    fn attempt(&self) -> String {
        let ip = &self.ip;
        match self.knock {
            Knock::Tcp(port) => format!(": </dev/tcp/{ip}/{port}"),
            Knock::Dns => format!(r#"exec 3<>/dev/udp/{ip}/53; printf "{QUESTION}" >&3; [ "$(head -c 12 <&3 | wc -c)" = 12 ]"#),
        }
    }
}

/// The network of a running pod.
#[derive(Debug, Clone)]
pub struct PodNetwork {
    ip: String,
    /// Of its first container, as processes of the machine see it.
    process: String,
}

impl PodNetwork {
    /// Finds it by the pod's first container.
    pub fn of(node: &Node, pod: &Pod) -> Result<Self> {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let missing = |what: &str| Error::Other(format!("pod {name} has no {what}: is it running?"));
        let status = pod.status.as_ref().ok_or_else(|| missing("status"))?;
        let ip = status.pod_ip.clone().ok_or_else(|| missing("address"))?;
        let id = status
            .container_statuses
            .as_ref()
            .and_then(|list| list.first()?.container_id.clone());
        let id = id.ok_or_else(|| missing("container"))?;
        let id = id.trim_start_matches("containerd://");
        let mut list = node.machine().command("ctr");
        let tasks = run("list of tasks", list.args(["--namespace", "k8s.io", "tasks", "list"]))?;
        let process = tasks.lines().find_map(|line| line.strip_prefix(id)?.split_whitespace().next());
        Ok(Self {
            ip,
            process: process.ok_or_else(|| missing("process"))?.to_owned(),
        })
    }

    /// The pod's address.
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// Opens a port of the pod that takes connections and closes them; it goes with the node.
    pub fn listen(&self, node: &Node, port: u16) -> Result<Part> {
        let args = ["--target", &self.process, "--net", "--", "busybox"];
        let args = args.into_iter().map(str::to_owned).chain(listener(port)).collect();
        Part::start(node.machine().spec(&format!("listener-{}-{port}", self.ip), "nsenter", args))
    }

    /// The names of the doors that answer somebody in this pod.
    pub fn reached(&self, node: &Node, doors: &[Door]) -> Result<BTreeSet<&'static str>> {
        let mut enter = node.machine().command("nsenter");
        enter.args(["--target", &self.process, "--net", "--", "bash"]);
        reached(enter, doors)
    }
}

/// Arguments of busybox for a port that takes connections and closes them.
pub fn listener(port: u16) -> Vec<String> {
    ["nc", "-ll", "-p", &port.to_string(), "-e", "/bin/true"]
        .map(str::to_owned)
        .to_vec()
}

/// The names of the doors that answer the host.
pub fn reached_from_host(doors: &[Door]) -> Result<BTreeSet<&'static str>> {
    reached(Command::new("bash"), doors)
}

/// All at once, each with a time limit of its own.
fn reached(mut shell: Command, doors: &[Door]) -> Result<BTreeSet<&'static str>> {
    let tries = doors.iter().map(|door| {
        format!(
            "(timeout {LIMIT} bash -c '{}' && echo {}) 2>/dev/null &\n",
            door.attempt(),
            door.name
        )
    });
    let script = tries.collect::<String>() + "wait";
    let said = run("connections", shell.args(["-c", &script]))?;
    let said: BTreeSet<&str> = said.lines().collect();
    Ok(doors.iter().map(|door| door.name).filter(|name| said.contains(*name)).collect())
}
