//! Writing blobs: look first, mount, else upload; whatever happens on the way, the registry is asked what it has.
//!
//! Invariant: a blob is reported as pushed only when the registry confirmed its digest or shows it at its size. A lost answer
//! is neither a failure nor a second upload.

use std::sync::PoisonError;

use futures::TryStreamExt as _;
use futures::future::ready;
use oci_spec::image::{Descriptor, MediaType};
use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use url::Url;

use crate::answer::Answer;
use crate::auth::Scopes;
use crate::client::Client;
use crate::context::{Context, Operation};
use crate::download::tells_existence;
use crate::error::{Error, ErrorKind, Missing, Said};
use crate::presence::{Presence, PushOutcome};
use crate::range;
use crate::reference::Repository;
use crate::source::BlobSource;
use crate::transport::{Body, Call};

/// What starting an upload gave.
enum Started {
    Mounted,
    Session(Url),
}

/// One blob on its way to one repository.
struct Upload<'a> {
    client: &'a Client,
    repository: &'a Repository,
    source: &'a BlobSource,
    at: Context,
    ask: Ask,
    /// There has been an attempt before.
    tried: bool,
    /// Content has been sent at least once: a blob that appears is then ours.
    sent: bool,
    /// The registry has shown another size before anything was sent.
    damaged: bool,
}

/// When the registry is asked whether it has a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    /// Before anything is sent, and after every failure.
    First,
    /// After a failure only: the blob is small and probably new.
    AfterFailure,
    /// Never: the registry has said that it has the blob, and then that it has not.
    Never,
}

impl Client {
    /// Makes sure that the repository holds the blob. `mount_from` names a repository of the same registry that
    /// probably holds it; another registry's is ignored. Retries within the limits of the policy.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        source: &BlobSource,
        mount_from: Option<&Repository>,
    ) -> Result<PushOutcome, Error> {
        self.push_blob_asking(repository, source, mount_from, Ask::First).await
    }

    /// The same for a small blob that is probably new, such as a configuration: it is sent without asking for it first.
    pub async fn push_new_blob(&self, repository: &Repository, source: &BlobSource) -> Result<PushOutcome, Error> {
        self.push_blob_asking(repository, source, None, Ask::AfterFailure).await
    }

    async fn push_blob_asking(
        &self,
        repository: &Repository,
        source: &BlobSource,
        mount_from: Option<&Repository>,
        ask: Ask,
    ) -> Result<PushOutcome, Error> {
        let subject = format!("{repository}@{}", source.digest());
        let at = Context::new(Operation::PushBlob, repository, subject);
        let lacking = self.transport.lacks(repository, source.digest());
        let ask = if lacking { Ask::Never } else { ask };
        let mount_from = mount_from.filter(|from| !lacking && from.registry() == repository.registry() && *from != repository);
        let mut upload = Upload {
            client: self,
            repository,
            source,
            at,
            ask,
            tried: false,
            sent: false,
            damaged: false,
        };
        let mut attempt = 1;
        loop {
            let error = match upload.once(mount_from).await {
                Ok(outcome) => {
                    if lacking {
                        let mut all = self.transport.lacking.lock().unwrap_or_else(PoisonError::into_inner);
                        all.remove(&(repository.clone(), source.digest().clone()));
                    }
                    return Ok(outcome);
                }
                Err(error) => error,
            };
            if !error.retryable() || !self.transport.pause(&upload.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
        }
    }

    /// Brings a blob from a repository of `from` to one of this client, streaming through; on the same registry it is
    /// mounted where possible. When what a mirror sends is something else, it is sent once more from the registry itself.
    pub async fn copy_blob(
        &self,
        from: &Client,
        from_repository: &Repository,
        to: &Repository,
        descriptor: &Descriptor,
    ) -> Result<PushOutcome, Error> {
        let source = |from: Client| BlobSource::from_registry(from, from_repository.clone(), descriptor);
        match self.push_blob(to, &source(from.clone()), Some(from_repository)).await {
            Err(error) if from.may_be_a_mirrors(&error, from_repository) => {
                let source = source(from.without_mirrors());
                self.push_blob(to, &source, Some(from_repository)).await
            }
            pushed => pushed,
        }
    }
}

