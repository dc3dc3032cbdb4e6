//! The loop: signals in, signals out, until rcc has ended and its exit code can be passed on.
//!
//! When rcc ends by itself, nothing waits for what it left behind: as in any container, the end of PID 1 is the end of
//! all. When the end was asked for, processes that outlive rcc are told too and get [`GRACE`] to finish, because rcc may
//! have died before its task.

use std::collections::HashSet;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp};

use crate::forward::{Action, Pending, decide, is_final};
use crate::processes::{self, Process};
use crate::start::{self, Failure};

/// How long processes that outlive rcc may finish once the end was asked for: less than the ten seconds that engines
/// commonly give a container.
const GRACE: Duration = Duration::from_secs(5);

/// How often a waiting signal looks for a child of rcc.
const LOOK: Duration = Duration::from_millis(10);

const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// The signals that this program blocks and reads.
pub(crate) fn handled() -> SigSet {
    FORWARDED.into_iter().chain([Signal::SIGCHLD]).collect()
}

/// Runs rcc to its end and gives the code to exit with.
pub(crate) fn run() -> Result<u8, Failure> {
    let handled = handled();
    handled.thread_block().map_err(Failure::Signals)?;
    if processes::ignores_sigchld().map_err(Failure::NoPlace)? {
        return Err(Failure::ChildSignalIgnored);
    }
    let signals = SignalFd::with_flags(&handled, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(Failure::Signals)?;
    // PID 1 inherits orphans anyway; anywhere else it has to ask for them.
    if let Err(error) = prctl::set_child_subreaper(true) {
        say(format_args!("orphans will not be reaped: {error}"));
    }
    let rcc = start::spawn()?;
    Supervisor {
        signals,
        rcc,
        own_group: getpgrp(),
        waiting: Vec::new(),
        asked: None,
        told: HashSet::new(),
        ended: None,
    }
    .run()
}

struct Supervisor {
    signals: SignalFd,
    rcc: Pid,
    own_group: Pid,
    /// Signals that wait for rcc to start a child, with the time they came.
    waiting: Vec<(Pending, Instant)>,
    /// The last signal that asked for the end.
    asked: Option<Pending>,
    /// Who was told of it, for processes that outlive rcc are told only once.
    told: HashSet<Pid>,
    /// When rcc ended, and its exit code.
    ended: Option<(Instant, u8)>,
}

impl Supervisor {
    fn run(mut self) -> Result<u8, Failure> {
        loop {
            self.wait()?;
            while let Some(signal) = self.next_signal()? {
                self.accept(signal);
            }
            let has_children = self.reap()?;
            if let Some((since, code)) = self.ended {
                let Some(asked) = self.asked else {
                    return Ok(code);
                };
                if !has_children {
                    return Ok(code);
                }
                if since.elapsed() >= GRACE {
                    say(format_args!(
                        "ending although processes of the task still run {} seconds after rcc",
                        GRACE.as_secs()
                    ));
                    return Ok(code);
                }
                self.tell_orphans(asked);
            } else {
                self.forward();
            }
        }
    }

    /// Waits for a signal, or until it is time to look again.
    fn wait(&self) -> Result<(), Failure> {
        let timeout = if self.waiting.is_empty() && self.ended.is_none() {
            PollTimeout::NONE
        } else {
            PollTimeout::try_from(LOOK).expect("invariant: 10 ms fit")
        };
        let mut ready = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(Failure::Signals(error)),
        }
    }

    fn next_signal(&mut self) -> Result<Option<Pending>, Failure> {
        loop {
            match self.signals.read_signal() {
                Ok(None) => return Ok(None),
                Ok(Some(info)) => {
                    let number = i32::try_from(info.ssi_signo).unwrap_or(0);
                    let signal = Signal::try_from(number).map_err(Failure::Signals)?;
                    if signal == Signal::SIGCHLD {
                        continue;
                    }
                    // A terminal that is gone tells the leader of its session alone; keys tell the whole group.
                    let by_key = info.ssi_code == nix::libc::SI_KERNEL && matches!(signal, Signal::SIGINT | Signal::SIGQUIT);
                    return Ok(Some(Pending { signal, by_key }));
                }
                Err(Errno::EINTR) => {}
                Err(error) => return Err(Failure::Signals(error)),
            }
        }
    }

    /// Takes note of a signal. One that waits already stands for its repetitions, as it does in the kernel.
    fn accept(&mut self, pending: Pending) {
        if is_final(pending.signal) {
            self.asked = Some(pending);
        }
        if self.ended.is_some() {
            // Orphans get every repetition too.
            if is_final(pending.signal) {
                self.told.clear();
            }
        } else if !self.waiting.iter().any(|(other, _)| *other == pending) {
            self.waiting.push((pending, Instant::now()));
        }
    }

    /// Passes on what waits.
    fn forward(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let children = list(self.rcc);
        for (pending, since) in std::mem::take(&mut self.waiting) {
            match decide(pending, &children, self.own_group, since.elapsed()) {
                Action::Task(pids) => {
                    let reached: Vec<Pid> = pids.into_iter().filter(|&pid| send(pid, pending.signal)).collect();
                    if reached.is_empty() {
                        // All of them ended since they were listed.
                        self.waiting.push((pending, since));
                    } else if is_final(pending.signal) {
                        self.told.extend(reached);
                    }
                }
                Action::Rcc => {
                    send(self.rcc, pending.signal);
                }
                Action::Wait => self.waiting.push((pending, since)),
                Action::Nobody if pending.by_key => {}
                Action::Nobody => say(format_args!("{} was not passed on: the task is not running", pending.signal)),
            }
        }
    }

    /// Asks what outlived rcc to end, each process once.
    fn tell_orphans(&mut self, asked: Pending) {
        for orphan in list(Pid::this()) {
            let knows = asked.by_key && orphan.group == self.own_group;
            if !knows && self.told.insert(orphan.pid) {
                send(orphan.pid, asked.signal);
            }
        }
    }

    /// Reaps whatever ended, and says whether children are left.
    fn reap(&mut self) -> Result<bool, Failure> {
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return Ok(false),
                // A real-time signal ended some child, and that is all the system interface in use can say.
                Err(Errno::EINVAL) if kill(self.rcc, None).is_ok() => continue,
                Err(Errno::EINVAL) => (self.rcc, 255),
                Err(error) => return Err(Failure::Signals(error)),
            };
            self.told.remove(&pid);
            if pid == self.rcc {
                let code = u8::try_from(code).expect("invariant: exit codes have eight bits");
                self.ended = Some((Instant::now(), code));
            }
        }
    }
}

/// The living children of a process. Without /proc there are none to be seen, which is said.
fn list(parent: Pid) -> Vec<Process> {
    processes::children(parent).unwrap_or_else(|error| {
        say(format_args!("cannot look for the task in /proc: {error}"));
        Vec::new()
    })
}

/// Sends a signal, and says whether there was a process to get it.
fn send(pid: Pid, signal: Signal) -> bool {
    match kill(pid, signal) {
        Ok(()) => true,
        Err(Errno::ESRCH) => false,
        Err(error) => {
            say(format_args!("cannot send {signal} to process {pid}: {error}"));
            true
        }
    }
}

/// One line for whoever reads the log. Where nobody does, because stderr is closed, supervising goes on.
pub(crate) fn say(message: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "robotimage-launcher: {message}");
}
