//! The look-up itself, over the registry client.

use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, ClientOptions, Credentials, Digest, Error, Reference, RetryPolicy};

use super::LookupFailure;
use crate::config::Platform;

/// Time for a whole look-up.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of a manifest, index or configuration.
const MOST_BYTES: u64 = 1024 * 1024;
/// Operating system and architecture of our images.
const PLATFORM: (&str, &str) = ("linux", "amd64");

/// What a reference means now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What the tag has: an index, or the manifest itself.
    pub top: String,
    /// The manifest for our platform.
    pub manifest: String,
}

/// Makes one look-up. The operator's asks registries; a test's answers by itself.
pub trait Inspector: Send + Sync + 'static {
    /// The digest behind a reference. `before` is the last answer: while the tag has not moved, nothing more is asked.
    fn digest(&self, reference: String, before: Option<Found>) -> BoxFuture<'static, Result<Found, LookupFailure>>;
    /// Whether there is such an image.
    fn exists(&self, reference: String) -> BoxFuture<'static, Result<(), LookupFailure>>;
}

/// Asks registries, without credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RegistryInspector {
    client: Client,
}

impl RegistryInspector {
    /// An inspector under the platform's rules: its mirrors, certificates and addresses.
    pub fn new(platform: &Platform) -> Result<Self, Error> {
        let options = ClientOptions {
            ca_bundle_pem: Some(platform.ca_bundle.clone().into_bytes())
                .filter(|bundle| !bundle.is_empty())
                .into_iter()
                .collect(),
            plain_http: platform.config.plain_http.clone(),
            mirrors: platform.config.registry_mirrors.clone(),
            address_policy: platform.policy.clone(),
            connect_timeout: DEADLINE,
            idle_timeout: DEADLINE,
            request_timeout: DEADLINE,
            // When to ask again is decided for all look-ups at that registry.
            retry: RetryPolicy::never(),
            manifest_limit: MOST_BYTES,
            ..ClientOptions::default()
        };
        Ok(Self {
            client: Client::new(options, Credentials::none())?,
        })
    }

    /// The tag of an artifact, and the hexadecimal digits of the digest that it has now. Mirrors are not asked: their tags may be
    /// old ones, and an artifact is small.
    pub async fn tag(&self, reference: &str) -> Result<(String, String), LookupFailure> {
        within(reference, async |parsed| {
            let digest = match self.client.head_manifest(parsed).await? {
                Some(digest) => digest,
                // Not there, or a registry that knows no HEAD: a GET tells.
                None => self.client.without_mirrors().manifest(parsed).await?.digest,
            };
            Ok((parsed.tag().unwrap_or("latest").to_owned(), digest.digest().to_owned()))
        })
        .await
    }

    async fn look_up(&self, reference: &Reference, before: Option<Found>) -> Result<Found, Error> {
        // A build reads from the mirrors first, so what they have is what counts. Else a HEAD is enough, which registries
        // that count pulls do not count.
        let top = if self.client.has_mirrors_of(&reference.to_repository()) {
            self.client.manifest(reference).await?.digest.to_string()
        } else {
            let digest = self.client.head_manifest(reference).await?;
            match digest {
                Some(digest) => digest.to_string(),
                // The same as an error: a GET tells what a HEAD cannot.
                None => self.client.manifest(reference).await?.digest.to_string(),
            }
        };
        if let Some(before) = before.filter(|before| before.top == top) {
            return Ok(before);
        }
        let image = self.client.resolve_image(reference, PLATFORM.0, PLATFORM.1).await?;
        let manifest = image.reference.digest().map(Digest::to_string).unwrap_or_default();
        let top = image.index_digest.map_or_else(|| manifest.clone(), |digest| digest.to_string());
        Ok(Found { top, manifest })
    }
}

/// Runs a look-up within its time.
async fn within<T>(reference: &str, look_up: impl AsyncFnOnce(&Reference) -> Result<T, Error>) -> Result<T, LookupFailure> {
    let parsed = Reference::parse(reference)
        .map_err(|error| LookupFailure::failed(Reason::NotAllowed, format!("{reference} is no image reference: {error}")))?;
    let host = parsed.registry().to_owned();
    match tokio::time::timeout(DEADLINE, look_up(&parsed)).await {
        Ok(answer) => answer.map_err(|error| LookupFailure::of(&error, reference, &host)),
        Err(_) => Err(LookupFailure::failed(
            Reason::RegistryUnavailable,
            format!("{host} does not answer in time"),
        )),
    }
}

impl Inspector for RegistryInspector {
    fn digest(&self, reference: String, before: Option<Found>) -> BoxFuture<'static, Result<Found, LookupFailure>> {
        let own = self.clone();
        async move { within(&reference, async |parsed| own.look_up(parsed, before).await).await }.boxed()
    }

    fn exists(&self, reference: String) -> BoxFuture<'static, Result<(), LookupFailure>> {
        let own = self.clone();
        async move {
            let there = within(&reference, async |parsed| own.client.head_manifest(parsed).await).await?;
            there.map(drop).ok_or(LookupFailure::Missing { reference })
        }
        .boxed()
    }
}
