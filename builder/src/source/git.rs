//! One commit of a git repository over HTTP, without a git binary.
//!
//! A first request of our own asks for the repository: it settles redirects, and its answer says exactly what is wrong
//! (no such host, certificate, credentials, no repository). Then gix fetches that one commit at depth 1.
//!
//! Invariant: a credential goes to the host that its Secret names and to no redirect; the machine's git configuration and
//! credential helpers take no part; what arrives is bounded while it arrives.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::protocol::transport::client::blocking_io::http;
use reqwest::StatusCode;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER};
use robotimage_crds::api::GitRef;
use robotimage_crds::build::Want;
use url::Url;

use super::Checkout;
use super::credentials::{Authorization, GitSecret};
use super::error::SourceError;
use super::names::first_line;
use super::tree::{Limits, Writer, interrupted, io};
use super::web::{Web, WebError, authority, chain};

/// Redirects followed for the repository's address.
const REDIRECTS: usize = 5;
/// Limit without any byte moved.
const IDLE: Duration = Duration::from_mins(1);
/// Waits before a request is made again.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];
/// What the first request asks for, below the repository's address.
const ADVERTISEMENT: &str = "/info/refs?service=git-upload-pack";

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
    pub secret: Option<&'a GitSecret>,
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
    if let Some(ca) = request.secret.and_then(GitSecret::ca) {
        web.roots.push(ca.to_vec());
    }
    let (revision, reference, what) = revision(request.want);
    let (url, authorization) = find(&web, request).await?;
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
        web,
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

