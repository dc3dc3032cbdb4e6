//! Reading what a registry answers: bounded bodies, and answers that are errors.
//!
//! Invariant: no read is without a limit in bytes and in time, and only sanitised words of an answer reach an error.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use oci_spec::image::Digest;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderName};
use serde::Deserialize;
use url::Url;

use crate::context::{Context, Operation};
use crate::error::{Error, Missing, Said};
use crate::network;
use crate::retry;

/// Most bytes of an error document that are read.
const ERROR_LIMIT: u64 = 16 * 1024;
/// Characters of an answer that are shown at most.
const SHOWN: usize = 256;
/// Longest wait for an error document; without it the status has to do.
const ERROR_WAIT: Duration = Duration::from_secs(5);

/// The head of an answer, and its body still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status of the last hop.
    pub(crate) status: StatusCode,
    /// Headers of the last hop.
    pub(crate) headers: HeaderMap,
    /// Where the last hop was.
    pub(crate) url: Url,
    /// Body.
    pub(crate) response: reqwest::Response,
    /// A piece of the body that was read and is to be read again.
    pub(crate) pushback: Option<Bytes>,
    /// Limit between two pieces of the body.
    pub(crate) idle: Duration,
    /// What was sent as secret, to be replaced in the registry's words.
    pub(crate) secrets: Vec<String>,
}

impl Answer {
    /// The next piece of the body; `None` at its end.
    pub(crate) async fn chunk(&mut self, at: &Context) -> Result<Option<Bytes>, Error> {
        if let Some(bytes) = self.pushback.take() {
            return Ok(Some(bytes));
        }
        match tokio::time::timeout(self.idle, self.response.chunk()).await {
            Ok(Ok(chunk)) => Ok(chunk),
            Ok(Err(error)) => Err(network::error(at, error)),
            Err(_) => Err(Error::Timeout {
                at: Box::new(at.clone()),
                what: format!("no data for {} s", self.idle.as_secs()),
            }),
        }
    }

    /// The whole body, when it is not larger than `limit`.
    pub(crate) async fn bytes(mut self, at: &Context, limit: u64) -> Result<Bytes, Error> {
        let too_large = || Error::TooLarge {
            at: Box::new(at.clone()),
            limit,
        };
        if self.response.content_length().is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk(at).await? {
            if (body.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The first printable characters of a body that is not for machines, for the log.
    async fn words(&mut self, at: &Context, secrets: &[String]) -> String {
        let mut body = Vec::new();
        while body.len() < 4 * SHOWN
            && let Ok(Some(chunk)) = self.chunk(at).await
        {
            body.extend_from_slice(&chunk[..chunk.len().min(4 * SHOWN)]);
        }
        printable(&String::from_utf8_lossy(&body), secrets)
    }

    /// A header's value, when it is text.
    pub(crate) fn header(&self, name: impl Into<HeaderName>) -> Option<&str> {
        self.headers.get(name.into())?.to_str().ok()
    }

    /// `Docker-Content-Digest`, when it is a digest.
    pub(crate) fn digest(&self) -> Option<Digest> {
        Digest::try_from(self.header(HeaderName::from_static("docker-content-digest"))?).ok()
    }

    /// Turns an answer that was not hoped for into an error, reading its error document within limits.
    pub(crate) async fn into_error(mut self, at: &Context, anonymous: bool) -> Error {
        let (status, secrets) = (self.status, std::mem::take(&mut self.secrets));
        let retry_after = retry::retry_after(&self.headers, jiff::Timestamp::now());
        let json = self.header(reqwest::header::CONTENT_TYPE).is_some_and(|kind| kind.contains("json"));
        let mut document = ErrorDocument::default();
        let wait = ERROR_WAIT.min(self.idle);
        if !json {
            let words = tokio::time::timeout(wait, self.words(at, &secrets)).await.unwrap_or_default();
            tracing::debug!(%at, %status, body = words, "the answer holds no error document");
        } else if let Ok(Ok(body)) = tokio::time::timeout(wait, self.bytes(at, ERROR_LIMIT)).await
            && let Ok(parsed) = serde_json::from_slice(&body)
        {
            document = parsed;
        }
        classify(at, status, &document, &secrets, retry_after, anonymous)
    }
}

/// Words of others, safe to show.
fn printable(text: &str, secrets: &[String]) -> String {
    // Cleaned first: a secret with control characters strewn in would come together again afterwards.
    let mut text: String = text.chars().filter(|c| !c.is_control()).collect();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret.as_str(), "***");
    }
    text.chars().take(SHOWN).collect()
}

/// The OCI error document.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ErrorDocument {
    #[serde(default)]
    errors: Vec<ErrorEntry>,
}

#[derive(Debug, Default, Deserialize)]
struct ErrorEntry {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
    #[serde(default)]
    detail: serde_json::Value,
}

impl ErrorDocument {
    fn has(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code == code)
    }

    fn mentions(&self, word: &str) -> bool {
        self.errors.iter().any(|error| error.message.to_ascii_lowercase().contains(word))
    }

    /// Code and message of the first error, safe to print.
    fn said(&self, secrets: &[String]) -> Said {
        let Some(first) = self.errors.first() else { return Said::default() };
        let text = if first.message.is_empty() {
            first.code.clone()
        } else {
            format!("{}: {}", first.code, first.message)
        };
        Said(printable(&text, secrets))
    }

    /// The digests that the details of the errors name.
    fn digests(&self) -> Vec<Digest> {
        let text: Vec<String> = self.errors.iter().map(|error| error.detail.to_string()).collect();
        let text = text.join(" ");
        let mut found: Vec<Digest> = text
            .match_indices("sha256:")
            .filter_map(|(start, _)| text.get(start..start + 71))
            .filter_map(|candidate| Digest::try_from(candidate).ok())
            .collect();
        found.dedup();
        found
    }
}

