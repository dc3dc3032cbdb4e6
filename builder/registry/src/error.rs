//! Everything that can go wrong between us and a registry, told apart as far as a caller can act on it.
//!
//! Invariant: no error holds a response body, a secret, or the query of a URL. Of a registry's answer only the code and
//! message of an OCI error document are kept, printable characters only, cut to 256, with what we sent as secret
//! replaced.

use std::fmt;
use std::time::Duration;

use oci_spec::image::Digest;

use crate::context::Context;
use crate::credentials::CredentialsError;
use crate::layout::LayoutError;
use crate::reference::ReferenceError;

/// Code and message of an OCI error document, made safe to print; empty when there was none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(pub(crate) String);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, " (it said: {})", self.0)
        }
    }
}

/// What was not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// The repository, or the registry does not say which part.
    Repository,
    /// The manifest.
    Manifest,
    /// The blob.
    Blob,
    /// The upload session.
    Upload,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repository => "repository",
            Self::Manifest => "image",
            Self::Blob => "blob",
            Self::Upload => "upload session",
        })
    }
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The registry or its token service wants other credentials.
    #[error("{at}: {}{said}", unauthorized(at, *anonymous))]
    Unauthorized {
        /// Where.
        at: Box<Context>,
        /// No credentials are configured for the repository.
        anonymous: bool,
        /// The registry's words.
        said: Said,
    },
    /// The identity is known and may not do this.
    #[error("{at}: the registry denies it to these credentials; grant {} rights on the repository{said}", if at.operation.is_push() { "push" } else { "pull" })]
    Denied {
        /// Where.
        at: Box<Context>,
        /// The registry's words.
        said: Said,
    },
    /// It is not there.
    #[error("{at}: no such {what}; check its spelling{said}")]
    NotFound {
        /// Where.
        at: Box<Context>,
        /// What is missing.
        what: Missing,
        /// The registry's words.
        said: Said,
    },
    /// A manifest was refused because blobs it names are not in the repository (any more): push them again.
    #[error("{at}: the registry lacks blobs of this manifest{said}")]
    BlobUnknown {
        /// Where.
        at: Box<Context>,
        /// The digests that the registry named; may be empty.
        digests: Vec<Digest>,
        /// The registry's words.
        said: Said,
    },
    /// Too many requests.
    #[error("{at}: the registry limits the rate of requests{}", wait(*retry_after))]
    RateLimited {
        /// Where.
        at: Box<Context>,
        /// How long the registry asks to wait, uncapped.
        retry_after: Option<Duration>,
    },
    /// The registry answered with a server error, or could not be reached.
    #[error("{at}: the registry is not available: {cause}")]
    Unavailable {
        /// Where.
        at: Box<Context>,
        /// A status line or a network error.
        cause: String,
        /// How long the registry asks to wait, uncapped.
        retry_after: Option<Duration>,
    },
    /// No bytes moved for too long, or the deadline of the whole work has passed.
    #[error("{at}: timed out: {what}")]
    Timeout {
        /// Where.
        at: Box<Context>,
        /// Which limit.
        what: String,
    },
    /// The other side does not speak the protocol as it must.
    #[error("{at}: unexpected answer: {problem}")]
    Protocol {
        /// Where.
        at: Box<Context>,
        /// What was wrong.
        problem: String,
    },
    /// The certificate is not trusted.
    #[error("{at}: the certificate of {} is not trusted: {cause}; add its CA to the CA bundle", at.host)]
    TlsUntrusted {
        /// Where.
        at: Box<Context>,
        /// What the verifier said.
        cause: String,
    },
    /// A redirect, an upload location or a token service leads from https to plain http.
    #[error("{at}: the registry leads to {host} over plain http, which is refused; its external URL is probably misconfigured")]
    PlainHttp {
        /// Where.
        at: Box<Context>,
        /// The host it leads to.
        host: String,
    },
    /// The address policy forbids the connection.
    #[error("{at}: {denied}")]
    AddressDenied {
        /// Where.
        at: Box<Context>,
        /// Which host.
        denied: crate::address::AddressDenied,
    },
    /// A redirect, an upload location or a token service leads where it must not.
    #[error("{at}: {problem}")]
    HostNotAllowed {
        /// Where.
        at: Box<Context>,
        /// Which host, and why not.
        problem: String,
    },
    /// Content is not what its digest or size says.
    #[error("{at}: {problem}")]
    DigestMismatch {
        /// Where.
        at: Box<Context>,
        /// Both values.
        problem: String,
    },
    /// An answer is larger than it may be.
    #[error("{at}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Where.
        at: Box<Context>,
        /// The limit in bytes.
        limit: u64,
    },
    /// The image does not exist for the platform.
    #[error("{at}: it is not available for {wanted}, only for {}", if offered.is_empty() { "no platform at all" } else { offered })]
    PlatformMissing {
        /// Where.
        at: Box<Context>,
        /// Operating system and architecture, such as `linux/amd64`.
        wanted: String,
        /// Those that exist, comma separated, at most 20.
        offered: String,
    },
    /// The tag exists with other content and the registry forbids moving it.
    #[error("{at}: the tag exists with another image and is immutable; choose another tag; the new image is there as {digest}{said}")]
    TagImmutable {
        /// Where.
        at: Box<Context>,
        /// The manifest that the tag was to name; the repository holds it.
        digest: Digest,
        /// The registry's words.
        said: Said,
    },
    /// No space left for this project or registry.
    #[error("{at}: the registry's storage quota is used up{said}")]
    Quota {
        /// Where.
        at: Box<Context>,
        /// The registry's words.
        said: Said,
    },
    /// The caller's cancellation token fired.
    #[error("{at}: canceled")]
    Canceled {
        /// Where.
        at: Box<Context>,
    },
    /// A local file.
    #[error("{at}: cannot read {file}")]
    Io {
        /// Where.
        at: Box<Context>,
        /// Its name.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The client's own settings.
    #[error("registry client: {0}")]
    Configuration(String),
    /// Credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// A reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A layout or an archive on disk.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The kinds of [`Error`], for tables that map them to reasons and exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// See [`Error::Unauthorized`].
    Unauthorized,
    /// See [`Error::Denied`].
    Denied,
    /// See [`Error::NotFound`].
    NotFound,
    /// See [`Error::BlobUnknown`].
    BlobUnknown,
    /// See [`Error::RateLimited`].
    RateLimited,
    /// See [`Error::Unavailable`].
    Unavailable,
    /// See [`Error::Timeout`].
    Timeout,
    /// See [`Error::Protocol`] and [`Error::TooLarge`].
    Protocol,
    /// See [`Error::TlsUntrusted`] and [`Error::PlainHttp`].
    TlsUntrusted,
    /// See [`Error::AddressDenied`].
    AddressDenied,
    /// See [`Error::HostNotAllowed`].
    HostNotAllowed,
    /// See [`Error::DigestMismatch`].
    DigestMismatch,
    /// See [`Error::PlatformMissing`].
    PlatformMissing,
    /// See [`Error::TagImmutable`].
    TagImmutable,
    /// See [`Error::Quota`].
    Quota,
    /// See [`Error::Canceled`].
    Canceled,
    /// See [`Error::Io`] and [`Error::Layout`].
    Io,
    /// See [`Error::Configuration`], [`Error::Credentials`] and [`Error::Reference`].
    Configuration,
}

