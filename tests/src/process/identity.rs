//! A process that cannot be mistaken for another.
//!
//! Invariant: a signal goes only to the process whose id and start time were recorded.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// A process by id and start time (clock ticks since boot), so that a reused id is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The process id, as the host sees it.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`.
    pub started: u64,
}

impl Identity {
    /// The identity of a living process.
    pub fn of(pid: i32) -> Option<Self> {
        let (state, started) = stat(pid)?;
        (state != 'Z' && state != 'X').then_some(Self { pid, started })
    }

    /// Whether exactly this process still runs; a zombie does not.
    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Sends a signal when exactly this process still runs; tells whether it was sent.
    pub fn signal(self, signal: Signal) -> bool {
        self.is_alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }
}

/// State letter and start time out of `/proc/PID/stat`; the name in it may hold spaces and parentheses.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_never_reaches_a_reused_process_id() {
        let own = Identity::of(i32::try_from(std::process::id()).unwrap()).unwrap();
        let other = Identity {
            started: own.started + 1,
            ..own
        };
        assert!(!other.is_alive() && !other.signal(Signal::SIGKILL));
    }
}
