//! What must be on the machine before a test bed can be built, each with the command that installs it.
//!
//! Invariant: everything is checked before anything is started, and all that is missing is said at once.

use std::path::Path;
use std::process::Command;

use crate::error::{Error, Result};
use crate::process::run;

/// Programs and the Debian package that brings each. A name with a slash is a file.
const DEBIAN: [(&str, &str); 26] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("ipset", "ipset"),
    ("ip", "iproute2"),
    ("mmdebstrap", "mmdebstrap"),
    ("patchelf", "patchelf"),
    ("strip", "binutils"),
    ("ldd", "libc-bin"),
    ("/bin/busybox", "busybox-static"),
    ("htpasswd", "apache2-utils"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("buildah", "buildah"),
    ("git", "git"),
    ("bash", "bash"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("gcc", "gcc"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1", "libfaketime"),
];

/// Programs that Debian's packages are too old for.
const OTHERS: [(&str, &str); 3] = [
    ("go", "install Go 1.26 or newer from https://go.dev/dl/"),
    ("cargo", "install Rust from https://rustup.rs/"),
    (
        "python3",
        "install CPython 3.11 or newer with pyenv (Debian's own keeps its packages elsewhere)",
    ),
];

/// The Debian packages that are missing, in the order of the list.
pub fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> = Vec::new();
    for (program, package) in DEBIAN {
        if !there(program) && !missing.contains(&package) {
            missing.push(package);
        }
    }
    missing
}

/// An error that says all that is missing.
pub fn check() -> Result<()> {
    let mut lines = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        lines.push("root: namespaces, mounts and network interfaces are made; run it with sudo".to_owned());
    }
    let packages = missing_packages();
    if !packages.is_empty() {
        lines.push(format!(
            "Debian packages: apt-get install --no-install-recommends {}",
            packages.join(" ")
        ));
    }
    for (program, advice) in OTHERS {
        if !there(program) {
            lines.push(format!("{program}: {advice}"));
        }
    }
    if lines.is_empty() {
        Ok(())
    } else {
        Err(Error::Prerequisites(format!("  {}", lines.join("\n  "))))
    }
}

/// Installs the missing Debian packages.
pub fn install() -> Result<()> {
    let packages = missing_packages();
    if packages.is_empty() {
        return Ok(());
    }
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
        command
    };
    run("refresh of the package lists", apt().arg("update"))?;
    run(
        "installation of packages",
        apt().args(["install", "--yes", "--no-install-recommends"]).args(&packages),
    )
    .map(drop)
}

fn there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).exists();
    }
    crate::process::find(program).is_some()
}
