//! A task that imports pandas, from the start of its container to its first line: our image, and the same environment as
//! rcc alone would ship it, restored from rcc's library at each start.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Bench;
use super::fresh::Stand;
use super::report::{Goal, Row, shown};
use super::stats::Sample;
use crate::error::{Error, Result};
use crate::files;
use crate::index::PackageIndex;
use crate::laptop::outcome;
use crate::process::{basics, run as run_command};
use crate::rcc;
use crate::rootfs::Layers;
use crate::runc::{Container, Options};
use crate::serve;
use crate::verify::Image;

const CONDA: &str = "channels:\n  - conda-forge\ndependencies:\n  - python=3.11.7\n  - pip=23.2.1\n  - pip:\n      \
- numpy==2.4.6\n      - pandas==3.1.1\n      - python-dateutil==2.9.0.post0\n      - six==1.17.0\n";
const ROBOT: &str = "tasks:\n  Sum:\n    shell: python task.py\nenvironmentConfigs:\n  - conda.yaml\nartifactsDir: output\n\
PATH:\n  - .\nPYTHONPATH:\n  - .\n";
const TASK: &str = "import pandas\nframe = pandas.DataFrame({'name': ['a', 'b', 'a'], 'value': [1, 2, 3]})\n\
print('sum of a:', frame.groupby('name')['value'].sum()['a'])\n";
/// What the task says.
const LINE: &str = "sum of a: 4";
/// ROBOCORP_HOME of the plain layout: where the library was made, because rcc restores nowhere else.
const PLAIN_HOME: &str = "/opt/rcc";

pub(super) async fn run(bench: &Bench) -> Result<Vec<Row>> {
    let stand = Stand::start(&bench.cache, &bench.place("start")).await?;
    let made = build(bench, &stand)?;
    let (ours, plain) = (made.ours(), made.plain()?);
    let runs = stand.fresh().path().join("runs");
    fs::create_dir_all(&runs).map_err(Error::io("create", &runs))?;
    let entrypoint = ["/usr/local/bin/rcc", "run", "--robot", "/home/robot/app/robot.yaml"];
    let home = format!("ROBOCORP_HOME={PLAIN_HOME}");
    let restored = [&["/usr/bin/env", home.as_str()], &entrypoint[..]].concat();
    let as_rcc_alone = Options {
        command: Some(&restored),
        user: Some((0, 0)),
        ..Options::default()
    };
    let (mut firsts, mut ends, mut plain_firsts, mut plain_ends) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.settings.runs * 2 {
        for (layers, options, first, end) in [
            (&ours, Options::default(), &mut firsts, &mut ends),
            (&plain, as_rcc_alone, &mut plain_firsts, &mut plain_ends),
        ] {
            let finished = Container::run(&made.image, layers, &runs, options)?;
            let at = finished.first(LINE).filter(|_| finished.exit_code == 0).ok_or_else(|| {
                Error::Other(format!(
                    "the task ended with {} and did not say {LINE:?}:\n{}",
                    finished.exit_code,
                    finished.text()
                ))
            })?;
            first.push(at.as_secs_f64());
            end.push(finished.took.as_secs_f64());
        }
    }
    let (first, plain_first) = (Sample::new("start", firsts)?, Sample::new("plain start", plain_firsts)?);
    let (end, plain_end) = (Sample::new("end", ends)?, Sample::new("plain end", plain_ends)?);
    println!("first line {} s, plain rcc layout {} s", shown(&first), shown(&plain_first));
    let peer = "plain rcc layout (library, restored at the start)";
    Ok(vec![
        Row::beside(
            "start of a pandas task: first line",
            first.median(),
            "s",
            (peer, plain_first.median()),
            Goal::Ratio(0.5),
        ),
        Row::beside(
            "start of a pandas task: to its end",
            end.median(),
            "s",
            (peer, plain_end.median()),
            Goal::None,
        ),
    ])
}

