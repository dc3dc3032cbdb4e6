//! The client: small questions about manifests, tags and blobs.
//!
//! Invariant: what is returned as a manifest has been hashed and compared with what was asked for.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::{Digest, MediaType};
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue, LINK};
use reqwest::{Method, StatusCode};
use serde::Deserialize;

use crate::answer::Answer;
use crate::auth::{Authenticator, Scopes};
use crate::context::{Context, Operation};
use crate::credentials::Credentials;
use crate::digest;
use crate::error::Error;
use crate::mirrors::Mirrors;
use crate::options::ClientOptions;
use crate::reference::{Reference, Repository};
use crate::transport::{Body, Call, Follow, Transport};

/// Manifest types that are understood, for the `Accept` header.
const MANIFEST_TYPES: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Most tags that are listed; a repository with more is an error, not a cut list.
const TAG_LIMIT: usize = 100_000;
/// Largest page of a tag list, in bytes.
const PAGE_LIMIT: u64 = 1024 * 1024;

/// A client for any number of registries. Cloning is cheap and shares connections and tokens.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
    pub(crate) mirrors: Arc<Mirrors>,
}

/// A manifest or index as the registry holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The exact bytes.
    pub bytes: Bytes,
    /// Their digest, computed here.
    pub digest: Digest,
    /// What the document says it is, else what the registry says.
    pub media_type: MediaType,
}

impl Client {
    /// A client. Needs a tokio runtime when it is used, not when it is made.
    pub fn new(options: ClientOptions, credentials: Credentials) -> Result<Self, Error> {
        let mirrors = Mirrors::new(&options.mirrors).map_err(Error::Configuration)?;
        let transport = Transport::new(options, Authenticator::new(credentials))?;
        Ok(Self {
            transport: Arc::new(transport),
            mirrors: Arc::new(mirrors),
        })
    }

    /// The same client, sharing connections and tokens, that asks no mirror: for a repository that is written to, and after a
    /// mirror sent something else than it should.
    #[must_use]
    pub fn without_mirrors(&self) -> Self {
        Self {
            transport: Arc::clone(&self.transport),
            mirrors: Arc::default(),
        }
    }

    /// Does it ask mirrors for this repository?
    pub fn has_mirrors_of(&self, repository: &Repository) -> bool {
        self.mirrors.any_of(repository)
    }

    /// Does it ask mirrors?
    pub fn has_mirrors(&self) -> bool {
        self.mirrors.any()
    }

    /// The settings.
    pub fn options(&self) -> &ClientOptions {
        &self.transport.options
    }

