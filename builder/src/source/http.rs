//! An archive behind an address.
//!
//! Invariant: a credential goes to the host of the address and to hosts that its Secret names, redirects included; what
//! arrives is bounded while it arrives; nothing of it is unpacked before its checksum, where one is demanded, is right.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::TryStreamExt as _;
use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use robotimage_crds::build::Want;
use robotimage_registry::HttpClients;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use url::Url;

use super::archive::{Target, Writer, unpack};
use super::credentials::SourceSecret;
use super::error::SourceError;
use super::probe::shown;
use super::tree::{Limits, io};
use super::web::{Web, WebError, authority};
use super::{Checkout, tree_of};

/// Redirects followed, as release pages make them.
const REDIRECTS: usize = 5;
/// Waits before a request is made again.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// A source to fetch.
#[derive(Debug)]
pub struct HttpRequest<'a> {
    /// Address of the archive.
    pub url: &'a str,
    /// The revision, where it is known already.
    pub want: &'a Want,
    /// SHA-256 that its bytes must have, if that is demanded.
    pub sha256: Option<&'a str>,
    /// Folder of it that is the context.
    pub path: &'a str,
    /// Credentials, if any.
    pub secret: Option<&'a SourceSecret>,
    /// Whether the Secret must name its hosts.
    pub require_hosts: bool,
    /// How addresses are reached.
    pub web: &'a Web,
    /// How much may be written.
    pub limits: Limits,
    /// Existing folder for the archive, which is removed at the end.
    pub scratch: &'a Path,
    /// Existing empty folder that gets the context.
    pub into: &'a Path,
    /// Raised by the caller to end the work.
    pub interrupt: Arc<AtomicBool>,
}

/// Downloads the archive and writes its context.
pub async fn download(request: &HttpRequest<'_>) -> Result<Checkout, SourceError> {
    let url = Url::parse(request.url).map_err(|error| SourceError::Address {
        // An address that cannot be parsed may hold a password anywhere, so it is not shown.
        url: "(not shown)".to_owned(),
        problem: format!("it is no address: {error}"),
    })?;
    let mut web = request.web.clone();
    if let Some(ca) = request.secret.and_then(SourceSecret::ca) {
        web.roots.push(ca.to_vec());
    }
    let of = shown(&url);
    let mut waits = WAITS.iter();
    let (archive, sha256) = loop {
        let clients = web.clients().map_err(|cause| SourceError::Web { url: of.clone(), cause })?;
        match one(request, &web, &clients, url.clone()).await {
            Ok(archive) => break archive,
            Err(error) => match waits.next() {
                Some(wait) if is_passing(&error) => tokio::time::sleep(*wait).await,
                _ => return Err(error),
            },
        }
    };
    if let Some(expected) = request.sha256.filter(|expected| *expected != sha256) {
        return Err(SourceError::Checksum {
            url: of,
            actual: sha256,
            expected: expected.to_owned(),
        });
    }
    let (commit, reference) = match request.want {
        // The server's words for the file, which the operator has seen; here they are not asked for again.
        Want::Commit { id, reference } => (id.clone(), reference.clone()),
        Want::Reference(_) => (sha256.clone(), "archive".to_owned()),
    };
    let (path, into, limits) = (request.path.to_owned(), request.into.to_owned(), request.limits);
    let interrupt = Arc::clone(&request.interrupt);
    let work = tokio::task::spawn_blocking(move || {
        let mut writer = Writer::new(Target {
            of: &of,
            path: &path,
            limits,
            into: &into,
            interrupt: &interrupt,
        });
        unpack(archive.as_file(), &of, &mut writer)?;
        let written = writer.finish()?;
        Ok(Checkout {
            commit,
            reference,
            tree: tree_of(&into, limits)?,
            author: String::new(),
            message: format!("sha256:{sha256}"),
            bytes: written.bytes,
            entries: written.entries,
        })
    });
    work.await.unwrap_or_else(|error| Err(SourceError::broke_off(request.url, &error)))
}

/// Whether a moment can help.
fn is_passing(error: &SourceError) -> bool {
    match error {
        SourceError::Web { cause, .. } => matches!(cause, WebError::Timeout | WebError::Unreachable(_)),
        SourceError::Unreachable { retry_after, .. } => retry_after.is_none(),
        _ => false,
    }
}

