//! What need not be made again: the environment cache, the previous image, and the plan that follows from both.
//!
//! * [`artifact`]: a kept environment as documents: written, and read with every doubt that a stranger's deserves. Pure.
//! * [`cache`]: environments in a registry, tagged `env-<key>`: looked for, and kept.
//! * [`previous`]: the image that is there: its documents, and which of its layers still are.
//! * [`changes`]: what differs between it and what is wanted. Pure.
//! * [`plan`]: the kind of a build, and what it would make, mount and send. Pure.
//!
//! Invariant: whatever is wrong with what is kept, a build ends as it would without it. Only time is lost.

pub mod artifact;
pub mod cache;
pub mod changes;
pub mod plan;
pub mod previous;

pub use artifact::{Artifact, Bad, Kept};
pub use cache::{Answer, Hit, Keep};
pub use changes::{Aspect, Change, changes};
pub use plan::{Standing, kind};
pub use previous::PreviousImage;