/// Words that tell a used up quota, whatever the status: Docker Hub, GitLab and Quay; Harbor.
const FULL: [&str; 3] = ["quota", "exceed the configured upper limit", "insufficient storage"];

pub(crate) fn classify(
    at: &Context,
    status: StatusCode,
    document: &ErrorDocument,
    secrets: &[String],
    retry_after: Option<Duration>,
    anonymous: bool,
) -> Error {
    let said = document.said(secrets);
    let place = Box::new(at.clone());
    let push = at.operation.is_push();
    let full = FULL.iter().any(|word| document.mentions(word)) || status == StatusCode::INSUFFICIENT_STORAGE;
    if push && (full || (status == StatusCode::PAYLOAD_TOO_LARGE && at.operation == Operation::PushBlob)) {
        return Error::Quota { at: place, said };
    }
    let blob_unknown = document.has("MANIFEST_BLOB_UNKNOWN") || document.has("BLOB_UNKNOWN");
    if matches!(at.operation, Operation::PushManifest | Operation::PushTag) && blob_unknown {
        return Error::BlobUnknown {
            at: place,
            digests: document.digests(),
            said,
        };
    }
    if push && document.has("DIGEST_INVALID") {
        let problem = format!("the registry received other bytes than announced{said}");
        return Error::DigestMismatch { at: place, problem };
    }
    match status {
        StatusCode::UNAUTHORIZED => Error::Unauthorized {
            at: place,
            anonymous,
            said,
        },
        StatusCode::FORBIDDEN => Error::Denied { at: place, said },
        StatusCode::NOT_FOUND => {
            let what = if document.has("NAME_UNKNOWN") {
                Missing::Repository
            } else if document.has("BLOB_UPLOAD_UNKNOWN") {
                Missing::Upload
            } else {
                match at.operation {
                    Operation::PullManifest | Operation::HeadManifest => Missing::Manifest,
                    Operation::PullBlob | Operation::HeadBlob => Missing::Blob,
                    _ => Missing::Repository,
                }
            };
            Error::NotFound { at: place, what, said }
        }
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { at: place, retry_after },
        status if retry::is_transient(status) => Error::Unavailable {
            at: place,
            cause: format!("it answers {status}{said}"),
            retry_after,
        },
        status => Error::Protocol {
            at: place,
            problem: format!("{status}{said}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn context(operation: Operation) -> Context {
        Context {
            operation,
            host: "r.example.com".into(),
            subject: "r.example.com/a".into(),
        }
    }

    #[test]
    fn kinds() {
        use ErrorKind as K;
        use Operation as O;
        let quota = r#"{"errors":[{"code":"DENIED","message":"project Quota exceeded"}]}"#;
        let harbor = r#"{"errors":[{"code":"DENIED","message":"adding 1 MiB of storage resource, which will exceed the configured upper limit of 10 MiB"}]}"#;
        let gone = r#"{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"blob unknown to registry","detail":{"Digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}}]}"#;
        let session = r#"{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN"}]}"#;
        let table = [
            (O::PushBlob, 401, "{}", K::Unauthorized, false),
            (O::PushBlob, 403, "{}", K::Denied, false),
            (O::PushBlob, 403, quota, K::Quota, false),
            (O::PushBlob, 500, quota, K::Quota, false),
            (O::PushManifest, 400, harbor, K::Quota, false),
            (O::PushBlob, 413, "{}", K::Quota, false),
            (O::PushBlob, 507, "{}", K::Quota, false),
            (O::PushManifest, 413, "{}", K::Protocol, false),
            (O::PushManifest, 400, gone, K::BlobUnknown, true),
            (O::PushManifest, 404, gone, K::BlobUnknown, true),
            (O::PushBlob, 404, session, K::NotFound, true),
            (O::PullManifest, 404, "{}", K::NotFound, false),
            (O::PullManifest, 429, "{}", K::RateLimited, true),
            (O::PullManifest, 408, "{}", K::Unavailable, true),
            (O::PullManifest, 504, "{}", K::Unavailable, true),
            (O::PullManifest, 501, "{}", K::Protocol, false),
            (O::PullManifest, 418, "{}", K::Protocol, false),
        ];
        for (operation, status, body, kind, retryable) in table {
            let document: ErrorDocument = serde_json::from_str(body).unwrap();
            let status = StatusCode::from_u16(status).unwrap();
            let error = classify(&context(operation), status, &document, &[], None, false);
            assert_eq!(
                (error.kind(), error.retryable()),
                (kind, retryable),
                "{operation:?} {status} {body}"
            );
        }
        let document: ErrorDocument = serde_json::from_str(gone).unwrap();
        assert_eq!(document.digests().len(), 1);
    }

    #[test]
    fn words_are_bounded_printable_and_without_secrets() {
        let message = format!("\u{1b}[31m you sent hunter2 and hun\u{7}ter2 and {}", "x".repeat(5000));
        let document = ErrorDocument {
            errors: vec![ErrorEntry {
                code: "DENIED".into(),
                message,
                detail: serde_json::Value::Null,
            }],
        };
        let error = classify(
            &context(Operation::PullBlob),
            StatusCode::FORBIDDEN,
            &document,
            &["hunter2".to_owned()],
            None,
            false,
        );
        let text = format!("{error} {error:?}");
        assert!(
            !text.contains("hunter2") && !text.contains('\u{1b}') && text.contains("you sent ***"),
            "{text}"
        );
        assert!(text.len() < 1200, "{}", text.len());
    }
}
