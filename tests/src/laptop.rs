//! A person's machine: the command line `robotimage` with a home, a cache and settings of its own.
//!
//! Invariant: the program gets nothing from the environment of the test run, and finds no Docker, no root and no rcc but
//! what is given to it here.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::bed::{AddressBook, Bed};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::install;
use crate::product;

/// The programs under test.
#[derive(Debug, Clone)]
pub struct Program {
    /// `robotimage`.
    pub builder: PathBuf,
    /// `robotimage-launcher`, static.
    pub launcher: PathBuf,
}

impl Program {
    /// The release build of this work tree, or another one: `$ROBOTIMAGE_PROGRAM` with `$ROBOTIMAGE_LAUNCHER`.
    pub async fn get(cache: &Cache) -> Result<Self> {
        // Once a process: even a build of nothing asks cargo for its lock.
        static BUILT: OnceCell<Program> = OnceCell::const_new();
        let path = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let (Some(builder), Some(launcher)) = (path("ROBOTIMAGE_PROGRAM"), path("ROBOTIMAGE_LAUNCHER")) {
            return Ok(Self { builder, launcher });
        }
        let build = async || {
            let cache = cache.clone();
            let built = tokio::task::spawn_blocking(move || product::binaries(&cache, &install::work_tree())).await;
            let binaries = built.map_err(|error| Error::Other(format!("release build: {error}")))??;
            Ok(Self {
                builder: binaries.builder,
                launcher: binaries.launcher,
            })
        };
        BUILT.get_or_try_init(build).await.cloned()
    }
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its exit code; 128 + n after signal n.
    pub code: i32,
    /// What it printed as its result.
    pub stdout: String,
    /// Everything else it said.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Outcome {
    /// The document that `--json` prints.
    pub fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_default()
    }
}

/// A home with everything that `robotimage build` is told by files.
#[derive(Debug, Clone)]
pub struct Laptop {
    /// The person's home, which holds all the rest.
    pub home: PathBuf,
    /// The programs.
    pub program: Program,
    /// Words before the command: another user, another number of processors.
    pub prefix: Vec<String>,
    /// Environment besides the defaults, later ones first.
    pub env: Vec<(String, String)>,
    /// The rcc that it has.
    pub rcc: PathBuf,
    book: AddressBook,
}

impl Laptop {
    /// Writes a home to `home`: registry login, platform settings, nothing else.
    pub fn new(bed: &Bed, program: &Program, home: &Path) -> Result<Self> {
        let book = bed.book().clone();
        let rcc = book
            .rcc
            .first()
            .ok_or_else(|| Error::Other("the test bed has no rcc".to_owned()))?
            .path
            .clone();
        let laptop = Self {
            home: home.to_owned(),
            program: program.clone(),
            prefix: Vec::new(),
            env: Vec::new(),
            rcc,
            book,
        };
        for folder in [home.join(".docker"), laptop.settings(), laptop.cache()] {
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        let bundle = fs::read_to_string(&laptop.book.ca_bundle).map_err(Error::io("read", &laptop.book.ca_bundle))?;
        let authority = fs::read_to_string(&laptop.book.ca).map_err(Error::io("read", &laptop.book.ca))?;
        for (path, text) in [
            (home.join(".docker/config.json"), laptop.book.registry.docker_config().to_string()),
            (laptop.settings().join("settings.yaml"), settings(&laptop.book).to_string()),
            (laptop.settings().join("ca-bundle.pem"), bundle),
            (laptop.authority(), authority),
        ] {
            fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        Ok(laptop)
    }

    /// What the platform would say about packages.
    pub fn settings(&self) -> PathBuf {
        self.home.join("settings")
    }

    /// The program's own cache.
    pub fn cache(&self) -> PathBuf {
        self.home.join("cache")
    }

    fn authority(&self) -> PathBuf {
        self.home.join("registry-ca.pem")
    }

    /// Gives everything of the home to a user, as root makes a home.
    pub fn hand_to(&mut self, uid: u32) -> Result<()> {
        let id = uid.to_string();
        crate::process::run("owner of a home", Command::new("chown").args(["-R", &id]).arg(&self.home))?;
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&self.home, open).map_err(Error::io("open", &self.home))?;
        let words = [
            "setpriv".to_owned(),
            format!("--reuid={id}"),
            format!("--regid={id}"),
            "--clear-groups".to_owned(),
            "--".to_owned(),
        ];
        self.prefix.extend(words);
        Ok(())
    }

    /// The program with these arguments and no others.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut words: Vec<&std::ffi::OsStr> = self.prefix.iter().map(AsRef::as_ref).collect();
        words.push(self.program.builder.as_os_str());
        words.extend(args.iter().map(std::ffi::OsStr::new));
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .env_clear()
            .envs(crate::process::basics())
            .env("HOME", &self.home);
        command.env("ROBOTIMAGE_CACHE", self.cache());
        command.envs(self.book.index.proxies.iter().cloned());
        command.envs(self.env.iter().cloned()).current_dir(&self.home);
        command
    }

