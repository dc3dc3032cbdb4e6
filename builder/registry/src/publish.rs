//! Writing manifests and tags, each proven: a manifest by reading it back, a tag by an answer that names its digest, or
//! by reading it.
//!
//! Invariant: a tag is written only for a manifest that the registry already holds by digest, and only when it is not
//! there yet. After a lost answer the registry is asked before anything is written again.

use std::sync::PoisonError;

use bytes::Bytes;
use oci_spec::image::{Digest, MediaType};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::auth::Scopes;
use crate::client::Client;
use crate::context::{Context, Operation};
use crate::digest;
use crate::error::{Error, ErrorKind, Said};
use crate::reference::{Reference, Repository};
use crate::transport::{Body, Call};

/// How often all attempts to ask for a tag are made after the answer to its write was lost.
const PATIENCE: u32 = 3;

/// What became of a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TagOutcome {
    /// It named this image already; nothing was written.
    Unchanged,
    /// It is new.
    Created,
    /// It named another image before.
    Moved {
        /// The image it named.
        from: Digest,
    },
    /// It names an image that the caller would not replace; nothing was written.
    Superseded {
        /// That image.
        by: Digest,
    },
}

/// A manifest that the registry has taken, by its own word.
struct Accepted {
    /// The digest that it names.
    digest: Option<Digest>,
    /// It lists the manifest among the referrers of its subject.
    listed: bool,
}

impl Client {
    /// Writes a manifest by its digest and reads it back. `BlobUnknown` names blobs to be pushed again: that is done
    /// without asking for them, since the registry may say that it has what it then lacks.
    pub async fn push_manifest(&self, repository: &Repository, bytes: Bytes, media_type: &MediaType) -> Result<Digest, Error> {
        Ok(self.write_manifest(repository, bytes, media_type).await?.0)
    }

