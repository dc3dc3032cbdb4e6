//! Why there is no environment, each with its reason.

use std::io;
use std::path::PathBuf;

use robotimage_crds::reason::Reason;

use crate::failure::Failure;
use crate::rcc;

/// Why an environment could not be made, sealed or described.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the environment, or of the homes, could not be used.
    #[error("cannot {action} {path:?}: {source}")]
    Tree {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in the environment cannot be taken as it is.
    #[error("{path:?} {problem}")]
    Rejected {
        /// What.
        path: PathBuf,
        /// Why, with the cure.
        problem: &'static str,
    },
    /// The rcc binary, or the platform's settings for it.
    #[error(transparent)]
    Rcc(#[from] rcc::Error),
    /// Credentials where they would end up in the image.
    #[error(
        "{place} has {found} in an address, which would end up in the image; take it out and use an index that needs no login: its login cannot be given yet"
    )]
    Credentials {
        /// Which setting.
        place: String,
        /// What kind.
        found: &'static str,
    },
    /// rcc ended without an environment.
    #[error("{message}")]
    Failed {
        /// What it means.
        reason: Reason,
        /// The same for a person.
        message: String,
        /// The last that rcc said, secrets replaced.
        tail: String,
    },
    /// rcc answered something that it should not.
    #[error("rcc's answer is not what it should be: {problem}")]
    Answer {
        /// What is wrong.
        problem: String,
        /// The last that rcc said, secrets replaced.
        tail: String,
    },
    /// The time was up.
    #[error("the environment was not ready in time; raise build.timeout, or name fewer packages")]
    Deadline {
        /// The last that rcc said, secrets replaced.
        tail: String,
    },
    /// It was asked to stop.
    #[error("resolving the environment was canceled")]
    Canceled,
    /// A secret was found in what would have been published.
    #[error(
        "{path:?} holds a secret of the package index; see which package or command writes it there, and give credentials as a netrc file only"
    )]
    Leak {
        /// The file, relative to the environment.
        path: PathBuf,
    },
    /// A folder that is not ours would have to be emptied.
    #[error("{path:?} is not empty and was not made by robotimage; name another cache folder")]
    NotOurs {
        /// The folder.
        path: PathBuf,
    },
    /// The host does not let an ordinary user have a mount namespace.
    #[error(
        "this host does not allow what is needed to resolve at /opt/rcc without root: {problem}; allow unprivileged user namespaces \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_userns), \
         or let an administrator once make /opt/rcc and /home/robot and give them to you, or build in the cluster"
    )]
    Namespace {
        /// What failed.
        problem: String,
    },
    /// The helper process of ours ended without a result.
    #[error("the resolving process ended without a result: {problem}")]
    Helper {
        /// What it did.
        problem: String,
    },
    /// The helper process of ours ended with a failure.
    #[error("{message}")]
    Reported {
        /// Why.
        reason: Reason,
        /// The same for a person.
        message: String,
        /// The last that rcc said, secrets replaced.
        tail: Option<String>,
    },
}

impl Error {
    /// Why a build ends with it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Tree { source, .. } if is_full(source) => Reason::StorageExceeded,
            Self::Failed { reason, .. } | Self::Reported { reason, .. } => *reason,
            Self::Rcc(error) => error.reason(),
            Self::Rejected { .. } => Reason::PackageBuildFailed,
            Self::Credentials { .. } => Reason::EnvironmentFileInvalid,
            Self::Answer { .. } => Reason::RccUnavailable,
            Self::Deadline { .. } => Reason::BuildTimeout,
            Self::Canceled => Reason::Canceled,
            Self::Leak { .. } => Reason::SecretLeakDetected,
            Self::NotOurs { .. } | Self::Namespace { .. } => Reason::NotAllowed,
            Self::Tree { .. } | Self::Helper { .. } => Reason::InternalError,
        }
    }

    /// The last lines that rcc said, where it ran; secrets are already replaced.
    pub fn tail(&self) -> Option<&str> {
        match self {
            Self::Failed { tail, .. } | Self::Answer { tail, .. } | Self::Deadline { tail } => Some(tail),
            Self::Reported { tail, .. } => tail.as_deref(),
            _ => None,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            tail: error.tail().map(str::to_owned),
            ..Self::new(error.reason(), error.to_string())
        }
    }
}
