//! What is known of one RobotImage when a decision is made.
//!
//! Invariant: a decision sees the world only through [`Observed`]. The views are read from API objects by pure functions;
//! what comes out of a pod is data to judge, never something to act on by itself.

mod event;
mod gather;
mod job;
mod pod;
mod source;

pub use event::refusal_of_events;
pub use gather::{GatherError, Reader};
pub use job::JobView;
pub use pod::{ContainerState, ContainerView, PodView, Refusal};
pub use source::{Answer, Revision, SourceKnowledge};

use robotimage_crds::api::RobotImage;

/// Everything a decision is made from.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The resource, as read. Its `resourceVersion` is the one a status write must carry.
    pub image: RobotImage,
    /// Jobs that carry our label for it, and the Job of its live build whoever owns that.
    pub jobs: Vec<JobView>,
    /// Pods that carry our label for it.
    pub pods: Vec<PodView>,
    /// What is known of its source.
    pub source: SourceKnowledge,
    /// Why the live build's Job has no pod, or its pod no started container, told by events or by the API server.
    pub refusal: Option<Refusal>,
}
