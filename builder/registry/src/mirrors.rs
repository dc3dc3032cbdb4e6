//! Mirrors: other registries that hold what a registry holds, asked before it.
//!
//! Invariant: a mirror is another registry in every respect but one: what it answers is verified by the same digests. It gets
//! its own credentials or none, and one that cannot be reached or sends other bytes than a digest says is left alone for
//! [`REST`], not for good: a client may live as long as a cluster.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::reference::{DOCKER_HUB, Repository};

/// How long a mirror that failed is not asked: a build does not wait for it, or read in vain, at every blob.
const REST: Duration = Duration::from_mins(5);

/// The mirrors of every registry that has some, in the order of asking.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    /// By registry, as references name it.
    of: BTreeMap<String, Vec<Mirror>>,
    /// Registries of mirrors that could not be reached or sent wrong bytes, and when that was.
    resting: Mutex<HashMap<String, Instant>>,
}

/// `host[:port]`, and a path before the repository's name when the mirror keeps several registries apart by one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mirror {
    host: String,
    prefix: String,
}

/// Says what is wrong with a setting of [`crate::ClientOptions::mirrors`], quoting it.
pub fn check_mirrors(setting: &BTreeMap<String, Vec<String>>) -> Result<(), String> {
    Mirrors::new(setting).map(|_| ())
}

impl Mirrors {
    /// Reads the setting; an entry that is none is an error that quotes it.
    pub(crate) fn new(setting: &BTreeMap<String, Vec<String>>) -> Result<Self, String> {
        let mut of = BTreeMap::new();
        for (registry, mirrors) in setting {
            let wrong = |text: &str, problem: &str| format!("mirrors of {registry:?}: {text:?} {problem}");
            let name = canonical(registry);
            if Repository::parse(&format!("{name}/x")).is_ok_and(|repository| repository.registry() == name) {
                let mirrors = mirrors.iter().map(|text| {
                    let (host, prefix) = text
                        .trim_end_matches('/')
                        .split_once('/')
                        .unwrap_or((text.trim_end_matches('/'), ""));
                    let mirror = Mirror {
                        host: host.to_owned(),
                        prefix: prefix.to_owned(),
                    };
                    match mirror.repository("x") {
                        Some(repository) if canonical(repository.registry()) == name && prefix.is_empty() => {
                            Err(wrong(text, "is the registry itself"))
                        }
                        Some(_) => Ok(mirror),
                        None => Err(wrong(text, "is not host[:port] with an optional path; leave the scheme out")),
                    }
                });
                let mirrors = mirrors.collect::<Result<_, _>>()?;
                if of.insert(name.clone(), mirrors).is_some() {
                    return Err(format!(
                        "mirrors of {registry:?}: there are others of the same registry {name:?} under another of its names"
                    ));
                }
            } else {
                return Err(wrong(registry, "is not the host[:port] of a registry"));
            }
        }
        Ok(Self {
            of,
            resting: Mutex::default(),
        })
    }

    /// Is there any mirror?
    pub(crate) fn any(&self) -> bool {
        self.of.values().any(|mirrors| !mirrors.is_empty())
    }

    /// Is there any of this repository's registry, under whichever of its names?
    pub(crate) fn any_of(&self, repository: &Repository) -> bool {
        let of = self.of.get(&canonical(repository.registry()));
        of.is_some_and(|mirrors| !mirrors.is_empty())
    }

    /// The mirrors' repositories with the content of `repository`, in the order of asking.
    pub(crate) fn of(&self, repository: &Repository) -> Vec<Repository> {
        self.of_at(repository, Instant::now())
    }

    fn of_at(&self, repository: &Repository, now: Instant) -> Vec<Repository> {
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let rests = |registry: &str| resting.get(registry).is_some_and(|since| now.duration_since(*since) < REST);
        self.of
            .get(&canonical(repository.registry()))
            .into_iter()
            .flatten()
            .filter_map(|mirror| mirror.repository(repository.name()))
            .filter(|mirror| !rests(mirror.registry()))
            .collect()
    }

    /// Takes note of a mirror's failure. False when the failure is the caller's own wish to end.
    pub(crate) fn failed(&self, mirror: &Repository, error: &Error) -> bool {
        tracing::warn!(%error, mirror = mirror.registry(), "a mirror does not serve; the next registry is asked");
        if matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::TlsUntrusted | ErrorKind::AddressDenied | ErrorKind::DigestMismatch
        ) {
            let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
            resting.insert(mirror.registry().to_owned(), Instant::now());
        }
        error.kind() != ErrorKind::Canceled
    }
}

impl Mirror {
    /// Its repository for a name; `None` when that would be no repository, for example because it gets too long.
    fn repository(&self, name: &str) -> Option<Repository> {
        let text = if self.prefix.is_empty() {
            format!("{}/{name}", self.host)
        } else {
            format!("{}/{}/{name}", self.host, self.prefix)
        };
        let repository = Repository::parse(&text).ok()?;
        (repository.registry() == self.host).then_some(repository)
    }
}

