//! Why a source cannot be had. Every message names the host, the URL or the path; none holds a credential.

use std::path::PathBuf;

use robotimage_crds::reason::Reason;

use super::web::WebError;
use crate::failure::Failure;

/// Why a source cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The address is one that is never fetched from.
    #[error("source {url}: {problem}")]
    Address {
        /// The address, without user and password.
        url: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// The Secret is not there, or lacks what is needed.
    #[error("the git Secret {problem}")]
    SecretMissing {
        /// What is missing, and what to add.
        problem: String,
    },
    /// The Secret does not name the host.
    #[error("the git Secret does not name the host {host}, so it is not sent there; add a line \"{host}\" to its key \"hosts\"{named}")]
    HostNotNamed {
        /// Host, with its port when it is not the scheme's.
        host: String,
        /// ` (it names …)`, or empty.
        named: String,
    },
    /// The server wants other credentials, or some.
    #[error("git server {host} {problem} ({url})")]
    Refused {
        /// Its host.
        host: String,
        /// The address.
        url: String,
        /// In which way, and what to do.
        problem: &'static str,
    },
    /// There is no repository at the address.
    #[error("no git repository at {url}: {problem}")]
    NotFound {
        /// The address.
        url: String,
        /// What was seen.
        problem: String,
    },
    /// The repository has no such branch, tag or commit.
    #[error("{what} does not exist in {url}; check its spelling, or push it")]
    RevisionNotFound {
        /// For example `branch "main"`.
        what: String,
        /// The address.
        url: String,
    },
    /// The server cannot be reached or fails.
    #[error("source {url}: {problem}")]
    Unreachable {
        /// The address.
        url: String,
        /// What happened.
        problem: String,
        /// Seconds that the server asked us to wait.
        retry_after: Option<u64>,
    },
    /// A request failed before an answer came.
    #[error("source {url}: {cause}")]
    Web {
        /// The address.
        url: String,
        /// What happened.
        cause: WebError,
    },
    /// The context is not in the tree.
    #[error("folder \"{path}\" is not in commit {commit} of {url}: {problem}; check source.path")]
    PathNotFound {
        /// `source.path`.
        path: String,
        /// The commit, short.
        commit: String,
        /// The address.
        url: String,
        /// What is there instead.
        problem: String,
    },
    /// The tree holds something that is never let in.
    #[error("the source holds \"{path}\", {problem}")]
    Rejected {
        /// The path below the context, escaped.
        path: String,
        /// What it is, and what to do.
        problem: String,
    },
    /// More bytes or entries than allowed.
    #[error("the source is too large: {what}; leave out what the robot does not need, or ask for a higher limit")]
    TooLarge {
        /// The limit that was passed, with its value.
        what: String,
    },
    /// A file of ours.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The answer of the system.
        source: std::io::Error,
    },
    /// What the server sent is not what git promises.
    #[error("source {url}: the server sent a broken repository: {problem}")]
    Broken {
        /// The address.
        url: String,
        /// What is broken.
        problem: String,
    },
}

impl SourceError {
    /// Its reason in the closed list.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Address { .. } | Self::Rejected { .. } => Reason::SourceRejected,
            Self::SecretMissing { .. } => Reason::SecretMissing,
            Self::HostNotNamed { .. } => Reason::CredentialHostMismatch,
            Self::Refused { .. } => Reason::GitAuthFailed,
            Self::NotFound { .. } => Reason::SourceNotFound,
            Self::RevisionNotFound { .. } => Reason::GitRevisionNotFound,
            Self::Unreachable { .. } | Self::Broken { .. } => Reason::SourceUnreachable,
            Self::Web { cause, .. } => match cause {
                WebError::NoSuchHost(_) => Reason::SourceNotFound,
                WebError::AddressDenied(_) => Reason::SourceRejected,
                WebError::Untrusted(_) => Reason::CertificateUntrusted,
                WebError::Proxy(_) => Reason::ProxyFailed,
                WebError::Timeout | WebError::Unreachable(_) => Reason::SourceUnreachable,
                WebError::Setup(_) => Reason::InternalError,
            },
            Self::PathNotFound { .. } => Reason::SourcePathNotFound,
            Self::TooLarge { .. } => Reason::SourceTooLarge,
            Self::Io { source, .. } => match source.kind() {
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Reason::StorageExceeded,
                _ => Reason::InternalError,
            },
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let retry_after = match &error {
            SourceError::Unreachable { retry_after, .. } => *retry_after,
            _ => None,
        };
        Self {
            retry_after,
            ..Self::new(error.reason(), error.to_string())
        }
    }
}
