//! Runs rcc until there is an environment, then seals it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use robotimage_crds::reason::Reason;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::inventory::{Package, inventory};
use super::seal::{remove, tree};
use super::secrets::{Netrc, Secrets};
use super::{bytecode, plan, seal, space};
use crate::rcc::{Child, Ended, Limits, Rcc, Settings, Stopped, Verdict, classify, environment, is_ambiguous, phase};
use crate::robot::{Location, credentials_in};

/// Marks a home of rcc as ours: only such a one is ever emptied.
const MARKER: &str = ".robotimage";
/// The finished result, with its key.
const RESULT: &str = "robotimage-result.json";
/// Kernel version that solvers see: old enough for every base, and the same on every machine.
const LINUX: &str = "5.10";
/// Most names that are listed of what an installer left outside the environment.
const MAX_OUTSIDE: usize = 20;

/// What to resolve, with what, and where. All paths are absolute but for `folder` and `environment_file`.
pub struct ResolveRequest<'a> {
    /// rcc.
    pub rcc: &'a Rcc,
    /// Folder with the environment file and the local files it names, laid out as in the context.
    pub spec: &'a Path,
    /// The robot's folder relative to `spec`: working directory of pip and post-install commands.
    pub folder: &'a Path,
    /// The environment file, relative to `spec`.
    pub environment_file: &'a Path,
    /// ROBOCORP_HOME; in the end the sealed environment lies below it. Emptied first, unless it holds the result of `key`.
    pub rcc_home: &'a Path,
    /// HOME; rcc derives the environment's folder from it.
    pub home: &'a Path,
    /// Folder with the platform's `settings.yaml`, `piprc`, `micromambarc`, `ca-bundle.pem`, each optional.
    pub platform: Option<&'a Path>,
    /// A netrc file with the credentials of the package index.
    pub index_secret: Option<&'a Path>,
    /// Version of the base's glibc, which solvers are told instead of this machine's.
    pub glibc: &'a str,
    /// When to give up.
    pub deadline: Instant,
    /// Raised by the caller to stop within seconds.
    pub cancel: Arc<AtomicBool>,
    /// Called with each phase, in words for people.
    pub progress: &'a dyn Fn(&str),
    /// Whether to compile bytecode.
    pub bytecode: bool,
    /// Key of the environment; empty to resolve anew whatever is there.
    pub key: &'a str,
}

impl std::fmt::Debug for ResolveRequest<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResolveRequest")
            .field("rcc", self.rcc)
            .field("spec", &self.spec)
            .field("environment_file", &self.environment_file)
            .field("rcc_home", &self.rcc_home)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// An environment, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// Where it lies on this host.
    pub sealed: PathBuf,
    /// What it holds.
    pub packages: Vec<Package>,
    /// Packages, or parts, that differ at every resolve.
    pub not_reproducible: Vec<String>,
    /// Files and folders that installers left outside the environment, relative to HOME: they are not in the image.
    pub outside: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Finished {
    key: String,
    resolved: Resolved,
}

/// Resolves and seals an environment. Blocks until it is done, its deadline passes or it is canceled.
pub fn resolve(request: &ResolveRequest<'_>) -> Result<Resolved, Error> {
    prepare(request)?;
    if let Some(resolved) = finished(request)? {
        (request.progress)("environment is there already");
        return Ok(resolved);
    }
    // Whatever an interrupted rcc may have left half written; it does not look again at a micromamba that is there.
    for name in ["holotree", "hololib", "tmp", "bin", "micromamba"] {
        remove(&request.rcc_home.join(name))?;
    }
    let temp = request.rcc_home.join("tmp");
    fs::create_dir_all(&temp).map_err(|source| tree("make", &temp, source))?;
    let settings = match request.platform {
        Some(platform) => Settings::read(platform)?,
        None => Settings::default(),
    };
    if let Some(found) = settings.addresses().find_map(credentials_in) {
        return Err(Error::Credentials {
            place: "the platform's settings".to_owned(),
            found,
        });
    }
    let netrc = Netrc::place(request.index_secret, request.home)?;
    let run = Run {
        request,
        temp: &temp,
        secrets: &netrc.secrets,
    };
    let sealed = run.rcc(settings)?;
    let resolved = run.seal(&sealed)?;
    drop(netrc);
    let finished = Finished {
        key: request.key.to_owned(),
        resolved,
    };
    let path = request.rcc_home.join(RESULT);
    let text = serde_json::to_vec(&finished).expect("invariant: plain data");
    fs::write(&path, text).map_err(|source| tree("write", &path, source))?;
    remove(&temp)?;
    Ok(finished.resolved)
}

