//! Getting tokens: the docker token protocol, and its OAuth2 form for refresh tokens; and what to do when a registry refuses
//! one.
//!
//! Invariant: a secret is posted or sent only to a token service that has passed the host rules, and never along a redirect.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use tokio::time::Instant;
use url::Url;

use crate::answer::Answer;
use crate::auth::{self, Authorization, Token, TokenAnswer};
use crate::challenge::{self, Challenge};
use crate::credentials::Secret;
use crate::error::{Error, Said};
use crate::hosts::same_origin;
use crate::network;
use crate::retry;
use crate::transport::{Call, Transport, refused_error};

/// Largest answer of a token service, in bytes.
const ANSWER_LIMIT: u64 = 256 * 1024;

impl Transport {
    /// The header that the registry is known to want for this call; `None` before it has asked.
    pub(crate) async fn authorization(&self, call: &Call<'_>) -> Result<Option<Authorization>, Error> {
        if !same_origin(&call.origin, &call.url) {
            return Ok(None);
        }
        let Some(challenge) = self.auth.challenge(&call.origin) else {
            return Ok(None);
        };
        let secret = self.auth.secret(call.repository);
        let (realm, service) = match (challenge, secret) {
            (Challenge::Basic, Some(Secret::Basic { username, password })) => {
                return Ok(Authorization::basic(&username, &password));
            }
            (_, Some(Secret::Bearer(token))) => return Ok(Authorization::bearer(&token)),
            (Challenge::Basic, _) => return Ok(None),
            (Challenge::Bearer { realm, service }, _) => (realm, service),
        };
        let cell = self.auth.cell(&call.origin, call.repository, &call.scopes);
        let mut slot = cell.lock().await;
        if let Some(token) = slot.as_ref().filter(|token| token.fresh_until > Instant::now()) {
            return Ok(Authorization::bearer(&token.value));
        }
        let realm = self.realm(call, &realm)?;
        let token = match self.token(call, &realm, service.as_deref()).await {
            // Once more, with what the file holds now: the secret may have been changed meanwhile.
            Err(Error::Unauthorized { anonymous: false, .. } | Error::Denied { .. }) => {
                self.auth.read_again(call.repository);
                self.token(call, &realm, service.as_deref()).await?
            }
            other => other?,
        };
        let header = Authorization::bearer(&token.value).ok_or_else(|| Error::Protocol {
            at: Box::new(call.at.clone()),
            problem: "the token service answers with a token that no header can carry".to_owned(),
        })?;
        *slot = Some(token);
        Ok(Some(header))
    }

    fn realm(&self, call: &Call<'_>, realm: &str) -> Result<Url, Error> {
        let url = Url::parse(realm).map_err(|_| Error::Protocol {
            at: Box::new(call.at.clone()),
            problem: "the token service it names is not a URL".to_owned(),
        })?;
        self.hosts
            .check(&call.origin, &url)
            .map_err(|refused| refused_error(&call.at, refused))?;
        Ok(url)
    }

