//! Why a source cannot be had. Every message names the host, the URL or the path; none holds a credential.

use std::path::PathBuf;

use robotimage_crds::reason::Reason;
use robotimage_registry::ErrorKind;

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
    #[error("the Secret of the source {problem}")]
    SecretMissing {
        /// What is missing, and what to add.
        problem: String,
    },
    /// The Secret does not name the host.
    #[error(
        "the Secret of the source does not name the host {host}, so it is not sent there; add a line \"{host}\" to its key \"hosts\"{named}"
    )]
    HostNotNamed {
        /// Host, with its port when it is not the scheme's.
        host: String,
        /// ` (it names …)`, or empty.
        named: String,
    },
    /// A web server wants other credentials, or some.
    #[error("server {host} {problem} ({url})")]
    Denied {
        /// Its host.
        host: String,
        /// The address.
        url: String,
        /// In which way, and what to do.
        problem: &'static str,
    },
    /// What the source names is not there.
    #[error("there is no {what}: {problem}")]
    Missing {
        /// For example `file at https://…`.
        what: String,
        /// What was seen, and what to do.
        problem: String,
    },
    /// The file does not have the checksum that was given.
    #[error("{url} has the SHA-256 {actual}, not {expected}; correct source.http.sha256 or the address")]
    Checksum {
        /// The address.
        url: String,
        /// What it has, in hexadecimal digits.
        actual: String,
        /// What it should have.
        expected: String,
    },
    /// The registry does not give the artifact.
    #[error("source {of}: {cause}")]
    Registry {
        /// The artifact.
        of: String,
        /// Why.
        cause: Box<robotimage_registry::Error>,
    },
    /// A bug of ours.
    #[error("reading the source {of} broke off: {problem}; please report this bug")]
    BrokeOff {
        /// The source.
        of: String,
        /// What happened.
        problem: String,
    },
    /// The git server wants other credentials, or some.
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
    /// The context is not in what was fetched.
    #[error("folder \"{path}\" is not in {of}: {problem}; check source.path")]
    FolderNotFound {
        /// `source.path`.
        path: String,
        /// What was fetched.
        of: String,
        /// What is there instead.
        problem: String,
    },
    /// What was fetched is no archive, or a damaged one.
    #[error("{of} {problem}")]
    Archive {
        /// What was fetched.
        of: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A pattern of files to leave out is not taken.
    #[error("source.ignore.patterns: line {line} {problem}; write it as several simpler ones")]
    Ignore {
        /// Its line, from 1.
        line: usize,
        /// What is wrong with it.
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
    /// The end of a task that nobody ended.
    pub(super) fn broke_off(of: &str, error: &tokio::task::JoinError) -> Self {
        Self::BrokeOff {
            of: of.to_owned(),
            problem: error.to_string(),
        }
    }

    /// Its reason in the closed list.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Address { .. } | Self::Rejected { .. } | Self::Archive { .. } | Self::Ignore { .. } => Reason::SourceRejected,
            Self::SecretMissing { .. } => Reason::SecretMissing,
            Self::HostNotNamed { .. } => Reason::CredentialHostMismatch,
            Self::Refused { .. } => Reason::GitAuthFailed,
            Self::Denied { .. } => Reason::SourceAuthFailed,
            Self::Checksum { .. } => Reason::ChecksumMismatch,
            Self::BrokeOff { .. } => Reason::InternalError,
            Self::Registry { cause, .. } => of_registry(cause),
            Self::NotFound { .. } | Self::Missing { .. } => Reason::SourceNotFound,
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
            Self::PathNotFound { .. } | Self::FolderNotFound { .. } => Reason::SourcePathNotFound,
            Self::TooLarge { .. } => Reason::SourceTooLarge,
            Self::Io { source, .. } => of_disk(source),
        }
    }
}

fn of_disk(error: &std::io::Error) -> Reason {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Reason::StorageExceeded,
        _ => Reason::InternalError,
    }
}

/// What a refusal of a registry means when a source is read from it.
fn of_registry(error: &robotimage_registry::Error) -> Reason {
    match error.kind() {
        ErrorKind::Unauthorized | ErrorKind::Denied => Reason::SourceAuthFailed,
        ErrorKind::NotFound => Reason::SourceNotFound,
        ErrorKind::RateLimited => Reason::RegistryRateLimited,
        ErrorKind::TlsUntrusted => Reason::CertificateUntrusted,
        ErrorKind::AddressDenied | ErrorKind::HostNotAllowed => Reason::SourceRejected,
        ErrorKind::DigestMismatch => Reason::DigestMismatch,
        ErrorKind::Canceled => Reason::Canceled,
        ErrorKind::Timeout if error.to_string().contains("deadline") => Reason::BuildTimeout,
        ErrorKind::Timeout | ErrorKind::Unavailable | ErrorKind::Protocol => Reason::SourceUnreachable,
        ErrorKind::Io => match error {
            robotimage_registry::Error::Io { source, .. } => of_disk(source),
            _ => Reason::InternalError,
        },
        _ => Reason::InternalError,
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let retry_after = match &error {
            SourceError::Unreachable { retry_after, .. } => *retry_after,
            SourceError::Registry { cause, .. } => cause.retry_after().map(|wait| wait.as_secs()),
            _ => None,
        };
        Self {
            retry_after,
            ..Self::new(error.reason(), error.to_string())
        }
    }
}