/// One download, through redirects: the file, and its SHA-256.
async fn one(request: &HttpRequest<'_>, web: &Web, clients: &HttpClients, first: Url) -> Result<(NamedTempFile, String), SourceError> {
    let mut url = first.clone();
    for _ in 0..=REDIRECTS {
        web.check(&url)
            .map_err(|problem| SourceError::Address { url: shown(&url), problem })?;
        let failed = |cause| SourceError::Web { url: shown(&url), cause };
        let client = clients.reaching(&url).map_err(|error| failed(error.into()))?;
        // A copy between us and the server may be older than what the operator has seen.
        let mut call = client.get(url.clone()).header(CACHE_CONTROL, "no-cache");
        let authorization = match request.secret {
            Some(secret) if url.origin() == first.origin() => secret.authorization(&url, request.require_hosts)?,
            Some(secret) => secret.authorization(&url, true).ok().flatten(),
            None => None,
        };
        let authorized = authorization.is_some();
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_str(authorization.expose())
                .map_err(|_| failed(WebError::Setup("the credential is no header value".to_owned())))?;
            value.set_sensitive(true);
            call = call.header(AUTHORIZATION, value);
        }
        let answer = call.send().await.map_err(|error| failed(WebError::of(error, &authority(&url))))?;
        if !answer.status().is_redirection() {
            judge(&url, &answer, authorized)?;
            return save(request, answer, &url).await;
        }
        url = redirected(&url, answer.headers().get(LOCATION))?;
    }
    Err(SourceError::Unreachable {
        url: shown(&url),
        problem: format!("it redirects more than {REDIRECTS} times"),
        retry_after: None,
    })
}

/// Where a redirect leads: to any host, since release pages keep their files elsewhere, but never down to plain http.
fn redirected(from: &Url, location: Option<&HeaderValue>) -> Result<Url, SourceError> {
    let refuse = |problem: &str| SourceError::Address {
        url: shown(from),
        problem: problem.to_owned(),
    };
    let to = location
        .and_then(|value| from.join(value.to_str().ok()?).ok())
        .ok_or_else(|| refuse("it answers with a redirect to nowhere"))?;
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(refuse("it redirects from https to plain http"));
    }
    Ok(to)
}

/// What the status of an answer says.
fn judge(url: &Url, answer: &Response, authorized: bool) -> Result<(), SourceError> {
    let denied = |problem| {
        Err(SourceError::Denied {
            host: authority(url),
            url: shown(url),
            problem,
        })
    };
    match answer.status() {
        StatusCode::OK => Ok(()),
        StatusCode::UNAUTHORIZED if authorized => denied("does not accept the credentials; check the keys of the source's Secret"),
        StatusCode::UNAUTHORIZED => {
            denied("asks for credentials; name a Secret with username and password, or bearerToken, and hosts in secretRef")
        }
        StatusCode::FORBIDDEN => denied("denies access to the file; grant the credentials read rights on it"),
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => Err(SourceError::Missing {
            what: format!("file at {}", shown(url)),
            problem: format!("the server answers {status}; check the address, and that the credentials may see it"),
        }),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(SourceError::Web {
            url: shown(url),
            cause: WebError::Proxy("it asks for credentials".to_owned()),
        }),
        status => {
            let seconds = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(SourceError::Unreachable {
                url: shown(url),
                problem: format!("the server answers {status}"),
                retry_after: seconds,
            })
        }
    }
}

/// Writes the body to a file. An archive is hardly larger than what is in it, and there is a bound on that.
async fn save(request: &HttpRequest<'_>, answer: Response, url: &Url) -> Result<(NamedTempFile, String), SourceError> {
    let write = |source| io("write to", request.scratch, source);
    let mut file = NamedTempFile::new_in(request.scratch).map_err(write)?;
    let (mut hasher, mut size) = (Sha256::new(), 0u64);
    let most = request.limits.bytes.saturating_add(request.limits.entries.saturating_mul(1024));
    let mut stream = answer.bytes_stream();
    while let Some(piece) = stream.try_next().await.map_err(|error| SourceError::Web {
        url: shown(url),
        cause: WebError::of(error, &authority(url)),
    })? {
        size += piece.len() as u64;
        if size > most {
            return Err(SourceError::TooLarge {
                what: format!("{} sends more than {most} bytes", shown(url)),
            });
        }
        hasher.update(&piece);
        file.write_all(&piece).map_err(write)?;
    }
    Ok((file, hex::encode(hasher.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_never_lead_down_to_plain_http() {
        let from = Url::parse("https://example.com/a/robot.tar.gz").unwrap();
        let go = |to: &'static str| redirected(&from, Some(&HeaderValue::from_static(to)));
        assert_eq!(go("../b").unwrap().as_str(), "https://example.com/b");
        assert_eq!(go("https://cdn.example.net/x?sig=1").unwrap().host_str(), Some("cdn.example.net"));
        for bad in ["http://example.com/a", "file:///etc/passwd", "http://["] {
            assert!(go(bad).is_err(), "{bad}");
        }
        assert!(redirected(&from, None).is_err());
    }
}
