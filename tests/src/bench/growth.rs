//! Memory and growth: environments of 0.3, 1.4 and 5 GB, and of ten thousand, a hundred thousand and a million files.

use std::path::{Path, PathBuf};

use super::Bench;
use super::cold::gigabytes;
use super::corpus::{Environment, copies, many_files, size, warm};
use super::fresh::{Fresh, Stand};
use super::pod::{Pod, robot};
use super::report::{Goal, Row, shown};
use super::stats::{Sample, exponent};
use crate::error::Result;

/// What a build pod may take, in MB.
const MEMORY: f64 = 100.0;
/// Exponents that are still called linear.
const LINEAR: Goal = Goal::Between(0.9, 1.1);
/// Growth shows over decades; more runs than this change the exponent by less than what it may differ.
const RUNS: usize = 3;

/// What to pack.
struct Tree {
    name: String,
    folder: PathBuf,
    /// Keeps a folder in memory there.
    _fresh: Option<Fresh>,
}

/// Median time of one tree.
struct Point {
    files: f64,
    gigabytes: f64,
    wall: f64,
    cpu: f64,
}

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let least = {
        let tree = made(bench, "one file", |folder| many_files(folder, 1))?;
        measure(bench, &tree, &mut rows).await?
    };
    let mut points = Vec::new();
    for step in 0..3 {
        let tree = by_size(bench, step)?;
        points.push(measure(bench, &tree, &mut rows).await?);
    }
    rows.extend(fits("bytes", &points, &least, |point| point.gigabytes));
    points.clear();
    let counts: [u64; 3] = if bench.settings.quick {
        [1_000, 10_000, 100_000]
    } else {
        [10_000, 100_000, 1_000_000]
    };
    for count in counts {
        let tree = made(bench, &format!("{count} files"), |folder| many_files(folder, count))?;
        points.push(measure(bench, &tree, &mut rows).await?);
    }
    rows.extend(fits("files", &points, &least, |point| point.files));
    Ok(rows)
}

/// The exponent of the whole time, which is judged, and of what is beyond `least`: base, rcc, code and requests cost the
/// same whatever the environment is, and make a growth look slower than it is.
fn fits(what: &str, points: &[Point], least: &Point, size: impl Fn(&Point) -> f64) -> Vec<Row> {
    let fit = |name: &str, time: &dyn Fn(&Point) -> f64, goal| {
        let points: Vec<(f64, f64)> = points.iter().map(|point| (size(point), time(point))).collect();
        let name = format!("growth with {what}: exponent of the {name}");
        match exponent(&points) {
            Ok(exponent) => Row::alone(name, exponent, "", goal),
            Err(error) => Row::not_run(name, &error.to_string(), goal),
        }
    };
    vec![
        fit("wall time", &|point| point.wall, LINEAR),
        fit("wall time beyond that of one file", &|point| point.wall - least.wall, Goal::None),
        fit("processor time", &|point| point.cpu, Goal::None),
        fit("processor time beyond that of one file", &|point| point.cpu - least.cpu, Goal::None),
    ]
}

fn by_size(bench: &Bench, step: usize) -> Result<Tree> {
    let small = Environment::Small.get(&bench.own)?;
    let kept = |name: &str, folder: PathBuf| Tree {
        name: name.to_owned(),
        folder,
        _fresh: None,
    };
    match (step, bench.settings.quick) {
        (0, _) => Ok(kept("0.3 GB", small)),
        (1, false) => Ok(kept("1.4 GB", Environment::Large.get(&bench.own)?)),
        (1, true) => made(bench, "0.6 GB", |folder| copies(&small, folder, 600_000_000)),
        (_, false) => {
            let large = Environment::Large.get(&bench.own)?;
            made(bench, "5 GB", |folder| copies(&large, folder, 5_000_000_000))
        }
        (_, true) => made(bench, "1.2 GB", |folder| copies(&small, folder, 1_200_000_000)),
    }
}

fn made(bench: &Bench, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<Tree> {
    let fresh = Fresh::mount(&bench.place("tree"))?;
    let folder = fresh.path().join("environment");
    make(&folder)?;
    Ok(Tree {
        name: name.to_owned(),
        folder,
        _fresh: Some(fresh),
    })
}

async fn measure(bench: &Bench, tree: &Tree, rows: &mut Vec<Row>) -> Result<Point> {
    let (files, bytes) = size(&tree.folder)?;
    warm(&tree.folder)?;
    let (mut walls, mut cpus, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.settings.runs.min(RUNS) {
        let stand = Stand::start(&bench.cache, &bench.place("growth")).await?;
        let pod = Pod::new(&bench.cache, &stand, &bench.binaries, &tree.folder, &robot(0))?;
        pod.fetch("bench/ours", None)?;
        let (usage, _) = pod.publish("bench/ours", None)?;
        walls.push(usage.wall);
        cpus.push(usage.cpu);
        peaks.push(usage.peak / 1e6);
    }
    let name = &tree.name;
    let (wall, cpu, peak) = (Sample::new(name, walls)?, Sample::new(name, cpus)?, Sample::new(name, peaks)?);
    println!(
        "{name}: {files} files, {:.3} GB: {} s, {} s of processor, peak {} MB",
        gigabytes(bytes),
        shown(&wall),
        shown(&cpu),
        shown(&peak)
    );
    rows.push(Row::alone(
        format!("peak resident memory, {name}"),
        peak.max(),
        "MB",
        Goal::AtMost(MEMORY),
    ));
    rows.push(Row::alone(format!("assemble and push, {name}"), wall.median(), "s", Goal::None));
    Ok(Point {
        files: f64::from(u32::try_from(files).unwrap_or(u32::MAX)),
        gigabytes: gigabytes(bytes),
        wall: wall.median(),
        cpu: cpu.median(),
    })
}
