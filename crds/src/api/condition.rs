//! Names of the conditions, and of their reasons that are not failures. Failures take a [`crate::reason::Reason`].

/// The newest image that was asked for exists.
pub const READY: &str = "Ready";
/// There is an image one can run.
pub const AVAILABLE: &str = "Available";
/// The source's reference could be resolved the last time it was asked.
pub const SOURCE_READY: &str = "SourceReady";
/// The operator is at work; absent otherwise.
pub const RECONCILING: &str = "Reconciling";
/// Only a change by somebody else helps; absent otherwise.
pub const STALLED: &str = "Stalled";

/// Reasons of conditions in states that are not failures.
pub mod reasons {
    /// Ready=Unknown while work is going on.
    pub const PROGRESSING: &str = "Progressing";
    /// Ready=True.
    pub const UP_TO_DATE: &str = "UpToDate";
    /// Available=True.
    pub const IMAGE_PUBLISHED: &str = "ImagePublished";
    /// Available=False before the first image.
    pub const NEVER_BUILT: &str = "NeverBuilt";
    /// Reconciling: the reference is being resolved.
    pub const RESOLVING_SOURCE: &str = "ResolvingSource";
    /// Reconciling, Ready stays True: a new revision is being looked at.
    pub const CHECKING_SOURCE: &str = "CheckingSource";
    /// Reconciling: waits for a build slot.
    pub const QUEUED: &str = "Queued";
    /// Reconciling: a build runs.
    pub const BUILDING: &str = "Building";
    /// Reconciling: failed, will be tried again.
    pub const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
    /// SourceReady=True.
    pub const SOURCE_RESOLVED: &str = "Resolved";
    /// SourceReady=True: the platform polls nothing here; a change of the spec resolves anew.
    pub const POLLING_DISABLED: &str = "PollingDisabled";
}
