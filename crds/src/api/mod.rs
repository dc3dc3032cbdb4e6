//! The resource `RobotImage`, version `v1alpha1`.
//!
//! Defaults are applied by the operator's decision and never by the schema, so that a platform's default is not masked by ours.
//! The one schema default is `status: {observedGeneration: -1}`: it makes an object that no operator has seen yet *InProgress*.

pub mod annotation;
pub mod condition;
mod spec;
mod status;

pub use spec::{
    BaseSource, BaseUpdate, Build, Compression, ConfigMapRef, Environment, GitRef, GitSource, HistoryLimits, HttpFile, HttpSource, Ignore,
    Image, LocalRef, OciSource, Platform, PublishTo, RccSource, Resources, Robot, RobotImage, RobotImageSpec, Source, Supersede,
};
pub use status::{
    Blocked, BuildPhase, ChangeReason, EnvironmentStatus, HistoryEntry, Inputs, LastFailure, LastHandled, LatestBuild, LatestImage,
    LayerStatus, LoopStatus, RobotImageStatus, SourceStatus, StepStatus,
};
