//! One exchange with a registry: authentication, redirects, limits, retries.
//!
//! Invariant: a credential is sent to the origin of the call only; every hop has passed [`Hosts::check`]; every wait
//! ends at an idle limit, the deadline, or the caller's cancellation.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use oci_spec::image::Digest;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, LOCATION};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::answer::Answer;
use crate::auth::{Authenticator, Authorization, Scopes};
use crate::context::Context;
use crate::error::Error;
use crate::hosts::{Hosts, Refused, same_origin};
use crate::http::{HttpClients, HttpError};
use crate::network;
use crate::options::ClientOptions;
use crate::reference::Repository;
use crate::source::BlobSource;

/// Redirects followed in one call.
const REDIRECTS: usize = 5;
/// Answers 401 in a row that a call is repeated after.
const REFUSALS: usize = 2;

/// The body of a request; it can be made again for a redirect, a new token or a retry.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Empty,
    Bytes(Bytes),
    /// A blob from an offset to its end.
    Blob(BlobSource, u64),
}

/// Which redirects are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Follow {
    /// All that the host rules permit.
    Any,
    /// Those to the registry itself; another one is given back as the answer.
    SameOrigin,
}

/// A request to a registry.
#[derive(Debug, Clone)]
pub(crate) struct Call<'a> {
    pub(crate) at: Context,
    pub(crate) repository: &'a Repository,
    pub(crate) method: Method,
    /// The registry's origin: the reach of its credentials.
    pub(crate) origin: Url,
    /// Usually there; an upload session may lie on another host, which then sees no credentials.
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
    pub(crate) scopes: Scopes,
    pub(crate) follow: Follow,
    /// Small reads inside a larger step that is itself retried are made once.
    pub(crate) retries: bool,
    /// Limit for the answer's head after the last byte was sent.
    pub(crate) patience: Duration,
}

/// The HTTP clients of one registry client, with its rules and its state.
#[derive(Debug)]
pub(crate) struct Transport {
    pub(crate) options: ClientOptions,
    pub(crate) hosts: Hosts,
    pub(crate) auth: Authenticator,
    /// Pairs of repositories, from and to, between which the registry mounts nothing.
    failed_mounts: Mutex<HashSet<(Repository, Repository)>>,
    /// Blobs that a registry refused a manifest for, although it may have said before that it has them.
    pub(crate) lacking: Mutex<HashSet<(Repository, Digest)>>,
    /// Until when a host wants to be left alone, by its origin: the wait of one call is the wait of all.
    pub(crate) quiet: Mutex<HashMap<String, Instant>>,
    /// Held while a list of referrers is rewritten, so that two of our own calls never race.
    pub(crate) referrers: tokio::sync::Mutex<()>,
    pub(crate) http: HttpClients,
}

impl Transport {
    pub(crate) fn new(options: ClientOptions, auth: Authenticator) -> Result<Self, Error> {
        let hosts = Hosts::new(&options).map_err(Error::Configuration)?;
        let http = clients(&options)?;
        Ok(Self {
            options,
            hosts,
            auth,
            failed_mounts: Mutex::default(),
            lacking: Mutex::default(),
            quiet: Mutex::default(),
            referrers: tokio::sync::Mutex::default(),
            http,
        })
    }

    /// `…/v2/<name>/<tail>` of a repository.
    pub(crate) fn url(&self, at: &Context, repository: &Repository, tail: &str) -> Result<Url, Error> {
        let endpoint = self
            .hosts
            .endpoint(repository.registry())
            .map_err(|refused| refused_error(at, refused))?;
        endpoint
            .join(&format!("/v2/{}/{tail}", repository.name()))
            .map_err(|error| Error::Protocol {
                at: Box::new(at.clone()),
                problem: format!("no URL can be made of it: {error}"),
            })
    }

