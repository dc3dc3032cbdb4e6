//! A token service as registries have them beside them: it knows users, and signs tokens that distribution accepts.
//!
//! Invariant: a token names only rights that its user has; the key is in memory alone and lives as long as the service.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType, KeyPair, SigningKey};
use serde_json::json;

use crate::error::{Error, Result};
use crate::pki::Issued;
use crate::web::Server;

/// The service's name, in challenges and tokens.
pub const SERVICE: &str = "registry.testbed";
/// Who signs.
pub const ISSUER: &str = "token service of the test bed";

/// A user, who may pull and push everywhere but in repositories that begin with `private/`.
#[derive(Debug, Clone)]
pub struct User {
    /// The password: do not print it.
    pub password: String,
    /// How many seconds a token is good for.
    pub lifetime: u64,
    /// How many seconds this service's clock runs ahead of the registry's.
    pub ahead: u64,
}

impl User {
    /// With tokens for five minutes and a right clock.
    pub fn new(password: impl Into<String>) -> Self {
        Self {
            password: password.into(),
            lifetime: 300,
            ahead: 0,
        }
    }
}

/// A running service; dropping it ends it.
#[derive(Debug)]
pub struct TokenService {
    server: Server,
    shared: Arc<Shared>,
    bundle: PathBuf,
}

#[derive(Debug)]
struct Shared {
    key: KeyPair,
    certificate: String,
    users: Mutex<HashMap<String, User>>,
}

impl TokenService {
    /// Starts it on a free port of 127.0.0.1, over https when there is a certificate for that. What it signs tokens with is
    /// told in `folder`, for the registry.
    pub fn start(folder: &Path, tls: Option<Issued>) -> Result<Self> {
        let failed = |error: rcgen::Error| Error::Certificate {
            name: ISSUER.into(),
            why: error.to_string(),
        };
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, ISSUER);
        let certificate = params.self_signed(&key).map_err(failed)?;
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let bundle = folder.join(if tls.is_some() { "tokens-over-tls.crt" } else { "tokens.crt" });
        std::fs::write(&bundle, certificate.pem()).map_err(Error::io("write", &bundle))?;
        let shared = Arc::new(Shared {
            key,
            certificate: STANDARD.encode(certificate.der()),
            users: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        Ok(Self {
            server: Server::start("127.0.0.1:0", tls, router)?,
            shared,
            bundle,
        })
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.server.address()
    }

    /// Adds a user, or puts another in its place.
    pub fn set(&self, name: &str, user: User) {
        self.shared.users().insert(name.to_owned(), user);
    }

    /// What the registry's configuration says under `auth`.
    pub fn configuration(&self) -> serde_json::Value {
        json!({"token": {
            "realm": format!("{}/token", self.server.url()), "service": SERVICE, "issuer": ISSUER, "rootcertbundle": self.bundle,
        }})
    }
}

impl Shared {
    fn users(&self) -> MutexGuard<'_, HashMap<String, User>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A signed token; `None` when the key fails.
    fn token(&self, name: &str, user: &User, access: &[serde_json::Value]) -> Option<String> {
        let now = u64::try_from(jiff::Timestamp::now().as_second()).ok()? + user.ahead;
        let encoded = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = encoded(json!({"typ": "JWT", "alg": "ES256", "x5c": [self.certificate]}));
        let claims = encoded(json!({
            "iss": ISSUER, "sub": name, "aud": SERVICE, "nbf": now, "iat": now, "exp": now + user.lifetime,
            "jti": format!("{name}-{now}"), "access": access,
        }));
        let signed = format!("{head}.{claims}");
        let signature = bare(&self.key.sign(signed.as_bytes()).ok()?)?;
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}

/// The two numbers of an ECDSA signature, side by side, out of their DER form.
fn bare(der: &[u8]) -> Option<[u8; 64]> {
    let mut rest = der.get(2..)?;
    let mut both = [0; 64];
    for half in both.chunks_exact_mut(32) {
        let length = usize::from(*rest.get(1)?);
        let number = rest.get(2..2 + length)?;
        let number = &number[number.iter().position(|byte| *byte != 0).unwrap_or(length)..];
        half.get_mut(32_usize.checked_sub(number.len())?..)?.copy_from_slice(number);
        rest = rest.get(2 + length..)?;
    }
    Some(both)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let login = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
        .and_then(|text| String::from_utf8(STANDARD.decode(text).ok()?).ok());
    let user = login
        .as_deref()
        .and_then(|login| login.split_once(':'))
        .and_then(|(name, password)| {
            let user = shared.users().get(name).cloned()?;
            (user.password == password).then(|| (name.to_owned(), user))
        });
    let Some((name, user)) = user else {
        let document = json!({"errors": [{"code": "UNAUTHORIZED", "message": "no such user with such a password"}]});
        return (
            StatusCode::UNAUTHORIZED,
            [(header::CONTENT_TYPE, "application/json")],
            document.to_string(),
        )
            .into_response();
    };
    let access: Vec<serde_json::Value> = url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes())
        .filter(|(key, _)| key == "scope")
        .filter_map(|(_, scope)| {
            let mut parts = scope.splitn(3, ':');
            let (kind, repository, actions) = (parts.next()?, parts.next()?, parts.next()?);
            let actions: Vec<&str> = actions.split(',').filter(|_| !repository.starts_with("private/")).collect();
            Some(json!({"type": kind, "name": repository, "actions": actions}))
        })
        .collect();
    match shared.token(&name, &user, &access) {
        Some(token) => {
            let document = json!({"token": token, "expires_in": user.lifetime});
            ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
        }
        None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_padded_and_stripped() {
        let mut der = vec![0x30, 0, 2, 33, 0];
        der.extend([0xff; 32]);
        der.extend([2, 1, 7]);
        let both = bare(&der).unwrap();
        assert_eq!((both[0], both[31], both[62], both[63]), (0xff, 0xff, 0, 7));
        assert_eq!(bare(&[0x30, 0, 2, 40]), None);
        assert_eq!(bare(&[]), None);
    }
}
