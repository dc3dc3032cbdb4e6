//! What is known of one RobotImage when a decision is made.
//!
//! Invariant: a decision sees the world only through [`Observed`]. The views are read from API objects by pure functions;
//! what comes out of a pod is data to judge, never something to act on by itself.

mod announced;
mod event;
mod gather;
mod job;
mod pod;
mod registry;
mod source;

pub use announced::Announced;
pub use event::refusal_of_events;
#[cfg(test)]
pub(crate) use gather::is_doubtful;
pub use gather::{GatherError, Reader};
pub use job::JobView;
pub use pod::{ContainerState, ContainerView, PodView, Refusal};
pub use registry::{Check, Checks, ImageCheck};
pub(crate) use source::is_id;
pub use source::{Answer, Revision, SourceKnowledge};

use robotimage_crds::api::RobotImage;

/// Whether a build may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is a slot for it.
    Now,
    /// It has to wait for one.
    Later,
}

/// What this process knows beside what the API server holds.
#[derive(Clone, Debug)]
pub struct Known {
    /// Of the source.
    pub source: SourceKnowledge,
    /// Of base, rcc and the published image.
    pub checks: Checks,
    /// What was written into the ConfigMap that announces the image.
    pub announced: Option<Announced>,
    /// Whether a build may begin.
    pub turn: Turn,
    /// What the API server said when the live build's Job was offered to it.
    pub refusal: Option<Refusal>,
}

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
    /// What registries have told of its base and rcc.
    pub checks: Checks,
    /// What this process has written into the ConfigMap that announces the image.
    pub announced: Option<Announced>,
    /// Whether a build may begin.
    pub turn: Turn,
    /// Why the live build's Job has no pod, or its pod no started container, told by events or by the API server.
    pub refusal: Option<Refusal>,
}
