//! Environments made by the real rcc: equal wherever they are made, and run by unmodified rcc binaries where nothing can be
//! written and no network answers.
//!
//! The real parts are those of the test bed in `$ROBOTIMAGE_CACHE/parts`, which `make parts` builds. Others can be named:
//! `ROBOTIMAGE_RCC` and `ROBOTIMAGE_RCC_17` (paths), `ROBOTIMAGE_CHANNEL` (URL of a conda channel with python 3.11.7 and pip
//! 23.2.1). pip asks the package index of the machine's own settings.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics where it stands")]

#[path = "environment/channel.rs"]
mod channel;
#[path = "environment/machine.rs"]
mod machine;
#[path = "environment/rootfs.rs"]
mod rootfs;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use machine::Machine;
use robotimage_builder::environment::{self, Error, ResolveRequest, Resolved, laptop};
use robotimage_builder::rcc::Rcc;
use robotimage_crds::reason::Reason;
use robotimage_layer::{Codec, LayerBuilder, ModePolicy, WriteOptions};
use rootfs::Rootfs;

const PIP: &str = "  - pip:\n      - rich==13.7.1\n      - robotframework==7.0\n";

/// The digest of the environment's layer: equal for equal environments.
fn diff_id(sealed: &Path) -> String {
    let mut layer = LayerBuilder::new();
    layer
        .tree(sealed, environment::SEALED_PATH, ModePolicy::Environment, Box::new(|_, _| true))
        .unwrap();
    layer.write(Codec::Gzip, &WriteOptions::default(), std::io::sink()).unwrap().diff_id
}

struct Resolve<'a> {
    machine: &'a Machine,
    rcc: &'a Path,
    /// The program that makes the namespace.
    helper: &'a Path,
    cache: PathBuf,
    spec: PathBuf,
}

impl Resolve<'_> {
    fn run(&self, timeout: Duration, cancel: &Arc<AtomicBool>) -> Result<Resolved, Error> {
        let scratch = tempfile::tempdir().unwrap();
        let rcc = Rcc::probe(self.rcc, scratch.path()).unwrap();
        laptop::run_resolve_by(
            self.helper,
            &self.cache,
            &ResolveRequest {
                rcc: &rcc,
                spec: &self.spec,
                folder: Path::new("bot"),
                environment_file: Path::new("bot/conda.yaml"),
                rcc_home: Path::new(environment::SEALED_ROOT),
                home: Path::new(environment::HOME),
                platform: Some(&self.machine.platform),
                index_secret: None,
                glibc: "2.36",
                deadline: Instant::now() + timeout,
                cancel: Arc::clone(cancel),
                progress: &|phase| println!("{phase}"),
                bytecode: true,
                key: "",
            },
        )
    }
}

fn resolve(machine: &Machine, name: &str, pip: &str) -> Result<Resolved, Error> {
    let spec = machine.spec(name, pip);
    let run = Resolve {
        machine,
        rcc: &machine.rcc,
        helper: Path::new(env!("CARGO_BIN_EXE_robotimage")),
        cache: machine.folder.path().join(format!("{name}-cache")),
        spec,
    };
    run.run(Duration::from_mins(5), &Arc::default())
}

#[test]
#[ignore = "needs the real rcc: make test runs it"]
fn equal_for_root_and_for_nobody_in_another_place_and_by_every_rcc() {
    let machine = Machine::find();
    let first = resolve(&machine, "first", PIP).unwrap();
    let digest = diff_id(&first.sealed);
    let names: Vec<&str> = first.packages.iter().map(|package| package.name.as_str()).collect();
    assert!(
        ["python", "pip", "rich", "robotframework"].iter().all(|name| names.contains(name)),
        "{names:?}"
    );
    assert_eq!((first.not_reproducible, first.outside), (Vec::new(), Vec::new()));

    let helper = machine.helper_as_nobody(Path::new(env!("CARGO_BIN_EXE_robotimage")));
    for (name, rcc) in [("nobody", &machine.rcc), ("seventeen", &machine.rcc_17)] {
        let cache = machine.folder_of_nobody(name);
        let copy = machine.folder.path().join(format!("{name}-rcc"));
        fs::copy(rcc, &copy).unwrap();
        let run = Resolve {
            machine: &machine,
            rcc: &copy,
            helper: &helper,
            cache: cache.clone(),
            spec: machine.spec(&format!("{name}/deeper"), PIP),
        };
        let again = run.run(Duration::from_mins(5), &Arc::default()).unwrap();
        assert!(again.sealed.starts_with(cache.canonicalize().unwrap()), "{:?}", again.sealed);
        assert_eq!(diff_id(&again.sealed), digest, "{name}");
        assert_eq!(again.packages, first.packages);
    }
    for path in [environment::SEALED_ROOT, environment::HOME] {
        assert!(!Path::new(path).exists(), "{path} appeared on the host");
    }
}

