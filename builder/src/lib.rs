//! The build engine: a robot's source becomes an OCI image.
//!
//! Data flows one way: `plan -> fetch -> resolve -> publish -> report`. The same engine runs as three steps of a build pod and
//! as `robotimage build` on a laptop.
//!
//! * [`robot`]: robot.yaml and the environment file: read, validated, the choices that rcc makes. Pure.
//! * [`rcc`]: the rcc binary: what it is, how it is called, what its output means.
//! * [`environment`]: resolve an environment at its sealed path, normalise it, describe it.
//! * [`source`]: a commit of a git repository as a folder.
//! * [`image`]: base facts, keys, layers, configuration and manifest.
//! * [`inspect`]: what an image that is already made holds.
//! * [`leak`]: looking for secrets in what is about to be published.
//! * [`reuse`]: what need not be made again, and the plan that follows.
//! * [`steps`]: fetch, resolve and publish as a pod runs them.
//! * [`cli`]: the command line.
//! * [`failure`]: what every error becomes at the edge: a reason, a message, an exit code.
//!
//! Invariant: the bytes of an image depend on the build key alone.

pub mod cli;
pub mod environment;
pub mod failure;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod image;
pub mod inspect;
pub mod leak;
pub mod rcc;
pub mod reuse;
pub mod robot;
pub mod source;
pub mod steps;
