//! Credentials in docker's configuration format, as Kubernetes Secrets of type `dockerconfigjson` carry them.
//!
//! Invariant: a secret is handed out only for the registry, and the path below it, that its key names; nothing here
//! prints one, and no error quotes the file.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::GeneralPurposeConfig;
use base64::engine::{DecodePaddingMode, GeneralPurpose};
use serde::Deserialize;

use crate::reference::DOCKER_HUB;

/// A configuration file larger than this, in bytes, is refused. Kubernetes Secrets end at the same size.
const FILE_LIMIT: u64 = 1024 * 1024;

/// Some tools write the `auth` field without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A string that must not be shown; its `Debug` form is `***`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(String);

impl Password {
    /// Wraps a secret string.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What proves an identity to a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Secret {
    /// A user name and a password or access token.
    Basic {
        /// The user name.
        username: String,
        /// The password.
        password: Password,
    },
    /// An OAuth2 refresh token (`identitytoken`), exchanged at the token endpoint.
    Identity(Password),
    /// A bearer token for the registry itself (`registrytoken`).
    Bearer(Password),
}

/// Why a credentials file cannot be used. Names the file and the key, never a value.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file cannot be read.
    #[error("cannot read the registry credentials {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not a configuration file.
    #[error("registry credentials larger than {FILE_LIMIT} bytes are refused")]
    TooLarge,
    /// Not JSON of the expected shape.
    #[error("registry credentials are not a docker config.json: see line {line}, column {column}")]
    Malformed {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// An entry whose `auth` is not base64 of `user:password`.
    #[error("registry credentials for {key:?}: `auth` is not the base64 form of user:password")]
    Auth {
        /// The key of the entry.
        key: String,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    host: String,
    /// Empty, or the path a key names below the host, without slashes at its ends.
    path: String,
    secret: Secret,
}

/// All credentials of one source.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    entries: Vec<Entry>,
    /// Where they were read, to be read again when a registry refuses them: a mounted Secret is rotated while we run.
    file: Option<PathBuf>,
}

#[derive(Deserialize)]
struct ConfigFile {
    #[serde(default)]
    auths: std::collections::BTreeMap<String, AuthEntry>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
    #[serde(default, rename = "credHelpers")]
    helpers: std::collections::BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct AuthEntry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl Credentials {
    /// No credentials: every request is anonymous.
    pub fn none() -> Self {
        Self::default()
    }

    /// Reads the content of a docker `config.json` or of a Secret's `.dockerconfigjson`.
    pub fn from_docker_config(json: &[u8]) -> Result<Self, CredentialsError> {
        if json.len() as u64 > FILE_LIMIT {
            return Err(CredentialsError::TooLarge);
        }
        // serde's own message may quote a value, so only the position is kept.
        let file: ConfigFile = serde_json::from_slice(json).map_err(|error| CredentialsError::Malformed {
            line: error.line(),
            column: error.column(),
        })?;
        let mut entries = Vec::new();
        for (key, entry) in file.auths {
            if let Some(secret) = entry.into_secret(&key)? {
                let (host, path) = split_key(&key);
                if host.is_empty() {
                    tracing::warn!("an entry of `auths` names no registry and is never used");
                }
                entries.push(Entry { host, path, secret });
            }
        }
        if entries.is_empty() && (file.store.is_some() || !file.helpers.is_empty()) {
            tracing::warn!(
                "the docker configuration keeps its credentials in a helper program, which is not used; write them into `auths`"
            );
        }
        Ok(Self { entries, file: None })
    }

    /// Reads such a file. A client reads it again when a registry refuses what stood in it.
    pub fn from_file(path: &Path) -> Result<Self, CredentialsError> {
        let read = |source| CredentialsError::Read {
            path: path.to_owned(),
            source,
        };
        let mut json = Vec::new();
        let file = std::fs::File::open(path).map_err(read)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, FILE_LIMIT + 1), &mut json).map_err(read)?;
        Ok(Self {
            file: Some(path.to_owned()),
            ..Self::from_docker_config(&json)?
        })
    }

    /// What stands in the file now; `None` for credentials that came from no file.
    pub(crate) fn read_again(&self) -> Option<Result<Self, CredentialsError>> {
        self.file.as_deref().map(Self::from_file)
    }

    /// What a command line uses: `$REGISTRY_AUTH_FILE`, else `$DOCKER_CONFIG/config.json`, else
    /// `~/.docker/config.json`, else `$XDG_RUNTIME_DIR/containers/auth.json`. A file that a variable names must exist; without
    /// any of them the requests are anonymous.
    pub fn from_environment() -> Result<Self, CredentialsError> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(path) = variable("REGISTRY_AUTH_FILE") {
            return Self::from_file(&path);
        }
        if let Some(directory) = variable("DOCKER_CONFIG") {
            return Self::from_file(&directory.join("config.json"));
        }
        let defaults = [
            variable("HOME").map(|home| home.join(".docker/config.json")),
            variable("XDG_RUNTIME_DIR").map(|run| run.join("containers/auth.json")),
        ];
        match defaults.into_iter().flatten().find(|path| path.exists()) {
            Some(path) => Self::from_file(&path),
            None => Ok(Self::none()),
        }
    }

    /// Every value that must appear nowhere: passwords and tokens, of all registries.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| match &entry.secret {
            Secret::Basic { password, .. } => password.expose(),
            Secret::Identity(token) | Secret::Bearer(token) => token.expose(),
        })
    }

    /// The secret for a repository: of the keys whose host fits (`*` stands for any part of one label) and whose path
    /// is a parent of `repository`, the one with the longest path, then the one without `*`.
    pub fn lookup(&self, host: &str, repository: &str) -> Option<&Secret> {
        let host = canonical_host(host);
        self.entries
            .iter()
            // A key without a host is for nobody; it stays among `values`, because its password is a secret all the same.
            .filter(|entry| !entry.host.is_empty() && host_fits(&entry.host, &host) && path_fits(&entry.path, repository))
            .max_by_key(|entry| (entry.path.len(), !entry.host.contains('*')))
            .map(|entry| &entry.secret)
    }
}