/// An image and what it was made from.
struct Made {
    image: Image,
    /// Unpacked, from the bottom.
    layers: Vec<PathBuf>,
    /// The builder's ROBOCORP_HOME, which has rcc's library.
    home: PathBuf,
    /// For the plain layout.
    scratch: PathBuf,
}

fn build(bench: &Bench, stand: &Stand) -> Result<Made> {
    let folder = stand.fresh().path();
    let (robot, settings, cache, layout) = (
        folder.join("robot"),
        folder.join("settings"),
        folder.join("cache"),
        folder.join("layout"),
    );
    let all = rcc::all(&bench.cache)?;
    serve::publish(&bench.cache, stand.site(), &all)?;
    let channel = files::serve(&format!("{}:0", stand.site().ip), None, stand.site().folder.join("www"))?;
    let index = PackageIndex::of_this_machine()?;
    let endpoints = serde_json::json!({"endpoints": {"conda": format!("{}/", channel.url()), "pypi": index.url}});
    for (path, text) in [
        (robot.join("robot.yaml"), ROBOT.to_owned()),
        (robot.join("conda.yaml"), CONDA.to_owned()),
        (robot.join("task.py"), TASK.to_owned()),
        (settings.join("settings.yaml"), endpoints.to_string()),
        (settings.join("ca-bundle.pem"), index.ca_pem()?),
    ] {
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        fs::write(&path, text).map_err(Error::io("write", &path))?;
    }
    let mut build = Command::new(&bench.binaries.builder);
    build
        .env_clear()
        .envs(basics())
        .envs(index.proxies.iter().cloned())
        .env("ROBOTIMAGE_CACHE", &cache);
    build
        .arg("build")
        .arg(&robot)
        .args(["--compression", "zstd", "--base-image"])
        .arg(stand.base());
    build
        .arg("--plain-http")
        .arg(stand.registry().address())
        .arg("--rcc-exec")
        .arg(&all[0].path);
    build
        .arg("--launcher")
        .arg(&bench.binaries.launcher)
        .arg("--settings")
        .arg(&settings);
    let outcome = outcome(build.arg("--output").arg(format!("oci:{}", layout.display())))?;
    if outcome.code != 0 {
        return Err(Error::Other(format!(
            "robotimage build ended with {}:\n{}{}",
            outcome.code, outcome.stderr, outcome.stdout
        )));
    }
    println!("image with pandas built in {:.0} s", outcome.took.as_secs_f64());
    let image = Image::read(&layout)?;
    let layers = Layers::at(&folder.join("layers"))?.unpack(&layout, &image)?;
    let builds = cache.join("builds");
    let mut homes = fs::read_dir(&builds)
        .map_err(Error::io("list", &builds))?
        .flatten()
        .map(|entry| entry.path().join("rcc"));
    let home = homes
        .find(|home| home.join("hololib/catalog").is_dir())
        .ok_or_else(|| Error::Other(format!("{} has no library of rcc", builds.display())))?;
    Ok(Made {
        image,
        layers,
        home,
        scratch: folder.join("plain"),
    })
}

impl Made {
    fn ours(&self) -> Vec<PathBuf> {
        self.layers.clone()
    }

    /// Base, rcc and code of our image; in place of the sealed environment and its home, the library.
    fn plain(&self) -> Result<Vec<PathBuf>> {
        let top = self.scratch.join(PLAIN_HOME.trim_start_matches('/'));
        fs::create_dir_all(&top).map_err(Error::io("create", &top))?;
        for name in ["hololib", "settings.yaml"] {
            let mut copy = Command::new("cp");
            copy.arg("-a").arg(self.home.join(name)).arg(&top);
            run_command("copy of rcc's library", &mut copy)?;
        }
        let is_kept = |role: Option<&str>| !matches!(role, Some("environment" | "home"));
        let pairs = self.image.layers.iter().zip(&self.layers);
        let kept = pairs
            .filter(|(layer, _)| is_kept(layer.role.as_deref()))
            .map(|(_, folder)| folder.clone());
        Ok(kept.chain([Path::new(&self.scratch).to_owned()]).collect())
    }
}
