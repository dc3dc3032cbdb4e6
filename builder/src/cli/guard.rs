//! Work that Ctrl-C ends.
//!
//! Invariant: what is interrupted is dropped, with every temporary folder that it holds, before the program says so.

use std::sync::atomic::Ordering;

use robotimage_crds::reason::Reason;

use super::build::{Stop, interrupted};
use crate::failure::Failure;

/// Does the work until it is done or the program is told to end.
pub(super) async fn guarded<T>(stop: &Stop, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let result = tokio::select! {
        biased;
        result = work => result,
        () = interrupted() => Err(Failure::new(Reason::Canceled, "interrupted")),
    };
    stop.cancel.cancel();
    stop.interrupt.store(true, Ordering::Relaxed);
    result
}
