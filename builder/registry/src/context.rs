//! Where something happened: what was being done, and to what.

use std::fmt;

use crate::reference::Repository;

/// What was being done, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reading a manifest.
    PullManifest,
    /// Asking for a manifest's digest.
    HeadManifest,
    /// Reading a blob.
    PullBlob,
    /// Asking whether a blob is there.
    HeadBlob,
    /// Uploading or mounting a blob.
    PushBlob,
    /// Writing a manifest by its digest.
    PushManifest,
    /// Writing a tag.
    PushTag,
    /// Listing tags.
    ListTags,
}

impl Operation {
    /// Does it write?
    pub fn is_push(self) -> bool {
        matches!(self, Self::PushBlob | Self::PushManifest | Self::PushTag)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PullManifest => "pull manifest",
            Self::HeadManifest => "look up",
            Self::PullBlob => "pull blob of",
            Self::HeadBlob => "look up blob of",
            Self::PushBlob => "push blob to",
            Self::PushManifest => "push manifest to",
            Self::PushTag => "tag",
            Self::ListTags => "list tags of",
        })
    }
}

/// Where an error happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// What was being done.
    pub operation: Operation,
    /// The registry's host, with its port when one was written.
    pub host: String,
    /// The reference or repository, host included.
    pub subject: String,
}

impl Context {
    pub(crate) fn new(operation: Operation, repository: &Repository, subject: String) -> Self {
        Self {
            operation,
            host: repository.registry().to_owned(),
            subject,
        }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.operation, self.subject)
    }
}