    /// Makes the call until `accept` takes its answer, within the limits of the retry policy. Answers that are not
    /// accepted become errors.
    pub(crate) async fn call(&self, call: &Call<'_>, accept: impl Fn(StatusCode) -> bool) -> Result<Answer, Error> {
        let mut attempt = 1;
        loop {
            let error = match self.exchange(call).await {
                Ok(answer) if accept(answer.status) => return Ok(answer),
                Ok(answer) => self.error_of(call, answer).await,
                Err(error) => error,
            };
            if !call.retries || !error.retryable() || !self.pause(&call.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// An answer as an error.
    pub(crate) async fn error_of(&self, call: &Call<'_>, answer: Answer) -> Error {
        let anonymous = self.auth.secret(call.repository).is_none();
        answer.into_error(&call.at, anonymous).await
    }

    /// Has the registry refused a manifest because it lacks this blob?
    pub(crate) fn lacks(&self, repository: &Repository, digest: &Digest) -> bool {
        let lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        lacking.contains(&(repository.clone(), digest.clone()))
    }

    /// Has the registry refused for good to mount between these repositories?
    pub(crate) fn mounts_fail(&self, from: &Repository, to: &Repository) -> bool {
        let failed = self.failed_mounts.lock().unwrap_or_else(PoisonError::into_inner);
        failed.contains(&(from.clone(), to.clone()))
    }

    /// It has now.
    pub(crate) fn mount_failed(&self, from: &Repository, to: &Repository, error: &Error) {
        tracing::debug!(%error, %from, %to, "no mount between these repositories");
        let mut failed = self.failed_mounts.lock().unwrap_or_else(PoisonError::into_inner);
        failed.insert((from.clone(), to.clone()));
    }

    /// Makes the call once, authenticated as the registry wants it. The answer may have any status.
    pub(crate) async fn exchange(&self, call: &Call<'_>) -> Result<Answer, Error> {
        self.guard(
            &call.at,
            Box::pin(async {
                let (mut refusals, mut denied) = (0, false);
                let met = self.auth.met(&call.origin);
                let mut first = Some(met.lock().await).filter(|met| !**met);
                loop {
                    let authorization = self.authorization(call).await?;
                    let answer = self.follow(call, authorization.as_ref()).await?;
                    if !same_origin(&call.origin, &answer.url) {
                        return Ok(answer);
                    }
                    let again = match answer.status {
                        StatusCode::UNAUTHORIZED => {
                            refusals += 1;
                            refusals <= REFUSALS && self.accept_challenge(call, authorization, &answer, refusals == 1).await?
                        }
                        // A token may be older than the rights that it stands for.
                        StatusCode::FORBIDDEN if !denied => {
                            denied = true;
                            self.renew(call, authorization).await
                        }
                        _ => false,
                    };
                    if let Some(mut met) = first.take() {
                        *met = true;
                    }
                    if !again {
                        return Ok(answer);
                    }
                }
            }),
        )
        .await
    }

    /// Sends the call, following redirects.
    async fn follow(&self, call: &Call<'_>, authorization: Option<&Authorization>) -> Result<Answer, Error> {
        let mut url = call.url.clone();
        for _ in 0..=REDIRECTS {
            let credential = authorization.filter(|_| same_origin(&call.origin, &url));
            let answer = self.send(call, url.clone(), credential).await?;
            let get = matches!(call.method, Method::GET | Method::HEAD);
            let redirect = match answer.status.as_u16() {
                307 | 308 => true,
                301..=303 => get,
                _ => false,
            };
            if !redirect {
                return Ok(answer);
            }
            url = self.location(&call.at, &call.origin, &answer.url, &answer.headers)?;
            if call.follow == Follow::SameOrigin && !same_origin(&call.origin, &url) {
                return Ok(answer);
            }
        }
        Err(Error::Protocol {
            at: Box::new(call.at.clone()),
            problem: format!("more than {REDIRECTS} redirects"),
        })
    }

    /// The `Location` of an answer, joined to where the answer came from and checked against the host rules.
    pub(crate) fn location(&self, at: &Context, origin: &Url, base: &Url, headers: &HeaderMap) -> Result<Url, Error> {
        let broken = |problem: &str| Error::Protocol {
            at: Box::new(at.clone()),
            problem: problem.to_owned(),
        };
        let location = headers.get(LOCATION).ok_or_else(|| broken("it lacks a Location header"))?;
        let text = location.to_str().map_err(|_| broken("its Location header is not text"))?;
        let url = base.join(text).map_err(|_| broken("its Location header is not a URL"))?;
        self.hosts.check(origin, &url).map_err(|refused| refused_error(at, refused))?;
        Ok(url)
    }

    /// Sends one request and waits for the head of its answer.
    async fn send(&self, call: &Call<'_>, url: Url, credential: Option<&Authorization>) -> Result<Answer, Error> {
        self.rest(&url).await;
        let sent = Arc::new(AtomicU64::new(0));
        let failed: Arc<Mutex<Option<Error>>> = Arc::default();
        let mut request = self
            .http
            .reaching(&url)?
            .request(call.method.clone(), url.clone())
            .headers(call.headers.clone());
        if let Some(credential) = credential {
            request = request.header(AUTHORIZATION, credential.header.clone());
        }
        let mut length = 0;
        match &call.body {
            Body::Empty => {
                if !matches!(call.method, Method::GET | Method::HEAD) {
                    request = request.header(CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
            }
            Body::Bytes(bytes) => request = request.body(bytes.clone()),
            Body::Blob(source, offset) => {
                length = source.size() - offset;
                let (sent, failed) = (Arc::clone(&sent), Arc::clone(&failed));
                let stream = source.open(&call.at, *offset).await?.map(move |piece| match piece {
                    Ok(bytes) => {
                        sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                        Ok(bytes)
                    }
                    Err(error) => {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                        Err(std::io::Error::other("the content to be sent cannot be read"))
                    }
                });
                request = request.header(CONTENT_LENGTH, length).body(reqwest::Body::wrap_stream(stream));
            }
        }
        let head = request.send();
        tokio::pin!(head);
        loop {
            let before = sent.load(Ordering::Relaxed);
            let limit = if before >= length {
                call.patience
            } else {
                self.options.idle_timeout
            };
            match tokio::time::timeout(limit, &mut head).await {
                Ok(Ok(response)) => {
                    self.heed(&url, response.status(), response.headers());
                    return Ok(Answer {
                        status: response.status(),
                        headers: response.headers().clone(),
                        url,
                        response,
                        pushback: None,
                        idle: self.options.idle_timeout,
                        secrets: credential.map(|credential| credential.secrets.clone()).unwrap_or_default(),
                    });
                }
                Ok(Err(error)) => {
                    let own = failed.lock().unwrap_or_else(PoisonError::into_inner).take();
                    return Err(own.unwrap_or_else(|| network::error(&call.at, error)));
                }
                Err(_) if sent.load(Ordering::Relaxed) != before => {}
                Err(_) => {
                    let what = format!("no answer for {} s", limit.as_secs());
                    return Err(Error::Timeout {
                        at: Box::new(call.at.clone()),
                        what,
                    });
                }
            }
        }
    }
}

fn clients(options: &ClientOptions) -> Result<HttpClients, HttpError> {
    let (user_agent, connect_timeout) = (options.user_agent.clone(), options.connect_timeout);
    let resolver = Arc::new(options.address_policy.resolver());
    // All requests to a host share one connection there; if it falls silent, it must be given up before they are, or every
    // new attempt would wait on it again.
    let probe = options.idle_timeout.min(options.request_timeout) / 4;
    let bundles = options.ca_bundle_pem.iter().map(Vec::as_slice);
    HttpClients::new(bundles, move || {
        reqwest::Client::builder()
            .user_agent(&user_agent)
            .connect_timeout(connect_timeout)
            .http2_keep_alive_interval(probe)
            .http2_keep_alive_timeout(probe)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .dns_resolver(Arc::clone(&resolver))
    })
}

/// A refused hop as an error.
pub(crate) fn refused_error(at: &Context, refused: Refused) -> Error {
    let at = Box::new(at.clone());
    match refused {
        Refused::Address(denied) => Error::AddressDenied { at, denied },
        Refused::Host(problem) => Error::HostNotAllowed { at, problem },
        Refused::Plain(host) => Error::PlainHttp { at, host },
    }
}
