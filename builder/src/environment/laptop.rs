//! Resolving at `/opt/rcc` without root: in an own user and mount namespace, where the cache folder appears at that path.
//!
//! The namespace must be made before a process has threads, so a fresh copy of this program does it: the hidden subcommand
//! `__resolve`. Invariant: nothing outside the cache folder is written, and the child ends when its parent does.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use robotimage_crds::reason::Reason;
use rustix::fs::Access;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::namespace::{self, Places};
use super::resolve::{ResolveRequest, Resolved, resolve};
use super::seal::tree;
use super::space::{HOME, SEALED_ROOT, SPEC_ROOT};
use crate::rcc::Rcc;

/// Name of the hidden subcommand.
pub const SUBCOMMAND: &str = "__resolve";
/// How often the cancel flag is looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long after its deadline a child is waited for.
const GRACE: Duration = Duration::from_secs(15);

/// What the parent asks: paths as the host has them.
#[derive(Serialize, Deserialize)]
struct Question {
    cache: PathBuf,
    rcc: PathBuf,
    version: String,
    sha256: String,
    spec: PathBuf,
    folder: PathBuf,
    environment_file: PathBuf,
    platform: Option<PathBuf>,
    index_secret: Option<PathBuf>,
    glibc: String,
    milliseconds: u64,
    bytecode: bool,
    key: String,
}

/// What the child says, one line of JSON each.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Progress(String),
    Resolved(Resolved),
    Failed {
        reason: String,
        message: String,
        tail: Option<String>,
    },
    /// The host does not allow a namespace.
    Forbidden(String),
}

/// Resolves as [`resolve`] does, with `cache` at [`SEALED_ROOT`] and an own HOME; `rcc_home` and `home` of the request are
/// ignored. One cache folder holds one environment. Where the host forbids namespaces and the real `/opt/rcc` and
/// `/home/robot` are ours to write, these are used.
pub fn run_resolve(cache: &Path, request: &ResolveRequest<'_>) -> Result<Resolved, Error> {
    // `/proc/self/exe` is this very program, even when its file was replaced meanwhile.
    run_resolve_by(Path::new("/proc/self/exe"), cache, request)
}

/// The same with another program as the helper, which must know [`SUBCOMMAND`].
pub fn run_resolve_by(program: &Path, cache: &Path, request: &ResolveRequest<'_>) -> Result<Resolved, Error> {
    for folder in [&cache.join("rcc"), &cache.join("home"), &cache.join("root")] {
        fs::create_dir_all(folder).map_err(|source| tree("make", folder, source))?;
    }
    let cache = cache.canonicalize().map_err(|source| tree("find", cache, source))?;
    let absolute = |path: &Path| path.canonicalize().map_err(|source| tree("find", path, source));
    // A folder of settings need not exist; a secret that was named must.
    let platform = request.platform.filter(|platform| platform.exists()).map(absolute).transpose()?;
    let question = Question {
        rcc: absolute(&request.rcc.path)?,
        version: request.rcc.version.clone(),
        sha256: request.rcc.sha256.clone(),
        spec: absolute(request.spec)?,
        folder: request.folder.to_path_buf(),
        environment_file: request.environment_file.to_path_buf(),
        platform,
        index_secret: request.index_secret.map(absolute).transpose()?,
        glibc: request.glibc.to_owned(),
        milliseconds: u64::try_from(request.deadline.saturating_duration_since(Instant::now()).as_millis()).unwrap_or(u64::MAX),
        bytecode: request.bytecode,
        key: request.key.to_owned(),
        cache: cache.clone(),
    };
    match ask(program, &question, request)? {
        Said::Resolved(resolved) => {
            // The child saw the cache at its sealed place.
            let inside = resolved.sealed.strip_prefix(SEALED_ROOT).map_err(|_| Error::Helper {
                problem: format!("the environment is at {}", resolved.sealed.display()),
            })?;
            Ok(Resolved {
                sealed: cache.join("rcc").join(inside),
                ..resolved
            })
        }
        Said::Forbidden(problem) => {
            let writable = |path: &str| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok();
            if !writable(SEALED_ROOT) || !writable(HOME) {
                return Err(Error::Namespace { problem });
            }
            resolve(&ResolveRequest {
                rcc_home: Path::new(SEALED_ROOT),
                home: Path::new(HOME),
                cancel: Arc::clone(&request.cancel),
                ..*request
            })
        }
        Said::Failed { reason, message, tail } => Err(Error::Reported {
            reason: reason.parse().unwrap_or(Reason::InternalError),
            message,
            tail,
        }),
        Said::Progress(_) => Err(Error::Helper {
            problem: "progress is no result".to_owned(),
        }),
    }
}

