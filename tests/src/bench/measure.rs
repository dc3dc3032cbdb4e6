//! What a program costs: wall time, processor time and peak memory of it and of all that it starts.
//!
//! The kernel adds up the children of a process for as long as it lives, so each program is started by a fresh copy of
//! this one, whose only child it is. Invariant: a program that fails is an error, never a measurement.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::process::{Identity, basics, run};

/// Name of the hidden subcommand.
pub const SUBCOMMAND: &str = "__measure";

/// What one run of a program took.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, PartialEq)]
pub struct Usage {
    /// Seconds from start to end.
    pub wall: f64,
    /// Seconds of processor time, user and system, of it and its descendants.
    pub cpu: f64,
    /// Peak resident memory of its largest process, in bytes.
    pub peak: f64,
}

/// Runs a program with nothing but `PATH`, `HOME` and `env`; gives what it took and its stdout.
pub fn measure(what: &str, words: &[String], env: &[(&str, String)]) -> Result<(Usage, String)> {
    let own = std::env::current_exe().map_err(Error::io("find", "this program"))?;
    let result = tempfile::NamedTempFile::new().map_err(Error::io("create", "a temporary file"))?;
    let mut command = Command::new(own);
    command.arg(SUBCOMMAND).arg(result.path()).args(words).env_clear().envs(basics());
    command.envs(env.iter().map(|(name, value)| (name, value)));
    let output = run(what, &mut command)?;
    let text = fs::read(result.path()).map_err(Error::io("read", result.path()))?;
    let usage = serde_json::from_slice(&text).map_err(|error| Error::Other(format!("usage of {what}: {error}")))?;
    Ok((usage, output))
}

/// The hidden subcommand: runs the words and writes their usage to the file; gives their exit code.
pub fn child(result: &PathBuf, words: &[String]) -> Result<u8> {
    let [program, arguments @ ..] = words else {
        return Err(Error::Other("nothing to measure".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let began = Instant::now();
    let status = command.status().map_err(Error::io("run", program))?;
    let wall = began.elapsed().as_secs_f64();
    let used = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| Error::Other(format!("usage of {program}: {error}")))?;
    let seconds = |time: nix::sys::time::TimeVal| std::time::Duration::from_micros(time.num_microseconds().unsigned_abs()).as_secs_f64();
    // Linux counts kibibytes.
    let kibibytes = u32::try_from(used.max_rss()).unwrap_or(u32::MAX);
    let usage = Usage {
        wall,
        cpu: seconds(used.user_time()) + seconds(used.system_time()),
        peak: f64::from(kibibytes) * 1024.0,
    };
    fs::write(result, serde_json::to_vec(&usage).unwrap_or_default()).map_err(Error::io("write", result))?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(u8::try_from(code).unwrap_or(1))
}

/// Processor time that a running process has used so far, in seconds; its ended children are not in it.
pub fn cpu_of(process: Identity) -> Result<f64> {
    let path = PathBuf::from(format!("/proc/{}/stat", process.pid));
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    ticks(&text).map_or_else(|| Err(Error::Other(format!("{} is not understood", path.display()))), Ok)
}

/// User and system time of a line of `/proc/PID/stat`; Linux shows hundredths of a second to every program.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(next()?) + f64::from(next()?)) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_a_strange_name() {
        let line = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 100";
        assert_eq!(ticks(line), Some(2.0));
        assert_eq!(ticks("12 (short) S 1"), None);
        assert!(cpu_of(Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap()).is_ok());
    }

    #[test]
    fn a_child_is_measured() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let words = ["bash", "-c", "for i in {1..20000}; do :; done; exit 3"].map(str::to_owned);
        assert_eq!(child(&file.path().to_owned(), &words).unwrap(), 3);
        let usage: Usage = serde_json::from_slice(&fs::read(file.path()).unwrap()).unwrap();
        assert!(usage.wall > 0.0 && usage.cpu > 0.0 && usage.peak > 1e6, "{usage:?}");
        assert!(child(&file.path().to_owned(), &[]).is_err());
    }
}
