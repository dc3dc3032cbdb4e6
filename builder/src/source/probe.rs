//! The first request to a git server: is there a repository, and may we read it?
//!
//! It settles redirects, and its answer says exactly what is wrong (no such host, certificate, credentials, no repository),
//! which the errors of a git library do not. Invariant: a credential goes to the host that its Secret names and to no other,
//! redirects included.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use robotimage_registry::{HttpError, Trust};
use url::Url;

use super::credentials::Authorization;
use super::error::SourceError;
use super::git::GitRequest;
use super::web::{Web, WebError, authority};

/// Redirects followed for the repository's address.
const REDIRECTS: usize = 5;
/// Waits before a request is made again.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// Most bytes of a list of references, of which each has about a hundred.
const MOST_REFERENCES: usize = 8 << 20;
/// What the first request asks for, below the repository's address.
const ADVERTISEMENT: &str = "/info/refs?service=git-upload-pack";

/// A repository that is there.
pub(super) struct Repository {
    /// Its final address.
    pub(super) url: Url,
    /// The credential for it.
    pub(super) authorization: Option<Authorization>,
    /// How it is reached.
    pub(super) trust: Trust,
}

/// Asks for the repository.
pub(super) async fn find(web: &Web, request: &GitRequest<'_>) -> Result<Repository, SourceError> {
    let mut url = Url::parse(request.url).map_err(|error| SourceError::Address {
        // An address that cannot be parsed may hold a password anywhere, so it is not shown.
        url: "(not shown)".to_owned(),
        problem: format!("it is no address: {error}"),
    })?;
    let clients = web.clients().map_err(|cause| SourceError::Web { url: shown(&url), cause })?;
    for _ in 0..=REDIRECTS {
        web.check(&url)
            .map_err(|problem| SourceError::Address { url: shown(&url), problem })?;
        let authorization = match request.secret {
            Some(secret) => secret.authorization(&url, request.require_hosts)?,
            None => None,
        };
        let setup = |error: HttpError| SourceError::Web {
            url: shown(&url),
            cause: error.into(),
        };
        let client = clients.reaching(&url).map_err(setup)?;
        let answer = ask_again(client, &url, authorization.as_ref()).await?;
        if !answer.status().is_redirection() {
            judge(&url, &answer, authorization.is_some())?;
            let trust = clients.trust(&url).map_err(setup)?.clone();
            return Ok(Repository { url, authorization, trust });
        }
        url = redirected(&url, answer.headers().get(LOCATION))?;
    }
    Err(SourceError::Unreachable {
        url: shown(&url),
        problem: format!("it redirects more than {REDIRECTS} times"),
        retry_after: None,
    })
}

/// The names of a repository's tags, from the answer that older clients get: all references, listed at once.
pub(super) async fn tags(web: &Web, repository: &Repository) -> Result<Vec<String>, SourceError> {
    let url = &repository.url;
    let failed = |cause| SourceError::Web { url: shown(url), cause };
    let clients = web.clients().map_err(failed)?;
    let client = clients.reaching(url).map_err(|error| failed(error.into()))?;
    let mut answer = ask(client, url, repository.authorization.as_ref(), None).await.map_err(failed)?;
    judge(url, &answer, repository.authorization.is_some())?;
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| failed(WebError::of(error, &authority(url))))? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > MOST_REFERENCES {
            return Err(SourceError::TooLarge {
                what: format!("the references of {} have more than {MOST_REFERENCES} bytes", shown(url)),
            });
        }
    }
    tags_of(&bytes).ok_or_else(|| SourceError::Broken {
        url: shown(url),
        problem: "its list of references cannot be read".to_owned(),
    })
}

/// The tags in a list of references: lines after four hexadecimal digits that count both; four zeros divide.
fn tags_of(mut bytes: &[u8]) -> Option<Vec<String>> {
    let mut tags = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_at_checked(4)?;
        let length = usize::from_str_radix(std::str::from_utf8(length).ok()?, 16).ok()?;
        if length == 0 {
            bytes = rest;
            continue;
        }
        let (line, rest) = rest.split_at_checked(length.checked_sub(4)?)?;
        bytes = rest;
        // The first reference carries the capabilities behind a NUL.
        let name = line.split(|byte| *byte == 0).next()?.trim_ascii_end();
        let name = std::str::from_utf8(name).ok()?.split_once(' ').map(|(_, name)| name);
        tags.extend(name.and_then(|name| name.strip_prefix("refs/tags/")).map(str::to_owned));
    }
    Some(tags)
}

/// Sends the request, again when time can help.
async fn ask_again(client: &reqwest::Client, url: &Url, authorization: Option<&Authorization>) -> Result<reqwest::Response, SourceError> {
    let mut waits = WAITS.iter();
    loop {
        let result = ask(client, url, authorization, Some("version=2")).await;
        let passing = match &result {
            Ok(answer) => answer.status().is_server_error(),
            Err(WebError::Timeout | WebError::Unreachable(_)) => true,
            Err(_) => false,
        };
        match waits.next() {
            Some(wait) if passing => tokio::time::sleep(*wait).await,
            _ => {
                return result.map_err(|cause| SourceError::Web { url: shown(url), cause });
            }
        }
    }
}

