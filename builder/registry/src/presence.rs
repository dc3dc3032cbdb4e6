//! Whether a repository holds a blob, and as many bytes of it as it should.
//!
//! Invariant: a blob that the registry shows with another size than its descriptor's is never called whole.

use oci_spec::image::Descriptor;
use reqwest::StatusCode;
use reqwest::header::CONTENT_LENGTH;

use crate::answer::Answer;
use crate::client::Client;
use crate::download::tells_existence;
use crate::error::Error;
use crate::reference::Repository;

/// What a repository has of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Absent,
    /// It is there; its size is right, or not told, as by a redirect to a blob store.
    Whole,
    /// It is there with another size: damaged.
    Sized(u64),
}

/// How a blob came to be in the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushOutcome {
    /// It was there.
    Existing,
    /// The registry took it from another repository.
    Mounted,
    /// It was sent.
    Uploaded {
        /// Its size in bytes.
        bytes: u64,
    },
}

impl Client {
    /// Asks for a blob without reading it.
    pub async fn presence(&self, repository: &Repository, descriptor: &Descriptor) -> Result<Presence, Error> {
        let call = self.head_blob(repository, descriptor.digest())?;
        let answer = self.transport.call(&call, tells_existence).await?;
        Ok(Presence::told(&answer, descriptor.size()))
    }
}

impl Presence {
    /// What an answer to the question says of a blob of `size` bytes.
    pub(crate) fn told(answer: &Answer, size: u64) -> Self {
        match answer.status {
            StatusCode::NOT_FOUND => Self::Absent,
            StatusCode::OK => match answer.header(CONTENT_LENGTH).and_then(|length| length.parse().ok()) {
                Some(shown) if shown != size => Self::Sized(shown),
                _ => Self::Whole,
            },
            _ => Self::Whole,
        }
    }
}
