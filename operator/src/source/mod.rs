//! Asking the outside world what a source is now: a git server which commit a reference means, a web server whether a file is
//! still the same, a registry which digest a tag has.
//!
//! Invariant: the URL is a tenant's, so every answer is hostile until parsed: 10 seconds and 1 MiB a look-up, no redirect to
//! another host, addresses checked where the connection is made, and no byte of a body in any message. A Secret is sent only
//! to a host that it names.

mod credentials;
mod exchange;
mod failure;
mod git;
mod http;
pub(crate) mod ls_refs;
mod pkt_line;
mod pool;
mod question;

pub use credentials::{GitCredentials, HOSTS_KEY};
pub use failure::SourceFailure;
pub use git::{GitClient, GitQuestion, SetupError};
pub use http::HttpClient;
pub use pool::{Asker, LookupKey, Pool};
pub use question::Question;