impl AuthEntry {
    /// `None` for the empty entries that docker writes when a helper holds the secret.
    fn into_secret(self, key: &str) -> Result<Option<Secret>, CredentialsError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Secret::Identity(Password::new(self.identitytoken))));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Secret::Bearer(Password::new(self.registrytoken))));
        }
        let (username, password) = if self.auth.is_empty() {
            (self.username, self.password)
        } else {
            // The key is somebody's input as well; the host that it begins with is enough to find it.
            let wrong = || CredentialsError::Auth {
                key: key.chars().take(100).collect(),
            };
            let decoded = BASE64.decode(self.auth.trim()).map_err(|_| wrong())?;
            let text = String::from_utf8(decoded).map_err(|_| wrong())?;
            let (username, password) = text.split_once(':').ok_or_else(wrong)?;
            // Old docker versions padded the password with NUL bytes.
            (username.to_owned(), password.trim_end_matches('\0').to_owned())
        };
        if username.is_empty() && password.is_empty() {
            return Ok(None);
        }
        Ok(Some(Secret::Basic {
            username,
            password: Password::new(password),
        }))
    }
}

/// Splits a key such as `https://index.docker.io/v1/` or `registry.example.com/team` into host and path.
fn split_key(key: &str) -> (String, String) {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let path = path.trim_matches('/');
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    (canonical_host(host), path.to_owned())
}

/// Docker Hub has three names; a default port is no difference.
fn canonical_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(":443").unwrap_or(&host);
    match host {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

fn host_fits(pattern: &str, host: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == host;
    }
    let (pattern_labels, labels) = (pattern.split('.'), host.split('.'));
    pattern_labels.clone().count() == labels.clone().count()
        && pattern_labels.zip(labels).all(|(pattern, label)| match pattern.split_once('*') {
            None => pattern == label,
            Some((before, after)) => label.len() >= before.len() + after.len() && label.starts_with(before) && label.ends_with(after),
        })
}

