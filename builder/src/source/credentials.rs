//! The Secret of a git repository or a web server as it is mounted: username and password, or a bearer token, and the hosts it
//! may be sent to.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use robotimage_registry::Password;
use url::Url;

use super::error::SourceError;
use super::web::{authority, names};

/// Largest value that is read, in bytes; Kubernetes Secrets end at 1 MiB.
const LIMIT: u64 = 1024 * 1024;

/// What such a Secret holds.
#[derive(Clone, Debug, Default)]
pub struct SourceSecret {
    auth: Option<Auth>,
    hosts: Vec<String>,
    ca: Option<Vec<u8>>,
}

#[derive(Clone, Debug)]
enum Auth {
    Basic { username: String, password: Password },
    Bearer(Password),
}

/// The value of an Authorization header.
#[derive(Clone)]
pub(super) struct Authorization(String);

impl Authorization {
    /// The value itself, for the two places that send it.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl SourceSecret {
    /// Reads the folder of a mounted Secret; `None` when it holds none of the keys that are known.
    pub fn load(folder: &Path) -> Result<Option<Self>, SourceError> {
        let username = text(folder, "username")?;
        let password = text(folder, "password")?;
        let bearer = text(folder, "bearerToken")?;
        let hosts = text(folder, "hosts")?;
        let ca = read(folder, "ca.crt")?;
        if username.is_none() && password.is_none() && bearer.is_none() && ca.is_none() {
            return Ok(None);
        }
        let missing = |problem: &str| SourceError::SecretMissing {
            problem: problem.to_owned(),
        };
        let auth = match (username, password, bearer) {
            (None, None, Some(token)) => Some(Auth::Bearer(Password::new(token))),
            (username, Some(password), None) => Some(Auth::Basic {
                // Servers that take tokens as passwords accept any name, but want one.
                username: username.unwrap_or_else(|| "git".to_owned()),
                password: Password::new(password),
            }),
            (Some(_), None, None) => return Err(missing("has a username and no password; add the key \"password\"")),
            (None, None, None) => None,
            (_, _, Some(_)) => return Err(missing("has a password and a bearerToken; keep one of them")),
        };
        let hosts = hosts.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        Ok(Some(Self { auth, hosts, ca }))
    }

    /// The authority that its `ca.crt` holds, in PEM.
    pub fn ca(&self) -> Option<&[u8]> {
        self.ca.as_deref()
    }

    /// The header for this address, if the Secret names its host or need not.
    pub(super) fn authorization(&self, url: &Url, require_hosts: bool) -> Result<Option<Authorization>, SourceError> {
        let Some(auth) = &self.auth else {
            return Ok(None);
        };
        if !names(&self.hosts, url) && (require_hosts || !self.hosts.is_empty()) {
            let named = if self.hosts.is_empty() {
                String::new()
            } else {
                format!(" (it names {})", self.hosts.join(", ").chars().take(200).collect::<String>())
            };
            return Err(SourceError::HostNotNamed {
                host: authority(url),
                named,
            });
        }
        Ok(Some(Authorization(match auth {
            Auth::Basic { username, password } => {
                let pair = format!("{username}:{}", password.expose());
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
            }
            Auth::Bearer(token) => format!("Bearer {}", token.expose()),
        })))
    }
}

fn read(folder: &Path, key: &str) -> Result<Option<Vec<u8>>, SourceError> {
    let path = folder.join(key);
    let io = |source| SourceError::Io {
        action: "read",
        path: path.clone(),
        source,
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, LIMIT), &mut bytes).map_err(io)?;
    Ok(Some(bytes))
}

/// A value as text, without the line end that editors add. An empty one counts as none.
fn text(folder: &Path, key: &str) -> Result<Option<String>, SourceError> {
    let Some(bytes) = read(folder, key)? else {
        return Ok(None);
    };
    let value = String::from_utf8(bytes).map_err(|_| SourceError::SecretMissing {
        problem: format!("has a key \"{key}\" that is not text"),
    })?;
    let value = value.trim_end_matches(['\n', '\r']);
    if key != "hosts" && value.chars().any(char::is_control) {
        return Err(SourceError::SecretMissing {
            problem: format!("has a line break or control character inside its key \"{key}\""),
        });
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(files: &[(&str, &str)]) -> Result<Option<SourceSecret>, SourceError> {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        SourceSecret::load(folder.path())
    }

    #[test]
    fn reads_what_is_there() {
        let url = Url::parse("https://git.example.com/a.git").unwrap();
        assert!(secret(&[]).unwrap().is_none());
        assert!(secret(&[("hosts", "a")]).unwrap().is_none());
        let basic = secret(&[("username", "u"), ("password", "p:w\n"), ("hosts", "other\ngit.example.com\n")])
            .unwrap()
            .unwrap();
        assert_eq!(basic.authorization(&url, true).unwrap().unwrap().expose(), "Basic dTpwOnc=");
        let bearer = secret(&[("bearerToken", "t0k"), ("hosts", "git.example.com:443")])
            .unwrap()
            .unwrap();
        assert_eq!(bearer.authorization(&url, true).unwrap().unwrap().expose(), "Bearer t0k");
        assert!(!format!("{basic:?} {bearer:?}").contains("t0k"));
        let ca = secret(&[("ca.crt", "PEM")]).unwrap().unwrap();
        assert!(ca.authorization(&url, true).unwrap().is_none() && ca.ca().is_some());
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(secret(&[("username", "u")]).unwrap_err().to_string().contains("password"));
        assert!(secret(&[("password", "p"), ("bearerToken", "t")]).is_err());
        assert!(secret(&[("password", "a\nb")]).is_err());
    }

    #[test]
    fn no_other_host_gets_it() {
        let url = Url::parse("https://evil.example.com:8443/a.git").unwrap();
        let named = secret(&[("password", "p"), ("hosts", "git.example.com")]).unwrap().unwrap();
        for require in [true, false] {
            let error = named.authorization(&url, require).unwrap_err();
            assert!(error.to_string().contains("evil.example.com:8443"), "{error}");
            assert_eq!(error.reason().as_str(), "CredentialHostMismatch");
        }
        let unnamed = secret(&[("password", "p")]).unwrap().unwrap();
        assert!(unnamed.authorization(&url, true).is_err());
        assert!(unnamed.authorization(&url, false).unwrap().is_some());
    }
}
