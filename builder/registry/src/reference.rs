//! Names of images: `registry/repository`, with or without a tag and a digest.
//!
//! Invariant: a value of these types is safe to put into a URL path and a header as it is. The parser is ours because
//! the one of the OCI types knows no IPv6 host, takes non-ASCII letters in tags, adds `latest` unseen, and its errors
//! do not say what was wrong with which input.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Digest, DigestAlgorithm};
use serde::{Deserialize, Serialize};

/// Docker Hub's name in references; its API answers on another host.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// What is wrong with the text of a reference. The input is shown cut to 300 characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("image reference {input:?}: {problem}")]
pub struct ReferenceError {
    input: String,
    problem: &'static str,
}

impl ReferenceError {
    fn new(input: &str, problem: &'static str) -> Self {
        // What stands before an `@` in the host part may be a password: it is cut off before the input is shown.
        let host_end = input.find('/').unwrap_or(input.len());
        let shown = input[..host_end].rfind('@').map_or(input, |at| &input[at + 1..]);
        Self {
            input: shown.chars().take(300).collect(),
            problem,
        }
    }
}

/// A registry and a repository name, without tag and digest: where images are pushed to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository {
    registry: String,
    name: String,
}

/// An image: a repository with a tag, a digest, both or neither.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    repository: Repository,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Repository {
    /// Parses `host[:port]/name`; without a host the repository is Docker Hub's.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let reference = Reference::parse(text)?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err(ReferenceError::new(text, "a repository is named without tag and digest"));
        }
        Ok(reference.repository)
    }

    /// Host with optional port, as it was written.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The name inside the registry, such as `robots/invoice-reader`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image of this repository with that tag.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        if !valid_tag(tag) {
            return Err(ReferenceError::new(tag, TAG_RULE));
        }
        Ok(Reference {
            repository: self.clone(),
            tag: Some(tag.to_owned()),
            digest: None,
        })
    }

    /// The image of this repository with that digest.
    pub fn with_digest(&self, digest: &Digest) -> Reference {
        Reference {
            repository: self.clone(),
            tag: None,
            digest: Some(digest.clone()),
        }
    }
}

const TAG_RULE: &str = "a tag is one to 128 letters, digits, `_`, `.` and `-`, and does not begin with `.` or `-`";
const NAME_RULE: &str =
    "a repository name is made of lower-case letters and digits, separated by `.`, `_`, `__` or `-`, in parts divided by `/`";
const HOST_RULE: &str = "the registry is not a valid host name with an optional port";

impl Reference {
    /// Parses `host[:port]/name[:tag][@digest]`. Neither `latest` nor anything else is added, except Docker Hub's
    /// `docker.io` and `library/` where the host or the organisation is missing.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let fail = |problem| ReferenceError::new(text, problem);
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        if text.len() > 1024 {
            return Err(fail("it is longer than 1024 bytes"));
        }
        if text.contains("://") {
            return Err(fail("leave the scheme out: plain http is configured per host"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(fail("it has a space, a control character or a character outside ASCII"));
        }
        let (rest, digest) = match text.split_once('@') {
            None => (text, None),
            Some((rest, digest)) => {
                let parsed = Digest::try_from(digest).map_err(|_| {
                    fail("what follows `@` is not a digest (sha256: and 64 hexadecimal digits); user names do not belong in references")
                })?;
                if !matches!(parsed.algorithm(), DigestAlgorithm::Sha256 | DigestAlgorithm::Sha512) {
                    return Err(fail("the digest must be sha256 or sha512"));
                }
                (rest, Some(parsed))
            }
        };
        let (registry, path) = split_registry(rest);
        if registry.is_some_and(|host| !valid_host(host)) {
            return Err(fail(HOST_RULE));
        }
        let (name, tag) = match path.split_once(':') {
            Some((name, tag)) if valid_tag(tag) => (name, Some(tag.to_owned())),
            Some(_) => return Err(fail(TAG_RULE)),
            None => (path, None),
        };
        let registry = match registry {
            None | Some("index.docker.io") => DOCKER_HUB,
            Some(host) => host,
        };
        let name = if registry == DOCKER_HUB && !name.contains('/') {
            format!("library/{name}")
        } else {
            name.to_owned()
        };
        if name.len() > 255 {
            return Err(fail("the repository name is longer than 255 characters"));
        }
        if name.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(fail("a repository name has no upper-case letters"));
        }
        if !name.split('/').all(valid_component) {
            return Err(fail(NAME_RULE));
        }
        Ok(Self {
            repository: Repository {
                registry: registry.to_owned(),
                name,
            },
            tag,
            digest,
        })
    }

    /// Host with optional port, as it was written.
    pub fn registry(&self) -> &str {
        &self.repository.registry
    }

    /// The name inside the registry.
    pub fn repository(&self) -> &str {
        &self.repository.name
    }

    /// The tag, when one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, when one was written. It wins over the tag.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same image under another tag; a digest is dropped, since it need not belong to that tag.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        self.repository.with_tag(tag)
    }

    /// The same reference pinned to a digest; the tag stays for the reader.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self {
            digest: Some(digest.clone()),
            ..self.clone()
        }
    }

    /// Its repository.
    pub fn to_repository(&self) -> Repository {
        self.repository.clone()
    }

    /// The same tag or digest in another repository.
    pub(crate) fn at(&self, repository: &Repository) -> Self {
        Self {
            repository: repository.clone(),
            ..self.clone()
        }
    }

    /// What stands after `/manifests/`: the digest, else the tag, else `latest`.
    pub(crate) fn locator(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

/// The part before the first slash is a registry when it looks like one: docker's rule.
fn split_registry(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/') {
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase()) => {
            (Some(first), rest)
        }
        _ => (None, text),
    }
}

/// `name`, `name:port`, `1.2.3.4:port` or `[v6]:port`.
pub(crate) fn valid_host(host: &str) -> bool {
    let (name, port) = if let Some(rest) = host.strip_prefix('[') {
        let Some((address, rest)) = rest.split_once(']') else {
            return false;
        };
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        match rest.strip_prefix(':') {
            Some(port) => (None, Some(port)),
            None if rest.is_empty() => (None, None),
            None => return false,
        }
    } else {
        match host.split_once(':') {
            Some((name, port)) => (Some(name), Some(port)),
            None => (Some(host), None),
        }
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name_ok = name.is_none_or(|name| name.len() <= 253 && name.split('.').all(label));
    let port_ok =
        port.is_none_or(|port| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p != 0));
    name_ok && port_ok
}

fn valid_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&tag.len()) && word(tag.as_bytes()[0]) && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn valid_component(component: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    component
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|separator| matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-'))
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

macro_rules! text_conversions {
    ($($name:ident),+) => {$(
        impl FromStr for $name {
            type Err = ReferenceError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
        impl TryFrom<String> for $name {
            type Error = ReferenceError;
            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    )+};
}
text_conversions!(Repository, Reference);

#[cfg(test)]
#[path = "reference_tests.rs"]
mod tests;
