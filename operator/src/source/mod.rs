//! Asking a git server which commit a reference means.
//!
//! Invariant: the URL is a tenant's, so every answer is hostile until parsed: 10 seconds and 1 MiB a look-up, no redirect to
//! another host, addresses checked where the connection is made, and no byte of a body in any message. A Secret is sent only
//! to a host that it names.

mod credentials;
mod failure;
mod git;
pub(crate) mod ls_refs;
mod pkt_line;
mod pool;

pub use credentials::{GitCredentials, HOSTS_KEY};
pub use failure::SourceFailure;
pub use git::{GitClient, Question, SetupError};
pub use pool::{Asker, LookupKey, Pool};