fn path_fits(parent: &str, repository: &str) -> bool {
    parent.is_empty()
        || repository
            .strip_prefix(parent)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(credentials: &Credentials, host: &str, repository: &str) -> Option<String> {
        match credentials.lookup(host, repository)? {
            Secret::Basic { username, .. } => Some(username.clone()),
            other => Some(format!("{other:?}")),
        }
    }

    #[test]
    fn the_most_specific_key_wins() {
        let json = br#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHVieTpwdw=="},
            "registry.example.com": {"username": "root", "password": "a"},
            "registry.example.com/team": {"auth": "dGVhbTpwOnE"},
            "https://registry.example.com/team/robots/": {"username": "robots", "password": "c"},
            "*.glob.example.com": {"username": "star", "password": "d"},
            "x.glob.example.com": {"username": "exact", "password": "d"},
            "acr.example.com": {"auth": "PHRva2VuPjo=", "identitytoken": "refresh-me"},
            "tok.example.com:5000": {"registrytoken": "bearer-me"},
            "empty.example.com": {}
        }, "HttpHeaders": {"User-Agent": "x"}}"#;
        let credentials = Credentials::from_docker_config(json).unwrap();
        let table = [
            ("docker.io", "library/debian", Some("huby")),
            ("registry-1.docker.io", "library/debian", Some("huby")),
            ("registry.example.com", "other", Some("root")),
            ("registry.example.com:443", "other", Some("root")),
            ("REGISTRY.example.com", "other", Some("root")),
            ("registry.example.com", "team/x", Some("team")),
            ("registry.example.com", "teams", Some("root")),
            ("registry.example.com", "team/robots", Some("robots")),
            ("registry.example.com:5000", "team", None),
            ("evil-registry.example.com", "team", None),
            ("y.glob.example.com", "a", Some("star")),
            ("x.glob.example.com", "a", Some("exact")),
            ("a.b.glob.example.com", "a", None),
            ("acr.example.com", "a", Some("Identity(***)")),
            ("tok.example.com:5000", "a", Some("Bearer(***)")),
            ("empty.example.com", "a", None),
        ];
        for (host, repository, expected) in table {
            assert_eq!(user(&credentials, host, repository).as_deref(), expected, "{host}/{repository}");
        }
        let Some(Secret::Basic { password, .. }) = credentials.lookup("registry.example.com", "team") else {
            panic!()
        };
        assert_eq!(password.expose(), "p:q", "only the first colon separates");
        let values: Vec<&str> = credentials.values().collect();
        assert_eq!(values.len(), 8);
        assert!(["p:q", "refresh-me", "bearer-me"].iter().all(|value| values.contains(value)));
    }

    #[test]
    fn nothing_secret_is_printed() {
        let json = br#"{"auths": {"r.example.com": {"username": "u", "password": "hunter2"}}}"#;
        let text = format!("{:?}", Credentials::from_docker_config(json).unwrap());
        assert!(!text.contains("hunter2") && text.contains("***"), "{text}");
        for bad in [
            r#"{"auths": {"r.example.com": "hunter2"}}"#,
            r#"{"auths": {"r.example.com": {"auth": "hunter2!"}}}"#,
            r#"{"auths": {"r.example.com": {"auth": "aHVudGVyMg=="}}}"#,
            "hunter2",
            "",
        ] {
            let error = Credentials::from_docker_config(bad.as_bytes()).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        assert!(matches!(
            Credentials::from_docker_config(&vec![b' '; 2 << 20]),
            Err(CredentialsError::TooLarge)
        ));
    }

    #[test]
    fn a_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let write = |password: &str| {
            let json = serde_json::json!({"auths": {"r.example.com": {"username": "u", "password": password}}});
            std::fs::write(&path, json.to_string()).unwrap();
        };
        write("old");
        let before = Credentials::from_file(&path).unwrap();
        write("new");
        let after = before.read_again().unwrap().unwrap();
        assert_ne!(before.lookup("r.example.com", "a"), after.lookup("r.example.com", "a"));
        assert!(after.read_again().is_some() && Credentials::none().read_again().is_none());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Credentials::from_file(Path::new("/nonexistent/config.json")).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/config.json"), "{error}");
    }
}