async fn ask(
    client: &reqwest::Client,
    url: &Url,
    authorization: Option<&Authorization>,
    protocol: Option<&str>,
) -> Result<reqwest::Response, WebError> {
    let target = format!("{}{ADVERTISEMENT}", url.as_str().trim_end_matches('/'));
    let mut call = client.get(target).header(ACCEPT, "application/x-git-upload-pack-advertisement");
    if let Some(protocol) = protocol {
        call = call.header("Git-Protocol", protocol);
    }
    if let Some(authorization) = authorization {
        let mut value =
            HeaderValue::from_str(authorization.expose()).map_err(|_| WebError::Setup("the credential is no header value".to_owned()))?;
        value.set_sensitive(true);
        call = call.header(AUTHORIZATION, value);
    }
    call.send().await.map_err(|error| WebError::of(error, &authority(url)))
}

/// The repository's address behind a redirect: the same host, never down to plain http.
pub(crate) fn redirected(from: &Url, location: Option<&HeaderValue>) -> Result<Url, SourceError> {
    let refuse = |problem: String| SourceError::Address { url: shown(from), problem };
    let location = location
        .and_then(|value| value.to_str().ok())
        .and_then(|value| from.join(value).ok())
        .ok_or_else(|| refuse("it answers with a redirect to nowhere".to_owned()))?;
    let upgrade = from.scheme() == "http" && location.scheme() == "https";
    if location.host() != from.host() || !(upgrade || location.origin() == from.origin()) {
        return Err(refuse(format!(
            "it redirects to {}; if that is right, write that address into url",
            authority(&location)
        )));
    }
    let text = location.as_str();
    let base = text
        .strip_suffix(ADVERTISEMENT)
        .ok_or_else(|| refuse("it redirects to a page that is no repository".to_owned()))?;
    Url::parse(base).map_err(|error| refuse(format!("it redirects to no address: {error}")))
}

/// What the answer says about the repository.
fn judge(url: &Url, answer: &reqwest::Response, authorized: bool) -> Result<(), SourceError> {
    let refused = |problem| {
        Err(SourceError::Refused {
            host: authority(url),
            url: shown(url),
            problem,
        })
    };
    match answer.status() {
        StatusCode::OK => {
            let kind = answer
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            if kind.starts_with("application/x-git-upload-pack-advertisement") {
                Ok(())
            } else {
                Err(SourceError::NotFound {
                    url: shown(url),
                    problem: "the server answers with something else; check the address".to_owned(),
                })
            }
        }
        StatusCode::UNAUTHORIZED if authorized => refused("does not accept the credentials; check the keys of the source's Secret"),
        StatusCode::UNAUTHORIZED => refused("asks for credentials; name a Secret with username and password, or bearerToken, in secretRef"),
        StatusCode::FORBIDDEN => refused("denies access to the repository; grant the credentials read rights on it"),
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => Err(SourceError::NotFound {
            url: shown(url),
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

/// An address for a message: without query, fragment and user.
pub(super) fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_a_list() {
        let mut text = b"001e# service=git-upload-pack\n0000".to_vec();
        let line = |name: &str| format!("{:04x}{} {name}\n", 40 + 6 + name.len(), "a".repeat(40)).into_bytes();
        text.extend(line("refs/heads/main"));
        text.extend(line("refs/tags/v1.0.0"));
        text.extend(line("refs/tags/v1.0.0^{}"));
        text.extend(b"0000");
        assert_eq!(tags_of(&text).unwrap(), ["v1.0.0", "v1.0.0^{}"]);
        assert_eq!(tags_of(b""), Some(Vec::new()));
        for broken in [&b"zzzz"[..], b"0003", b"00ffshort", b"001", b"0008\xff\xfe x"] {
            assert_eq!(tags_of(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn redirects_stay_on_the_host() {
        let from = Url::parse("https://git.example.com/a").unwrap();
        let go = |to: &str| redirected(&from, Some(&HeaderValue::from_str(to).unwrap()));
        assert_eq!(
            go("https://git.example.com/a.git/info/refs?service=git-upload-pack")
                .unwrap()
                .as_str(),
            "https://git.example.com/a.git"
        );
        assert_eq!(
            go("/b/info/refs?service=git-upload-pack").unwrap().as_str(),
            "https://git.example.com/b"
        );
        for bad in [
            "https://evil.example.com/a/info/refs?service=git-upload-pack",
            "http://git.example.com/a/info/refs?service=git-upload-pack",
            "https://git.example.com:8443/a/info/refs?service=git-upload-pack",
            "https://git.example.com/login",
        ] {
            assert!(go(bad).is_err(), "{bad}");
        }
        let plain = Url::parse("http://git.example.com/a").unwrap();
        let up = HeaderValue::from_static("https://git.example.com/a/info/refs?service=git-upload-pack");
        assert!(redirected(&plain, Some(&up)).is_ok());
    }
}
