//! What look-ups of every kind of source share: clients, checks of addresses, sending, bounded answers, and what failures mean.
//!
//! Invariant: nothing is sent to an address that the platform forbids, and no byte of an answer is in a message.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{RequestBuilder, Response};
use robotimage_crds::reason::Reason;
use robotimage_registry::{HttpClients, HttpError};
use url::Url;

use super::{GitCredentials, SourceFailure};
use crate::config::Platform;

/// Time for a whole look-up.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// Clients that trust the platform's bundle, and a further one.
pub(super) fn clients(platform: &Platform, own: Option<&[u8]>) -> Result<HttpClients, HttpError> {
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

pub(super) fn reaching<'a>(clients: &'a HttpClients, url: &Url) -> Result<&'a reqwest::Client, SourceFailure> {
    let fail = |error: HttpError| SourceFailure::new(Reason::InternalError, format!("no HTTP client: {error}"));
    clients.reaching(url).map_err(fail)
}

pub(super) async fn send(
    mut request: RequestBuilder,
    url: &Url,
    credentials: Option<(&str, &GitCredentials)>,
) -> Result<Response, SourceFailure> {
    if let Some(authorization) = credentials.and_then(|(_, credentials)| credentials.authorization()) {
        let mut value = HeaderValue::from_str(authorization).map_err(|_| {
            SourceFailure::new(
                Reason::SecretMissing,
                "the source's Secret holds something that no header can carry",
            )
        })?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.send().await.map_err(|error| of_exchange(&error.without_url(), url))
}

/// The whole body, within what is left of the budget.
pub(super) async fn body(answer: Response, url: &Url, budget: &mut usize) -> Result<Vec<u8>, SourceFailure> {
    let mut bytes = Vec::new();
    let mut stream = answer.bytes_stream();
    while let Some(part) = stream.next().await {
        let part = part.map_err(|error| of_exchange(&error.without_url(), url))?;
        *budget = budget.checked_sub(part.len()).ok_or_else(|| {
            SourceFailure::new(
                Reason::SourceRejected,
                format!("{} answers with more than is read of it", authority(url)),
            )
        })?;
        bytes.extend_from_slice(&part);
    }
    Ok(bytes)
}

/// Whether this address may be spoken to in its scheme.
pub(super) fn check(platform: &Platform, url: &Url) -> Result<(), SourceFailure> {
    let refuse = |message: String| Err(SourceFailure::new(Reason::NotAllowed, message));
    let host = url.host_str().unwrap_or_default();
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("user and password do not belong into the address of a source; put them into a Secret".to_owned());
    }
    let port = url.port_or_known_default().unwrap_or_default();
    if url.scheme() != "https" && !(url.scheme() == "http" && platform.plain_http_allowed(host, port)) {
        return refuse(format!(
            "{} may only be spoken to by https; a platform administrator can list it under plainHttp",
            authority(url)
        ));
    }
    platform.policy.check_url(url).or_else(|denied| refuse(denied.to_string()))
}

/// What a failed exchange means.
pub(super) fn of_exchange(error: &reqwest::Error, url: &Url) -> SourceFailure {
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
                        "the certificate of {host} is not trusted: {tls}; add its authority to the platform's CA bundle, or as ca.crt to the source's Secret"
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
            format!("there is no host {host}; check the spelling of spec.source"),
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

/// `host`, or `host:port` when the port is not the scheme's.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
