//! Cold: nothing is known of the environment; it is packed and pushed.

use std::collections::BTreeMap;

use robotimage_builder::environment::SEALED_PATH;

use super::Bench;
use super::corpus::{size, warm};
use super::fresh::Stand;
use super::measure::{Usage, cpu_of};
use super::peers::{Peer, Work};
use super::pod::{Pod, robot};
use super::report::{Goal, Row, shown};
use super::stats::Sample;
use crate::error::Result;

/// Beyond so many runs a peer that takes half a minute tells nothing new.
const SLOW_RUNS: usize = 2;
/// Slower than this many seconds is slow.
const SLOW: f64 = 20.0;

/// One run.
struct Run {
    usage: Usage,
    registry: f64,
    bytes: u64,
}

#[derive(Default)]
struct Runs(Vec<Run>);

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let environment = bench.environment().get(&bench.own)?;
    let (files, bytes) = size(&environment)?;
    println!("environment: {files} files, {:.3} GB", gigabytes(bytes));
    let mut ours = Runs::default();
    let mut peers: BTreeMap<&str, Runs> = BTreeMap::new();
    let mut rows = Vec::new();
    let mut able = Vec::new();
    for peer in Peer::ALL {
        match peer.describe(&bench.cache) {
            Ok(said) => {
                println!("{}: {said}", peer.name());
                able.push(peer);
            }
            Err(why) => rows.push(Row::not_run(format!("cold, {}", peer.name()), &why, Goal::None)),
        }
    }
    warm(&environment)?;
    for round in 0..bench.settings.runs {
        for own in std::iter::once(None).chain(able.clone().into_iter().map(Some)) {
            let runs = match own {
                None => &mut ours,
                Some(peer) => peers.entry(peer.name()).or_default(),
            };
            if round >= SLOW_RUNS && runs.0.iter().all(|run| run.usage.wall > SLOW) {
                continue;
            }
            let name = own.map_or("robotimage publish", Peer::name);
            let stand = Stand::start(&bench.cache, &bench.place("cold")).await?;
            let pod = Pod::new(&bench.cache, &stand, &bench.binaries, &environment, &robot(0))?;
            let before = cpu_of(stand.registry().part().identity())?;
            let measured = match own {
                None => {
                    pod.fetch("bench/ours", None)?;
                    let before = cpu_of(stand.registry().part().identity())?;
                    let (usage, published) = pod.publish("bench/ours", None)?;
                    let layers = published.layers.iter().filter(|layer| layer.role == "environment");
                    let bytes = layers.map(|layer| u64::try_from(layer.size).unwrap_or(0)).sum();
                    Ok((usage, bytes, before))
                }
                Some(peer) => {
                    let work = Work {
                        stand: &stand,
                        root: pod.root(),
                        tree: &environment,
                        inside: SEALED_PATH.trim_start_matches('/'),
                    };
                    peer.push(&bench.cache, work).map(|pushed| (pushed.usage, pushed.bytes, before))
                }
            };
            match (measured, own) {
                (Ok((usage, bytes, before)), _) => {
                    let registry = cpu_of(stand.registry().part().identity())? - before;
                    println!(
                        "  {round} {name:<26} {:>6.2} s, {:>6.2} s of processor, registry {registry:.2} s, peak {:.0} MB, {:.1} MB pushed",
                        usage.wall,
                        usage.cpu,
                        usage.peak / 1e6,
                        gigabytes(bytes) * 1e3,
                    );
                    runs.0.push(Run { usage, registry, bytes });
                }
                // A peer that cannot do it here is no reason to have no figures; ours is.
                (Err(error), Some(peer)) => {
                    println!("  {round} {name}: {error}");
                    able.retain(|other| *other != peer);
                    rows.push(Row::not_run(format!("cold, {name}"), &error.to_string(), Goal::None));
                }
                (Err(error), None) => return Err(error),
            }
        }
    }
    let figure = format!("cold assemble and push, {}", bench.environment_name());
    let (wall, cpu, _) = ours.samples("robotimage publish")?;
    println!("robotimage publish: {} s", shown(&wall));
    let mut figures = Vec::new();
    for peer in Peer::ALL {
        let Some(runs) = peers.get(peer.name()).filter(|runs| !runs.0.is_empty()) else {
            continue;
        };
        let (peer_wall, peer_cpu, registry) = runs.samples(peer.name())?;
        println!(
            "{}: {} s, registry {} s of processor",
            peer.name(),
            shown(&peer_wall),
            shown(&registry)
        );
        let goal = if peer == Peer::Crane { Goal::Ratio(0.33) } else { Goal::None };
        figures.push(Row::beside(&figure, wall.median(), "s", (peer.name(), peer_wall.median()), goal));
        let processor = format!("{figure}: processor time");
        figures.push(Row::beside(
            processor,
            cpu.median(),
            "s",
            (peer.name(), peer_cpu.median()),
            Goal::None,
        ));
        let size = format!("{figure}: compressed environment");
        figures.push(Row::beside(
            size,
            ours.megabytes(),
            "MB",
            (peer.name(), runs.megabytes()),
            Goal::None,
        ));
    }
    figures.extend(rows);
    Ok(figures)
}

impl Runs {
    /// Wall and processor time, and that of the registry.
    fn samples(&self, what: &str) -> Result<(Sample, Sample, Sample)> {
        let sample = |pick: fn(&Run) -> f64| Sample::new(what, self.0.iter().map(pick).collect());
        Ok((
            sample(|run| run.usage.wall)?,
            sample(|run| run.usage.cpu)?,
            sample(|run| run.registry)?,
        ))
    }

    fn megabytes(&self) -> f64 {
        self.0.last().map_or(0.0, |run| gigabytes(run.bytes) * 1e3)
    }
}

/// Bytes as billions of them, to a tenth of a thousandth.
pub(super) fn gigabytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 100_000).unwrap_or(u32::MAX)) / 1e4
}
