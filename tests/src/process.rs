//! Processes of the test bed: started with a log of their own, ended or frozen by process id.
//!
//! Invariant: a signal goes only to a process whose id *and* start time are the ones we recorded, so a reused id is
//! never hit; and unless it is kept on purpose, a part ends with the harness, even when that is SIGKILLed.

mod identity;
mod spawn;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

pub use self::identity::Identity;
pub use self::spawn::run;
pub(crate) use self::spawn::{basics, enter, find, only_child, spawn};
use crate::error::{Error, Result};

/// How many bytes of a log an error shows.
const TAIL: u64 = 2048;

/// How long a part lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lifetime {
    /// It ends with the process that started it.
    Harness,
    /// It stays until `testbed down`.
    Kept,
}

/// Where a part runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// On the host.
    Host,
    /// In the namespaces of a [`crate::machine::Machine`], given by the process id of its init.
    Machine(i32),
}

/// How to start a part.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spec {
    /// Its name in messages.
    pub name: String,
    /// Absolute path, or a name found on `PATH`.
    pub program: PathBuf,
    /// Arguments; never a secret, they are visible to everyone on the machine.
    pub args: Vec<String>,
    /// The whole environment besides `PATH` and `HOME`.
    pub env: BTreeMap<String, String>,
    /// Where stdout and stderr go, appended.
    pub log: PathBuf,
    /// Host or machine.
    pub place: Place,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// A started part.
#[derive(Debug)]
pub struct Part {
    spec: Spec,
    identity: Identity,
    /// Where in its log this start begins.
    log_start: u64,
    child: Option<Mutex<Child>>,
}

impl Part {
    /// Starts a process. It may still end at once: see [`ready`].
    pub fn start(spec: Spec) -> Result<Self> {
        if let Some(folder) = spec.log.parent() {
            fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&spec.log)
            .map_err(Error::io("open", &spec.log))?;
        let log_start = log.metadata().map_err(Error::io("read", &spec.log))?.len();
        let errors = log.try_clone().map_err(Error::io("open", &spec.log))?;
        let mut command = spawn::command(&spec);
        command.stdin(Stdio::null()).stdout(log).stderr(errors).process_group(0);
        let child = spawn(command).map_err(|source| Error::Part {
            part: spec.name.clone(),
            why: format!("could not be started ({}: {source})", spec.program.display()),
            log: spec.log.clone(),
            tail: tail(&spec.log),
        })?;
        let outer = i32::try_from(child.id()).expect("invariant: Linux process ids fit in 31 bits");
        let pid = match spec.place {
            Place::Host => outer,
            // `nsenter` forks to enter a process namespace; the part itself is its child.
            Place::Machine(_) => only_child(outer).unwrap_or(outer),
        };
        let identity = Identity::of(pid).unwrap_or(Identity { pid, started: 0 });
        Ok(Self {
            spec,
            identity,
            log_start,
            child: Some(Mutex::new(child)),
        })
    }

    /// A part that an earlier process started and kept.
    pub fn attach(spec: Spec, identity: Identity) -> Self {
        Self {
            spec,
            identity,
            log_start: 0,
            child: None,
        }
    }

    /// The part's name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// How it was started.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Process id and start time, as the host sees them.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its log.
    pub fn log(&self) -> &Path {
        &self.spec.log
    }

    /// Whether its log holds `text` since it was started.
    pub fn has_said(&self, text: &str) -> bool {
        let bytes = fs::read(&self.spec.log).unwrap_or_default();
        let new = usize::try_from(self.log_start).ok().and_then(|start| bytes.get(start..));
        new.is_some_and(|new| String::from_utf8_lossy(new).contains(text))
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.exit().is_none() && self.identity.is_alive()
    }

    /// SIGSTOP: it keeps its connections and answers nothing.
    pub fn freeze(&self) -> bool {
        self.identity.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> bool {
        let sent = self.identity.signal(Signal::SIGCONT);
        self.thaw_wrapper();
        sent
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.identity.signal(Signal::SIGKILL);
        self.thaw_wrapper();
        self.reap();
    }

    /// `nsenter` stops itself when its child is stopped, and would then never collect the child's end.
    fn thaw_wrapper(&self) {
        if let (Place::Machine(_), Some(child)) = (self.spec.place, &self.child) {
            let pid = child.lock().unwrap_or_else(PoisonError::into_inner).id();
            let pid = i32::try_from(pid).expect("invariant: Linux process ids fit in 31 bits");
            Identity::of(pid).map(|wrapper| wrapper.signal(Signal::SIGCONT));
        }
    }

    /// SIGTERM, and SIGKILL after `grace`.
    pub fn terminate(&mut self, grace: Duration) {
        self.identity.signal(Signal::SIGTERM);
        let end = Instant::now() + grace;
        while self.is_alive() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
    }

    /// Ends it if it still runs and starts it again with the same arguments.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        *self = Self::start(self.spec.clone())?;
        Ok(())
    }

