//! Who may know whom. docs/ARCHITECTURE.md draws these arrows and says why; here `cargo tree` is asked whether they hold.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::BTreeSet;
use std::process::Command;

/// A rule about what a crate brings with it.
struct Arrow {
    /// The crate, and what it must be free of: crate names, or their beginning followed by `*`.
    from: &'static str,
    never: &'static [&'static str],
    why: &'static str,
}

const ARROWS: &[Arrow] = &[
    Arrow {
        from: "robotimage-crds",
        never: &[
            "kube-client",
            "kube-runtime",
            "tokio",
            "hyper",
            "reqwest",
            "rustls",
            "gix*",
            "robotimage-*",
        ],
        why: "the types are paid for by everybody who shares them, so they know no client and no runtime",
    },
    Arrow {
        from: "robotimage-layer",
        never: &[
            "tokio",
            "futures*",
            "mio",
            "socket2",
            "hyper",
            "reqwest",
            "rustls",
            "kube*",
            "robotimage-*",
        ],
        why: "a layer is a function from a tree to bytes: no runtime, no network",
    },
    Arrow {
        from: "robotimage-registry",
        never: &["kube*", "k8s-openapi", "gix*", "serde-saphyr", "robotimage-*"],
        why: "a registry client knows neither Kubernetes nor robots",
    },
    Arrow {
        from: "robotimage-launcher",
        never: &["tokio", "serde*", "tracing*", "clap*", "robotimage-*"],
        why: "PID 1 of every image stays tiny",
    },
    Arrow {
        from: "robotimage-builder",
        never: &[
            "kube-client",
            "kube-runtime",
            "robotimage-operator",
            "robotimage-kubectl",
            "robotimage-tests",
        ],
        why: "its pods have no service-account token, so a cluster client in them could only be a mistake",
    },
    Arrow {
        from: "robotimage-operator",
        never: &[
            "flate2",
            "zstd*",
            "libdeflate*",
            "gix*",
            "robotimage-layer",
            "robotimage-builder",
            "robotimage-tests",
        ],
        why: "heavy work on untrusted bytes belongs in pods",
    },
    Arrow {
        from: "robotimage-kubectl",
        never: &[
            "flate2",
            "zstd*",
            "libdeflate*",
            "gix*",
            "robotimage-layer",
            "robotimage-builder",
            "robotimage-tests",
        ],
        why: "it reads and changes resources with kube's client, and builds nothing itself",
    },
];

/// What no part of the workspace may bring: a second TLS stack, a second crypto library, an archived parser.
const BANNED: &[&str] = &["openssl-sys", "native-tls", "ring", "serde_yaml"];

fn tree(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none", "--format", "{p}"])
        .args(arguments)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .expect("cargo can be run");
    assert!(
        output.status.success(),
        "cargo tree {arguments:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[test]
fn no_crate_brings_what_it_must_not_know() {
    let mut broken = Vec::new();
    for Arrow { from, never, why } in ARROWS {
        for name in tree(&["-p", from, "-e", "normal,build"]) {
            if name != *from && never.iter().any(|pattern| matches(pattern, &name)) {
                broken.push(format!("{from} brings {name}: {why} (see `cargo tree -p {from} -i {name}`)"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The registry client writes docker and OCI archives and so brings `tar`; the operator shares the client but reads and
/// writes no archive of its own.
#[test]
fn the_operator_gets_tar_only_through_the_registry_client() {
    let users = tree(&["-p", "robotimage-operator", "-e", "normal", "-i", "tar", "--depth", "1"]);
    let expected: BTreeSet<String> = ["robotimage-registry", "tar"].map(str::to_owned).into();
    assert!(users.is_subset(&expected), "tar is used by {users:?}");
}

#[test]
fn nothing_but_the_suites_imports_the_test_bed() {
    let users = tree(&["--workspace", "-e", "normal,build,dev", "-i", "robotimage-tests"]);
    assert_eq!(users, BTreeSet::from(["robotimage-tests".to_owned()]));
}

#[test]
fn one_tls_stack_one_crypto_library_one_yaml_parser() {
    let all = tree(&["--workspace", "-e", "normal,build,dev"]);
    let found: Vec<&&str> = BANNED.iter().filter(|name| all.contains(**name)).collect();
    assert!(found.is_empty(), "{found:?} came in: see `cargo tree --workspace -i NAME`");
}

/// Without this the tests above would also hold if `cargo tree` printed something that they do not understand.
#[test]
fn the_trees_hold_what_they_must() {
    let operator = tree(&["-p", "robotimage-operator", "-e", "normal,build"]);
    let builder = tree(&["-p", "robotimage-builder", "-e", "normal,build"]);
    let kubectl = tree(&["-p", "robotimage-kubectl", "-e", "normal,build"]);
    for (names, wanted) in [
        (&operator, ["kube-client", "kube-runtime", "robotimage-crds", "tokio"]),
        (&kubectl, ["kube-client", "robotimage-crds", "robotimage-operator", "tokio"]),
        (&builder, ["robotimage-layer", "robotimage-registry", "gix", "tokio"]),
    ] {
        for name in wanted {
            assert!(names.contains(name), "{name} is missing from {names:?}");
        }
    }
    assert!(matches("gix*", "gix-worktree") && matches("ring", "ring") && !matches("ring", "ring-buffer"));
}
