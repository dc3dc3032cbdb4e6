//! Starting the real rcc, with no signal blocked in it and none lost meanwhile.
//!
//! A child inherits the blocked signals of the thread that starts it. Unblocking them for that moment would let a signal
//! through that nobody handles. So the child is this program again, in the role of [`exec`]: alone in its process, it
//! unblocks them and becomes rcc.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::supervise::handled;

/// The name under which this program runs to become rcc.
const EXEC_ROLE: &str = "robotimage-launcher-exec";

/// Why rcc could not be run. All of it ends the program.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Without /proc, neither this program's place nor the children of rcc can be known.
    NoPlace(io::Error),
    /// The file beside this one could not be executed.
    Exec { path: PathBuf, error: io::Error },
    /// This program could not be started again.
    Spawn { path: PathBuf, error: io::Error },
    /// Signals could not be blocked, awaited or unblocked.
    Signals(Errno),
    /// Whoever started this program made it deaf to the end of its children.
    ChildSignalIgnored,
}

impl Failure {
    /// As shells have it: 127 for what is not there, 126 for what cannot be run.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Exec { error, .. } if error.kind() == io::ErrorKind::NotFound => 127,
            _ => 126,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPlace(error) => {
                write!(f, "cannot find the own file: {error}; is /proc mounted?")
            }
            Self::Exec { path, error } if error.kind() == io::ErrorKind::NotFound => write!(
                f,
                "cannot run {}: {error}; the image must hold the real rcc there, and the loader it is linked to",
                path.display()
            ),
            Self::Exec { path, error } => write!(
                f,
                "cannot run {}: {error}; it must be an rcc for this platform that anybody may execute",
                path.display()
            ),
            Self::Spawn { path, error } => {
                write!(f, "cannot start {} again: {error}", path.display())
            }
            Self::Signals(error) => write!(f, "cannot handle signals: {error}"),
            Self::ChildSignalIgnored => {
                f.write_str("SIGCHLD is ignored, so the end of rcc would go unnoticed; start the image without that")
            }
        }
    }
}

/// Whether this process is there to become rcc.
pub(crate) fn is_exec_role() -> bool {
    env::args_os().next().is_some_and(|name| name == EXEC_ROLE)
}

/// Becomes rcc, or says why not.
pub(crate) fn exec() -> Failure {
    let own = match env::current_exe() {
        Ok(path) => path,
        Err(error) => return Failure::NoPlace(error),
    };
    let path = own.with_file_name("rcc-real");
    let unblocked = handled().thread_unblock();
    if let Err(error) = unblocked {
        return Failure::Signals(error);
    }
    let error = Command::new(&path).arg0("rcc").args(arguments()).exec();
    Failure::Exec { path, error }
}

/// Starts a child that becomes rcc. The signals of [`handled`] must be blocked already.
pub(crate) fn spawn() -> Result<Pid, Failure> {
    let path = env::current_exe().map_err(Failure::NoPlace)?;
    let child = Command::new(&path)
        .arg0(EXEC_ROLE)
        .args(arguments())
        .spawn()
        .map_err(|error| Failure::Spawn { path, error })?;
    let pid = i32::try_from(child.id()).expect("invariant: process ids are positive i32");
    // The handle is dropped on purpose: this program reaps everything itself, and streams are inherited.
    Ok(Pid::from_raw(pid))
}

fn arguments() -> impl Iterator<Item = OsString> {
    env::args_os().skip(1)
}
