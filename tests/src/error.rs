//! Everything that can go wrong while the test bed is built, started, broken or ended.
//!
//! Invariant: a message names the part, the file that says more, and what a person can do about it.

use std::path::PathBuf;

/// The one result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A part ended, or never became ready.
    #[error("{part} {why}; its log is {}; last lines:\n{tail}", log.display())]
    Part {
        /// The part's name, for example `kube-apiserver`.
        part: String,
        /// What was seen: `exited with status 1`, `was not ready after 60 s (connection refused)`.
        why: String,
        /// The whole log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// A helper command ended with a status other than 0, or could not be run.
    #[error("{what}: `{command}` {why}\n{output}")]
    Command {
        /// What the command was for.
        what: String,
        /// The program and its first arguments.
        command: String,
        /// How it ended.
        why: String,
        /// The end of its output.
        output: String,
    },
    /// The operating system refused something.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb: `create`, `read`.
        what: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
    /// Programs or rights that the test bed needs are not there.
    #[error("the test bed needs more than this machine has:\n{0}")]
    Prerequisites(String),
    /// All instance numbers are in use.
    #[error("no free instance: {0}; end one with `testbed down`, or remove leftovers with `testbed sweep`")]
    NoInstance(String),
    /// No running test bed to attach to.
    #[error("no test bed is running (looked for {}); start one with `testbed up`", .0.display())]
    NotRunning(PathBuf),
    /// Downloaded bytes are not the expected ones.
    #[error("{} has sha256 {found}, expected {expected}; it was removed, try again", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// What it should have been, in hex.
        expected: String,
        /// What it was.
        found: String,
    },
    /// A call to the API server failed.
    #[error("{what}: {source}")]
    Cluster {
        /// What was asked.
        what: String,
        /// The client's own words.
        source: Box<kube::Error>,
    },
    /// A certificate or key could not be made or read.
    #[error("certificate of {name}: {why}")]
    Certificate {
        /// For whom.
        name: String,
        /// Why not.
        why: String,
    },
    /// Something else: bad configuration, an unreadable state file.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// For `map_err` on file operations: `fs::read(&p).map_err(Error::io("read", &p))`.
    pub fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    /// For `map_err` on calls to the API server.
    pub fn cluster(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Cluster {
            what,
            source: Box::new(source),
        }
    }
}
