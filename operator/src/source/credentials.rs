//! What a git Secret holds, and where it may be sent.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::ByteString;
use robotimage_crds::reason::Reason;
use url::Url;

use super::SourceFailure;

/// Key that lists the hosts a Secret may be sent to, separated by spaces or line ends: `host` or `host:port`.
pub const HOSTS_KEY: &str = "hosts";

/// Credentials of one git host. Debug shows none of it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct GitCredentials {
    authorization: Option<String>,
    ca: Option<Vec<u8>>,
    hosts: Vec<String>,
}

impl fmt::Debug for GitCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GitCredentials").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

impl GitCredentials {
    /// Reads the documented keys of a Secret.
    pub fn of(name: &str, data: &BTreeMap<String, ByteString>) -> Result<Self, SourceFailure> {
        let text = |key: &str| {
            let Some(value) = data.get(key).filter(|value| !value.0.is_empty()) else {
                return Ok(None);
            };
            std::str::from_utf8(&value.0)
                .map(|text| Some(text.trim_end_matches(['\r', '\n']).to_owned()))
                .map_err(|_| SourceFailure::new(Reason::SecretMissing, format!("key {key} of Secret {name} is not text")))
        };
        let authorization = match (text("bearerToken")?, text("username")?, text("password")?) {
            (Some(_), _, Some(_)) => {
                return Err(SourceFailure::new(
                    Reason::SecretMissing,
                    format!("Secret {name} has a password and a bearerToken; keep one of them"),
                ));
            }
            (Some(token), _, None) => Some(format!("Bearer {token}")),
            (None, username, Some(password)) => {
                // Servers that take a token as password accept any user name; `git` is what they document.
                let username = username.unwrap_or_else(|| "git".to_owned());
                Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
            }
            (None, Some(_), None) => {
                return Err(SourceFailure::new(
                    Reason::SecretMissing,
                    format!("Secret {name} has a username and no password"),
                ));
            }
            (None, None, None) => None,
        };
        let ca = data.get("ca.crt").map(|value| value.0.clone());
        if authorization.is_none() && ca.is_none() {
            return Err(SourceFailure::new(
                Reason::SecretMissing,
                format!("Secret {name} has none of the keys username and password, bearerToken, ca.crt"),
            ));
        }
        if authorization
            .as_ref()
            .is_some_and(|value| value.bytes().any(|b| b < 0x20 || b == 0x7f))
        {
            return Err(SourceFailure::new(
                Reason::SecretMissing,
                format!("a credential in Secret {name} holds a control character"),
            ));
        }
        let hosts = text(HOSTS_KEY)?.unwrap_or_default();
        let hosts = hosts.split_whitespace().map(str::to_ascii_lowercase).collect();
        Ok(Self { authorization, ca, hosts })
    }

    /// Refuses a host that the Secret does not name. A Secret that names none passes where the platform does not demand it.
    pub fn check_host(&self, name: &str, url: &Url, required: bool) -> Result<(), SourceFailure> {
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        let port = url.port_or_known_default().unwrap_or_default();
        let with_port = format!("{host}:{port}");
        let named = self.hosts.iter().any(|listed| *listed == host || *listed == with_port);
        // Without a credential there is nothing to send.
        if named || self.authorization.is_none() || self.hosts.is_empty() && !required {
            return Ok(());
        }
        Err(SourceFailure::new(
            Reason::CredentialHostMismatch,
            format!("Secret {name} does not name the host {host} in its key {HOSTS_KEY}; add it there if the Secret may be sent to it"),
        ))
    }

    /// Whether it names its hosts: without names it is for the host of the source's address alone.
    pub(super) fn names_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Value of the header Authorization.
    pub(super) fn authorization(&self) -> Option<&str> {
        self.authorization.as_deref()
    }

    /// Certificates to trust, PEM.
    pub(super) fn ca(&self) -> Option<&[u8]> {
        self.ca.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &str)]) -> Result<GitCredentials, SourceFailure> {
        let data = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect();
        GitCredentials::of("git", &data)
    }

    #[test]
    fn headers() {
        let basic = secret(&[("username", "ada"), ("password", "s3cret\n")]).unwrap();
        assert_eq!(basic.authorization(), Some("Basic YWRhOnMzY3JldA=="));
        assert_eq!(secret(&[("bearerToken", "tok")]).unwrap().authorization(), Some("Bearer tok"));
        assert_eq!(secret(&[("password", "tok")]).unwrap().authorization(), Some("Basic Z2l0OnRvaw=="));
        for bad in [&[("username", "ada")][..], &[("token", "x")], &[("bearerToken", "a\nb: c")]] {
            assert_eq!(secret(bad).unwrap_err().reason, Reason::SecretMissing, "{bad:?}");
        }
        assert!(!format!("{basic:?}").contains("YWRh") && !format!("{basic:?}").contains("s3cret"));
    }

    #[test]
    fn a_secret_goes_to_the_hosts_it_names() {
        let url = Url::parse("https://Git.Example.com:8443/a.git").unwrap();
        for (hosts, required, passes) in [
            ("git.example.com", true, true),
            ("git.example.com:8443", true, true),
            ("a.example GIT.example.com\nb.example", true, true),
            ("git.example.com:443", true, false),
            ("example.com", true, false),
            ("evil-git.example.com", true, false),
            ("", true, false),
            ("", false, true),
            ("other.example", false, false),
        ] {
            let credentials = secret(&[("bearerToken", "t"), (HOSTS_KEY, hosts)]).unwrap();
            let checked = credentials.check_host("git", &url, required);
            assert_eq!(checked.is_ok(), passes, "{hosts}");
            if let Err(failure) = checked {
                assert_eq!(failure.reason, Reason::CredentialHostMismatch);
            }
        }
    }
}
