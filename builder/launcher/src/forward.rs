//! Where a signal goes.
//!
//! The task is what rcc started: its children. rcc has none before the task starts, between the scripts that run before
//! a task and the task itself, and after the task has ended. A signal that arrives then waits for up to [`PATIENCE`]
//! for a child to appear; if none does, it is for rcc itself, which dies of it and starts nothing more.
//!
//! Invariant: pure. Whether a signal is sent is decided from what is given; sending is the caller's.

use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::processes::Process;

/// How long a signal waits for rcc to start a child.
pub(crate) const PATIENCE: Duration = Duration::from_millis(200);

/// A signal that this program was sent and has not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) signal: Signal,
    /// The kernel sent it because of a key, and has sent it to the whole foreground process group.
    pub(crate) by_key: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send it to these processes.
    Task(Vec<Pid>),
    /// Send it to rcc.
    Rcc,
    /// Ask again soon.
    Wait,
    /// Send it to nobody.
    Nobody,
}

/// Where `pending` goes, when rcc has these `children` and the signal has waited so long. `own_group` is the process
/// group of this program, and of rcc.
pub(crate) fn decide(pending: Pending, children: &[Process], own_group: Pid, waited: Duration) -> Action {
    if pending.by_key {
        // Sent once more, the second would interrupt the clean-up that the first began.
        let others: Vec<Pid> = children
            .iter()
            .filter(|child| child.group != own_group)
            .map(|child| child.pid)
            .collect();
        return if others.is_empty() { Action::Nobody } else { Action::Task(others) };
    }
    if !children.is_empty() {
        return Action::Task(children.iter().map(|child| child.pid).collect());
    }
    if waited < PATIENCE {
        return Action::Wait;
    }
    match pending.signal {
        // They mean what the task says they mean. rcc does not know them and would die.
        Signal::SIGUSR1 | Signal::SIGUSR2 => Action::Nobody,
        _ => Action::Rcc,
    }
}

/// Whether a signal asks for the end.
pub(crate) fn is_final(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGHUP | Signal::SIGQUIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: i32 = 1;

    fn decided(signal: Signal, by_key: bool, children: &[(i32, i32)], waited: u64) -> Action {
        let children: Vec<Process> = children
            .iter()
            .map(|&(pid, group)| Process {
                pid: Pid::from_raw(pid),
                group: Pid::from_raw(group),
            })
            .collect();
        decide(
            Pending { signal, by_key },
            &children,
            Pid::from_raw(OWN),
            Duration::from_millis(waited),
        )
    }

    fn task(pids: &[i32]) -> Action {
        Action::Task(pids.iter().map(|&pid| Pid::from_raw(pid)).collect())
    }

    #[test]
    fn every_signal_goes_to_all_children_of_rcc() {
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
            for waited in [0, 1000] {
                let action = decided(signal, false, &[(7, OWN), (8, 8)], waited);
                assert_eq!(action, task(&[7, 8]), "{signal} {waited}");
            }
        }
    }

    #[test]
    fn without_children_a_signal_waits_and_then_is_for_rcc() {
        for (signal, end) in [
            (Signal::SIGTERM, Action::Rcc),
            (Signal::SIGINT, Action::Rcc),
            (Signal::SIGHUP, Action::Rcc),
            (Signal::SIGQUIT, Action::Rcc),
            (Signal::SIGUSR1, Action::Nobody),
            (Signal::SIGUSR2, Action::Nobody),
        ] {
            assert_eq!(decided(signal, false, &[], 0), Action::Wait);
            assert_eq!(decided(signal, false, &[], 199), Action::Wait);
            assert_eq!(decided(signal, false, &[], 200), end, "{signal}");
        }
    }

    #[test]
    fn a_key_reaches_only_who_the_terminal_did_not() {
        let key = |children: &[(i32, i32)]| decided(Signal::SIGINT, true, children, 0);
        assert_eq!(key(&[]), Action::Nobody);
        assert_eq!(key(&[(7, OWN)]), Action::Nobody);
        assert_eq!(key(&[(7, OWN), (8, 8)]), task(&[8]));
    }
}