/// Starts the child and reads what it says until it has said how it went.
fn ask(program: &Path, question: &Question, request: &ResolveRequest<'_>) -> Result<Said, Error> {
    let helper = |problem: String| Error::Helper { problem };
    let mut child = Command::new(program)
        .arg0("robotimage")
        .arg(SUBCOMMAND)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C of the terminal reaches the parent alone, which then lets the child end in order.
        .process_group(0)
        .spawn()
        .map_err(|error| helper(format!("it cannot be started: {error}")))?;
    let mut stdin = child.stdin.take();
    let stdout = child.stdout.take().expect("invariant: piped");
    let stderr = child.stderr.take().expect("invariant: piped");
    let mut text = serde_json::to_vec(question).expect("invariant: plain data");
    text.push(b'\n');
    // A child that ends early has closed its end; what it said tells more than the broken pipe.
    stdin.as_mut().map(|stdin| stdin.write_all(&text)).transpose().ok();
    let (sender, receiver) = mpsc::channel();
    let said = thread::scope(|scope| {
        scope.spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str::<Said>(&line) {
                    // The receiver is gone only when nobody wants to know any more.
                    sender.send(said).ok();
                }
            }
        });
        let errors = scope.spawn(move || {
            let mut text = String::new();
            stderr.take(16 << 10).read_to_string(&mut text).ok();
            text
        });
        let mut last = None;
        loop {
            match receiver.recv_timeout(TICK) {
                Ok(Said::Progress(phase)) => (request.progress)(&phase),
                Ok(said) => last = Some(said),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if request.cancel.load(Ordering::Relaxed) {
                stdin = None;
            }
            if Instant::now() > request.deadline + GRACE {
                child.kill().ok();
            }
        }
        drop(stdin);
        let status = child.wait().map_err(|error| helper(error.to_string()))?;
        let errors = errors.join().unwrap_or_default();
        last.ok_or_else(|| helper(format!("{status} {}", errors.lines().last().unwrap_or_default())))
    })?;
    Ok(said)
}

/// The hidden subcommand. Must be the first thing that the program does: it has no threads yet.
pub fn child_main() -> ExitCode {
    let mut line = String::new();
    let read = io::stdin().lock().take(1 << 20).read_line(&mut line);
    let Some(question) = read.ok().and_then(|_| serde_json::from_str::<Question>(&line).ok()) else {
        eprintln!("{SUBCOMMAND} is not for people: use robotimage build");
        return ExitCode::from(2);
    };
    let places = Places {
        root: question.cache.join("root"),
        rcc_home: question.cache.join("rcc"),
        home: question.cache.join("home"),
        spec: question.spec.clone(),
        rcc: question.rcc.clone(),
        platform: question.platform.clone(),
        index_secret: question.index_secret.clone(),
    };
    let said = match namespace::enter(&places) {
        Err(problem) => Said::Forbidden(problem.to_string()),
        Ok(()) => match inside(&question) {
            Ok(resolved) => Said::Resolved(resolved),
            Err(error) => Said::Failed {
                reason: error.reason().to_string(),
                message: error.to_string(),
                tail: error.tail().map(str::to_owned),
            },
        },
    };
    say(&said);
    ExitCode::SUCCESS
}

/// Resolves inside the namespace, where everything has its place.
fn inside(question: &Question) -> Result<Resolved, Error> {
    let cancel = Arc::new(AtomicBool::new(false));
    let raised = Arc::clone(&cancel);
    // The parent holds our standard input open for as long as it wants the result.
    thread::spawn(move || {
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        raised.store(true, Ordering::Relaxed);
    });
    let rcc = Rcc {
        path: PathBuf::from(namespace::RCC),
        version: question.version.clone(),
        sha256: question.sha256.clone(),
    };
    resolve(&ResolveRequest {
        rcc: &rcc,
        spec: Path::new(SPEC_ROOT),
        folder: &question.folder,
        environment_file: &question.environment_file,
        rcc_home: Path::new(SEALED_ROOT),
        home: Path::new(HOME),
        platform: question.platform.as_ref().map(|_| Path::new(namespace::PLATFORM)),
        index_secret: question.index_secret.as_ref().map(|_| Path::new(namespace::INDEX_SECRET)),
        glibc: &question.glibc,
        deadline: Instant::now() + Duration::from_millis(question.milliseconds),
        cancel,
        progress: &|phase| say(&Said::Progress(phase.to_owned())),
        bytecode: question.bytecode,
        key: &question.key,
    })
}

fn say(said: &Said) {
    let mut text = serde_json::to_vec(said).expect("invariant: plain data");
    text.push(b'\n');
    // A parent that is gone is noticed by our standard input.
    let mut stdout = io::stdout().lock();
    stdout.write_all(&text).and_then(|()| stdout.flush()).ok();
}
