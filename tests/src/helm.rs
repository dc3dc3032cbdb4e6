//! The real Helm: install, upgrade, uninstall and render a chart.
//!
//! Invariant: its own state (repositories, cache, plugins) stays in a folder of the test bed.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::bed::Bed;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::parts;
use crate::process::{self, run};

/// Helm for one cluster.
#[derive(Debug, Clone)]
pub struct Helm {
    program: PathBuf,
    kubeconfig: PathBuf,
    home: PathBuf,
}

impl Helm {
    /// For a cluster by its kubeconfig; `home` receives Helm's own files.
    pub fn new(cache: &Cache, kubeconfig: &Path, home: &Path) -> Result<Self> {
        Ok(Self {
            program: parts::helm(cache)?,
            kubeconfig: kubeconfig.to_owned(),
            home: home.to_owned(),
        })
    }

    /// For a test bed.
    pub fn of(bed: &Bed) -> Result<Self> {
        let home = bed.node().run_dir().join("helm");
        Self::new(bed.cache(), &bed.node().kubeconfig(), &home)
    }

    /// `helm upgrade --install --wait` into a namespace, made when it is not there.
    pub fn install(&self, release: &str, namespace: &str, chart: &Path, values: &Value) -> Result<String> {
        let values = values_file(values)?;
        let mut command = self.command();
        command
            .args(["upgrade", "--install", release])
            .arg(chart)
            .args(["--namespace", namespace]);
        command
            .args(["--create-namespace", "--wait", "--timeout", "120s", "--values"])
            .arg(values.path());
        run("installation of the chart", &mut command)
    }

    /// `helm uninstall --wait`.
    pub fn uninstall(&self, release: &str, namespace: &str) -> Result<String> {
        let mut command = self.command();
        command.args(["uninstall", release, "--namespace", namespace, "--wait", "--timeout", "120s"]);
        run("removal of the chart", &mut command)
    }

    /// The rendered objects as YAML, without a cluster.
    pub fn template(&self, release: &str, namespace: &str, chart: &Path, values: &Value) -> Result<String> {
        let values = values_file(values)?;
        let mut command = self.command();
        command
            .args(["template", release])
            .arg(chart)
            // Without a cluster Helm takes an old one.
            .args(["--kube-version", parts::KUBERNETES])
            .args(["--namespace", namespace, "--values"])
            .arg(values.path());
        run("rendering of the chart", &mut command)
    }

    /// `helm lint --strict`.
    pub fn lint(&self, chart: &Path, values: &Value) -> Result<String> {
        let values = values_file(values)?;
        run(
            "check of the chart",
            self.command()
                .args(["lint", "--strict"])
                .arg(chart)
                .arg("--values")
                .arg(values.path()),
        )
    }

    /// The command without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(process::basics()).env("KUBECONFIG", &self.kubeconfig);
        for (name, folder) in [
            ("HELM_CACHE_HOME", "cache"),
            ("HELM_CONFIG_HOME", "config"),
            ("HELM_DATA_HOME", "data"),
        ] {
            command.env(name, self.home.join(folder));
        }
        command
    }
}

/// Values go by a file: they may hold what must not be seen in a list of processes.
fn values_file(values: &Value) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new().suffix(".json").tempfile();
    let file = file.map_err(Error::io("create", "a file for the chart's values"))?;
    std::fs::write(file.path(), values.to_string()).map_err(Error::io("write", file.path()))?;
    Ok(file)
}
