//! Puts the launcher beside something that stands in for rcc, and watches it run.
#![allow(dead_code, reason = "every suite uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A folder as in an image: the launcher as `rcc`, and perhaps something as `rcc-real`.
pub(crate) struct Image {
    folder: TempDir,
}

impl Image {
    /// With the mock as the real rcc.
    pub(crate) fn mock() -> Self {
        let mock = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mock_rcc.sh");
        Self::with(&mock)
    }

    /// With this program as the real rcc.
    pub(crate) fn with(real: &Path) -> Self {
        let image = Self::empty();
        symlink(real, image.path("rcc-real")).unwrap();
        image
    }

    /// Without a real rcc.
    pub(crate) fn empty() -> Self {
        // Linked, not copied: while another test starts a process, a freshly written file is busy and cannot be run.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let launcher = env!("CARGO_BIN_EXE_robotimage-launcher");
        fs::hard_link(launcher, folder.path().join("rcc")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = told();
        command.arg(self.path("rcc")).args(arguments);
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Run {
        Run::of(&mut self.command(arguments))
    }
}

/// `env` with keys that are heard: a shell that starts something in the background has it ignore them, and what is ignored
/// at its start a shell script cannot trap.
pub(crate) fn told() -> Command {
    let mut command = Command::new("env");
    command.arg("--default-signal=INT,QUIT");
    command
}

/// A running launcher. Dropped, it takes the launcher with it, so that a failed test leaves nothing behind.
pub(crate) struct Run {
    child: Child,
    said: BufReader<ChildStdout>,
}

/// How a launcher ended.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) said: String,
    pub(crate) complained: String,
    pub(crate) after: Duration,
}

impl Run {
    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// The next line, without its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn ready(&mut self) {
        assert_eq!(self.line(), "ready");
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the launcher, and then for all that still hold its streams.
    pub(crate) fn end(mut self) -> End {
        let begin = Instant::now();
        let status = self.child.wait().unwrap();
        let after = begin.elapsed();
        let (mut said, mut complained) = (String::new(), String::new());
        self.said.read_to_string(&mut said).unwrap();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut complained).unwrap();
        End {
            code: status.code(),
            signal: status.signal(),
            said,
            complained,
            after,
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // Nothing to do for one that has ended, which is the rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `condition` holds, for at most five seconds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(5), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