impl Error {
    /// Its kind.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Denied { .. } => ErrorKind::Denied,
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::BlobUnknown { .. } => ErrorKind::BlobUnknown,
            Self::RateLimited { .. } => ErrorKind::RateLimited,
            Self::Unavailable { .. } => ErrorKind::Unavailable,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Protocol { .. } | Self::TooLarge { .. } => ErrorKind::Protocol,
            Self::TlsUntrusted { .. } | Self::PlainHttp { .. } => ErrorKind::TlsUntrusted,
            Self::AddressDenied { .. } => ErrorKind::AddressDenied,
            Self::HostNotAllowed { .. } => ErrorKind::HostNotAllowed,
            Self::DigestMismatch { .. } => ErrorKind::DigestMismatch,
            Self::PlatformMissing { .. } => ErrorKind::PlatformMissing,
            Self::TagImmutable { .. } => ErrorKind::TagImmutable,
            Self::Quota { .. } => ErrorKind::Quota,
            Self::Canceled { .. } => ErrorKind::Canceled,
            Self::Io { .. } | Self::Layout(_) => ErrorKind::Io,
            Self::Configuration(_) | Self::Credentials(_) | Self::Reference(_) => ErrorKind::Configuration,
        }
    }

    /// Could the same call succeed later without anybody changing anything? This crate has already retried within its
    /// own limits when it returns such an error.
    pub fn retryable(&self) -> bool {
        matches!(
            self.kind(),
            ErrorKind::RateLimited | ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::BlobUnknown
        ) || matches!(self, Self::NotFound { what: Missing::Upload, .. })
    }

    /// How long the registry asked to wait, when it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn unauthorized(at: &Context, anonymous: bool) -> String {
    if anonymous {
        format!(
            "the registry asks for credentials and none are configured for {}; log in there, or name a Secret with a login",
            at.host
        )
    } else {
        format!(
            "the registry refuses the configured credentials; check user and password for {}",
            at.host
        )
    }
}

fn wait(retry_after: Option<Duration>) -> String {
    retry_after.map_or_else(String::new, |time| format!("; it asks to wait {} s", time.as_secs()))
}
