//! Where the robot comes from: one commit of a git repository, or a folder on this machine.
//!
//! Bytes of a repository are hostile. They are read from git's object database and written by us, one checked name at a
//! time: no checkout, no hook, no filter, no configuration of the machine takes part.
//!
//! Invariant: what is written below the context holds regular files, folders and relative links that stay inside it, and
//! nothing else; no credential is sent to a host that its Secret does not name, and none is ever in an error.

mod credentials;
mod error;
mod git;
mod local;
mod names;
pub(crate) mod probe;
mod tree;
mod web;

pub use credentials::GitSecret;
pub use error::SourceError;
pub use git::{GitRequest, checkout};
pub use local::LocalSource;
pub use tree::Limits;
pub use web::{Web, WebError};

/// What is known about a source that was written to a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// Commit id, 40 hexadecimal digits.
    pub commit: String,
    /// The branch, tag or `HEAD` it was found by.
    pub reference: String,
    /// Git's hash of the tree at the context, 40 hexadecimal digits.
    pub tree: String,
    /// The author's name, at most 64 bytes, printable.
    pub author: String,
    /// The first line of the message, at most 72 bytes, printable.
    pub message: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files, folders and links.
    pub entries: u64,
}
