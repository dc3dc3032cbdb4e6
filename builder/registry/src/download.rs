//! Reading blobs: streamed, resumed after a broken connection, verified at the end.
//!
//! Invariant: a stream that ends without an error has delivered exactly the bytes of the descriptor.

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt, TryStreamExt};
use oci_spec::image::{Descriptor, Digest};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::answer::Answer;
use crate::client::Client;
use crate::context::{Context, Operation};
use crate::digest::Verifier;
use crate::error::Error;
use crate::reference::Repository;
use crate::transport::{Call, Follow};

/// A download under way.
struct Download {
    client: Client,
    repository: Repository,
    at: Context,
    digest: Digest,
    /// Where the next byte belongs.
    offset: u64,
    size: u64,
    /// Only for downloads from the beginning: a later start cannot be hashed.
    verifier: Option<Verifier>,
    answer: Option<Answer>,
    attempt: u32,
}

impl Client {
    /// Is the blob in the repository? One that the registry has refused a manifest for is not. A redirect to a blob store on another host says yes.
    pub async fn blob_exists(&self, repository: &Repository, digest: &Digest) -> Result<bool, Error> {
        if self.transport.lacks(repository, digest) {
            return Ok(false);
        }
        let call = self.head_blob(repository, digest)?;
        Ok(self.transport.call(&call, tells_existence).await?.status != StatusCode::NOT_FOUND)
    }

    /// The question whether a blob is there.
    pub(crate) fn head_blob<'a>(&self, repository: &'a Repository, digest: &Digest) -> Result<Call<'a>, Error> {
        let subject = format!("{repository}@{digest}");
        let mut call = self.request(Method::HEAD, Operation::HeadBlob, repository, subject, &format!("blobs/{digest}"))?;
        // Stores sign their URLs for GET only, and a redirect already says that the blob is there.
        call.follow = Follow::SameOrigin;
        Ok(call)
    }

    /// The blob's bytes as a stream. Size and digest are verified: the last item is an error when they differ, so what
    /// was read must not be used before the stream has ended.
    pub fn blob_stream(&self, repository: &Repository, descriptor: &Descriptor) -> BoxStream<'static, Result<Bytes, Error>> {
        self.download(repository, descriptor, 0).boxed()
    }

    /// Writes the blob and flushes; what was written must not be used after an error.
    pub async fn blob_to_writer(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), Error> {
        let mut stream = self.blob_stream(repository, descriptor);
        let fail = |source| Error::Io {
            at: Box::new(Context::new(Operation::PullBlob, repository, repository.to_string())),
            file: "the file being written".to_owned(),
            source,
        };
        while let Some(bytes) = stream.try_next().await? {
            writer.write_all(&bytes).await.map_err(fail)?;
        }
        writer.flush().await.map_err(fail)
    }

    /// A small blob in memory; larger than `limit` bytes is `TooLarge`.
    pub async fn blob_bytes(&self, repository: &Repository, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if descriptor.size() > limit {
            let at = Context::new(Operation::PullBlob, repository, repository.to_string());
            return Err(Error::TooLarge { at: Box::new(at), limit });
        }
        let mut stream = self.blob_stream(repository, descriptor);
        let mut bytes = BytesMut::new();
        while let Some(piece) = stream.try_next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.freeze())
    }

    /// The blob from `offset` on. Only a download from 0 is verified.
    pub(crate) fn download(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static + use<> {
        let subject = format!("{repository}@{}", descriptor.digest());
        let download = Download {
            at: Context::new(Operation::PullBlob, repository, subject),
            client: self.clone(),
            repository: repository.clone(),
            digest: descriptor.digest().clone(),
            offset,
            size: descriptor.size(),
            verifier: None,
            answer: None,
            attempt: 1,
        };
        let expected = (descriptor.digest().clone(), descriptor.size());
        futures::stream::once(async move {
            let mut download = download;
            if offset == 0 {
                let verifier = Verifier::new(&expected.0, Some(expected.1));
                download.verifier = Some(verifier.map_err(|error| download.mismatch(&error))?);
            }
            Ok::<_, Error>(futures::stream::try_unfold(download, Download::next))
        })
        .try_flatten()
    }
}

/// Answers to `head_blob` that settle it.
pub(crate) fn tells_existence(status: StatusCode) -> bool {
    status == StatusCode::OK || status == StatusCode::NOT_FOUND || status.is_redirection()
}

impl Download {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        loop {
            let error = match self.step().await {
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    if let Some(verifier) = &mut self.verifier {
                        let verified = verifier.update(&bytes);
                        verified.map_err(|error| self.mismatch(&error))?;
                    }
                    return Ok(Some((bytes, self)));
                }
                Ok(None) if self.offset >= self.size => {
                    return match self.verifier.take().map(Verifier::finish) {
                        Some(Err(error)) => Err(self.mismatch(&error)),
                        _ => Ok(None),
                    };
                }
                Ok(None) => Error::Unavailable {
                    at: Box::new(self.at.clone()),
                    cause: format!("the blob ends at byte {} of {}", self.offset, self.size),
                    retry_after: None,
                },
                Err(error) => error,
            };
            self.answer = None;
            if !error.retryable() || !self.client.transport.pause(&self.at, self.attempt, &error).await? {
                return Err(error);
            }
            self.attempt += 1;
        }
    }

    /// The next piece of this connection; `None` at its end.
    async fn step(&mut self) -> Result<Option<Bytes>, Error> {
        if self.answer.is_none() {
            if self.offset >= self.size && self.offset > 0 {
                return Ok(None);
            }
            self.answer = Some(self.open().await?);
        }
        let answer = self.answer.as_mut().expect("invariant: opened above");
        let read = self.client.transport.guard(&self.at, answer.chunk(&self.at)).await?;
        Ok(read.filter(|bytes| !bytes.is_empty()))
    }

    /// Opens a connection at the offset. A registry that ignores the range is read from the start, and what is known
    /// already is thrown away.
    async fn open(&self) -> Result<Answer, Error> {
        let tail = format!("blobs/{}", self.digest);
        let mut call = self
            .client
            .request(Method::GET, Operation::PullBlob, &self.repository, self.at.subject.clone(), &tail)?;
        if self.offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.offset));
            call.headers.insert(RANGE, range.expect("invariant: digits are a valid header"));
        }
        let mut answer = self.client.transport.exchange(&call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::PARTIAL_CONTENT if self.offset > 0 => {
                let expected = format!("bytes {}-", self.offset);
                if answer.header(CONTENT_RANGE).is_some_and(|range| range.starts_with(&expected)) {
                    return Ok(answer);
                }
                let problem = "it sends another range of the blob than asked for".to_owned();
                return Err(Error::Protocol {
                    at: Box::new(self.at.clone()),
                    problem,
                });
            }
            _ => return Err(self.client.transport.error_of(&call, answer).await),
        }
        let mut skip = self.offset;
        while skip > 0 {
            let read = self.client.transport.guard(&self.at, answer.chunk(&self.at)).await?;
            let Some(bytes) = read else { break };
            let known = skip.min(bytes.len() as u64);
            skip -= known;
            let fresh = bytes.slice(usize::try_from(known).expect("invariant: at most the length of a buffer")..);
            if !fresh.is_empty() {
                answer.pushback = Some(fresh);
            }
        }
        Ok(answer)
    }

    fn mismatch(&self, error: &crate::digest::VerifyError) -> Error {
        Error::DigestMismatch {
            at: Box::new(self.at.clone()),
            problem: error.to_string(),
        }
    }
}
