//! What to do about one RobotImage: a pure function of what was observed, the platform, the time and a drawn number.
//!
//! Invariant: a decision is either one status write, or actions that the written status already announces, or nothing. So
//! a crash between any two calls leaves a state from which the same decision follows again: a build's number is in the
//! status before its Job exists, its result before its Job is deleted, and no action depends on memory.

mod actions;
mod again;
mod announce;
mod budget;
mod collect;
mod conditions;
mod cron;
mod decision;
mod defaults;
mod failure;
mod garbage;
mod giving_up;
mod history;
mod looping;
mod memory;
mod moving;
mod outcome;
mod queue;
mod refused;
mod request_key;
mod resolution;
mod retry;
mod row;
mod schedule;
mod start;
mod supersede;
mod thin;
mod verdict;
mod wishes;

pub use cron::{Cron, CronError};
pub use decision::decide;
pub use defaults::{Finder, ImageSettings, Settings, SourceKind};
pub use giving_up::gives_up;
pub(crate) use memory::resources;
pub use outcome::{Action, Chance, Decision, Next, Note, NoteKind};
pub use queue::{Lane, Limits, Waiter, next as next_in_queue};
pub use resolution::{known_revision, last_build};
pub use schedule::{Look, latest_look, next_check, next_digest_look, next_image_look, next_look};
pub(crate) use start::is_forced;
pub(crate) use thin::thin;
pub use verdict::{Failed, Hindrance, Progress, Verdict};
pub use wishes::look_wish;

/// Namespace and name, for messages and logs.
pub fn full_name(image: &robotimage_crds::api::RobotImage) -> String {
    format!(
        "{}/{}",
        image.metadata.namespace.as_deref().unwrap_or_default(),
        image.metadata.name.as_deref().unwrap_or_default()
    )
}
#[cfg(test)]
mod tests;
