//! Why a registry gave no digest.

use std::time::Duration;

use robotimage_crds::reason::Reason;
use robotimage_registry::{Error, ErrorKind};

/// A failed look-up. Its message is the same whenever the same happens again: it may stand in a status.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupFailure {
    /// The registry shows it to nobody without credentials.
    #[error("{host} asks for credentials")]
    Refused {
        /// `host[:port]`.
        host: String,
    },
    /// There is no such image.
    #[error("there is no image {reference}")]
    Missing {
        /// What was asked for.
        reference: String,
    },
    /// Nothing was learned.
    #[error("{message}")]
    Failed {
        /// One of the reasons that a registry can cause.
        reason: Reason,
        /// What failed, where, and what to do. Nothing of an answer's body is in it.
        message: String,
        /// What the registry asked us to wait.
        retry_after: Option<Duration>,
    },
}

impl LookupFailure {
    /// A failure without a wish of the registry.
    pub fn failed(reason: Reason, message: impl Into<String>) -> Self {
        Self::Failed {
            reason,
            message: message.into(),
            retry_after: None,
        }
    }

    /// What an error of the client means.
    pub(super) fn of(error: &Error, reference: &str, host: &str) -> Self {
        let (reason, message) = match error.kind() {
            ErrorKind::Unauthorized | ErrorKind::Denied => return Self::Refused { host: host.to_owned() },
            ErrorKind::NotFound => {
                return Self::Missing {
                    reference: reference.to_owned(),
                };
            }
            ErrorKind::RateLimited => (Reason::RegistryRateLimited, format!("{host} limits the rate of requests")),
            ErrorKind::Unavailable => (Reason::RegistryUnavailable, format!("{host} cannot be reached, or fails")),
            ErrorKind::Timeout => (Reason::RegistryUnavailable, format!("{host} does not answer in time")),
            ErrorKind::TlsUntrusted => (
                Reason::CertificateUntrusted,
                format!("the certificate of {host} is not trusted; add its authority to the platform's CA bundle"),
            ),
            ErrorKind::AddressDenied | ErrorKind::HostNotAllowed => (
                Reason::NotAllowed,
                format!("{host} is at an address that the platform does not allow; an administrator can list it under addressPolicy.allow"),
            ),
            ErrorKind::PlatformMissing => (Reason::BaseNotFound, format!("{reference} has no image for linux/amd64")),
            ErrorKind::DigestMismatch => (
                Reason::DigestMismatch,
                format!("{host} sends something else than it names for {reference}"),
            ),
            _ => (
                Reason::RegistryProtocol,
                format!("{host} does not answer about {reference} as a registry does"),
            ),
        };
        Self::Failed {
            reason,
            message,
            retry_after: error.retry_after(),
        }
    }

    /// For conditions and metrics.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Refused { .. } | Self::Missing { .. } => Reason::BaseNotFound,
            Self::Failed { reason, .. } => *reason,
        }
    }

    /// What the registry asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Failed { retry_after, .. } => *retry_after,
            Self::Refused { .. } | Self::Missing { .. } => None,
        }
    }
}