    /// An error that names the part, its log and the log's end.
    pub fn failure(&self, why: impl Into<String>) -> Error {
        Error::Part {
            part: self.spec.name.clone(),
            why: why.into(),
            log: self.spec.log.clone(),
            tail: tail(&self.spec.log),
        }
    }

    /// How it ended, when it has.
    pub fn exit(&self) -> Option<String> {
        if let Some(child) = &self.child {
            let status = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait().ok()??;
            return Some(status.to_string());
        }
        (!self.identity.is_alive()).then(|| "status unknown".to_owned())
    }

    fn reap(&mut self) {
        if let Some(child) = &self.child {
            let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
            // The wrapper outlives a part in a namespace by an instant; waiting for it also collects its status.
            if child.wait().is_err() {
                tracing::warn!(part = self.spec.name, "the process could not be waited for");
            }
        }
        let end = Instant::now() + Duration::from_secs(5);
        while self.identity.is_alive() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Waits until `probe` says yes while every one of `parts` lives; the first part is blamed for a timeout.
pub async fn ready<F>(parts: &[&Part], limit: Duration, mut probe: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<(), String>,
{
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(10);
    loop {
        for part in parts {
            if let Some(status) = part.exit() {
                return Err(part.failure(format!("ended while it was starting ({status})")));
            }
        }
        let said = match tokio::time::timeout(Duration::from_secs(5), probe()).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(said)) => said,
            Err(_) => "no answer in 5 s".to_owned(),
        };
        if Instant::now() > end {
            let blamed = parts.first().expect("invariant: somebody is waited for");
            return Err(blamed.failure(format!("was not ready after {} s ({said})", limit.as_secs())));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// The end of a log file, whole lines.
pub fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    match read() {
        Ok(text) => last_lines(&text),
        Err(error) => format!("  (the log cannot be read: {error})"),
    }
}

pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(12)..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &Path, program: &str, args: &[&str]) -> Spec {
        Spec {
            name: "sample".into(),
            program: program.into(),
            args: args.iter().map(ToString::to_string).collect(),
            env: BTreeMap::new(),
            log: folder.join("sample.log"),
            place: Place::Host,
            lifetime: Lifetime::Harness,
        }
    }

    #[tokio::test]
    async fn a_part_that_ends_is_named_with_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let part = Part::start(spec(folder.path(), "sh", &["-c", "echo port taken; exit 3"])).unwrap();
        let error = ready(&[&part], Duration::from_secs(5), async || Err("not yet".into()))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sample ended while it was starting (exit status: 3)"), "{error}");
        assert!(error.contains("sample.log") && error.ends_with("  port taken"), "{error}");
    }

    #[tokio::test]
    async fn a_part_that_never_answers_is_named_with_the_last_answer() {
        let folder = tempfile::tempdir().unwrap();
        let mut part = Part::start(spec(folder.path(), "sleep", &["60"])).unwrap();
        let error = ready(&[&part], Duration::ZERO, async || Err("refused".into()))
            .await
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sample was not ready after 0 s (refused)"), "{error}");
        part.kill();
        assert!(!part.is_alive());
    }

    #[test]
    fn a_frozen_part_lives_and_a_killed_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut part = Part::start(spec(folder.path(), "sleep", &["60"])).unwrap();
        assert!(part.freeze() && part.is_alive());
        let first = part.identity();
        part.restart().unwrap();
        assert!(!first.is_alive() && part.is_alive() && part.identity() != first);
        part.terminate(Duration::from_secs(5));
        assert!(part.exit().is_some());
    }

    #[test]
    fn a_missing_program_names_the_part() {
        let folder = tempfile::tempdir().unwrap();
        let mut kept = spec(folder.path(), "/nonexistent/program", &[]);
        kept.lifetime = Lifetime::Kept;
        let error = Part::start(kept).unwrap_err().to_string();
        assert!(error.starts_with("sample could not be started (/nonexistent/program"), "{error}");
    }
}
