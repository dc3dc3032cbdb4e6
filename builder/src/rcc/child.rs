//! A child process with a fixed environment, a deadline, and bounded output.
//!
//! It runs in a process group of its own, so that what it starts ends with it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Most bytes of standard output that are kept; rcc's answers are a few kilobytes.
const MAX_STDOUT: usize = 4 << 20;
/// Bytes of standard error that are kept: the last ones.
const MAX_STDERR: usize = 64 << 10;
/// How often deadline and cancellation are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How long a child may take to end itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);

/// A call to be made.
#[derive(Debug)]
pub(crate) struct Child<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<OsString>,
    /// The whole environment.
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) folder: &'a Path,
}

/// How long it may run.
#[derive(Debug)]
pub(crate) struct Limits<'a> {
    pub(crate) deadline: Instant,
    pub(crate) cancel: Option<&'a AtomicBool>,
}

/// A child that ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    /// The last of it, control characters included.
    pub(crate) stderr: String,
    /// Why we ended it, if we did.
    pub(crate) stopped: Option<Stopped>,
}

/// Why a child was ended by us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Deadline,
    Canceled,
}

impl Ended {
    /// Whether it was killed from outside: on Linux mostly for want of memory.
    pub(crate) fn was_killed(&self) -> bool {
        self.stopped.is_none() && self.status.signal() == Some(Signal::SIGKILL as i32)
    }
}

impl Child<'_> {
    /// Runs it to its end. `line` is called with each line of standard error as it comes.
    pub(crate) fn run(&self, limits: &Limits<'_>, line: &dyn Fn(&str)) -> Result<Ended, io::Error> {
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = Pid::from_raw(child.id().cast_signed());
        let stdout = child.stdout.take().expect("invariant: piped");
        let stderr = child.stderr.take().expect("invariant: piped");
        let (sender, lines) = mpsc::sync_channel(256);
        let (answer, output) = mpsc::sync_channel(1);
        // A descendant that left the group may hold the pipes for ever, so nobody waits for these threads.
        thread::spawn(move || answer.send(read_bounded(stdout)).ok());
        thread::spawn(move || send_lines(stderr, &sender));
        let mut tail = Tail::default();
        let mut take = |text: String| {
            line(text.trim_end());
            tail.push(text);
        };
        let mut stopped = None;
        let mut kill_at = None;
        let status = loop {
            match lines.recv_timeout(TICK) {
                Ok(text) => take(text),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK / 10),
            }
            if let Some(status) = child.try_wait()? {
                // What it started and left behind ends with it.
                signal(group, Signal::SIGKILL);
                break status;
            }
            let now = Instant::now();
            if stopped.is_none() {
                stopped = limits.stop(now);
                if stopped.is_some() {
                    signal(group, Signal::SIGTERM);
                    kill_at = Some(now + GRACE);
                }
            }
            if kill_at.is_some_and(|at| now >= at) {
                signal(group, Signal::SIGKILL);
            }
        };
        let end = Instant::now() + GRACE;
        while Instant::now() < end
            && let Ok(text) = lines.recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            take(text);
        }
        let stdout = output
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .unwrap_or_default();
        Ok(Ended {
            status,
            stdout,
            stderr: tail.text(),
            stopped,
        })
    }
}

impl Limits<'_> {
    fn stop(&self, now: Instant) -> Option<Stopped> {
        if self.cancel.is_some_and(|cancel| cancel.load(Ordering::Relaxed)) {
            Some(Stopped::Canceled)
        } else {
            (now >= self.deadline).then_some(Stopped::Deadline)
        }
    }
}

/// A group that is already gone is what was wanted.
fn signal(group: Pid, signal: Signal) {
    killpg(group, signal).ok();
}

fn read_bounded(mut stream: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buffer = [0; 8192];
    // An error ends the stream as its end does: the exit status tells what happened.
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let room = MAX_STDOUT.saturating_sub(kept.len());
        kept.extend_from_slice(&buffer[..count.min(room)]);
    }
    kept
}

fn send_lines(stream: impl Read, sender: &mpsc::SyncSender<String>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        // A line longer than this is passed on in pieces.
        match stream.by_ref().take(16 << 10).read_until(b'\n', &mut line) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
            return;
        }
    }
}

/// The last lines.
#[derive(Default)]
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, line: String) {
        self.bytes += line.len();
        self.lines.push_back(line);
        while self.bytes > MAX_STDERR {
            let first = self.lines.pop_front().expect("invariant: bytes are those of the lines");
            self.bytes -= first.len();
        }
    }

    fn text(self) -> String {
        self.lines.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use super::*;

    fn run(script: &str, timeout: Duration, cancel: Option<&AtomicBool>) -> (Ended, Vec<String>) {
        let lines = RefCell::new(Vec::new());
        let child = Child {
            program: Path::new("/bin/sh"),
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            folder: Path::new("/"),
        };
        let limits = Limits {
            deadline: Instant::now() + timeout,
            cancel,
        };
        let ended = child.run(&limits, &|line| lines.borrow_mut().push(line.to_owned())).unwrap();
        (ended, lines.into_inner())
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn keeps_output_and_status() {
        let (ended, lines) = run("echo out; echo one >&2; echo two >&2; env | grep -c . ; exit 3", LONG, None);
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(lines, ["one", "two"]);
        assert_eq!(ended.stderr, "one\ntwo\n");
        assert!(ended.stdout.starts_with(b"out\n"));
        assert!(ended.stopped.is_none() && !ended.was_killed());
    }

    #[test]
    fn ends_at_its_deadline_with_all_it_started() {
        let start = Instant::now();
        let (ended, _) = run("trap '' TERM; sleep 100 & wait; sleep 100", Duration::from_millis(200), None);
        assert_eq!(ended.stopped, Some(Stopped::Deadline));
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn ends_when_canceled() {
        let cancel = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&cancel);
        let raise = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            other.store(true, Ordering::Relaxed);
        });
        let (ended, _) = run("sleep 100", LONG, Some(&cancel));
        raise.join().unwrap();
        assert_eq!(ended.stopped, Some(Stopped::Canceled));
    }

    #[test]
    fn a_kill_from_outside_is_told() {
        assert!(run("kill -9 $$", LONG, None).0.was_killed());
    }

    #[test]
    fn a_grandchild_that_stays_does_not_hold_us() {
        let start = Instant::now();
        for script in ["sleep 100 & echo done >&2", "setsid sleep 15 & echo done >&2"] {
            let (ended, _) = run(script, LONG, None);
            assert!(ended.status.success());
            assert_eq!(ended.stderr, "done\n");
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_flood_is_bounded() {
        let (ended, _) = run(
            "yes 0123456789 | head -c 3000000 >&2; echo last >&2; yes | head -c 9000000",
            LONG,
            None,
        );
        assert!(ended.stderr.len() <= MAX_STDERR && ended.stderr.ends_with("last\n"));
        assert_eq!(ended.stdout.len(), MAX_STDOUT);
    }
}
