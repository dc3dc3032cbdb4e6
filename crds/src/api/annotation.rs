//! Annotations by which people and tools ask for something once. What was handled is in `status.lastHandled`.

/// Resolve the source now; the value is any text that differs from the last one, best a time.
pub const REQUESTED_AT: &str = "robotimage.dev/requestedAt";
/// Build even when nothing has changed; the value as for [`REQUESTED_AT`].
pub const FORCE_AT: &str = "robotimage.dev/forceAt";
/// Cancel the build of this number.
pub const CANCEL: &str = "robotimage.dev/cancel";
/// Flux's own name for [`REQUESTED_AT`].
pub const FLUX_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