/// Docker Hub has several names.
fn canonical(registry: &str) -> String {
    match registry.to_ascii_lowercase().as_str() {
        "index.docker.io" | "registry-1.docker.io" => DOCKER_HUB.to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(registry: &str, mirrors: &[&str]) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(registry.to_owned(), mirrors.iter().map(|&mirror| mirror.to_owned()).collect())])
    }

    #[test]
    fn names_at_mirrors() {
        let table = [
            ("docker.io", "mirror.example.com", "debian", "mirror.example.com/library/debian"),
            (
                "registry-1.docker.io",
                "mirror.example.com:5000",
                "a/b",
                "mirror.example.com:5000/a/b",
            ),
            (
                "docker.io",
                "harbor.example.com/hub",
                "debian:12",
                "harbor.example.com/hub/library/debian",
            ),
            (
                "docker.io",
                "harbor.example.com/a/b/",
                "debian",
                "harbor.example.com/a/b/library/debian",
            ),
            ("R.example.com:5000", "localhost:5001", "r.example.com:5000/x", "localhost:5001/x"),
            ("r.example.com", "r.example.com/cache", "r.example.com/x", "r.example.com/cache/x"),
        ];
        for (registry, mirror, reference, expected) in table {
            let mirrors = Mirrors::new(&setting(registry, &[mirror])).unwrap();
            let repository = crate::Reference::parse(reference).unwrap().to_repository();
            let found: Vec<String> = mirrors.of(&repository).iter().map(ToString::to_string).collect();
            assert_eq!(found, [expected], "{registry} {mirror} {reference}");
        }
        let mirrors = Mirrors::new(&setting("docker.io", &["a.example.com", "b.example.com"])).unwrap();
        let other = Repository::parse("quay.example.com/x").unwrap();
        assert!(mirrors.of(&other).is_empty() && mirrors.any() && !Mirrors::default().any());
    }

    #[test]
    fn settings_that_are_none_are_quoted() {
        for (registry, mirror) in [
            ("docker.io", "https://mirror.example.com"),
            ("docker.io", "mirror"),
            ("docker.io", ""),
            ("docker.io", "mirror.example.com/UPPER"),
            ("docker.io", "user@mirror.example.com"),
            ("docker.io", "docker.io"),
            ("https://r.example.com", "mirror.example.com"),
            ("r.example.com/path", "mirror.example.com"),
            ("", "mirror.example.com"),
        ] {
            let error = Mirrors::new(&setting(registry, &[mirror])).unwrap_err();
            assert!(
                error.contains(&format!("{mirror:?}")) || error.contains(&format!("{registry:?}")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_registry_has_one_list_of_mirrors() {
        for (one, other) in [("docker.io", "index.docker.io"), ("r.example.com", "R.example.com")] {
            let mut both = setting(one, &["a.example.com"]);
            both.extend(setting(other, &["b.example.com"]));
            let error = Mirrors::new(&both).unwrap_err();
            assert!(
                error.contains("another of its names") && error.contains("docker.io") | error.contains("r.example.com"),
                "{error}"
            );
        }
        let mirrors = Mirrors::new(&setting("index.docker.io", &["a.example.com"])).unwrap();
        assert!(mirrors.any_of(&Repository::parse("docker.io/x").unwrap()));
        assert!(!mirrors.any_of(&Repository::parse("quay.example.com/x").unwrap()));
    }

    #[test]
    fn a_mirror_that_cannot_be_reached_or_lies_rests() {
        let mirrors = Mirrors::new(&setting("docker.io", &["a.example.com", "b.example.com"])).unwrap();
        let repository = Repository::parse("docker.io/x").unwrap();
        let at = || Box::new(crate::Context::new(crate::Operation::PullBlob, &repository, String::new()));
        let at_a = &mirrors.of(&repository)[0];
        let missing = Error::TooLarge { at: at(), limit: 1 };
        assert!(mirrors.failed(at_a, &missing));
        assert_eq!(mirrors.of(&repository).len(), 2);
        let silent = Error::Timeout {
            at: at(),
            what: String::new(),
        };
        assert!(mirrors.failed(at_a, &silent));
        assert_eq!(mirrors.of(&repository), [Repository::parse("b.example.com/library/x").unwrap()]);
        assert!(!mirrors.failed(at_a, &Error::Canceled { at: at() }));
        let later = Instant::now() + REST;
        assert_eq!(mirrors.of_at(&repository, later).len(), 2, "it is asked again");
        let other = Error::DigestMismatch {
            at: at(),
            problem: String::new(),
        };
        assert!(mirrors.failed(&Repository::parse("b.example.com/library/x").unwrap(), &other));
        assert_eq!(mirrors.of(&repository), []);
    }
}
