//! How processes are made: the words before a command, its environment, and the one thread that starts them all.
//!
//! Invariant: nothing is inherited but `PATH` and `HOME`, so a bed does not depend on who starts it.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use super::{Lifetime, Place, Spec, last_lines};
use crate::error::{Error, Result};

/// Runs a helper to its end and gives its stdout.
pub fn run(what: &str, command: &mut Command) -> Result<String> {
    let shown = std::iter::once(command.get_program())
        .chain(command.get_args().take(6))
        .map(|a| a.to_string_lossy());
    let shown = shown.collect::<Vec<_>>().join(" ");
    let failed = |why: String, output: String| Error::Command {
        what: what.into(),
        command: shown.clone(),
        why,
        output,
    };
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| failed(format!("could not be run: {e}"), String::new()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stdout));
    Err(failed(format!("failed ({})", output.status), last_lines(&said)))
}

/// The single child of a process, once it is there.
pub(crate) fn only_child(parent: i32) -> Option<i32> {
    for _ in 0..400 {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
        if let Some(pid) = children.split_whitespace().next() {
            return pid.parse().ok();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

pub(super) fn command(spec: &Spec) -> Command {
    let mut words: Vec<String> = Vec::new();
    match spec.place {
        // Processes of a machine die with its init; what runs on the host needs the kernel's own promise.
        Place::Host if spec.lifetime == Lifetime::Harness => words.extend(["setpriv", "--pdeathsig", "KILL"].map(String::from)),
        Place::Host => {}
        Place::Machine(init) => words.extend(enter(init)),
    }
    words.push(spec.program.display().to_string());
    words.extend(spec.args.iter().cloned());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env_clear().envs(basics()).envs(&spec.env);
    command
}

/// The words before a command that is to run inside a machine.
pub(crate) fn enter(init: i32) -> Vec<String> {
    let target = init.to_string();
    ["nsenter", "--target", &target, "--mount", "--net", "--uts", "--pid", "--"]
        .map(String::from)
        .to_vec()
}

/// `PATH` with the system folders that a user's own may lack, and `HOME`.
pub(crate) fn basics() -> Vec<(String, String)> {
    let path = std::env::var("PATH").unwrap_or_default();
    let home = std::env::var("HOME").unwrap_or_else(|_| "/root".to_owned());
    vec![
        ("PATH".into(), format!("{path}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin")),
        ("HOME".into(), home),
    ]
}

/// Where a program is, by the `PATH` of [`basics`].
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = basics().into_iter().find_map(|(name, value)| (name == "PATH").then_some(value))?;
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(program));
    places.find(|place| place.is_file())
}

type Request = (Command, mpsc::Sender<std::io::Result<Child>>);

/// Spawns from one thread that never ends: the kernel sends the parent-death signal when the *thread* that made the
/// child ends, and the threads of a test runner end with each test.
pub(crate) fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Request>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in receiver {
                // A caller that went away meanwhile takes the child with it: nobody would ever end it.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn())
                    && child.kill().is_err()
                {
                    tracing::warn!(pid = child.id(), "a process that nobody waits for could not be ended");
                }
            }
        });
        Mutex::new(sender)
    });
    let (sender, receiver) = mpsc::channel();
    let gone = || std::io::Error::other("the thread that starts processes is gone");
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, sender))
        .map_err(|_| gone())?;
    receiver.recv().map_err(|_| gone())?
}
