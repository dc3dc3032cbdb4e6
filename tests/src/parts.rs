//! The real programs of the test bed, each built once from package registries alone.
//!
//! Invariant: versions and checksums stand here and nowhere else; what is built depends on nothing but them, the
//! files under `tests/parts` and the version of Go.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache::{Cache, sha256};
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
/// Version and SHA-256 of Debian's package of distribution 2.8.
const DISTRIBUTION_TWO: (&str, &str) = ("2.8.2+ds1-1", "a9bd06c0e006854608f8469b4371743f40604ad90975532bb3b7ceeb72fe2913");

/// A Go module of our own, and the programs that are built in it.
struct Module {
    name: &'static str,
    files: &'static [(&'static str, &'static [u8])],
    packages: &'static [&'static str],
    note: &'static str,
}

const KUBENODE: Module = Module {
    name: "kubenode",
    files: &[
        ("go.mod", include_bytes!("../parts/kubenode/go.mod")),
        ("go.sum", include_bytes!("../parts/kubenode/go.sum")),
        ("main.go", include_bytes!("../parts/kubenode/main.go")),
    ],
    packages: &["."],
    note: "about 6 min the first time",
};
const KSTATUS: Module = Module {
    name: "kstatus",
    files: &[
        ("go.mod", include_bytes!("../parts/kstatus/go.mod")),
        ("go.sum", include_bytes!("../parts/kstatus/go.sum")),
        ("main.go", include_bytes!("../parts/kstatus/main.go")),
    ],
    packages: &["."],
    note: "about 30 s the first time",
};
const KUBE_ROUTER: Module = Module {
    name: "kube-router",
    files: &[
        ("go.mod", include_bytes!("../parts/kuberouter/go.mod")),
        ("go.sum", include_bytes!("../parts/kuberouter/go.sum")),
        ("main.go", include_bytes!("../parts/kuberouter/main.go")),
    ],
    packages: &["."],
    note: "about 1 min the first time",
};
/// A module of its own, because its author's own `go.mod` is none that `go install` takes.
const CONTAINERD: Module = Module {
    name: "containerd",
    files: &[
        ("go.mod", include_bytes!("../parts/containerd/go.mod")),
        ("go.sum", include_bytes!("../parts/containerd/go.sum")),
    ],
    packages: &[
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/ctr",
    ],
    note: "about 3 min the first time",
};

/// Folder of the multi-call binary with one link a program: etcd 3.6 and all of Kubernetes.
pub fn kubenode(cache: &Cache) -> Result<PathBuf> {
    build(cache, &KUBENODE, &kubernetes_flags(), |out| {
        PROGRAMS
            .iter()
            .try_for_each(|name| symlink("kubenode", out.join(name)).map_err(Error::io("link", out.join(name))))
    })
}

/// The library by which Flux waits for resources, as a program: see its source.
pub fn kstatus(cache: &Cache) -> Result<PathBuf> {
    Ok(build(cache, &KSTATUS, "-s -w", |_| Ok(()))?.join("kstatus"))
}

/// The agent that enforces NetworkPolicies: see its source. It calls iptables and ipset.
pub fn kube_router(cache: &Cache) -> Result<PathBuf> {
    Ok(build(cache, &KUBE_ROUTER, "-s -w", |_| Ok(()))?.join("kuberouter"))
}

/// containerd 2 and its client, as nodes of today have them, for figures that must not depend on what a machine happens to
/// have: Debian 12's, which the test bed's node runs, is 1.6.
pub fn containerd(cache: &Cache) -> Result<[PathBuf; 2]> {
    let folder = build(cache, &CONTAINERD, "-s -w", |_| Ok(()))?;
    Ok(["containerd", "ctr"].map(|name| folder.join(name)))
}

/// Folder of a module's programs, which `finish` may add to.
fn build(cache: &Cache, module: &Module, flags: &str, finish: impl Fn(&Path) -> Result<()>) -> Result<PathBuf> {
    let go = go_version()?;
    let mut inputs: Vec<&[u8]> = module.files.iter().map(|(_, bytes)| *bytes).collect();
    inputs.extend([go.as_bytes(), flags.as_bytes()]);
    cache.artifact(module.name, &inputs, module.note, |out| {
        let source = out.join("source");
        fs::create_dir(&source).map_err(Error::io("create", &source))?;
        for (name, bytes) in module.files {
            fs::write(source.join(name), bytes).map_err(Error::io("write", source.join(name)))?;
        }
        let mut build = Command::new("go");
        build.args(["build", "-trimpath", "-ldflags", flags, "-o"]).arg(out);
        build.args(module.packages).current_dir(&source);
        run(&format!("build of {}", module.name), build.env("GOFLAGS", "-mod=readonly"))?;
        fs::remove_dir_all(&source).map_err(Error::io("remove", &source))?;
        finish(out)
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

/// The reference registry of the 2.8 line, which much of the world still runs, as Debian packages it. Its sources no
/// longer build: a module that they need is gone.
pub fn registry_two(cache: &Cache) -> Result<PathBuf> {
    let (version, checksum) = DISTRIBUTION_TWO;
    let folder = cache.artifact("registry-two", &[version.as_bytes(), checksum.as_bytes()], "a few seconds", |out| {
        let mut download = Command::new("apt-get");
        let package = format!("docker-registry={version}");
        // As root it would drop its rights, and then not be able to write here.
        download.args(["--quiet", "--option", "APT::Sandbox::User=root", "download", &package]);
        download.current_dir(out);
        let what = "download of docker-registry 2.8";
        if run(what, &mut download).is_err() {
            // The package lists of a fresh machine are empty, and old ones name what is no longer there.
            run("refresh of the package lists", Command::new("apt-get").args(["--quiet", "update"]))?;
            run(what, &mut download)?;
        }
        let file = out.join(format!("docker-registry_{version}_amd64.deb"));
        let found = sha256(&file)?;
        if found != checksum {
            return Err(Error::Checksum {
                path: file,
                expected: checksum.into(),
                found,
            });
        }
        let tree = out.join("tree");
        run(
            "unpacking of docker-registry",
            Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&tree),
        )?;
        fs::rename(tree.join("usr/bin/docker-registry"), out.join("registry")).map_err(Error::io("rename", &tree))?;
        fs::remove_dir_all(&tree).map_err(Error::io("remove", &tree))?;
        fs::remove_file(&file).map_err(Error::io("remove", &file))
    })?;
    Ok(folder.join("registry"))
}

/// A registry client to load images with and to compare with.
pub fn crane(cache: &Cache) -> Result<PathBuf> {
    install(cache, &CRANE)
}

/// Which crane it is.
pub fn crane_version() -> &'static str {
    CRANE.version
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
