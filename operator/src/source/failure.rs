//! Why a look-up gave no commit.

use std::time::Duration;

use robotimage_crds::reason::Reason;

/// A failed look-up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct SourceFailure {
    /// One of the reasons that a source can cause.
    pub reason: Reason,
    /// What failed, where, and what to do. Nothing of an answer's body is in it.
    pub message: String,
    /// What the server asked us to wait.
    pub retry_after: Option<Duration>,
}

impl SourceFailure {
    /// A failure without a wish of the server.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            retry_after: None,
        }
    }
}
