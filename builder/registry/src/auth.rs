//! Who we are to a registry: known challenges, tokens, and when to ask anew.
//!
//! Invariant: a secret goes to the registry its key names and to the token service that this registry names, nowhere
//! else; one token is asked for once however many calls need it. Credentials that came from a file are read again when
//! they are refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::challenge::Challenge;
use crate::credentials::{Credentials, Password, Secret};
use crate::reference::Repository;

/// Tokens kept at most; the oldest knowledge is simply dropped beyond that.
const CACHE_LIMIT: usize = 1024;
/// Lifetime of a token that does not say it: the token specification's minimum.
const DEFAULT_LIFETIME: Duration = Duration::from_mins(1);

/// What a call may do, in the words of the token specification, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Scopes(pub(crate) Vec<String>);

impl Scopes {
    pub(crate) fn pull(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull", repository.name())])
    }

    pub(crate) fn push(repository: &Repository) -> Self {
        Self(vec![format!("repository:{}:pull,push", repository.name())])
    }

    /// Pushing to one repository with the right to read another: what a mount needs.
    pub(crate) fn mount(to: &Repository, from: &Repository) -> Self {
        let mut scopes = vec![Self::pull(from).0.remove(0), Self::push(to).0.remove(0)];
        scopes.sort();
        Self(scopes)
    }
}

/// An `Authorization` header, with what must not be shown of it.
#[derive(Clone)]
pub(crate) struct Authorization {
    pub(crate) header: HeaderValue,
    pub(crate) secrets: Vec<String>,
    /// The token in use; `None` for a user name and password.
    pub(crate) token: Option<Password>,
}

impl Authorization {
    pub(crate) fn basic(username: &str, password: &Password) -> Option<Self> {
        let encoded = STANDARD.encode(format!("{username}:{}", password.expose()));
        let header = sensitive(&format!("Basic {encoded}"))?;
        Some(Self {
            header,
            secrets: vec![password.expose().to_owned(), encoded],
            token: None,
        })
    }

    pub(crate) fn bearer(token: &Password) -> Option<Self> {
        let header = sensitive(&format!("Bearer {}", token.expose()))?;
        Some(Self {
            header,
            secrets: vec![token.expose().to_owned()],
            token: Some(token.clone()),
        })
    }
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A token and until when it is used: 80 % of its life.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) value: Password,
    pub(crate) fresh_until: Instant,
}

/// What the token service answers.
#[derive(Deserialize)]
pub(crate) struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl TokenAnswer {
    /// The token, counted from `asked`; `None` when the answer holds none.
    pub(crate) fn into_token(self, asked: Instant) -> Option<Token> {
        let value = if self.token.is_empty() { self.access_token } else { self.token };
        if value.is_empty() {
            return None;
        }
        let lifetime = self
            .expires_in
            .map_or(DEFAULT_LIFETIME, |seconds| Duration::from_secs(seconds.min(86_400)));
        Some(Token {
            value: Password::new(value),
            fresh_until: asked + lifetime.mul_f64(0.8),
        })
    }
}

/// From when on a token counts, in seconds since 1970, as it says itself. Nothing is verified: it only tells a clock that
/// runs ahead from a wrong password.
pub(crate) fn not_before(token: &str) -> Option<i64> {
    #[derive(Deserialize)]
    struct Claims {
        nbf: Option<i64>,
    }
    let claims = token.split('.').nth(1)?;
    let json = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    serde_json::from_slice::<Claims>(&json).ok()?.nbf
}

type Cell = Arc<tokio::sync::Mutex<Option<Token>>>;
type TokenKey = (String, String, Scopes);

/// The state of one client.
pub(crate) struct Authenticator {
    credentials: Mutex<Credentials>,
    challenges: Mutex<HashMap<String, Challenge>>,
    /// Whether a registry has answered yet.
    met: Mutex<HashMap<String, Arc<tokio::sync::Mutex<bool>>>>,
    tokens: Mutex<HashMap<TokenKey, Cell>>,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator")
            .field("credentials", &*lock(&self.credentials))
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials: Mutex::new(credentials),
            challenges: Mutex::default(),
            met: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    pub(crate) fn secret(&self, repository: &Repository) -> Option<Secret> {
        lock(&self.credentials).lookup(repository.registry(), repository.name()).cloned()
    }

    /// Reads the credentials' file again; a file that is broken or gone leaves what is known, which the registry then
    /// refuses by itself. True when there is another secret for the repository than before.
    pub(crate) fn read_again(&self, repository: &Repository) -> bool {
        let before = self.secret(repository);
        let read = lock(&self.credentials).read_again();
        match read {
            Some(Ok(credentials)) => *lock(&self.credentials) = credentials,
            Some(Err(error)) => tracing::warn!(%error, "the credentials were refused and cannot be read again"),
            None => {}
        }
        self.secret(repository) != before
    }

