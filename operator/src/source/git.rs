//! One look-up over smart HTTP: what the reference means, by at most two requests.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{RequestBuilder, Response, StatusCode};
use robotimage_crds::api::GitRef;
use robotimage_crds::reason::Reason;
use robotimage_registry::{HttpClients, HttpError};
use url::Url;

use super::ls_refs::{Advertisement, AnswerError, Wanted, advertisement};
use super::{GitCredentials, SourceFailure};
use crate::config::Platform;
use crate::observe::Revision;

/// Time for a whole look-up.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most bytes of all its answers.
const MOST_BYTES: usize = 1024 * 1024;
/// Redirects on the same host, such as to the same address with `.git`.
const REDIRECTS: usize = 3;
const ADVERTISEMENT: &str = "/info/refs?service=git-upload-pack";

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Address of the repository.
    pub url: String,
    /// A branch.
    pub branch: Option<String>,
    /// A tag; without either the default branch is meant.
    pub tag: Option<String>,
}

/// Asks git servers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GitClient {
    platform: Arc<Platform>,
    clients: Arc<HttpClients>,
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("the client for git servers cannot be made: {0}")]
pub struct SetupError(#[from] HttpError);

impl GitClient {
    /// A client that trusts the system's certificates and the platform's bundle.
    pub fn new(platform: Arc<Platform>) -> Result<Self, SetupError> {
        let clients = Arc::new(clients(&platform, None)?);
        Ok(Self { platform, clients })
    }

    /// Asks, within ten seconds. `credentials` come with the name of their Secret.
    pub async fn ask(&self, question: &Question, credentials: Option<(&str, &GitCredentials)>) -> Result<Revision, SourceFailure> {
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

    async fn look_up(&self, question: &Question, credentials: Option<(&str, &GitCredentials)>) -> Result<Revision, SourceFailure> {
        let wanted = Wanted::of(Some(&GitRef {
            branch: question.branch.clone(),
            tag: question.tag.clone(),
            commit: None,
        }));
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
            self.check(&url)?;
            if let Some((name, credentials)) = credentials {
                credentials.check_host(name, &url, self.platform.config.require_secret_hosts)?;
            }
            let request = reaching(clients, &url)?
                .get(format!("{}{ADVERTISEMENT}", base(&url)))
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

    /// Whether this address may be spoken to in its scheme.
    fn check(&self, url: &Url) -> Result<(), SourceFailure> {
        let refuse = |message: String| Err(SourceFailure::new(Reason::NotAllowed, message));
        let host = url.host_str().unwrap_or_default();
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("user and password do not belong into spec.source.git.url; put them into a Secret".to_owned());
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if url.scheme() != "https" && !(url.scheme() == "http" && self.platform.plain_http_allowed(host, port)) {
            return refuse(format!(
                "{} may only be spoken to by https; a platform administrator can list it under plainHttp",
                authority(url)
            ));
        }
        self.platform.policy.check_url(url).or_else(|denied| refuse(denied.to_string()))
    }
}

/// Clients that trust the platform's bundle, and a further one.
fn clients(platform: &Platform, own: Option<&[u8]>) -> Result<HttpClients, HttpError> {
    let of_platform = platform.ca_bundle.as_bytes();
    let bundles = Some(of_platform).filter(|bundle| !bundle.trim_ascii().is_empty());
    let resolver = Arc::new(platform.policy.resolver());
    HttpClients::new(bundles.into_iter().chain(own), move || {
        reqwest::Client::builder()
            .user_agent(concat!("robotimage/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::clone(&resolver))
    })
}

fn reaching<'a>(clients: &'a HttpClients, url: &Url) -> Result<&'a reqwest::Client, SourceFailure> {
    let fail = |error: HttpError| SourceFailure::new(Reason::InternalError, format!("no HTTP client: {error}"));
    clients.reaching(url).map_err(fail)
}

async fn send(request: RequestBuilder, url: &Url, credentials: Option<(&str, &GitCredentials)>) -> Result<Response, SourceFailure> {
    let mut request = request.header("Git-Protocol", "version=2");
    if let Some(authorization) = credentials.and_then(|(_, credentials)| credentials.authorization()) {
        let mut value = HeaderValue::from_str(authorization)
            .map_err(|_| SourceFailure::new(Reason::SecretMissing, "the git Secret holds something that no header can carry"))?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.send().await.map_err(|error| of_exchange(&error.without_url(), url))
}

/// The whole body, within what is left of the budget.
async fn body(answer: Response, url: &Url, budget: &mut usize) -> Result<Vec<u8>, SourceFailure> {
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| of_exchange(&error.without_url(), url))?;
        *budget = budget.checked_sub(part.len()).ok_or_else(|| {
            SourceFailure::new(
                Reason::SourceRejected,
                format!(
                    "{} answers with more than {} KiB about its references",
                    authority(url),
                    MOST_BYTES / 1024
                ),
            )
        })?;
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
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

/// What a failed exchange means.
fn of_exchange(error: &reqwest::Error, url: &Url) -> SourceFailure {
    let host = authority(url);
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(denied) = find::<robotimage_registry::AddressDenied>(current) {
            return SourceFailure::new(Reason::NotAllowed, denied.to_string());
        }
        if let Some(tls) = find::<rustls::Error>(current) {
            return match tls {
                rustls::Error::InvalidCertificate(_) => SourceFailure::new(
                    Reason::CertificateUntrusted,
                    format!(
                        "the certificate of {host} is not trusted: {tls}; add its authority to the platform's CA bundle, or as ca.crt to the git Secret"
                    ),
                ),
                _ => SourceFailure::new(Reason::SourceUnreachable, format!("no TLS connection to {host}: {tls}")),
            };
        }
        next = current.source();
    }
    let text = chain(error);
    let lower = text.to_lowercase();
    if error.is_timeout() {
        SourceFailure::new(Reason::SourceUnreachable, format!("{host} does not answer in time"))
    } else if lower.contains("name or service not known") || lower.contains("no address associated") {
        SourceFailure::new(
            Reason::SourceNotFound,
            format!("there is no host {host}; check the spelling of spec.source.git.url"),
        )
    } else if lower.contains("lookup") || lower.contains("dns error") {
        SourceFailure::new(
            Reason::SourceUnreachable,
            format!("the name {host} cannot be looked up at the moment"),
        )
    } else if lower.contains("proxy") || lower.contains("tunnel") {
        SourceFailure::new(Reason::ProxyFailed, format!("the proxy does not lead to {host}: {text}"))
    } else {
        SourceFailure::new(Reason::SourceUnreachable, format!("{host} cannot be reached: {text}"))
    }
}

/// Looks into an error, and into the error that an I/O error wraps, which `source` skips.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    error.downcast_ref::<T>().or_else(|| {
        let inner: &(dyn Error + 'static) = error.downcast_ref::<std::io::Error>()?.get_ref()?;
        find::<T>(inner)
    })
}

/// The chain of an error in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(current) = next {
        let part = current.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        next = current.source();
    }
    crate::text::line(&text, 200)
}

fn base(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

/// `host`, or `host:port` when the port is not the scheme's.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
#[path = "git_tests.rs"]
mod tests;