    /// `robotimage build` of a folder with everything that this machine needs to be told, and `args`.
    pub fn build_command(&self, robot: &Path, args: &[&str]) -> Command {
        self.told("build", robot, args)
    }

    /// `robotimage plan` in the same way.
    pub fn plan_command(&self, robot: &Path, args: &[&str]) -> Command {
        self.told("plan", robot, args)
    }

    fn told(&self, command: &str, robot: &Path, args: &[&str]) -> Command {
        let (launcher, rcc, authority, settings) = (
            self.program.launcher.display().to_string(),
            self.rcc.display().to_string(),
            self.authority().display().to_string(),
            self.settings().display().to_string(),
        );
        let robot = robot.display().to_string();
        let mut words = vec![command, robot.as_str()];
        for (flag, value) in [
            ("--base-image", &self.book.base_image),
            ("--rcc-exec", &rcc),
            ("--launcher", &launcher),
            ("--ca", &authority),
            ("--settings", &settings),
        ] {
            // What a test says itself is said once.
            if !args.contains(&flag) {
                words.extend([flag, value.as_str()]);
            }
        }
        words.extend(args);
        self.command(&words)
    }

    /// Builds, whatever becomes of it.
    pub fn try_build(&self, robot: &Path, args: &[&str]) -> Result<Outcome> {
        outcome(&mut self.build_command(robot, args))
    }

    /// Builds; gives the document of the result.
    pub fn build(&self, robot: &Path, args: &[&str]) -> Result<Built> {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let outcome = self.try_build(robot, &args)?;
        let document = outcome.document();
        match document["digest"].as_str() {
            Some(digest) if outcome.code == 0 => Ok(Built {
                digest: digest.to_owned(),
                document,
                took: outcome.took,
            }),
            _ => Err(Error::Other(format!(
                "robotimage build {} {args:?} ended with {}:\n{}{}",
                robot.display(),
                outcome.code,
                outcome.stderr,
                outcome.stdout
            ))),
        }
    }
}

/// A finished build.
#[derive(Debug, Clone)]
pub struct Built {
    /// Digest of the manifest.
    pub digest: String,
    /// All that `--json` says.
    pub document: Value,
    /// From start to end.
    pub took: Duration,
}

/// Runs a command to its end.
pub fn outcome(command: &mut Command) -> Result<Outcome> {
    use std::os::unix::process::ExitStatusExt as _;
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(Error::io("run", command.get_program()))?;
    let code = output.status.code().or_else(|| output.status.signal().map(|signal| 128 + signal));
    Ok(Outcome {
        code: code.unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: began.elapsed(),
    })
}

/// The platform's settings.yaml, the same for a laptop and for the chart.
pub fn settings(book: &AddressBook) -> Value {
    json!({"endpoints": {"conda": format!("{}/", book.files.http), "pypi": book.index.url}})
}

/// Copies a robot's files, those that git would carry.
pub fn copy_robot(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    for (name, bytes) in crate::command::read_folder(from)? {
        let path = to.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    }
    Ok(())
}

/// The digest that the command line gives for a robot with the bed's base, rcc and settings: what a build in the cluster
/// is compared with. `folder` is for the home.
pub async fn cli_digest(bed: &Bed, robot: &Path, folder: &Path) -> Result<String> {
    let program = Program::get(bed.cache()).await?;
    let laptop = Laptop::new(bed, &program, folder)?;
    Ok(laptop.build(robot, &["--compression", "zstd"])?.digest)
}
