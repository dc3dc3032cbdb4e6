//! One commit of a git repository over HTTP, without a git binary.
//!
//! A first request of our own asks for the repository (see `probe`). Then gix fetches that one commit at depth 1.
//!
//! Invariant: a credential goes to the host that its Secret names and to no redirect; the machine's git configuration and
//! credential helpers take no part; what arrives is bounded while it arrives.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::protocol::transport::client::blocking_io::http;
use robotimage_crds::api::GitRef;
use robotimage_crds::build::Want;
use robotimage_registry::{AddressPolicy, Requirement, Trust};

use super::Checkout;
use super::credentials::{Authorization, SourceSecret};
use super::error::SourceError;
use super::names::first_line;
use super::probe::{Repository, find, tags};
use super::tree::{Limits, Writer, interrupted, io};
use super::web::{Web, WebError, authority, chain};

/// Limit without any byte moved.
const IDLE: Duration = Duration::from_mins(1);

/// A source to fetch.
#[derive(Debug)]
pub struct GitRequest<'a> {
    /// Address of the repository.
    pub url: &'a str,
    /// Which commit.
    pub want: &'a Want,
    /// Folder of it that is the context.
    pub path: &'a str,
    /// Credentials, if any.
    pub secret: Option<&'a SourceSecret>,
    /// Whether the Secret must name its hosts.
    pub require_hosts: bool,
    /// How addresses are reached.
    pub web: &'a Web,
    /// How much may be written.
    pub limits: Limits,
    /// Existing folder for the object database, which is removed at the end.
    pub scratch: &'a Path,
    /// Existing empty folder that gets the context.
    pub into: &'a Path,
    /// Raised by the caller to end the work.
    pub interrupt: Arc<AtomicBool>,
}

/// Fetches the commit and writes its context.
pub async fn checkout(request: &GitRequest<'_>) -> Result<Checkout, SourceError> {
    let mut web = request.web.clone();
    if let Some(ca) = request.secret.and_then(SourceSecret::ca) {
        web.roots.push(ca.to_vec());
    }
    let repository = find(&web, request).await?;
    let (revision, reference, what) = match request.want {
        Want::Reference(Some(GitRef {
            semver: Some(versions), ..
        })) => highest(&web, &repository, versions).await?,
        want => revision(want),
    };
    let Repository { url, authorization, trust } = repository;
    let database = tempfile::tempdir_in(request.scratch).map_err(|source| io("write to", request.scratch, source))?;
    let job = Job {
        url: url.to_string(),
        host: authority(&url),
        revision,
        reference,
        what,
        path: request.path.to_owned(),
        limits: request.limits,
        authorization,
        trust,
        policy: web.policy,
        interrupt: Arc::clone(&request.interrupt),
    };
    let folder = database.path().join("git");
    let into = request.into.to_owned();
    let too_large = Arc::new(AtomicBool::new(false));
    let watch = tokio::spawn(watch(
        folder.clone(),
        request.limits.bytes.saturating_mul(4),
        Arc::clone(&request.interrupt),
        Arc::clone(&too_large),
    ));
    let work = tokio::task::spawn_blocking(move || job.run(&folder, &into)).await;
    watch.abort();
    if too_large.load(Ordering::Relaxed) {
        return Err(SourceError::TooLarge {
            what: format!(
                "the repository sends more than four times the {} bytes that a source may have",
                request.limits.bytes
            ),
        });
    }
    work.unwrap_or_else(|error| {
        Err(SourceError::Broken {
            url: request.url.to_owned(),
            problem: format!("reading it failed: {error}"),
        })
    })
}

/// The same for the tag with the highest of these versions.
async fn highest(web: &Web, repository: &Repository, versions: &str) -> Result<(String, String, String), SourceError> {
    let url = repository.url.to_string();
    let requirement = Requirement::parse(versions).map_err(|error| SourceError::Address {
        url: url.clone(),
        problem: format!("source.git.ref.semver {error}"),
    })?;
    let tags = tags(web, repository).await?;
    let what = format!("a tag with a version {requirement}");
    match requirement.highest(tags.iter().map(String::as_str)) {
        Some(tag) => Ok((format!("refs/tags/{tag}"), tag.to_owned(), what)),
        None => Err(SourceError::RevisionNotFound { what, url }),
    }
}

/// What gix is asked for, the name that people know it by, and what to call it when it is missing.
fn revision(want: &Want) -> (String, String, String) {
    match want {
        Want::Commit { id, reference } => (id.clone(), reference.clone(), format!("commit {id}")),
        Want::Reference(reference) => {
            let GitRef { branch, tag, commit, .. } = reference.clone().unwrap_or_default();
            if let Some(commit) = commit {
                (commit.clone(), "HEAD".to_owned(), format!("commit {commit}"))
            } else if let Some(tag) = tag {
                (format!("refs/tags/{tag}"), tag.clone(), format!("tag \"{tag}\""))
            } else if let Some(branch) = branch {
                (format!("refs/heads/{branch}"), branch.clone(), format!("branch \"{branch}\""))
            } else {
                ("HEAD".to_owned(), "HEAD".to_owned(), "a default branch".to_owned())
            }
        }
    }
}