/// Makes the homes, and refuses one that somebody else uses.
fn prepare(request: &ResolveRequest<'_>) -> Result<(), Error> {
    for folder in [request.rcc_home, request.home] {
        fs::create_dir_all(folder).map_err(|source| tree("make", folder, source))?;
    }
    let marker = request.rcc_home.join(MARKER);
    if marker.exists() {
        return Ok(());
    }
    let mut entries = fs::read_dir(request.rcc_home).map_err(|source| tree("list", request.rcc_home, source))?;
    // A new volume may have a lost+found.
    if entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != "lost+found")) {
        return Err(Error::NotOurs {
            path: request.rcc_home.to_path_buf(),
        });
    }
    fs::write(&marker, "").map_err(|source| tree("write", &marker, source))
}

/// The result that is there already, if it is of this key and whole. The key decides alone, so a broken one is made anew.
fn finished(request: &ResolveRequest<'_>) -> Result<Option<Resolved>, Error> {
    let path = request.rcc_home.join(RESULT);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(tree("read", &path, error)),
    };
    let finished = serde_json::from_slice::<Finished>(&text).ok();
    let found = finished.filter(|finished| !request.key.is_empty() && finished.key == request.key && finished.resolved.sealed.is_dir());
    if found.is_none() {
        remove(&path)?;
    }
    Ok(found.map(|finished| finished.resolved))
}

struct Run<'a> {
    request: &'a ResolveRequest<'a>,
    temp: &'a Path,
    secrets: &'a Secrets,
}

#[derive(Deserialize)]
struct Variable {
    key: String,
    value: String,
}

