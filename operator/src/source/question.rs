//! What is asked of a source.

use robotimage_registry::Reference;
use url::Url;

use super::GitQuestion;

/// Which revision is it?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Of a repository.
    Git(GitQuestion),
    /// Of a file behind an address.
    Http {
        /// The address.
        url: String,
    },
    /// Of an artifact in a registry.
    Oci {
        /// Its reference by tag.
        image: String,
    },
}

impl Question {
    /// `host[:port]` of who is asked; empty for an address that is none, which the look-up itself refuses.
    pub(super) fn host(&self) -> String {
        let url = match self {
            Self::Git(GitQuestion { url, .. }) | Self::Http { url } => url,
            Self::Oci { image } => {
                return Reference::parse(image)
                    .map(|reference| reference.registry().to_owned())
                    .unwrap_or_default();
            }
        };
        Url::parse(url).map(|url| super::exchange::authority(&url)).unwrap_or_default()
    }

    /// The kind of source, for metrics.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Git(_) => "git",
            Self::Http { .. } => "http",
            Self::Oci { .. } => "oci",
        }
    }
}