/// Raises the flag when the folder grows beyond the limit.
async fn watch(folder: std::path::PathBuf, limit: u64, interrupt: Arc<AtomicBool>, too_large: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let pack = folder.join("objects").join("pack");
        let size: u64 = std::fs::read_dir(pack)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .map(|metadata| metadata.len())
            .sum();
        if size > limit {
            too_large.store(true, Ordering::Relaxed);
            interrupt.store(true, Ordering::Relaxed);
        }
    }
}

/// The blocking half.
struct Job {
    url: String,
    host: String,
    revision: String,
    reference: String,
    what: String,
    path: String,
    limits: Limits,
    authorization: Option<Authorization>,
    trust: Trust,
    policy: AddressPolicy,
    interrupt: Arc<AtomicBool>,
}

impl Job {
    fn run(self, folder: &Path, into: &Path) -> Result<Checkout, SourceError> {
        let repository = self.fetch(folder)?;
        let broken = |error: gix::Error| SourceError::Broken {
            url: self.url.clone(),
            problem: chain(&error),
        };
        let head = repository.head_id().map_err(broken)?;
        let commit = head.object().and_then(gix::Object::peel_to_commit).map_err(broken)?;
        let id = commit.id.to_string();
        let root = commit.tree_id().map_err(broken)?.detach();
        let writer = Writer {
            repository: &repository,
            url: &self.url,
            limits: self.limits,
            interrupt: &self.interrupt,
        };
        let tree = writer.subtree(root, &self.path, &id)?;
        let written = writer.write(tree, into)?;
        Ok(Checkout {
            tree: tree.to_string(),
            reference: self.reference.clone(),
            author: first_line(commit.author().map_err(broken)?.name, 64),
            message: first_line(commit.message_raw_sloppy(), 72),
            bytes: written.bytes,
            entries: written.entries,
            commit: id,
        })
    }

    fn fetch(&self, folder: &Path) -> Result<gix::Repository, SourceError> {
        let mut clone = gix::clone::PrepareFetch::new(
            self.url.as_str(),
            folder,
            gix::create::Kind::Bare,
            gix::create::Options::default(),
            gix::open::Options::isolated(),
        )
        .and_then(|clone| clone.with_revision(Some(self.revision.as_str())))
        .map_err(|error| self.failed(&error))?
        .with_shallow(gix::remote::fetch::Shallow::DepthAtRemote(std::num::NonZeroU32::MIN));
        let options = self.transport_options();
        clone = clone.configure_connection(move |connection| {
            connection.set_transport_options(Box::new(options.clone()));
            // Without this the machine's credential helpers would be asked.
            connection.set_credentials(|_| Ok(None));
            Ok(())
        });
        match clone.fetch_only(gix::progress::Discard, &self.interrupt) {
            Ok((repository, _)) => Ok(repository),
            Err(_) if self.interrupt.load(Ordering::Relaxed) => Err(interrupted(&self.url)),
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn transport_options(&self) -> http::Options {
        let (trust, policy) = (self.trust.clone(), self.policy.clone());
        let backend = http::reqwest::Options {
            configure_client: Some(Box::new(move |builder| {
                let builder = if trust.proxy { builder } else { builder.no_proxy() };
                let builder = if trust.machine {
                    builder.tls_certs_merge(trust.authorities.clone())
                } else {
                    builder.tls_certs_only(trust.authorities.clone())
                };
                Ok(builder.dns_resolver(Arc::new(policy.resolver())).timeout(IDLE))
            })),
            // A request hook, even one that does nothing, makes the transport refuse every redirect.
            configure_request: Some(Box::new(|_| Ok(()))),
        };
        http::Options {
            extra_headers: self
                .authorization
                .iter()
                .map(|value| format!("Authorization: {}", value.expose()))
                .collect(),
            backend: Some(Arc::new(Mutex::new(backend))),
            ..http::Options::default()
        }
    }

    /// What an error of gix means: it gives no types for it, only a chain of texts.
    fn failed(&self, error: &gix::Error) -> SourceError {
        let text = chain(error);
        let lower = text.to_lowercase();
        let url = self.url.clone();
        if ["requested revision", "not our ref"].iter().any(|sign| lower.contains(sign)) {
            return SourceError::RevisionNotFound {
                what: self.what.clone(),
                url,
            };
        }
        if lower.contains("no space left") {
            return SourceError::Io {
                action: "write the objects of",
                path: url.into(),
                source: std::io::Error::from(std::io::ErrorKind::StorageFull),
            };
        }
        SourceError::Web {
            url,
            cause: WebError::of_chain(error, &self.host, lower.contains("timed out")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions() {
        let branch = Want::Reference(Some(GitRef {
            branch: Some("feature/x".to_owned()),
            ..GitRef::default()
        }));
        assert_eq!(revision(&branch).0, "refs/heads/feature/x");
        assert_eq!(revision(&Want::Reference(None)).0, "HEAD");
        let commit = Want::Commit {
            id: "a".repeat(40),
            reference: "main".to_owned(),
        };
        assert_eq!(
            revision(&commit),
            ("a".repeat(40), "main".to_owned(), format!("commit {}", "a".repeat(40)))
        );
    }
}