    /// A call without body, with the scope, redirects and patience of a small read.
    pub(crate) fn request<'a>(
        &self,
        method: Method,
        operation: Operation,
        repository: &'a Repository,
        subject: String,
        tail: &str,
    ) -> Result<Call<'a>, Error> {
        let at = Context::new(operation, repository, subject);
        let url = self.transport.url(&at, repository, tail)?;
        Ok(Call {
            at,
            repository,
            method,
            origin: url.clone(),
            url,
            headers: HeaderMap::new(),
            body: Body::Empty,
            scopes: Scopes::pull(repository),
            follow: Follow::Any,
            retries: true,
            patience: self.transport.options.request_timeout,
        })
    }

    /// A manifest or index by tag or digest; its digest is verified. Mirrors are asked first, once each.
    pub async fn manifest(&self, reference: &Reference) -> Result<Fetched, Error> {
        for mirror in self.mirrors.of(&reference.to_repository()) {
            match self.fetch(&reference.at(&mirror), false).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) if self.mirrors.failed(&mirror, &error) => {}
                Err(error) => return Err(error),
            }
        }
        self.fetch(reference, true).await
    }

    pub(crate) async fn fetch(&self, reference: &Reference, retries: bool) -> Result<Fetched, Error> {
        let repository = reference.to_repository();
        let tail = format!("manifests/{}", reference.locator());
        let mut call = self.request(Method::GET, Operation::PullManifest, &repository, reference.to_string(), &tail)?;
        call.retries = retries;
        call.headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
        let limit = self.transport.options.manifest_limit;
        let (head, bytes) = self.small(&call, limit).await?;
        let mismatch = |problem: String| Error::DigestMismatch {
            at: Box::new(call.at.clone()),
            problem,
        };
        let expected = reference.digest().or(head.digest.as_ref());
        if let Some(expected) = expected {
            digest::verify(expected, &bytes).map_err(|error| mismatch(error.to_string()))?;
        }
        let media_type = media_type(&bytes, head.content_type.as_deref()).ok_or_else(|| Error::Protocol {
            at: Box::new(call.at.clone()),
            problem: "it is not a manifest: no JSON object".to_owned(),
        })?;
        let digest = reference.digest().cloned().unwrap_or_else(|| digest::sha256(&bytes));
        Ok(Fetched { bytes, digest, media_type })
    }

    /// The digest that a tag has now; `None` when there is no such image. A registry that does not tell it in the
    /// header is asked for the manifest. Mirrors are not asked: what a tag is now, only the registry itself knows.
    pub async fn head_manifest(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let repository = reference.to_repository();
        let tail = format!("manifests/{}", reference.locator());
        let mut call = self.request(Method::HEAD, Operation::HeadManifest, &repository, reference.to_string(), &tail)?;
        call.headers.insert(ACCEPT, HeaderValue::from_static(MANIFEST_TYPES));
        let answer = self
            .transport
            .call(&call, |status| {
                matches!(status, StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
            })
            .await?;
        match (answer.status, answer.digest()) {
            (StatusCode::NOT_FOUND, _) => Ok(None),
            (StatusCode::OK, Some(digest)) => Ok(Some(digest)),
            _ => match self.fetch(reference, true).await {
                Ok(fetched) => Ok(Some(fetched.digest)),
                Err(Error::NotFound { .. }) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    /// All tags of a repository, sorted bytewise. A repository that does not exist is `NotFound`.
    pub async fn list_tags(&self, repository: &Repository) -> Result<Vec<String>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut call = self.request(
            Method::GET,
            Operation::ListTags,
            repository,
            repository.to_string(),
            "tags/list?n=1000",
        )?;
        let mut tags = BTreeSet::new();
        loop {
            let (head, body) = self.small(&call, PAGE_LIMIT).await?;
            let protocol = |problem: &str| Error::Protocol {
                at: Box::new(call.at.clone()),
                problem: problem.to_owned(),
            };
            let page: Page = serde_json::from_slice(&body).map_err(|_| protocol("it is not a tag list"))?;
            let before = tags.len();
            tags.extend(page.tags.unwrap_or_default());
            let next = head.link.as_deref().and_then(next_page);
            let Some(next) = next.filter(|_| tags.len() > before) else { break };
            if tags.len() > TAG_LIMIT {
                return Err(protocol("the repository has too many tags to list"));
            }
            let next = call.url.join(next).map_err(|_| protocol("its Link header is not a URL"))?;
            if !crate::hosts::same_origin(&call.url, &next) {
                return Err(protocol("its Link header leads to another host"));
            }
            call.url = next;
        }
        Ok(tags.into_iter().collect())
    }

    /// The body of a small document that no digest is known of.
    pub(crate) async fn small_body(&self, call: &Call<'_>) -> Result<Bytes, Error> {
        Ok(self.small(call, self.options().manifest_limit).await?.1)
    }

    /// Makes a call and reads its small answer, both within one retried attempt and the limit of a small request.
    async fn small(&self, call: &Call<'_>, limit: u64) -> Result<(Head, Bytes), Error> {
        let mut attempt = 1;
        let total = self.transport.options.request_timeout;
        loop {
            let once = async {
                let answer = self.transport.exchange(call).await?;
                if answer.status != StatusCode::OK {
                    return Err(self.transport.error_of(call, answer).await);
                }
                let head = Head::of(&answer);
                Ok((head, answer.bytes(&call.at, limit).await?))
            };
            let timed = async {
                tokio::time::timeout(total, once)
                    .await
                    .unwrap_or_else(|_| Err(too_slow(&call.at, total)))
            };
            let error = match self.transport.guard(&call.at, timed).await {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            if !call.retries || !error.retryable() || !self.transport.pause(&call.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
        }
    }
}

fn too_slow(at: &Context, limit: std::time::Duration) -> Error {
    Error::Timeout {
        at: Box::new(at.clone()),
        what: format!("not answered within {} s", limit.as_secs()),
    }
}

/// The headers of a small answer that matter.
struct Head {
    digest: Option<Digest>,
    content_type: Option<String>,
    link: Option<String>,
}

impl Head {
    fn of(answer: &Answer) -> Self {
        Self {
            digest: answer.digest(),
            content_type: answer.header(CONTENT_TYPE).map(str::to_owned),
            link: answer.header(LINK).map(str::to_owned),
        }
    }
}

/// The document's own `mediaType`, else the header's without parameters; `None` when it is no JSON object.
pub(crate) fn media_type(bytes: &[u8], header: Option<&str>) -> Option<MediaType> {
    let document: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(bytes).ok()?;
    let stated = document
        .get("mediaType")
        .and_then(|name| name.as_str())
        .filter(|name| !name.is_empty());
    let from_header = || header.unwrap_or("").split(';').next().unwrap_or("").trim();
    Some(MediaType::from(stated.unwrap_or_else(from_header)))
}

/// The target of `<…>; rel="next"`.
pub(crate) fn next_page(link: &str) -> Option<&str> {
    link.split(',').find_map(|part| {
        let (target, parameters) = part.trim().strip_prefix('<')?.split_once('>')?;
        (parameters.contains("rel=\"next\"") || parameters.contains("rel=next")).then_some(target)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links() {
        let table = [
            (r#"</v2/a/tags/list?last=x&n=2>; rel="next""#, Some("/v2/a/tags/list?last=x&n=2")),
            (r#"<x>; rel="prev", <y>; rel=next"#, Some("y")),
            (r#"<x>; rel="prev""#, None),
            ("garbage", None),
        ];
        for (link, expected) in table {
            assert_eq!(next_page(link), expected, "{link}");
        }
    }

    #[test]
    fn media_types() {
        let oci = "application/vnd.oci.image.manifest.v1+json";
        let table = [
            (format!(r#"{{"mediaType":"{oci}"}}"#), Some("text/plain"), Some(oci)),
            (
                "{}".to_owned(),
                Some("application/vnd.oci.image.manifest.v1+json; charset=utf-8"),
                Some(oci),
            ),
            ("[]".to_owned(), Some(oci), None),
            ("<html>".to_owned(), Some(oci), None),
        ];
        for (body, header, expected) in table {
            let found = media_type(body.as_bytes(), header).map(|kind| kind.to_string());
            assert_eq!(found.as_deref(), expected, "{body}");
        }
    }
}
