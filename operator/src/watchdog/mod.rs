//! Whether the watches are alive: `/healthz` fails when one has been silent for longer than it can be.
//!
//! Invariant: a living watch is heard at least once in its server-side timeout: by an event, by a bookmark, or by its end
//! and the answer to the next one. So one that was not heard for that time and a margin hangs, whatever the client's library
//! believes of it, and a new process is the remedy.

mod layer;
mod sounds;

pub use layer::{Heard, Listen, Listener};
pub use sounds::{Silence, Watchdog};