impl<'a> Upload<'a> {
    async fn once(&mut self, mount_from: Option<&Repository>) -> Result<PushOutcome, Error> {
        let asks = match self.ask {
            Ask::First => true,
            Ask::AfterFailure => self.tried,
            Ask::Never => false,
        };
        self.tried = true;
        if asks {
            match self.presence().await? {
                Presence::Whole if self.sent => return Ok(self.uploaded()),
                Presence::Whole => return Ok(PushOutcome::Existing),
                Presence::Sized(shown) => {
                    tracing::warn!(
                        blob = self.at.subject,
                        shown,
                        size = self.source.size(),
                        "the registry's copy is damaged"
                    );
                    self.damaged = true;
                }
                Presence::Absent => {}
            }
        }
        // What is damaged here is no better for being mounted: blobs are stored once.
        let mount_from = mount_from.filter(|_| !self.damaged);
        let session = match self.start(mount_from).await? {
            Started::Mounted => return Ok(PushOutcome::Mounted),
            Started::Session(session) => session,
        };
        match self.transfer(session).await {
            Ok(()) if self.damaged => self.mended().await,
            Ok(()) => Ok(self.uploaded()),
            // These say that nothing was done, forbid to ask, or say that the registry's word is not to be trusted.
            Err(error)
                if self.ask == Ask::Never
                    || matches!(
                        error.kind(),
                        ErrorKind::Canceled | ErrorKind::Io | ErrorKind::DigestMismatch | ErrorKind::RateLimited
                    ) =>
            {
                Err(error)
            }
            Err(error) => match self.presence().await {
                Ok(Presence::Whole) => Ok(self.uploaded()),
                // The first error says why; that the registry cannot be asked either adds nothing.
                Ok(Presence::Absent | Presence::Sized(_)) | Err(_) => Err(error),
            },
        }
    }

    /// Whether sending a damaged blob again has helped: registries may keep the copy that they have and say that they took
    /// ours. What they serve decides, because something in between may answer HEAD with another length.
    async fn mended(&self) -> Result<PushOutcome, Error> {
        let Presence::Sized(shown) = self.presence().await? else {
            return Ok(self.uploaded());
        };
        let descriptor = Descriptor::new(MediaType::ImageLayer, self.source.size(), self.source.digest().clone());
        let served = self.client.blob_stream(self.repository, &descriptor);
        served.try_for_each(|_| ready(Ok(()))).await.map_err(|error| Error::Protocol {
            at: Box::new(self.at.clone()),
            problem: format!(
                "its copy has {shown} bytes instead of {}, and it kept it when all were sent again; delete it there ({error})",
                self.source.size()
            ),
        })?;
        Ok(self.uploaded())
    }

    fn uploaded(&self) -> PushOutcome {
        PushOutcome::Uploaded { bytes: self.source.size() }
    }

    /// Asks once; retries are the caller's.
    async fn presence(&self) -> Result<Presence, Error> {
        let mut call = self.client.head_blob(self.repository, self.source.digest())?;
        call.at = self.at.clone();
        // The token for pushing serves here too; one for pulling only would be a second request.
        call.scopes = Scopes::push(self.repository);
        let answer = self.client.transport.exchange(&call).await?;
        if tells_existence(answer.status) {
            return Ok(Presence::told(&answer, self.source.size()));
        }
        Err(self.client.transport.error_of(&call, answer).await)
    }

