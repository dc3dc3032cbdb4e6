//! What every error of the engine becomes at its edge: a reason with owner, retry and exit code, and a message for a person.

use robotimage_crds::reason::Reason;

/// A build that ended without an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// From the closed list of crate `crds`.
    pub reason: Reason,
    /// What failed, where, and what to do.
    pub message: String,
    /// Last lines of a child's output, secrets already replaced.
    pub tail: Option<String>,
    /// Seconds that the other side asked us to wait.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure with no child's output.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            tail: None,
            retry_after: None,
        }
    }

    /// The same failure with the last lines of a child's output.
    #[must_use]
    pub fn with_tail(mut self, tail: impl Into<String>) -> Self {
        let tail = tail.into();
        self.tail = (!tail.is_empty()).then_some(tail);
        self
    }

    /// A file or folder of our own that cannot be used. A full disk is the one cause that has a reason of its own.
    pub fn io(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let reason = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Reason::StorageExceeded,
            _ => Reason::InternalError,
        };
        Self::new(reason, format!("cannot {action} {}: {error}", path.display()))
    }
}