    /// The same; and whether the registry said that it lists the manifest among the referrers of its subject.
    pub(crate) async fn write_manifest(
        &self,
        repository: &Repository,
        bytes: Bytes,
        media_type: &MediaType,
    ) -> Result<(Digest, bool), Error> {
        let digest = digest::sha256(&bytes);
        let reference = repository.with_digest(&digest);
        let call = self.put(Operation::PushManifest, repository, &reference, bytes.clone(), media_type)?;
        let (mut attempt, mut listed, mut ask) = (1, false, false);
        loop {
            let written = if ask { None } else { Some(self.write(&call, &digest).await) };
            let error = match written {
                Some(Ok(Accepted { digest: Some(other), .. })) if other != digest => {
                    return Err(Error::DigestMismatch {
                        at: Box::new(call.at.clone()),
                        problem: format!("the registry stored {other} instead of {digest}"),
                    });
                }
                Some(Err(error)) if !may_have_arrived(&error) => error,
                other => {
                    let lost = match other {
                        Some(Ok(accepted)) => {
                            listed = accepted.listed;
                            None
                        }
                        Some(Err(error)) => Some(error),
                        None => None,
                    };
                    let back = self.read_back(&call.at, &reference, &bytes).await;
                    ask = back.is_err();
                    match back {
                        Ok(true) => return Ok((digest, listed)),
                        Ok(false) => lost.unwrap_or_else(|| lagging(&call.at)),
                        Err(error) => lost.unwrap_or(error),
                    }
                }
            };
            // Missing blobs do not come back by themselves: their owner must push them.
            if error.kind() == ErrorKind::BlobUnknown || !error.retryable() || !self.transport.pause(&call.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Sends a manifest once.
    async fn write(&self, call: &Call<'_>, digest: &Digest) -> Result<Accepted, Error> {
        let answer = self.transport.exchange(call).await?;
        if answer.status.is_success() {
            let created = answer.status == StatusCode::CREATED;
            return Ok(Accepted {
                digest: answer.digest().filter(|_| created),
                listed: answer.header(HeaderName::from_static("oci-subject")).is_some(),
            });
        }
        let refusal = refuses_moving(answer.status);
        let error = self.transport.error_of(call, answer).await;
        if let Error::BlobUnknown { digests, .. } = &error {
            // Whatever it says when it is asked for them: the next push sends them.
            let mut lacking = self.transport.lacking.lock().unwrap_or_else(PoisonError::into_inner);
            lacking.extend(digests.iter().map(|digest| (call.repository.clone(), digest.clone())));
        }
        Err(match error {
            error if call.at.operation == Operation::PushTag && refusal && immutable(&error) => Error::TagImmutable {
                at: Box::new(call.at.clone()),
                digest: digest.clone(),
                said: words(error),
            },
            error => error,
        })
    }

    /// Does the registry hold exactly these bytes? Asked once.
    async fn read_back(&self, at: &Context, reference: &Reference, bytes: &Bytes) -> Result<bool, Error> {
        match self.fetch(reference, false).await {
            Ok(fetched) if fetched.bytes == *bytes => Ok(true),
            Ok(_) => Err(Error::DigestMismatch {
                at: Box::new(at.clone()),
                problem: "the manifest read back differs from the one written".to_owned(),
            }),
            Err(Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Points a tag at a manifest. The same manifest already under the tag is a success without a write, immutable tags
    /// included.
    pub async fn tag(&self, repository: &Repository, bytes: Bytes, media_type: &MediaType, tag: &str) -> Result<TagOutcome, Error> {
        // On the heap: it is large, and callers hold it beside much else.
        Box::pin(self.tag_unless(repository, bytes, media_type, tag, async |_| Ok(false))).await
    }

    /// The same, unless `keep` says of the image that the tag names now that it is not to be replaced: it is newer. Between
    /// the question and the write somebody else may move the tag all the same, since registries have no compare-and-swap.
    pub async fn tag_unless<F: Future<Output = Result<bool, Error>>>(
        &self,
        repository: &Repository,
        bytes: Bytes,
        media_type: &MediaType,
        tag: &str,
        keep: impl FnOnce(Digest) -> F,
    ) -> Result<TagOutcome, Error> {
        let digest = digest::sha256(&bytes);
        let reference = repository.with_tag(tag)?;
        let outcome = match self.head_manifest(&reference).await? {
            Some(now) if now == digest => return Ok(TagOutcome::Unchanged),
            Some(by) if keep(by.clone()).await? => return Ok(TagOutcome::Superseded { by }),
            Some(from) => TagOutcome::Moved { from },
            None => TagOutcome::Created,
        };
        self.overwrite(repository, bytes, media_type, tag).await?;
        Ok(outcome)
    }

    /// Writes a tag whatever it names now.
    pub(crate) async fn overwrite(&self, repository: &Repository, bytes: Bytes, media_type: &MediaType, tag: &str) -> Result<(), Error> {
        let digest = digest::sha256(&bytes);
        let reference = repository.with_tag(tag)?;
        let call = self.put(Operation::PushTag, repository, &reference, bytes, media_type)?;
        let mut attempt = 1;
        loop {
            let error = match self.write(&call, &digest).await {
                // The registry's own word; the manifest itself has been read back before.
                Ok(Accepted { digest: Some(named), .. }) if named == digest => return Ok(()),
                Ok(_) => return self.prove(&call.at, &reference, &digest).await,
                Err(error @ Error::TagImmutable { .. }) => {
                    return match self.named(&reference, &digest).await {
                        Ok(Some(now)) if now == digest => Ok(()),
                        _ => Err(error),
                    };
                }
                Err(error) if may_have_arrived(&error) => match self.insist(&reference, &digest).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => error,
                    // There is nobody to write to either.
                    Err(asked) => return Err(if asked.retryable() { error } else { asked }),
                },
                Err(error) => error,
            };
            if error.kind() == ErrorKind::BlobUnknown || !error.retryable() || !self.transport.pause(&call.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Waits until a tag that was accepted names the digest.
    async fn prove(&self, at: &Context, reference: &Reference, digest: &Digest) -> Result<(), Error> {
        let mut attempt = 1;
        loop {
            match self.named(reference, digest).await? {
                Some(now) if now == *digest => return Ok(()),
                now => {
                    let error = now.map_or_else(
                        || lagging(at),
                        |now| Error::Unavailable {
                            at: Box::new(at.clone()),
                            cause: format!("it accepted the tag, which names {now}: it lags, or somebody else has moved the tag"),
                            retry_after: None,
                        },
                    );
                    if !self.transport.pause(at, attempt, &error).await? {
                        return Err(error);
                    }
                }
            }
            attempt += 1;
        }
    }

    /// Whether a tag names the digest, asked with far more patience than anything else: without an answer nobody knows
    /// whether the tag was moved.
    async fn insist(&self, reference: &Reference, digest: &Digest) -> Result<bool, Error> {
        let mut rounds = 0;
        loop {
            rounds += 1;
            match self.named(reference, digest).await {
                Ok(now) => return Ok(now.as_ref() == Some(digest)),
                Err(error) if rounds < PATIENCE && error.retryable() => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// What a tag names now. A header that tells of something else than hoped for is held against the manifest itself.
    async fn named(&self, reference: &Reference, hoped: &Digest) -> Result<Option<Digest>, Error> {
        if self.head_manifest(reference).await?.as_ref() == Some(hoped) {
            return Ok(Some(hoped.clone()));
        }
        match self.fetch(reference, true).await {
            Ok(fetched) => Ok(Some(fetched.digest)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn put<'a>(
        &self,
        operation: Operation,
        repository: &'a Repository,
        reference: &Reference,
        bytes: Bytes,
        media_type: &MediaType,
    ) -> Result<Call<'a>, Error> {
        let tail = format!("manifests/{}", reference.locator());
        let mut call = self.request(Method::PUT, operation, repository, reference.to_string(), &tail)?;
        let limit = self.options().manifest_limit;
        if bytes.len() as u64 > limit {
            let size = bytes.len();
            return Err(Error::Protocol {
                at: Box::new(call.at),
                problem: format!("the manifest has {size} bytes, and registries take no more than {limit}"),
            });
        }
        let kind = HeaderValue::from_str(media_type.as_ref()).map_err(|_| Error::Protocol {
            at: Box::new(call.at.clone()),
            problem: "the manifest's media type cannot be sent as a header".to_owned(),
        })?;
        call.headers.insert(CONTENT_TYPE, kind);
        call.body = Body::Bytes(bytes);
        call.scopes = Scopes::push(repository);
        Ok(call)
    }
}

/// Can a write that ended in this error have been done all the same? Gateways give up on requests that go on behind them.
fn may_have_arrived(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout)
}

fn lagging(at: &Context) -> Error {
    Error::Unavailable {
        at: Box::new(at.clone()),
        cause: "it accepted the manifest and does not show it".to_owned(),
        retry_after: None,
    }
}

/// Statuses that registries refuse the moving of an immutable tag with.
fn refuses_moving(status: StatusCode) -> bool {
    matches!(status.as_u16(), 400 | 403 | 405 | 409 | 412 | 422)
}

/// The words that tell an immutable tag from other refusals: ECR, Harbor, Artifact Registry, Quay, ACR.
fn immutable(error: &Error) -> bool {
    let text = words_of(error).to_ascii_lowercase();
    [
        "immutable",
        "already exists",
        "alreadyexists",
        "cannot be overwritten",
        "tag_invalid",
        "locked",
    ]
    .iter()
    .any(|word| text.contains(word))
}

fn words_of(error: &Error) -> &str {
    match error {
        Error::Denied { said, .. } => &said.0,
        Error::Protocol { problem, .. } => problem,
        _ => "",
    }
}

fn words(error: Error) -> Said {
    match error {
        Error::Denied { said, .. } => said,
        Error::Protocol { problem, .. } => Said(problem),
        _ => Said::default(),
    }
}
