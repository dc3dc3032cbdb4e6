//! `make bench`: what the builder costs beside other tools and beside what the machine could do at best.
//!
//! Each part is a file of its own: [`cold`], [`pack`], [`code`], [`pull`], [`start`], [`growth`], [`cluster`]. They share
//! the corpora, fresh file systems, the way to run our own steps and the peers. Invariant: what is compared is measured in
//! one run, in turns, from the same files, with a warm page cache, against a registry that knows nothing but the base.

mod cluster;
mod code;
mod cold;
mod corpus;
mod counter;
mod fresh;
mod growth;
pub mod measure;
mod pack;
mod peers;
mod pod;
mod pull;
mod report;
mod start;
mod stats;

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use crate::cache::{Cache, lock};
use crate::error::{Error, Result};
use crate::install;
use crate::process::run;
use crate::product::{self, Binaries};
use corpus::Environment;
use report::Row;

/// The parts, in the order in which they run.
const PARTS: [&str; 7] = ["cold", "pack", "code", "growth", "pull", "start", "cluster"];

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Only these parts; all when empty.
    pub only: Vec<String>,
    /// How often each thing is measured.
    pub runs: usize,
    /// Small corpora: shows that everything works, not what it costs.
    pub quick: bool,
}

/// What all parts share.
#[derive(Debug)]
struct Bench {
    /// The test bed's parts.
    cache: Cache,
    /// The corpora.
    own: Cache,
    settings: Settings,
    binaries: Binaries,
    /// One benchmark at a time: two would measure each other.
    _lock: File,
}

/// Measures, prints, and writes the figures.
pub async fn run_all(settings: Settings) -> Result<()> {
    if let Some(unknown) = settings.only.iter().find(|name| !PARTS.contains(&name.as_str())) {
        return Err(Error::Other(format!(
            "there is no part {unknown:?}; there are {}",
            PARTS.join(", ")
        )));
    }
    if settings.runs == 0 {
        return Err(Error::Other("at least one run is needed".to_owned()));
    }
    let bench = Bench::open(settings).await?;
    let mut rows = Vec::new();
    for part in PARTS {
        if !bench.settings.only.is_empty() && !bench.settings.only.iter().any(|only| only == part) {
            continue;
        }
        let began = Instant::now();
        println!("\n== {part}");
        let measured = match part {
            "cold" => Box::pin(cold::run(&bench)).await,
            "pack" => pack::run(&bench),
            "code" => Box::pin(code::run(&bench)).await,
            "growth" => Box::pin(growth::run(&bench)).await,
            "pull" => Box::pin(pull::run(&bench)).await,
            "start" => Box::pin(start::run(&bench)).await,
            _ => Box::pin(cluster::run(&bench)).await,
        };
        match measured {
            Ok(measured) => {
                report::print(&measured);
                rows.extend(measured);
            }
            // The others are still worth having; a part that broke is a figure that is not met.
            Err(error) => {
                eprintln!("bench: {part}: {error}");
                rows.push(Row::not_run(format!("part {part}"), &error.to_string(), report::Goal::AtMost(0.0)));
            }
        }
        println!("({part} took {:.0} s)", began.elapsed().as_secs_f64());
    }
    let name = match (bench.settings.quick, bench.settings.only.as_slice()) {
        (false, []) => "builder".to_owned(),
        (true, _) => "quick".to_owned(),
        (false, only) => format!("builder-{}", only.join("-")),
    };
    let path = report::write(&install::work_tree(), &name, &rows)?;
    println!("\n== all figures");
    report::print(&rows);
    println!("\nwritten to {}", path.display());
    if rows.iter().any(|row| row.value.is_none() && row.met.is_some()) {
        return Err(Error::Other("not everything could be measured".to_owned()));
    }
    Ok(())
}

impl Bench {
    async fn open(settings: Settings) -> Result<Self> {
        crate::prerequisites::check()?;
        let cache = Cache::open()?;
        let own = Cache::at(cache.root().join("bench"))?;
        let held = lock(&own.root().join("lock"))?;
        fresh::sweep(&own.root().join("run"))?;
        let (building, root) = (cache.clone(), install::work_tree());
        let binaries = tokio::task::spawn_blocking(move || product::binaries(&building, &root))
            .await
            .map_err(|error| Error::Other(format!("release build: {error}")))??;
        let bench = Self {
            cache,
            own,
            settings,
            binaries,
            _lock: held,
        };
        bench.introduce()?;
        Ok(bench)
    }

    /// The machine and both sides' versions.
    fn introduce(&self) -> Result<()> {
        let commit = run(
            "commit",
            std::process::Command::new("git")
                .arg("-C")
                .arg(install::work_tree())
                .args(["rev-parse", "--short", "HEAD"]),
        )?;
        let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .lines()
            .next()
            .and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        println!(
            "robotimage at {}, zstd frames of 4 MiB; {} runs of each\n{processors} processors ({}), {} GiB of memory",
            commit.trim(),
            self.settings.runs,
            model.trim_start_matches([' ', '\t', ':']),
            kib.unwrap_or(0) >> 20,
        );
        let registry = crate::parts::registry(&self.cache)?;
        let said = run("version of the registry", std::process::Command::new(registry).arg("--version"))?;
        println!("registry: {}", said.trim());
        Ok(())
    }

    /// A place for the file system of one run.
    fn place(&self, name: &str) -> PathBuf {
        self.own.root().join("run").join(name)
    }

    /// The environment that the goals are set for, or the small one in a quick run.
    fn environment(&self) -> Environment {
        if self.settings.quick {
            Environment::Small
        } else {
            Environment::Large
        }
    }

    /// The name of that environment in the figures.
    fn environment_name(&self) -> &'static str {
        if self.settings.quick {
            "0.3 GB environment"
        } else {
            "1.4 GB environment"
        }
    }
}
