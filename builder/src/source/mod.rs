//! Where the robot comes from: one commit of a git repository, an archive behind an address, an artifact in a registry, a
//! ConfigMap, or a folder on this machine.
//!
//! Bytes of a source are hostile. They are read from git's object database or from an archive and written by us, one checked
//! name at a time: no checkout, no hook, no filter, no configuration of the machine takes part. Whatever they came from, equal
//! files have an equal hash, git's own.
//!
//! Invariant: what is written below the context holds regular files, folders and relative links that stay inside it, and
//! nothing else; no credential is sent to a host that its Secret does not name, and none is ever in an error.

mod archive;
mod config_map;
mod credentials;
mod error;
mod git;
mod http;
mod ignore;
mod local;
mod names;
mod oci;
pub(crate) mod probe;
mod tree;
mod web;

pub use archive::Target;
pub use config_map::copy;
pub use credentials::SourceSecret;
pub use error::SourceError;
pub use git::{GitRequest, checkout};
pub use http::{HttpRequest, download};
pub use local::LocalSource;
pub use oci::{OciRequest, pull};
pub use tree::Limits;
pub use web::{Web, WebError};

/// What is known about a source that was written to a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkout {
    /// Commit id, 40 hexadecimal digits; of another source a SHA-256, 64 of them.
    pub commit: String,
    /// The branch, tag or `HEAD` it was found by; of another source what was hashed.
    pub reference: String,
    /// Git's hash of the tree at the context, 40 hexadecimal digits.
    pub tree: String,
    /// The author's name, at most 64 bytes, printable.
    pub author: String,
    /// The first line of the message, at most 72 bytes, printable; of an archive `sha256:` and its hash.
    pub message: String,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number of files, folders and links.
    pub entries: u64,
}

/// Git's hash of the files in a folder that holds nothing else.
fn tree_of(folder: &std::path::Path, limits: Limits) -> Result<String, SourceError> {
    LocalSource::scan(folder, None, limits).map(|found| found.tree)
}

/// Takes away what is to be left out, and hashes what remains. `robot` is the robot's folder and the text of its ignore files.
pub fn leave_out(
    context: &std::path::Path,
    patterns: &str,
    robot: Option<(&std::path::Path, &[String])>,
    limits: Limits,
) -> Result<String, SourceError> {
    ignore::prune(context, &ignore::GitPatterns::parse(patterns)?)?;
    if let Some((folder, texts)) = robot.map(|(folder, texts)| (context.join(folder), texts))
        && folder.is_dir()
    {
        let mut patterns = ignore::RccPatterns::default();
        for text in texts {
            patterns.add(text);
        }
        ignore::prune(&folder, &patterns)?;
    }
    tree_of(context, limits)
}

/// Unpacks an archive as a source of at most a hundred entries.
#[cfg(any(fuzzing, test))]
pub(crate) fn unpack_bytes(bytes: &[u8], path: &str, into: &std::path::Path) -> Result<(), SourceError> {
    let mut file = tempfile::tempfile().map_err(|source| tree::io("write", into, source))?;
    std::io::Write::write_all(&mut file, bytes).map_err(|source| tree::io("write", into, source))?;
    let interrupt = std::sync::atomic::AtomicBool::new(false);
    let mut writer = archive::Writer::new(Target {
        of: "the archive",
        path,
        limits: Limits {
            bytes: 1 << 20,
            entries: 100,
        },
        into,
        interrupt: &interrupt,
    });
    archive::unpack(&file, "the archive", &mut writer)?;
    writer.finish().map(drop)
}
