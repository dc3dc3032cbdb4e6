//! The other side: containerd pulls and unpacks, with nothing of the image on the node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use robotimage_builder::environment::SEALED_PATH;

use super::Bench;
use super::corpus::warm;
use super::fresh::{Fresh, Stand};
use super::measure::{cpu_of, measure};
use super::peers::{Peer, Work};
use super::pod::{Pod, robot};
use super::report::{Goal, Row, shown};
use super::stats::Sample;
use crate::error::{Error, Result};
use crate::parts;
use crate::process::{Lifetime, Part, Place, Spec, ready, run as run_command};

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let node = Node::new(bench)?;
    let version = run_command(
        "version of containerd",
        std::process::Command::new(&node.containerd).arg("--version"),
    )?;
    println!(
        "{}; overlayfs on a file system in memory, without pigz, as on most nodes",
        version.trim()
    );
    let environment = bench.environment().get(&bench.own)?;
    warm(&environment)?;
    let stand = Stand::start(&bench.cache, &bench.place("images")).await?;
    let pod = Pod::new(&bench.cache, &stand, &bench.binaries, &environment, &robot(0))?;
    pod.fetch("bench/ours", None)?;
    pod.publish("bench/ours", None)?;
    let mut images = vec![("ours", "bench/ours:bench")];
    for (peer, name, reference) in [
        (Peer::Crane, "one gzip layer (crane append)", "bench/crane:1"),
        (Peer::Shell, "one zstd layer (zstd -1)", "bench/shell:1"),
    ] {
        let work = Work {
            stand: &stand,
            root: pod.root(),
            tree: &environment,
            inside: SEALED_PATH.trim_start_matches('/'),
        };
        peer.push(&bench.cache, work)?;
        images.push((name, reference));
    }
    let mut walls: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut cpus: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..bench.settings.runs {
        for (name, reference) in &images {
            let (wall, cpu) = node.pull(&stand.reference(reference)).await?;
            println!("  {round} {name:<30} {wall:>6.2} s, {cpu:>6.2} s of processor");
            walls.entry(name).or_default().push(wall);
            cpus.entry(name).or_default().push(cpu);
        }
    }
    let sample = |of: &BTreeMap<&str, Vec<f64>>, name: &str| Sample::new(name, of.get(name).cloned().unwrap_or_default());
    let (wall, cpu) = (sample(&walls, "ours")?, sample(&cpus, "ours")?);
    println!("ours: {} s", shown(&wall));
    let mut rows = Vec::new();
    for (name, _) in &images[1..] {
        let (peer, peer_cpu) = (sample(&walls, name)?, sample(&cpus, name)?);
        println!("{name}: {} s", shown(&peer));
        let goal = if name.contains("gzip") { Goal::Ratio(0.6) } else { Goal::None };
        let figure = format!("pull and unpack, {}", bench.environment_name());
        rows.push(Row::beside(&figure, wall.median(), "s", (name, peer.median()), goal));
        rows.push(Row::beside(
            format!("{figure}: processor time"),
            cpu.median(),
            "s",
            (name, peer_cpu.median()),
            Goal::None,
        ));
    }
    Ok(rows)
}

/// What a node needs to pull.
struct Node {
    containerd: PathBuf,
    ctr: PathBuf,
    folder: PathBuf,
}

impl Node {
    fn new(bench: &Bench) -> Result<Self> {
        let [containerd, ctr] = parts::containerd(&bench.cache)?;
        let folder = bench.place("node");
        Ok(Self { containerd, ctr, folder })
    }

    /// With a containerd of its own that has nothing: seconds of wall time, and of processor time of both its sides.
    async fn pull(&self, reference: &str) -> Result<(f64, f64)> {
        let fresh = Fresh::mount(&self.folder)?;
        let at = |name: &str| fresh.path().join(name).display().to_string();
        let (config, socket) = (at("config.toml"), at("containerd.sock"));
        let text = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\n  address = {socket:?}\n",
            at("root"),
            at("state"),
        );
        std::fs::write(&config, text).map_err(Error::io("write", &config))?;
        let mut daemon = Part::start(Spec {
            name: "containerd".into(),
            program: self.containerd.clone(),
            args: vec!["--config".into(), config],
            env: BTreeMap::from([("CONTAINERD_DISABLE_PIGZ".into(), "1".into())]),
            log: fresh.path().join("containerd.log"),
            place: Place::Host,
            lifetime: Lifetime::Harness,
        })?;
        let answers = async || {
            let mut command = std::process::Command::new(&self.ctr);
            command.args(["--address", &socket, "version"]);
            run_command("containerd", &mut command).map(drop).map_err(|error| error.to_string())
        };
        ready(&[&daemon], Duration::from_secs(30), answers).await?;
        let before = cpu_of(daemon.identity())?;
        let ctr = self.ctr.display().to_string();
        let words = [
            &ctr,
            "--address",
            &socket,
            "images",
            "pull",
            "--plain-http",
            "--snapshotter",
            "overlayfs",
            reference,
        ];
        let measured = measure("pull", &words.map(str::to_owned), &[]);
        let cpu = cpu_of(daemon.identity());
        let unpacked = unpacked(Path::new(&at("root")));
        daemon.kill();
        let (usage, _) = measured?;
        if unpacked? == 0 {
            return Err(Error::Other("containerd has pulled and unpacked nothing".to_owned()));
        }
        Ok((usage.wall, usage.cpu + cpu? - before))
    }
}

/// How many snapshots hold something.
fn unpacked(root: &Path) -> Result<usize> {
    let folder = root.join("io.containerd.snapshotter.v1.overlayfs/snapshots");
    let entries = std::fs::read_dir(&folder).map_err(Error::io("list", &folder))?;
    let names: BTreeSet<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    Ok(names.len())
}