    fn call(&self, method: Method, url: Url) -> Result<Call<'a>, Error> {
        let mut call = self.client.request(
            method,
            self.at.operation,
            self.repository,
            self.at.subject.clone(),
            "blobs/uploads/",
        )?;
        call.scopes = Scopes::push(self.repository);
        call.url = url;
        Ok(call)
    }

    /// Mounts, or opens an upload session. A mount that is refused for whatever lasting reason is not tried again for
    /// that pair of repositories.
    async fn start(&self, mount_from: Option<&Repository>) -> Result<Started, Error> {
        let transport = &self.client.transport;
        let uploads = transport.url(&self.at, self.repository, "blobs/uploads/")?;
        if let Some(from) = mount_from.filter(|from| !transport.mounts_fail(from, self.repository)) {
            let mut url = uploads.clone();
            url.query_pairs_mut()
                .append_pair("mount", self.source.digest().as_ref())
                .append_pair("from", from.name());
            let mut call = self.call(Method::POST, url)?;
            call.scopes = Scopes::mount(self.repository, from);
            match transport.exchange(&call).await {
                Ok(answer) if answer.status == StatusCode::CREATED => return Ok(Started::Mounted),
                Ok(answer) if answer.status == StatusCode::ACCEPTED => {
                    return Ok(Started::Session(self.location(&call, &answer)?));
                }
                Ok(answer) => {
                    let error = transport.error_of(&call, answer).await;
                    if error.retryable() {
                        return Err(error);
                    }
                    transport.mount_failed(from, self.repository, &error);
                }
                // A token service may refuse the second scope and grant the first one.
                Err(error) if matches!(error.kind(), ErrorKind::Unauthorized | ErrorKind::Denied) => {
                    transport.mount_failed(from, self.repository, &error);
                }
                Err(error) => return Err(error),
            }
        }
        let call = self.call(Method::POST, uploads)?;
        let answer = transport.exchange(&call).await?;
        if answer.status == StatusCode::ACCEPTED {
            return Ok(Started::Session(self.location(&call, &answer)?));
        }
        Err(transport.error_of(&call, answer).await)
    }

    fn location(&self, call: &Call<'_>, answer: &Answer) -> Result<Url, Error> {
        self.client.transport.location(&self.at, &call.origin, &answer.url, &answer.headers)
    }

    /// Sends the content and closes the session.
    async fn transfer(&mut self, session: Url) -> Result<(), Error> {
        let size = self.source.size();
        self.sent = true;
        if size < self.client.options().single_put_limit {
            return self.close(session, Body::Blob(self.source.clone(), 0)).await;
        }
        let session = self.patch(session).await?;
        self.close(session, Body::Empty).await
    }

    /// Streams the content into the session; after a break it goes on where the registry says it stands.
    async fn patch(&self, mut session: Url) -> Result<Url, Error> {
        let transport = &self.client.transport;
        let size = self.source.size();
        let mut offset = 0;
        let mut attempt = 1;
        loop {
            let mut call = self.call(Method::PATCH, session.clone())?;
            call.headers
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            if offset > 0 {
                call.headers.insert(CONTENT_RANGE, range::content(offset, size));
            }
            call.body = Body::Blob(self.source.clone(), offset);
            call.patience = transport.options.commit_timeout;
            let error = match transport.exchange(&call).await {
                Ok(answer) if answer.status.is_success() => {
                    session = self.location(&call, &answer)?;
                    let stands = range::received(&answer).unwrap_or(size);
                    if stands == size {
                        return Ok(session);
                    }
                    Error::Unavailable {
                        at: Box::new(self.at.clone()),
                        cause: format!("it took {stands} of {size} bytes"),
                        retry_after: None,
                    }
                }
                Ok(answer) => self.session_error(&call, answer).await,
                Err(error) => error,
            };
            if !error.retryable() || !transport.pause(&self.at, attempt, &error).await? {
                return Err(error);
            }
            attempt += 1;
            match self.status(&session).await {
                Some((next, stands)) if stands <= size => (session, offset) = (next, stands),
                // No resuming here: the caller begins a new session.
                _ => return Err(error),
            }
            if offset == size {
                return Ok(session);
            }
        }
    }

    /// Where a session stands; `None` when the registry does not say.
    async fn status(&self, session: &Url) -> Option<(Url, u64)> {
        let call = self.call(Method::GET, session.clone()).ok()?;
        let answer = self.client.transport.exchange(&call).await.ok()?;
        if !matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::ACCEPTED) {
            return None;
        }
        let next = self.location(&call, &answer).unwrap_or_else(|_| session.clone());
        Some((next, range::received(&answer)?))
    }

    /// Closes the session with the digest. Anything but 201 must be proven by the blob being there.
    async fn close(&self, session: Url, body: Body) -> Result<(), Error> {
        let transport = &self.client.transport;
        let mut url = session;
        url.query_pairs_mut().append_pair("digest", self.source.digest().as_ref());
        let mut call = self.call(Method::PUT, url)?;
        call.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.body = body;
        call.patience = transport.options.commit_timeout;
        let answer = transport.exchange(&call).await?;
        match (answer.status, answer.digest()) {
            (StatusCode::CREATED, Some(digest)) if digest != *self.source.digest() => Err(Error::DigestMismatch {
                at: Box::new(self.at.clone()),
                problem: format!("the registry stored {digest} instead of {}", self.source.digest()),
            }),
            (StatusCode::CREATED, Some(_)) => Ok(()),
            (status, _) if status.is_success() => {
                if self.presence().await? == Presence::Whole {
                    return Ok(());
                }
                let cause = format!("it answers {status} and the blob is not there");
                Err(Error::Unavailable {
                    at: Box::new(self.at.clone()),
                    cause,
                    retry_after: None,
                })
            }
            _ => Err(self.session_error(&call, answer).await),
        }
    }

    /// What a session answered as an error. The repository took the session, so 404 can only mean that the session is
    /// gone, and 416 that it stands elsewhere: both end with a new one.
    async fn session_error(&self, call: &Call<'_>, answer: Answer) -> Error {
        let elsewhere = answer.status == StatusCode::RANGE_NOT_SATISFIABLE;
        match self.client.transport.error_of(call, answer).await {
            Error::NotFound { at, said, .. } => Error::NotFound {
                at,
                what: Missing::Upload,
                said,
            },
            Error::Protocol { at, .. } if elsewhere => Error::NotFound {
                at,
                what: Missing::Upload,
                said: Said::default(),
            },
            error => error,
        }
    }
}
