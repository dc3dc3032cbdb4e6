//! The real programs of the test bed, each built once from package registries alone.
//!
//! Invariant: versions and checksums stand here and nowhere else; what is built depends on nothing but them, the
//! files under `tests/parts` and the version of Go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::process::run;

/// The version of Kubernetes; `go.mod` of kubenode names the same.
pub const KUBERNETES: &str = "1.34.4";
/// Every name that the kubenode binary answers to.
const PROGRAMS: [&str; 7] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
];

/// A Go program that `go install` builds.
struct Tool {
    name: &'static str,
    package: &'static str,
    version: &'static str,
    note: &'static str,
}

const REGISTRY: Tool = Tool {
    name: "registry",
    package: "github.com/distribution/distribution/v3/cmd/registry",
    version: "v3.0.0",
    note: "about 90 s the first time",
};
const CRANE: Tool = Tool {
    name: "crane",
    package: "github.com/google/go-containerregistry/cmd/crane",
    version: "v0.22.1",
    note: "about 10 s the first time",
};
const HELM: Tool = Tool {
    name: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    version: "v3.20.2",
    note: "about 2 min the first time",
};
const COREDNS: Tool = Tool {
    name: "coredns",
    package: "github.com/coredns/coredns",
    version: "v1.12.4",
    note: "about 2 min the first time",
};

/// Folder of the multi-call binary with one link a program: etcd 3.6 and all of Kubernetes.
pub fn kubenode(cache: &Cache) -> Result<PathBuf> {
    let files = [
        ("go.mod", include_bytes!("../parts/kubenode/go.mod").as_slice()),
        ("go.sum", include_bytes!("../parts/kubenode/go.sum").as_slice()),
        ("main.go", include_bytes!("../parts/kubenode/main.go").as_slice()),
    ];
    let go = go_version()?;
    let flags = kubernetes_flags();
    let inputs = [files[0].1, files[1].1, files[2].1, go.as_bytes(), flags.as_bytes()];
    cache.artifact("kubenode", &inputs, "about 6 min the first time", |out| {
        let source = out.join("source");
        fs::create_dir(&source).map_err(Error::io("create", &source))?;
        for (name, bytes) in files {
            fs::write(source.join(name), bytes).map_err(Error::io("write", source.join(name)))?;
        }
        let binary = out.join("kubenode");
        let mut build = Command::new("go");
        build
            .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
            .arg(&binary)
            .arg(".")
            .current_dir(&source);
        run("build of kubenode", build.env("GOFLAGS", "-mod=readonly"))?;
        for name in PROGRAMS {
            symlink("kubenode", out.join(name)).map_err(Error::io("link", out.join(name)))?;
        }
        fs::remove_dir_all(&source).map_err(Error::io("remove", &source))
    })
}

/// Without these the API server says `v0.0.0-master`, and a chart that asks for a Kubernetes version is refused.
fn kubernetes_flags() -> String {
    let (major_minor, _) = KUBERNETES.rsplit_once('.').expect("invariant: three numbers");
    let (major, minor) = major_minor.split_once('.').expect("invariant: three numbers");
    let mut flags = "-s -w".to_owned();
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [("gitVersion", &*format!("v{KUBERNETES}")), ("gitMajor", major), ("gitMinor", minor)] {
            flags.extend([" -X ", package, ".", name, "=", value]);
        }
    }
    flags
}

/// The reference registry, distribution v3.
pub fn registry(cache: &Cache) -> Result<PathBuf> {
    install(cache, &REGISTRY)
}

/// A registry client to load images with and to compare with.
pub fn crane(cache: &Cache) -> Result<PathBuf> {
    install(cache, &CRANE)
}

/// Helm 3.
pub fn helm(cache: &Cache) -> Result<PathBuf> {
    install(cache, &HELM)
}

/// The cluster's DNS server.
pub fn coredns(cache: &Cache) -> Result<PathBuf> {
    install(cache, &COREDNS)
}

fn install(cache: &Cache, tool: &Tool) -> Result<PathBuf> {
    let package = format!("{}@{}", tool.package, tool.version);
    let go = go_version()?;
    let folder = cache.artifact(tool.name, &[package.as_bytes(), go.as_bytes()], tool.note, |out| {
        let mut install = Command::new("go");
        install
            .args(["install", "-trimpath", "-ldflags", "-s -w", &package])
            .env("GOBIN", out)
            .env_remove("GOFLAGS");
        run(&format!("build of {}", tool.name), install.current_dir(out)).map(drop)
    })?;
    Ok(folder.join(tool.name))
}

fn go_version() -> Result<String> {
    run("version of Go", Command::new("go").args(["env", "GOVERSION", "GOARCH"]))
}

/// Makes `folder/name -> target` for every tool, so that one `PATH` entry holds them all.
pub fn link_all(folder: &Path, cache: &Cache) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let kubectl = kubenode(cache)?.join("kubectl");
    for (name, target) in [("kubectl", kubectl), ("crane", crane(cache)?), ("helm", helm(cache)?)] {
        let link = folder.join(name);
        match symlink(&target, &link) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::io("link", link)(error)),
            _ => {}
        }
    }
    Ok(())
}
