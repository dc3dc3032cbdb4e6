//! The test bed's own certificate authority, and certificates for its servers and clients.
//!
//! Invariant: keys stay in files of mode 0600 below the run folder; nothing signed here is trusted outside a test bed.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

use crate::error::{Error, Result};

/// A certificate authority in a folder: `ca.crt`, `ca.key`.
#[derive(Debug, Clone)]
pub struct Authority {
    folder: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// The key, PEM, PKCS #8.
    pub key: PathBuf,
}

impl Authority {
    /// Makes a new authority in `folder`, or opens the one that is there.
    pub fn open(folder: &Path) -> Result<Self> {
        let authority = Self { folder: folder.to_owned() };
        if authority.certificate().exists() {
            return Ok(authority);
        }
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let key = new_key("ca")?;
        let certificate = authority_params()?.self_signed(&key).map_err(failed("ca"))?;
        write(&folder.join("ca.key"), &key.serialize_pem(), 0o600)?;
        write(&authority.certificate(), &certificate.pem(), 0o644)?;
        Ok(authority)
    }

    /// The authority's certificate file.
    pub fn certificate(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// The authority's certificate, PEM.
    pub fn pem(&self) -> Result<String> {
        let path = self.certificate();
        fs::read_to_string(&path).map_err(Error::io("read", path))
    }

    /// A certificate for a server or client, valid for `names` (DNS names and IP addresses), as `NAME.crt`, `NAME.key`.
    pub fn issue(&self, name: &str, subject: &str, organization: Option<&str>, names: &[&str]) -> Result<Issued> {
        let key_path = self.folder.join("ca.key");
        let ca_key = fs::read_to_string(&key_path).map_err(Error::io("read", &key_path))?;
        let ca_key = KeyPair::from_pem(&ca_key).map_err(failed("ca"))?;
        let issuer = Issuer::new(authority_params()?, ca_key);
        let key = new_key(name)?;
        let certificate = params(subject, organization, names)?
            .signed_by(&key, &issuer)
            .map_err(failed(name))?;
        let issued = Issued {
            certificate: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        write(&issued.certificate, &certificate.pem(), 0o644)?;
        write(&issued.key, &key.serialize_pem(), 0o600)?;
        Ok(issued)
    }

    /// A bare key pair, for service account tokens: `NAME.key` and `NAME.pub`.
    pub fn key_pair(&self, name: &str) -> Result<(PathBuf, PathBuf)> {
        let key = new_key(name)?;
        let (private, public) = (self.folder.join(format!("{name}.key")), self.folder.join(format!("{name}.pub")));
        write(&private, &key.serialize_pem(), 0o600)?;
        write(&public, &key.public_key_pem(), 0o644)?;
        Ok((private, public))
    }
}

/// The same for every authority: an issuer is then known by its key alone, and need not be parsed from its certificate.
fn authority_params() -> Result<CertificateParams> {
    let mut params = params("robotimage test bed CA", None, &[])?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.extended_key_usages.clear();
    Ok(params)
}

fn params(subject: &str, organization: Option<&str>, names: &[&str]) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, subject);
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name = name;
    params.use_authority_key_identifier_extension = true;
    for name in names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName((*name).try_into().map_err(failed(name))?),
        });
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn new_key(name: &str) -> Result<KeyPair> {
    KeyPair::generate().map_err(failed(name))
}

fn failed(name: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let name = name.to_owned();
    move |error| Error::Certificate {
        name,
        why: error.to_string(),
    }
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    options.create(true).write(true).truncate(true).mode(mode);
    let mut file = options.open(path).map_err(Error::io("create", path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("write", path))
}
