//! The certificates of the proxy's doors: a good one, and those that must not be trusted.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};

/// Which certificate is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Valid for 127.0.0.1.
    Good,
    /// Signed by an authority that nobody knows.
    UnknownAuthority,
    /// Valid until some years ago.
    Expired,
    /// Valid for another name.
    WrongName,
}

/// A certificate authority in memory.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<CertifiedIssuer<'static, KeyPair>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    pub fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "fault proxy CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(|error| failed(&error))?;
        Ok(Self { issuer: Arc::new(issuer) })
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    fn issue(&self, shown: Shown) -> Result<Arc<CertifiedKey>> {
        let name = if shown == Shown::WrongName {
            "elsewhere.example"
        } else {
            "127.0.0.1"
        };
        let mut params = CertificateParams::new(vec![name.to_owned()]).map_err(|error| failed(&error))?;
        if shown == Shown::Expired {
            params.not_before = rcgen::date_time_ymd(2019, 1, 1);
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let stranger;
        let issuer = if shown == Shown::UnknownAuthority {
            stranger = Self::new()?;
            &stranger.issuer
        } else {
            &self.issuer
        };
        let key = KeyPair::generate().map_err(|error| failed(&error))?;
        let certificate = params.signed_by(&key, &**issuer).map_err(|error| failed(&error))?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let certified = CertifiedKey::from_der(vec![certificate.der().clone()], key, &aws_lc_rs::default_provider());
        certified.map(Arc::new).map_err(|error| Error::Certificate {
            name: name.to_owned(),
            why: error.to_string(),
        })
    }
}

fn failed(error: &rcgen::Error) -> Error {
    Error::Certificate {
        name: "fault proxy".into(),
        why: error.to_string(),
    }
}

/// The certificate that is shown now.
#[derive(Debug)]
pub(super) struct Switch {
    authority: Authority,
    now: Arc<Now>,
}

#[derive(Debug)]
struct Now(Mutex<Arc<CertifiedKey>>);

impl ResolvesServerCert for Now {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Switch {
    pub(super) fn new(authority: &Authority) -> Result<Self> {
        let now = Arc::new(Now(Mutex::new(authority.issue(Shown::Good)?)));
        Ok(Self {
            authority: authority.clone(),
            now,
        })
    }

    pub(super) fn show(&self, shown: Shown) -> Result<()> {
        let key = self.authority.issue(shown)?;
        *self.now.0.lock().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }

    pub(super) fn acceptor(&self) -> Result<TlsAcceptor> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::Other(format!("TLS of the fault proxy: {error}")))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&self.now) as Arc<dyn ResolvesServerCert>);
        // Nobody resumes a session of a server whose certificate has changed meanwhile.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