    /// Whether the registry has answered yet. Whoever finds that it has not holds the lock until it has: one request is
    /// enough to learn what it asks for.
    pub(crate) fn met(&self, origin: &Url) -> Arc<tokio::sync::Mutex<bool>> {
        let mut met = lock(&self.met);
        if met.len() >= CACHE_LIMIT {
            met.clear();
        }
        Arc::clone(met.entry(key(origin)).or_default())
    }

    /// What the registry asked for last time.
    pub(crate) fn challenge(&self, origin: &Url) -> Option<Challenge> {
        lock(&self.challenges).get(&key(origin)).cloned()
    }

    pub(crate) fn remember(&self, origin: &Url, challenge: Challenge) {
        let mut challenges = lock(&self.challenges);
        if challenges.len() >= CACHE_LIMIT {
            challenges.clear();
        }
        challenges.insert(key(origin), challenge);
    }

    /// The place of a token. Whoever holds its lock asks for the token; everybody else waits for it.
    pub(crate) fn cell(&self, origin: &Url, repository: &Repository, scopes: &Scopes) -> Cell {
        let mut tokens = lock(&self.tokens);
        if *scopes == Scopes::pull(repository) {
            // Whoever may push may read what was pushed: that saves a request.
            let pushing = tokens.get(&(key(origin), repository.name().to_owned(), Scopes::push(repository)));
            if let Some(cell) = pushing.filter(|cell| is_fresh(cell)) {
                return Arc::clone(cell);
            }
        }
        if tokens.len() >= CACHE_LIMIT {
            tokens.clear();
        }
        // The repository is part of the key, since credentials may differ from path to path.
        Arc::clone(
            tokens
                .entry((key(origin), repository.name().to_owned(), scopes.clone()))
                .or_default(),
        )
    }

    /// Forgets a token that was refused, unless another call has replaced it already.
    pub(crate) async fn forget(&self, origin: &Url, repository: &Repository, scopes: &Scopes, refused: &Password) {
        let cell = self.cell(origin, repository, scopes);
        let mut slot = cell.lock().await;
        if slot.as_ref().is_some_and(|token| token.value == *refused) {
            *slot = None;
        }
    }
}

fn is_fresh(cell: &Cell) -> bool {
    let slot = cell.try_lock();
    slot.is_ok_and(|slot| slot.as_ref().is_some_and(|token| token.fresh_until > Instant::now()))
}

fn key(origin: &Url) -> String {
    origin.origin().ascii_serialization()
}

/// The maps hold no invariant that a panic could break.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_for_four_fifths_of_its_life() {
        let asked = Instant::now();
        let table = [
            (r#"{"token":"a"}"#, Some(48)),
            (r#"{"access_token":"a","expires_in":300,"issued_at":"x"}"#, Some(240)),
            (r#"{"token":"a","access_token":"b","expires_in":0}"#, Some(0)),
            (r#"{"token":"a","expires_in":99999999999}"#, Some(69_120)),
            (r"{}", None),
            (r#"{"token":""}"#, None),
        ];
        for (json, expected) in table {
            let answer: TokenAnswer = serde_json::from_str(json).unwrap();
            let token = answer.into_token(asked);
            assert_eq!(token.map(|token| (token.fresh_until - asked).as_secs()), expected, "{json}");
        }
    }

    #[test]
    fn tokens_say_from_when_they_count() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(not_before(&token(r#"{"nbf":1800000000,"exp":1}"#)), Some(1_800_000_000));
        for other in [
            token("{}"),
            token(r#"{"nbf":"x"}"#),
            token("no"),
            "opaque".to_owned(),
            "a.b.c".to_owned(),
        ] {
            assert_eq!(not_before(&other), None, "{other}");
        }
    }

    #[test]
    fn a_mount_has_both_scopes() {
        let (to, from) = (Repository::parse("r.io/b/to").unwrap(), Repository::parse("r.io/a/from").unwrap());
        assert_eq!(Scopes::mount(&to, &from).0, ["repository:a/from:pull", "repository:b/to:pull,push"]);
    }

    #[test]
    fn a_secret_that_no_header_can_carry_is_no_panic() {
        assert!(Authorization::bearer(&Password::new("a\nb")).is_none());
        assert!(
            Authorization::basic("ü", &Password::new("a\nb")).is_some(),
            "base64 carries anything"
        );
    }
}