#[test]
#[ignore = "needs the real rcc: make test runs it"]
fn unmodified_rcc_runs_it_sealed() {
    let machine = Machine::find();
    let resolved = resolve(&machine, "sealed", PIP).unwrap();
    let before = diff_id(&resolved.sealed);
    for (path, users) in [(&machine.rcc, &["12345:0", "65534:0"][..]), (&machine.rcc_17, &["65534:0"])] {
        let scratch = tempfile::tempdir().unwrap();
        let rcc = Rcc::probe(path, scratch.path()).unwrap();
        let blueprint = rcc
            .blueprint(scratch.path(), &machine.spec("sealed", PIP).join("bot/conda.yaml"))
            .unwrap();
        let rootfs = Rootfs::new(&rcc, &resolved.sealed, &blueprint);
        for user in users {
            let said = rootfs.run(user, true);
            assert!(
                said.contains("hello from /opt/rcc/holotree/dc4d952_5a1fac3_9fcd2534 with rich 13.7.1"),
                "{} as {user}: {said}",
                rcc.version
            );
        }
        let said = rootfs.run("0:0", false);
        assert!(said.contains("hello from"), "{} as root: {said}", rcc.version);
        // Root could write there, and neither rcc nor Python does.
        assert_eq!(diff_id(&rootfs.sealed()), before, "{} as root", rcc.version);
    }
}

#[test]
#[ignore = "needs the real rcc: make test runs it"]
fn failures_have_their_reasons() {
    let machine = Machine::find();
    for (name, pip, reason, said) in [
        (
            "conda",
            "  - no-such-package=1.0\n",
            Reason::PackageNotFound,
            "\"no-such-package 1.0\"",
        ),
        (
            "pip",
            "  - pip:\n      - robotimage-no-such-package==1.0\n",
            Reason::PackageNotFound,
            "\"robotimage-no-such-package==1.0\"",
        ),
        (
            "post",
            "rccPostInstall:\n  - python -c \"import sys; print('no browser here'); sys.exit(3)\"\n",
            Reason::PostInstallFailed,
            "exit status 3",
        ),
    ] {
        let error = resolve(&machine, name, pip).unwrap_err();
        assert_eq!(error.reason(), reason, "{name}: {error}");
        assert!(error.to_string().contains(said), "{name}: {error}");
        assert!(!error.tail().unwrap().is_empty());
        if name == "post" {
            assert!(error.tail().unwrap().contains("no browser here"));
        }
    }
}

#[test]
#[ignore = "needs the real rcc: make test runs it"]
fn a_resolve_ends_when_it_should() {
    let machine = Machine::find();
    let endless = "rccPostInstall:\n  - python -c \"import time; time.sleep(1000)\"\n";
    let run = Resolve {
        machine: &machine,
        rcc: &machine.rcc,
        helper: Path::new(env!("CARGO_BIN_EXE_robotimage")),
        cache: machine.folder.path().join("endless-cache"),
        spec: machine.spec("endless", endless),
    };
    let start = Instant::now();
    let error = run.run(Duration::from_secs(20), &Arc::default()).unwrap_err();
    assert_eq!(error.reason(), Reason::BuildTimeout, "{error}");
    let cancel = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&cancel);
    let raise = thread::spawn(move || {
        thread::sleep(Duration::from_secs(3));
        raised.store(true, Ordering::Relaxed);
    });
    let error = run.run(Duration::from_mins(5), &cancel).unwrap_err();
    raise.join().unwrap();
    assert_eq!(error.reason(), Reason::Canceled, "{error}");
    assert!(start.elapsed() < Duration::from_mins(1));
}
