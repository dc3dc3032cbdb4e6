//! Writing manifests and tags, each proven by reading it back.
//!
//! Invariant: a tag is written only for a manifest that the registry already holds by digest, and only when it is not
//! there yet.

use bytes::Bytes;
use oci_spec::image::{Digest, MediaType};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};

use crate::auth::Scopes;
use crate::client::Client;
use crate::digest;
use crate::error::{Context, Error, ErrorKind, Operation};
use crate::reference::{Reference, Repository};
use crate::transport::{Body, Call};

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
}

impl Client {
    /// Writes a manifest by its digest and reads it back. `BlobUnknown` names blobs to be pushed again.
    pub async fn push_manifest(&self, repository: &Repository, bytes: Bytes, media_type: &MediaType) -> Result<Digest, Error> {
        let digest = digest::sha256(&bytes);
        let reference = repository.with_digest(&digest);
        let call = self.put(Operation::PushManifest, repository, &reference, bytes.clone(), media_type)?;
        let mut attempt = 1;
        loop {
            let error = match self.transport.exchange(&call).await {
                Ok(answer) if answer.status.is_success() => match self.read_back(&call.at, &reference, &bytes).await {
                    Ok(()) => return Ok(digest),
                    Err(error) => error,
                },
                Ok(answer) => self.transport.error_of(&call, answer).await,
                Err(error) => error,
            };
            // Missing blobs do not come back by themselves: their owner must push them.
            if error.kind() == ErrorKind::BlobUnknown || !error.retryable() || !self.transport.pause(&call.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
        }
    }

    async fn read_back(&self, at: &Context, reference: &Reference, bytes: &Bytes) -> Result<(), Error> {
        match self.fetch(reference, false).await {
            Ok(fetched) if fetched.bytes == *bytes => Ok(()),
            Ok(_) => Err(Error::DigestMismatch {
                at: Box::new(at.clone()),
                problem: "the manifest read back differs from the one written".to_owned(),
            }),
            Err(Error::NotFound { .. }) => Err(lagging(at)),
            Err(error) => Err(error),
        }
    }

    /// Points a tag at a manifest and has the registry confirm it. The same manifest already under the tag is a success
    /// without a write, immutable tags included.
    pub async fn tag(&self, repository: &Repository, bytes: Bytes, media_type: &MediaType, tag: &str) -> Result<TagOutcome, Error> {
        let digest = digest::sha256(&bytes);
        let reference = repository.with_tag(tag)?;
        let before = self.head_manifest(&reference).await?;
        if before.as_ref() == Some(&digest) {
            return Ok(TagOutcome::Unchanged);
        }
        let outcome = || match &before {
            None => TagOutcome::Created,
            Some(from) => TagOutcome::Moved { from: from.clone() },
        };
        let call = self.put(Operation::PushTag, repository, &reference, bytes, media_type)?;
        let mut attempt = 1;
        loop {
            let written = match self.transport.exchange(&call).await {
                // It names what it has under the tag now: asking again would say the same.
                Ok(answer) if answer.status.is_success() && answer.digest().as_ref() == Some(&digest) => return Ok(outcome()),
                Ok(answer) if answer.status.is_success() => Ok(()),
                Ok(answer) => {
                    let refusal = refuses_moving(answer.status);
                    Err((refusal, self.transport.error_of(&call, answer).await))
                }
                Err(error) => Err((false, error)),
            };
            if let Err((_, error)) = &written
                && matches!(error.kind(), ErrorKind::Canceled)
            {
                return written.map(|()| outcome()).map_err(|(_, error)| error);
            }
            // Without that word the registry is asked, after a failure too: an answer may be lost, a write may lag.
            let now = self.head(&reference, false).await;
            let error = match (written, now) {
                (_, Ok(Some(now))) if now == digest => return Ok(outcome()),
                (Ok(()), Ok(Some(now))) if Some(&now) != before.as_ref() => {
                    let problem = format!("somebody else has moved the tag to {now} in the meantime");
                    return Err(Error::DigestMismatch {
                        at: Box::new(call.at.clone()),
                        problem,
                    });
                }
                (Ok(()), Ok(_)) => lagging(&call.at),
                (Err((refusal, error)), Ok(Some(_))) if refusal && immutable(&error) => {
                    return Err(Error::TagImmutable {
                        at: Box::new(call.at.clone()),
                        said: words(error),
                    });
                }
                (Ok(()), Err(error)) | (Err((_, error)), _) => error,
            };
            if error.kind() == ErrorKind::BlobUnknown || !error.retryable() || !self.transport.pause(&call.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
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
    let text = said(error).to_ascii_lowercase();
    ["immutable", "already exists", "cannot be overwritten", "tag_invalid", "locked"]
        .iter()
        .any(|word| text.contains(word))
}

fn said(error: &Error) -> String {
    match error {
        Error::Denied { said, .. } => said.0.clone(),
        Error::Protocol { problem, .. } => problem.clone(),
        _ => String::new(),
    }
}

fn words(error: Error) -> crate::error::Said {
    match error {
        Error::Denied { said, .. } => said,
        Error::Protocol { problem, .. } => crate::error::Said(problem),
        _ => crate::error::Said::default(),
    }
}