/// What gix is asked for, the name that people know it by, and what to call it when it is missing.
fn revision(want: &Want) -> (String, String, String) {
    match want {
        Want::Commit { id, reference } => (id.clone(), reference.clone(), format!("commit {id}")),
        Want::Reference(reference) => {
            let GitRef { branch, tag, commit } = reference.clone().unwrap_or_default();
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

/// Asks for the repository; its final address, and the credential for it.
async fn find(web: &Web, request: &GitRequest<'_>) -> Result<(Url, Option<Authorization>), SourceError> {
    let mut url = Url::parse(request.url).map_err(|error| SourceError::Address {
        // An address that cannot be parsed may hold a password anywhere, so it is not shown.
        url: "(not shown)".to_owned(),
        problem: format!("it is no address: {error}"),
    })?;
    let client = web.client().map_err(|cause| SourceError::Web { url: shown(&url), cause })?;
    for _ in 0..=REDIRECTS {
        web.check(&url)
            .map_err(|problem| SourceError::Address { url: shown(&url), problem })?;
        let authorization = match request.secret {
            Some(secret) => secret.authorization(&url, request.require_hosts)?,
            None => None,
        };
        let answer = ask_again(&client, &url, authorization.as_ref()).await?;
        if !answer.status().is_redirection() {
            return judge(&url, &answer, authorization.is_some()).map(|()| (url, authorization));
        }
        url = redirected(&url, answer.headers().get(LOCATION))?;
    }
    Err(SourceError::Unreachable {
        url: shown(&url),
        problem: format!("it redirects more than {REDIRECTS} times"),
        retry_after: None,
    })
}

/// Sends the request, again when time can help.
async fn ask_again(client: &reqwest::Client, url: &Url, authorization: Option<&Authorization>) -> Result<reqwest::Response, SourceError> {
    let mut waits = WAITS.iter();
    loop {
        let result = ask(client, url, authorization).await;
        let passing = match &result {
            Ok(answer) => answer.status().is_server_error(),
            Err(WebError::Timeout | WebError::Unreachable(_)) => true,
            Err(_) => false,
        };
        match waits.next() {
            Some(wait) if passing => tokio::time::sleep(*wait).await,
            _ => {
                return result.map_err(|cause| SourceError::Web { url: shown(url), cause });
            }
        }
    }
}

async fn ask(client: &reqwest::Client, url: &Url, authorization: Option<&Authorization>) -> Result<reqwest::Response, WebError> {
    let target = format!("{}{ADVERTISEMENT}", url.as_str().trim_end_matches('/'));
    let mut call = client
        .get(target)
        .header("Git-Protocol", "version=2")
        .header(ACCEPT, "application/x-git-upload-pack-advertisement");
    if let Some(authorization) = authorization {
        let mut value =
            HeaderValue::from_str(authorization.expose()).map_err(|_| WebError::Setup("the credential is no header value".to_owned()))?;
        value.set_sensitive(true);
        call = call.header(AUTHORIZATION, value);
    }
    call.send().await.map_err(|error| WebError::of(error, &authority(url)))
}

/// The repository's address behind a redirect: the same host, never down to plain http.
fn redirected(from: &Url, location: Option<&HeaderValue>) -> Result<Url, SourceError> {
    let refuse = |problem: String| SourceError::Address { url: shown(from), problem };
    let location = location
        .and_then(|value| value.to_str().ok())
        .and_then(|value| from.join(value).ok())
        .ok_or_else(|| refuse("it answers with a redirect to nowhere".to_owned()))?;
    let upgrade = from.scheme() == "http" && location.scheme() == "https";
    if location.host() != from.host() || !(upgrade || location.origin() == from.origin()) {
        return Err(refuse(format!(
            "it redirects to {}; if that is right, write that address into url",
            authority(&location)
        )));
    }
    let text = location.as_str();
    let base = text
        .strip_suffix(ADVERTISEMENT)
        .ok_or_else(|| refuse("it redirects to a page that is no repository".to_owned()))?;
    Url::parse(base).map_err(|error| refuse(format!("it redirects to no address: {error}")))
}

/// What the answer says about the repository.
fn judge(url: &Url, answer: &reqwest::Response, authorized: bool) -> Result<(), SourceError> {
    let refused = |problem| {
        Err(SourceError::Refused {
            host: authority(url),
            url: shown(url),
            problem,
        })
    };
    match answer.status() {
        StatusCode::OK => {
            let kind = answer
                .headers()
                .get(CONTENT_TYPE)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            if kind.starts_with("application/x-git-upload-pack-advertisement") {
                Ok(())
            } else {
                Err(SourceError::NotFound {
                    url: shown(url),
                    problem: "the server answers with something else; check the address".to_owned(),
                })
            }
        }
        StatusCode::UNAUTHORIZED if authorized => refused("does not accept the credentials; check the keys of the git Secret"),
        StatusCode::UNAUTHORIZED => refused("asks for credentials; name a Secret with username and password, or bearerToken, in secretRef"),
        StatusCode::FORBIDDEN => refused("denies access to the repository; grant the credentials read rights on it"),
        status @ (StatusCode::NOT_FOUND | StatusCode::GONE) => Err(SourceError::NotFound {
            url: shown(url),
            problem: format!("the server answers {status}; check the address, and that the credentials may see it"),
        }),
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(SourceError::Web {
            url: shown(url),
            cause: WebError::Proxy("it asks for credentials".to_owned()),
        }),
        status => {
            let seconds = answer
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Err(SourceError::Unreachable {
                url: shown(url),
                problem: format!("the server answers {status}"),
                retry_after: seconds,
            })
        }
    }
}

/// An address for a message: without query, fragment and user.
fn shown(url: &Url) -> String {
    format!("{}://{}{}", url.scheme(), authority(url), url.path())
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
    web: Web,
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
        let options = self.transport_options()?;
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

    fn transport_options(&self) -> Result<http::Options, SourceError> {
        let roots = self.web.certificates().map_err(|cause| SourceError::Web {
            url: self.url.clone(),
            cause,
        })?;
        let policy = self.web.policy.clone();
        let backend = http::reqwest::Options {
            configure_client: Some(Box::new(move |builder| {
                Ok(builder
                    .tls_certs_merge(roots.clone())
                    .dns_resolver(Arc::new(policy.resolver()))
                    .timeout(IDLE))
            })),
            // A request hook, even one that does nothing, makes the transport refuse every redirect.
            configure_request: Some(Box::new(|_| Ok(()))),
        };
        Ok(http::Options {
            extra_headers: self
                .authorization
                .iter()
                .map(|value| format!("Authorization: {}", value.expose()))
                .collect(),
            backend: Some(Arc::new(Mutex::new(backend))),
            ..http::Options::default()
        })
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
    fn redirects_stay_on_the_host() {
        let from = Url::parse("https://git.example.com/a").unwrap();
        let go = |to: &str| redirected(&from, Some(&HeaderValue::from_str(to).unwrap()));
        assert_eq!(
            go("https://git.example.com/a.git/info/refs?service=git-upload-pack")
                .unwrap()
                .as_str(),
            "https://git.example.com/a.git"
        );
        assert_eq!(
            go("/b/info/refs?service=git-upload-pack").unwrap().as_str(),
            "https://git.example.com/b"
        );
        for bad in [
            "https://evil.example.com/a/info/refs?service=git-upload-pack",
            "http://git.example.com/a/info/refs?service=git-upload-pack",
            "https://git.example.com:8443/a/info/refs?service=git-upload-pack",
            "https://git.example.com/login",
        ] {
            assert!(go(bad).is_err(), "{bad}");
        }
        let plain = Url::parse("http://git.example.com/a").unwrap();
        let up = HeaderValue::from_static("https://git.example.com/a/info/refs?service=git-upload-pack");
        assert!(redirected(&plain, Some(&up)).is_ok());
    }

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
