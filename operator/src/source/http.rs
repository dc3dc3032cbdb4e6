//! One look-up of a file behind an address: is it still the one that it was?
//!
//! The server's own word is taken: its ETag, else its Last-Modified. A file of a server that says neither is read and hashed, as
//! far as it is small. Redirects lead to other hosts too, as release pages make them, and carry no credential there.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ETAG, HeaderMap, LAST_MODIFIED, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use robotimage_crds::reason::Reason;
use robotimage_registry::HttpClients;
use sha2::{Digest, Sha256};
use url::Url;

use super::exchange::{DEADLINE, authority, body, check, clients, reaching, send};
use super::{GitCredentials, SetupError, SourceFailure};
use crate::config::Platform;
use crate::observe::Revision;

/// Largest file that is hashed where the server does not say whether it has changed, in bytes.
const MOST_BYTES: usize = 4 << 20;
/// Redirects followed.
const REDIRECTS: usize = 5;

/// Asks web servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HttpClient {
    platform: Arc<Platform>,
    clients: Arc<HttpClients>,
}

impl HttpClient {
    /// A client that trusts the system's certificates and the platform's bundle.
    pub fn new(platform: Arc<Platform>) -> Result<Self, SetupError> {
        let clients = Arc::new(clients(&platform, None)?);
        Ok(Self { platform, clients })
    }

    /// Asks, within ten seconds. `credentials` come with the name of their Secret.
    pub async fn ask(&self, url: &str, credentials: Option<(&str, &GitCredentials)>) -> Result<Revision, SourceFailure> {
        tokio::time::timeout(DEADLINE, self.look_up(url, credentials))
            .await
            .unwrap_or_else(|_| {
                let host = Url::parse(url).map(|url| authority(&url)).unwrap_or_default();
                Err(SourceFailure::new(
                    Reason::SourceUnreachable,
                    format!("{host} did not answer within {} seconds", DEADLINE.as_secs()),
                ))
            })
    }

    async fn look_up(&self, url: &str, credentials: Option<(&str, &GitCredentials)>) -> Result<Revision, SourceFailure> {
        let url = Url::parse(url)
            .map_err(|error| SourceFailure::new(Reason::SourceRejected, format!("spec.source.http.url is no address: {error}")))?;
        let clients = match credentials.and_then(|(_, credentials)| credentials.ca()) {
            Some(ca) => &clients(&self.platform, Some(ca)).map_err(|error| {
                SourceFailure::new(
                    Reason::SecretMissing,
                    format!("key ca.crt of the source's Secret is not usable: {error}"),
                )
            })?,
            None => &*self.clients,
        };
        let head = self.answer(clients, Method::HEAD, url.clone(), credentials).await?;
        // Some servers know no HEAD, and signed addresses are often good for one method only.
        let whole = matches!(
            head.1.status(),
            StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED
        );
        if !whole {
            judge(&head.0, &head.1, credentials.is_some())?;
            if let Some(revision) = told(head.1.headers()) {
                return Ok(revision);
            }
        }
        let (url, answer) = self.answer(clients, Method::GET, url, credentials).await?;
        judge(&url, &answer, credentials.is_some())?;
        if let Some(revision) = told(answer.headers()) {
            return Ok(revision);
        }
        let mut budget = MOST_BYTES;
        let bytes = body(answer, &url, &mut budget).await.map_err(|failure| {
            if failure.reason != Reason::SourceRejected {
                return failure;
            }
            let problem = format!(
                "{} tells neither ETag nor Last-Modified, and the file is larger than {MOST_BYTES} bytes: name its sha256, or let the server tell one of them",
                authority(&url)
            );
            SourceFailure::new(Reason::SourceRejected, problem)
        })?;
        Ok(revision("archive", &bytes))
    }

    /// The answer behind redirects. The credential goes to the first host and to those that its Secret names.
    async fn answer(
        &self,
        clients: &HttpClients,
        method: Method,
        mut url: Url,
        credentials: Option<(&str, &GitCredentials)>,
    ) -> Result<(Url, Response), SourceFailure> {
        let first = url.origin();
        for _ in 0..=REDIRECTS {
            check(&self.platform, &url)?;
            let credentials = match credentials {
                Some((name, credentials)) => match credentials.check_host(name, &url, self.platform.config.require_secret_hosts) {
                    Ok(()) if url.origin() == first || credentials.names_hosts() => Some((name, credentials)),
                    Err(failure) if url.origin() == first => return Err(failure),
                    Ok(()) | Err(_) => None,
                },
                None => None,
            };
            let request = reaching(clients, &url)?.request(method.clone(), url.clone());
            let answer = send(request, &url, credentials).await?;
            if !answer.status().is_redirection() {
                return Ok((url, answer));
            }
            let location = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            let refuse = |problem: &str| SourceFailure::new(Reason::NotAllowed, format!("{} redirects {problem}", authority(&url)));
            let next = next.ok_or_else(|| refuse("to nowhere"))?;
            if url.scheme() == "https" && next.scheme() != "https" {
                return Err(refuse("from https to plain http"));
            }
            url = next;
        }
        Err(SourceFailure::new(
            Reason::SourceUnreachable,
            format!("{} redirects more than {REDIRECTS} times", authority(&url)),
        ))
    }
}

/// What the server says of the file, hashed: its words may be long, and hold anything.
fn told(headers: &HeaderMap) -> Option<Revision> {
    let etag = headers.get(ETAG).map(|value| ("etag", value));
    let (name, value) = etag.or_else(|| headers.get(LAST_MODIFIED).map(|value| ("modified", value)))?;
    Some(revision(name, value.as_bytes()))
}

fn revision(name: &str, bytes: &[u8]) -> Revision {
    Revision {
        reference: name.to_owned(),
        commit: hex::encode(Sha256::digest(bytes)),
    }
}

/// What the status of an answer says. Its body is not looked at.
fn judge(url: &Url, answer: &Response, authorized: bool) -> Result<(), SourceFailure> {
    let host = authority(url);
    let fail = |reason, message: String| Err(SourceFailure::new(reason, message));
    match answer.status() {
        StatusCode::OK => Ok(()),
        StatusCode::UNAUTHORIZED if authorized => fail(
            Reason::SourceAuthFailed,
            format!("{host} does not accept the credentials; check the keys of the source's Secret"),
        ),
        StatusCode::UNAUTHORIZED => fail(
            Reason::SourceAuthFailed,
            format!("{host} asks for credentials; name a Secret with username and password, or bearerToken, in spec.source.http.secretRef"),
        ),
        StatusCode::FORBIDDEN => fail(Reason::SourceAuthFailed, format!("{host} denies access to the file")),
        StatusCode::NOT_FOUND | StatusCode::GONE => fail(
            Reason::SourceNotFound,
            format!("{host} knows no such file; check spec.source.http.url, and that the credentials may see it"),
        ),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => fail(Reason::ProxyFailed, "the proxy asks for credentials".to_owned()),
        status => {
            let seconds = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(SourceFailure {
                reason: Reason::SourceUnreachable,
                message: format!("{host} answers {}", status.as_u16()),
                retry_after: seconds.map(Duration::from_secs),
            })
        }
    }
}

#[cfg(test)]
#[path = "http_tests.rs"]
mod tests;
