//! One look-up over smart HTTP: what the reference means, by at most two requests.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use robotimage_crds::api::GitRef;
use robotimage_crds::reason::Reason;
use robotimage_registry::{HttpClients, HttpError, Requirement};
use url::Url;

use super::exchange::{DEADLINE, authority, body, check, clients, reaching, send};
use super::ls_refs::{Advertisement, AnswerError, Wanted, advertisement};
use super::{GitCredentials, SourceFailure};
use crate::config::Platform;
use crate::observe::Revision;

/// Most bytes of all its answers.
const MOST_BYTES: usize = 1024 * 1024;
/// Redirects on the same host, such as to the same address with `.git`.
const REDIRECTS: usize = 3;
const ADVERTISEMENT: &str = "/info/refs?service=git-upload-pack";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GitQuestion {
    /// Address of the repository.
    pub url: String,
    /// A branch.
    pub branch: Option<String>,
    /// A tag.
    pub tag: Option<String>,
    /// The highest version of these; without any of the three the default branch is meant.
    pub semver: Option<String>,
}

/// Asks git servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GitClient {
    platform: Arc<Platform>,
    clients: Arc<HttpClients>,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the client for the servers of sources cannot be made: {0}")]
pub struct SetupError(#[from] HttpError);

impl GitClient {
    /// A client that trusts the system's certificates and the platform's bundle.
    pub fn new(platform: Arc<Platform>) -> Result<Self, SetupError> {
        let clients = Arc::new(clients(&platform, None)?);
        Ok(Self { platform, clients })
    }

    /// Asks, within ten seconds. `credentials` come with the name of their Secret.
    pub async fn ask(&self, question: &GitQuestion, credentials: Option<(&str, &GitCredentials)>) -> Result<Revision, SourceFailure> {
        let host = Url::parse(&question.url)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        tokio::time::timeout(DEADLINE, self.look_up(question, credentials))
            .await
            .unwrap_or_else(|_| {
                Err(SourceFailure::new(
                    Reason::SourceUnreachable,
                    format!("{host} did not answer within {} seconds", DEADLINE.as_secs()),
                ))
            })
    }

    async fn look_up(&self, question: &GitQuestion, credentials: Option<(&str, &GitCredentials)>) -> Result<Revision, SourceFailure> {
        let wanted = match &question.semver {
            Some(versions) => {
                let requirement = Requirement::parse(versions)
                    .map_err(|error| SourceFailure::new(Reason::SourceRejected, format!("spec.source.git.ref.semver {error}")))?;
                Wanted::highest(requirement)
            }
            None => Wanted::of(Some(&GitRef {
                branch: question.branch.clone(),
                tag: question.tag.clone(),
                ..GitRef::default()
            })),
        };
        let url = Url::parse(&question.url)
            .map_err(|error| SourceFailure::new(Reason::SourceRejected, format!("spec.source.git.url is no address: {error}")))?;
        let clients = match credentials.and_then(|(_, credentials)| credentials.ca()) {
            Some(ca) => &clients(&self.platform, Some(ca)).map_err(|error| {
                SourceFailure::new(
                    Reason::SecretMissing,
                    format!("key ca.crt of the git Secret is not usable: {error}"),
                )
            })?,
            None => &*self.clients,
        };
        let mut budget = MOST_BYTES;
        let (url, answer) = self.advertised(clients, url, credentials).await?;
        let bytes = body(answer, &url, &mut budget).await?;
        let told = |error| told(&error, &wanted, &url);
        match advertisement(&bytes).map_err(told)? {
            Advertisement::Listed(listed) => wanted.find_in(&listed).map_err(told),
            Advertisement::Version2 => {
                let request = reaching(clients, &url)?
                    .post(format!("{}/git-upload-pack", base(&url)))
                    .header("Git-Protocol", "version=2")
                    .header(CONTENT_TYPE, "application/x-git-upload-pack-request")
                    .header(ACCEPT, "application/x-git-upload-pack-result")
                    .body(wanted.request());
                let answer = send(request, &url, credentials).await?;
                judge(&url, &answer, credentials.is_some(), "application/x-git-upload-pack-result")?;
                let bytes = body(answer, &url, &mut budget).await?;
                wanted.find_by_answer(&bytes).map_err(told)
            }
        }
    }

    /// The first request, through redirects on the same host.
    async fn advertised(
        &self,
        clients: &HttpClients,
        mut url: Url,
        credentials: Option<(&str, &GitCredentials)>,
    ) -> Result<(Url, Response), SourceFailure> {
        for _ in 0..=REDIRECTS {
            check(&self.platform, &url)?;
            if let Some((name, credentials)) = credentials {
                credentials.check_host(name, &url, self.platform.config.require_secret_hosts)?;
            }
            let request = reaching(clients, &url)?
                .get(format!("{}{ADVERTISEMENT}", base(&url)))
                .header("Git-Protocol", "version=2")
                .header(ACCEPT, "application/x-git-upload-pack-advertisement");
            let answer = send(request, &url, credentials).await?;
            if answer.status().is_redirection() {
                url = redirected(&url, answer.headers().get(LOCATION))?;
            } else {
                judge(&url, &answer, credentials.is_some(), "application/x-git-upload-pack-advertisement")?;
                return Ok((url, answer));
            }
        }
        Err(SourceFailure::new(
            Reason::SourceUnreachable,
            format!("{} redirects more than {REDIRECTS} times", authority(&url)),
        ))
    }
}

/// The repository's address behind a redirect: the same host, never down to plain http.
fn redirected(from: &Url, location: Option<&HeaderValue>) -> Result<Url, SourceFailure> {
    let refuse = |problem: String| SourceFailure::new(Reason::NotAllowed, format!("{} {problem}", authority(from)));
    let to = location
        .and_then(|value| from.join(value.to_str().ok()?).ok())
        .ok_or_else(|| refuse("redirects to nowhere".to_owned()))?;
    let upgrade = from.scheme() == "http" && to.scheme() == "https" && from.host() == to.host();
    if to.origin() != from.origin() && !upgrade {
        return Err(refuse(format!(
            "redirects to {}; if that is right, write that address into spec.source.git.url",
            authority(&to)
        )));
    }
    let repository = to.as_str().strip_suffix(ADVERTISEMENT).and_then(|text| Url::parse(text).ok());
    repository.ok_or_else(|| refuse("redirects to a page that is no repository".to_owned()))
}

/// What status and type of an answer say. Its body is not looked at.
fn judge(url: &Url, answer: &Response, authorized: bool, expected: &str) -> Result<(), SourceFailure> {
    let host = authority(url);
    let fail = |reason, message: String| Err(SourceFailure::new(reason, message));
    match answer.status() {
        StatusCode::OK => {
            let kind = answer
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            if kind.split(';').next() == Some(expected) {
                Ok(())
            } else {
                fail(
                    Reason::SourceNotFound,
                    format!("{host} answers with something that is no git repository; check spec.source.git.url"),
                )
            }
        }
        StatusCode::UNAUTHORIZED if authorized => fail(
            Reason::GitAuthFailed,
            format!("{host} does not accept the credentials; check the keys of the git Secret"),
        ),
        StatusCode::UNAUTHORIZED => fail(
            Reason::GitAuthFailed,
            format!("{host} asks for credentials; name a Secret with username and password, or bearerToken, in spec.source.git.secretRef"),
        ),
        StatusCode::FORBIDDEN => fail(Reason::GitAuthFailed, format!("{host} denies access to the repository")),
        StatusCode::NOT_FOUND | StatusCode::GONE => fail(
            Reason::SourceNotFound,
            format!("{host} knows no such repository; check spec.source.git.url, and that the credentials may see it"),
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

/// What an answer of git means that does not have the reference.
fn told(error: &AnswerError, wanted: &Wanted, url: &Url) -> SourceFailure {
    let host = authority(url);
    match error {
        AnswerError::NotFound => SourceFailure::new(
            Reason::GitRevisionNotFound,
            format!(
                "the repository at {host} has no {}; check its spelling, or push it",
                wanted.describe()
            ),
        ),
        AnswerError::Sha256 => SourceFailure::new(Reason::SourceRejected, error.to_string()),
        AnswerError::Framing(_) | AnswerError::Foreign => {
            SourceFailure::new(Reason::SourceUnreachable, format!("the answer of {host} cannot be read: {error}"))
        }
    }
}

fn base(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
