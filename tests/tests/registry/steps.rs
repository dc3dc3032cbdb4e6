//! The eleven steps of a push, as requests.

use robotimage_tests::faultproxy::{Door, Request};

use crate::ground::TAG;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The client asks no `/v2/`: its first request, without credentials, tells it the same.
    Ping,
    Token,
    HeadBlob,
    Post,
    Patch,
    PutBlob,
    HeadManifest,
    PutManifest,
    PutTag,
    /// The manifest that refers to the image, and the list of such that a tag names.
    Referrer,
    ReadBack,
}

impl Step {
    pub(crate) const ALL: [Self; 11] = [
        Self::Ping,
        Self::Token,
        Self::HeadBlob,
        Self::Post,
        Self::Patch,
        Self::PutBlob,
        Self::HeadManifest,
        Self::PutManifest,
        Self::PutTag,
        Self::Referrer,
        Self::ReadBack,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ping => "first request",
            Self::Token => "token",
            Self::HeadBlob => "HEAD blob",
            Self::Post => "POST upload/mount",
            Self::Patch => "PATCH",
            Self::PutBlob => "PUT blob",
            Self::HeadManifest => "HEAD manifest",
            Self::PutManifest => "PUT manifest",
            Self::PutTag => "PUT tag",
            Self::Referrer => "PUT referrer",
            Self::ReadBack => "read-back",
        }
    }

    /// Is the request this step of a push of that image?
    pub(crate) fn is(self, request: &Request, image: &str) -> bool {
        let (method, path) = (request.method.as_str(), request.target.as_str());
        match self {
            Self::Ping => return request.door == Door::Registry,
            Self::Token => return request.door == Door::Token,
            // The first requests go without, and are the ping.
            _ if request.door != Door::Registry || request.head.get("authorization").is_none() => return false,
            _ => {}
        }
        let manifest = path.rsplit_once("/manifests/").map(|(_, name)| name);
        match self {
            Self::Ping | Self::Token => true,
            Self::HeadBlob => method == "HEAD" && path.contains("/blobs/"),
            Self::Post => method == "POST" && path.contains("/blobs/uploads/"),
            Self::Patch => method == "PATCH",
            Self::PutBlob => method == "PUT" && path.contains("/blobs/uploads/"),
            Self::HeadManifest => method == "HEAD" && manifest == Some(TAG),
            Self::PutManifest => method == "PUT" && manifest == Some(image),
            Self::PutTag => method == "PUT" && manifest == Some(TAG),
            Self::Referrer => method == "PUT" && manifest.is_some_and(|name| name != TAG && name != image),
            Self::ReadBack => method == "GET" && manifest == Some(image),
        }
    }
}
