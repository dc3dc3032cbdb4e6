//! The real kubectl, to show and to test what a person sees.
//!
//! Invariant: it reads the given kubeconfig and nothing of the user's own configuration.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::bed::Bed;
use crate::error::{Error, Result};
use crate::node::Node;
use crate::process;

/// kubectl with a cluster and a namespace.
#[derive(Debug, Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Kubectl {
    /// For a node, in namespace `default`.
    pub fn new(node: &Node) -> Self {
        Self {
            program: node.programs().join("kubectl"),
            kubeconfig: node.kubeconfig(),
            namespace: "default".into(),
        }
    }

    /// For a bed and one of its namespaces.
    pub fn within(bed: &Bed, namespace: &str) -> Self {
        Self::inside(bed.node(), namespace)
    }

    /// For a node and one of its namespaces.
    pub fn inside(node: &Node, namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            ..Self::new(node)
        }
    }

    /// With another kubeconfig.
    #[must_use]
    pub fn with_kubeconfig(mut self, kubeconfig: impl Into<PathBuf>) -> Self {
        self.kubeconfig = kubeconfig.into();
        self
    }

    /// Runs it; a failure is an error with what it said.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        process::run("kubectl", self.command().args(args))
    }

    /// Runs it and gives status, stdout and stderr, for cases that must fail.
    pub fn output(&self, args: &[&str]) -> Result<Output> {
        self.command().args(args).output().map_err(Error::io("run", &self.program))
    }

    /// Applies YAML text.
    pub fn apply(&self, yaml: &str) -> Result<String> {
        let file = tempfile::NamedTempFile::new().map_err(Error::io("create", "a temporary file"))?;
        std::fs::write(file.path(), yaml).map_err(Error::io("write", file.path()))?;
        self.run(&["apply", "-f", &file.path().display().to_string()])
    }

    /// The command with a plugin, which is found by its name and takes the namespace itself: `kubectl NAME ... -n NAMESPACE`.
    pub fn plugin(&self, binary: &Path, args: &[&str]) -> Command {
        let name = binary.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut command = Command::new(&self.program);
        command.env_clear().envs(process::basics()).env("KUBECONFIG", &self.kubeconfig);
        let path = std::env::var("PATH").unwrap_or_default();
        let folder = binary.parent().unwrap_or(Path::new("."));
        command.env("PATH", format!("{}:{path}", folder.display()));
        command.arg(name.trim_start_matches("kubectl-")).args(args);
        command.args(["-n", &self.namespace]);
        command
    }

    /// The command without arguments of its own, to be run in the background (`wait`, `get --watch`).
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(process::basics()).env("KUBECONFIG", &self.kubeconfig);
        command.args(["--namespace", &self.namespace]);
        command
    }
}