impl Run<'_> {
    fn limits(&self) -> Limits<'_> {
        Limits {
            deadline: self.request.deadline,
            cancel: Some(&self.request.cancel),
        }
    }

    /// Runs rcc, and again where only a talkative pip tells what was wrong. Returns where the environment is.
    fn rcc(&self, settings: Settings) -> Result<PathBuf, Error> {
        settings.write(self.request.rcc_home)?;
        let ended = self.call()?;
        if ended.status.success() {
            return self.answer(&ended);
        }
        let verdict = classify(&ended.stderr, ended.status.code());
        if is_ambiguous(&ended.stderr, &verdict) {
            (self.request.progress)("asking the package index why");
            settings.verbose().write(self.request.rcc_home)?;
            let again = self.call()?;
            if !again.status.success() {
                return Err(self.failed(&classify(&again.stderr, again.status.code()), &ended));
            }
            // It worked this time: the index had answered badly once.
            return self.answer(&again);
        }
        Err(self.failed(&verdict, &ended))
    }

    fn failed(&self, verdict: &Verdict, ended: &Ended) -> Error {
        let message = match self.place(verdict) {
            Some(at) => format!("{at}: {}", verdict.message),
            None => verdict.message.clone(),
        };
        Error::Failed {
            reason: verdict.reason,
            message: self.secrets.replace(&message),
            tail: self.tail(ended),
        }
    }

    /// The line of the environment file that the failure is about. A file that cannot be read has been reported before.
    fn place(&self, verdict: &Verdict) -> Option<Location> {
        let file = self.request.environment_file;
        let text = fs::read_to_string(self.request.spec.join(file)).ok()?;
        let specification = crate::robot::environment::parse(file.to_str()?, &text).ok()?;
        specification.blame(verdict.subject.as_deref()?)
    }

    fn call(&self) -> Result<Ended, Error> {
        let request = self.request;
        let mut variables = environment(request.rcc_home, request.home, self.temp);
        variables.extend([
            ("CONDA_OVERRIDE_GLIBC".into(), request.glibc.into()),
            ("CONDA_OVERRIDE_LINUX".into(), LINUX.into()),
            // Empty: no graphics card, whatever this machine has.
            ("CONDA_OVERRIDE_CUDA".into(), "".into()),
            // All bytecode is made by us, after everything is installed.
            ("MAMBA_COMPILE_PYC".into(), "false".into()),
        ]);
        let file = request.spec.join(request.environment_file);
        let mut arguments = vec![
            "holotree".into(),
            "variables".into(),
            "--json".into(),
            "--space".into(),
            "user".into(),
        ];
        // rcc 17 does not know it.
        if !request.rcc.version.starts_with("v17.") {
            arguments.push("--no-retry-build".into());
        }
        arguments.push(file.into_os_string());
        let folder = request.spec.join(request.folder);
        let child = Child {
            program: &request.rcc.path,
            arguments,
            environment: variables,
            folder: &folder,
        };
        let progress = |line: &str| {
            if let Some(phase) = phase(line) {
                (request.progress)(&self.secrets.replace(&phase));
            }
        };
        let ended = child
            .run(&self.limits(), &progress)
            .map_err(|source| tree("run", &request.rcc.path, source))?;
        self.stopped(&ended)?;
        Ok(ended)
    }

    fn stopped(&self, ended: &Ended) -> Result<(), Error> {
        match ended.stopped {
            Some(Stopped::Canceled) => Err(Error::Canceled),
            Some(Stopped::Deadline) => Err(Error::Deadline { tail: self.tail(ended) }),
            None if ended.was_killed() => Err(Error::Failed {
                reason: Reason::OutOfMemory,
                message: "rcc was killed from outside, mostly for want of memory; raise build.resources.limits.memory".to_owned(),
                tail: self.tail(ended),
            }),
            None => Ok(()),
        }
    }

    fn tail(&self, ended: &Ended) -> String {
        let clean: String = ended
            .stderr
            .chars()
            .filter(|letter| *letter == '\n' || !letter.is_control())
            .collect();
        self.secrets.replace(&clean)
    }

    /// The folder of the environment, by rcc's own word; it must be the one that the image expects.
    fn answer(&self, ended: &Ended) -> Result<PathBuf, Error> {
        let wrong = |problem: String| Error::Answer {
            problem,
            tail: self.tail(ended),
        };
        let variables: Vec<Variable> =
            serde_json::from_slice(&ended.stdout).map_err(|error| wrong(format!("it is not the list of variables ({error})")))?;
        let said = variables.into_iter().find(|variable| variable.key == "RCC_HOLOTREE_SPACE_ROOT");
        let said = said
            .ok_or_else(|| wrong("it does not say where the environment is".to_owned()))?
            .value;
        let expected = self.request.rcc_home.join("holotree").join(space::name(self.request.home));
        if Path::new(&said) != expected {
            return Err(wrong(format!("the environment is at {said}, and not at {}", expected.display())));
        }
        let metadata = fs::symlink_metadata(&expected).map_err(|source| tree("read", &expected, source))?;
        if !metadata.is_dir() {
            return Err(wrong(format!("there is no folder at {said}")));
        }
        Ok(expected)
    }

    fn seal(&self, sealed: &Path) -> Result<Resolved, Error> {
        let request = self.request;
        let mut not_reproducible = plan::not_reproducible(sealed)?;
        (request.progress)("sealing the environment");
        let holotree = request.rcc_home.join("holotree");
        // rcc makes it 0750, and publish runs as another user.
        fs::set_permissions(&holotree, fs::Permissions::from_mode(0o755)).map_err(|source| tree("make readable", &holotree, source))?;
        for (library, _) in bytecode::libraries(sealed)? {
            bytecode::clear(&library)?;
        }
        seal::normalise(sealed)?;
        if request.bytecode {
            (request.progress)("compiling bytecode");
            for (library, minor) in bytecode::libraries(sealed)? {
                let ended = bytecode::compile(sealed, &library, minor, self.temp, &self.limits())?;
                self.stopped(&ended)?;
                // 1: some file is not valid Python, as test data of packages often is not.
                if !matches!(ended.status.code(), Some(0 | 1)) || bytecode::verify(&library)? == 0 {
                    return Err(Error::Failed {
                        reason: Reason::PackageBuildFailed,
                        message: format!(
                            "python3.{minor} of the environment could not compile its own library ({})",
                            ended.status
                        ),
                        tail: self.tail(&ended),
                    });
                }
                if minor <= 10 {
                    not_reproducible.push(format!("bytecode of Python 3.{minor}"));
                }
            }
            // Modes of what was compiled follow the umask.
            seal::normalise(sealed)?;
        }
        self.secrets.scan(sealed)?;
        if request.cancel.load(Ordering::Relaxed) {
            return Err(Error::Canceled);
        }
        Ok(Resolved {
            sealed: sealed.to_path_buf(),
            packages: inventory(sealed)?,
            not_reproducible,
            outside: outside(request.home)?,
        })
    }
}

/// What installers left in HOME: names of two levels, without what the tools themselves keep there.
fn outside(home: &Path) -> Result<Vec<String>, Error> {
    const TOOLS: [&str; 8] = [
        ".netrc",
        ".cache/pip",
        ".cache/uv",
        ".cache/conda",
        ".conda",
        ".mamba",
        ".condarc",
        ".robocorp",
    ];
    let mut found = Vec::new();
    let mut folders = vec![(home.to_path_buf(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|source| tree("list", &folder, source))? {
            let entry = entry.map_err(|source| tree("list", &folder, source))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if TOOLS.contains(&name.as_str()) || found.len() == MAX_OUTSIDE {
                continue;
            }
            let kind = entry.file_type().map_err(|source| tree("read", &entry.path(), source))?;
            if prefix.is_empty() && kind.is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