    /// Asks for a token once; the retries of the call that needs it cover this too.
    async fn token(&self, call: &Call<'_>, realm: &Url, service: Option<&str>) -> Result<Token, Error> {
        let asked = Instant::now();
        let secret = self.auth.secret(call.repository);
        let mut secrets = Vec::new();
        let request = if let Some(Secret::Identity(refresh)) = &secret {
            secrets.push(refresh.expose().to_owned());
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "robotimage")
                .append_pair("scope", &call.scopes.0.join(" "))
                .append_pair("refresh_token", refresh.expose());
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            self.http
                .reaching(realm)?
                .post(realm.clone())
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(form.finish())
        } else {
            let mut url = realm.clone();
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                for scope in &call.scopes.0 {
                    query.append_pair("scope", scope);
                }
            }
            let mut request = self.http.reaching(realm)?.get(url);
            if let Some(Secret::Basic { username, password }) = &secret
                && let Some(basic) = Authorization::basic(username, password)
            {
                request = request.header(AUTHORIZATION, basic.header);
                secrets = basic.secrets;
            }
            request
        };
        let at = || Box::new(call.at.clone());
        self.rest(realm).await;
        let work = async {
            let response = request.send().await.map_err(|error| network::error(&call.at, error))?;
            self.heed(realm, response.status(), response.headers());
            let answer = Answer {
                status: response.status(),
                headers: response.headers().clone(),
                url: realm.clone(),
                response,
                pushback: None,
                idle: self.options.idle_timeout,
                secrets,
            };
            match answer.status {
                StatusCode::OK => {}
                // The token services of several vendors answer a wrong password with 400 or 403; one that denies
                // somebody it knows says so.
                StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(match answer.into_error(&call.at, secret.is_none()).await {
                        Error::Denied { at, said } if said.0.starts_with("DENIED") => Error::Denied { at, said },
                        _ => Error::Unauthorized {
                            at: at(),
                            anonymous: secret.is_none(),
                            said: Said::default(),
                        },
                    });
                }
                status if retry::is_transient(status) => {
                    return Err(answer.into_error(&call.at, secret.is_none()).await);
                }
                status => {
                    let problem = format!("the token service {} answers {status}", realm.host_str().unwrap_or(""));
                    return Err(Error::Protocol { at: at(), problem });
                }
            }
            let body = answer.bytes(&call.at, ANSWER_LIMIT).await?;
            let parsed: Option<TokenAnswer> = serde_json::from_slice(&body).ok();
            parsed.and_then(|answer| answer.into_token(asked)).ok_or_else(|| Error::Protocol {
                at: at(),
                problem: format!("the token service {} answers without a token", realm.host_str().unwrap_or("")),
            })
        };
        tokio::time::timeout(self.options.request_timeout, work).await.unwrap_or_else(|_| {
            Err(Error::Timeout {
                at: at(),
                what: format!("the token service did not answer for {} s", self.options.request_timeout.as_secs()),
            })
        })
    }

    /// Learns what the registry wants. False when the same call would only be refused again.
    pub(crate) async fn accept_challenge(
        &self,
        call: &Call<'_>,
        sent: Option<Authorization>,
        answer: &Answer,
        first: bool,
    ) -> Result<bool, Error> {
        // A proxy on the way may refuse without saying what it wants.
        let Some(wanted) = challenge::parse(&answer.headers).or_else(|| self.auth.challenge(&call.origin)) else {
            return Ok(false);
        };
        let bearer = matches!(wanted, Challenge::Bearer { .. });
        self.auth.remember(&call.origin, wanted);
        Ok(match sent {
            None if bearer => true,
            None => self.auth.secret(call.repository).is_some(),
            Some(Authorization { token: Some(token), .. }) if bearer => {
                Self::not_yet(call, answer, token.expose())?;
                self.auth.forget(&call.origin, call.repository, &call.scopes, &token).await;
                let changed = self.auth.read_again(call.repository);
                let fixed = matches!(self.auth.secret(call.repository), Some(Secret::Bearer(_)));
                changed || first || !fixed
            }
            Some(_) => self.auth.read_again(call.repository) || first,
        })
    }

    /// An error that asks for patience when the refused token is only to count later: the clocks differ, and another
    /// token would count even later.
    fn not_yet(call: &Call<'_>, answer: &Answer, token: &str) -> Result<(), Error> {
        let Some(from) = auth::not_before(token) else { return Ok(()) };
        let date = answer.header(DATE).and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let now = date.map_or_else(jiff::Timestamp::now, |date| date.timestamp()).as_second();
        let Ok(wait @ 1..) = u64::try_from(from.saturating_sub(now)) else {
            return Ok(());
        };
        Err(Error::Unavailable {
            at: Box::new(call.at.clone()),
            cause: format!("the token is valid only in {wait} s by its clock: the clocks of the registry and its token service differ"),
            retry_after: Some(Duration::from_secs(wait)),
        })
    }

    /// Forgets a token that was denied something; false when there is nothing newer to be had.
    pub(crate) async fn renew(&self, call: &Call<'_>, sent: Option<Authorization>) -> bool {
        let changed = self.auth.read_again(call.repository);
        let Some(Authorization { token: Some(token), .. }) = sent else {
            return changed;
        };
        self.auth.forget(&call.origin, call.repository, &call.scopes, &token).await;
        match self.auth.secret(call.repository) {
            Some(Secret::Bearer(_)) => changed,
            secret => secret.is_some(),
        }
    }
}
