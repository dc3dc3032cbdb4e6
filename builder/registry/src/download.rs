//! Reading blobs: streamed, resumed after a broken connection, verified at the end.
//!
//! Invariant: a stream that ends without an error has delivered exactly the bytes of the descriptor, and the last of them are
//! not handed out before all are verified. Where the whole can be read anew, wrong bytes of a mirror are: from the registry.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, Stream, StreamExt, TryStreamExt};
use oci_spec::image::{Descriptor, Digest};
use reqwest::header::{CONTENT_RANGE, HeaderValue, RANGE};
use reqwest::{Method, StatusCode};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::answer::Answer;
use crate::client::Client;
use crate::context::{Context, Operation};
use crate::digest::Verifier;
use crate::error::{Error, ErrorKind};
use crate::reference::Repository;
use crate::transport::{Call, Follow};

/// Bytes after which a broken connection does not count as one more failed attempt: something came of the last one.
const PROGRESS: u64 = 1 << 20;

/// A download under way.
struct Download {
    client: Client,
    /// Where the blob is: mirrors, then the registry itself. The first is read from.
    sources: VecDeque<Repository>,
    /// Mirrors that have sent some of the bytes.
    served: Vec<Repository>,
    at: Context,
    digest: Digest,
    /// Where the next byte belongs.
    offset: u64,
    size: u64,
    /// Only for downloads from the beginning: a later start cannot be hashed.
    verifier: Option<Verifier>,
    answer: Option<Answer>,
    attempt: u32,
    /// Where the current attempt began.
    began: u64,
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

    /// The blob's bytes as a stream, from a mirror if there is one. Size and digest are verified: the last item is an error when they differ, so what
    /// was read must not be used before the stream has ended. When [`Self::has_mirrors_of`] the repository, `DigestMismatch` may
    /// be a mirror's fault, and a client [`Self::without_mirrors`] reads the right bytes.
    pub fn blob_stream(&self, repository: &Repository, descriptor: &Descriptor) -> BoxStream<'static, Result<Bytes, Error>> {
        self.download(repository, descriptor, 0).boxed()
    }

    /// Writes the blob into an empty file; what was written must not be used after an error.
    pub async fn blob_to_file(&self, repository: &Repository, descriptor: &Descriptor, file: &mut File) -> Result<(), Error> {
        match self.fill(repository, descriptor, file).await {
            Err(error) if self.may_be_a_mirrors(&error, repository) => {
                let rewound = async {
                    file.rewind().await?;
                    file.set_len(0).await
                };
                rewound.await.map_err(|source| cannot_write(repository, source))?;
                self.without_mirrors().fill(repository, descriptor, file).await
            }
            written => written,
        }
    }

    async fn fill(&self, repository: &Repository, descriptor: &Descriptor, file: &mut File) -> Result<(), Error> {
        let mut stream = self.blob_stream(repository, descriptor);
        let fail = |source| cannot_write(repository, source);
        while let Some(bytes) = stream.try_next().await? {
            file.write_all(&bytes).await.map_err(fail)?;
        }
        file.flush().await.map_err(fail)
    }

    /// A small blob in memory; larger than `limit` bytes is `TooLarge`.
    pub async fn blob_bytes(&self, repository: &Repository, descriptor: &Descriptor, limit: u64) -> Result<Bytes, Error> {
        if descriptor.size() > limit {
            let at = Context::new(Operation::PullBlob, repository, repository.to_string());
            return Err(Error::TooLarge { at: Box::new(at), limit });
        }
        match collect(self.blob_stream(repository, descriptor)).await {
            Err(error) if self.may_be_a_mirrors(&error, repository) => {
                collect(self.without_mirrors().blob_stream(repository, descriptor)).await
            }
            collected => collected,
        }
    }

    /// Whether wrong bytes may have come from a mirror, so that the registry itself is to be read before anybody is told.
    pub(crate) fn may_be_a_mirrors(&self, error: &Error, repository: &Repository) -> bool {
        error.kind() == ErrorKind::DigestMismatch && self.has_mirrors_of(repository)
    }

    /// The blob from `offset` on. Only a download from 0 is verified.
    pub(crate) fn download(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> impl Stream<Item = Result<Bytes, Error>> + Send + 'static + use<> {
        let mut sources = VecDeque::from(self.mirrors.of(repository));
        sources.push_back(repository.clone());
        let download = Download {
            at: place(&sources[0], descriptor.digest()),
            client: self.clone(),
            sources,
            served: Vec::new(),
            digest: descriptor.digest().clone(),
            offset,
            size: descriptor.size(),
            verifier: None,
            answer: None,
            attempt: 1,
            began: offset,
        };
        let expected = (descriptor.digest().clone(), descriptor.size());
        futures::stream::once(async move {
            let mut download = download;
            if offset == 0 {
                let verifier = Verifier::new(&expected.0, Some(expected.1));
                download.verifier = Some(verifier.map_err(|error| download.mismatch(error.to_string()))?);
            }
            Ok::<_, Error>(futures::stream::try_unfold(download, Download::next))
        })
        .try_flatten()
    }
}

fn cannot_write(repository: &Repository, source: std::io::Error) -> Error {
    Error::Io {
        at: Box::new(Context::new(Operation::PullBlob, repository, repository.to_string())),
        file: "the file being written".to_owned(),
        source,
    }
}

async fn collect(mut stream: BoxStream<'static, Result<Bytes, Error>>) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = stream.try_next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// Answers to `head_blob` that settle it.
pub(crate) fn tells_existence(status: StatusCode) -> bool {
    status == StatusCode::OK || status == StatusCode::NOT_FOUND || status.is_redirection()
}

fn place(repository: &Repository, digest: &Digest) -> Context {
    Context::new(Operation::PullBlob, repository, format!("{repository}@{digest}"))
}

/// Where a range begins and how long the whole is, from `bytes first-last/whole`; the whole may be unknown.
pub(crate) fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, whole) = text.trim().strip_prefix("bytes ")?.trim_start().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let whole = match whole.trim() {
        "*" => None,
        whole => Some(whole.parse().ok()?),
    };
    (first <= last && whole.is_none_or(|whole: u64| last < whole)).then_some((first, whole))
}

impl Download {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Error> {
        loop {
            let error = match self.step().await {
                Ok(Some(bytes)) => {
                    self.take(&bytes)?;
                    return Ok(Some((bytes, self)));
                }
                Ok(None) if self.offset >= self.size => {
                    // An empty blob has no last piece.
                    self.finish()?;
                    return Ok(None);
                }
                Ok(None) => Error::Unavailable {
                    at: Box::new(self.at.clone()),
                    cause: format!("the blob ends at byte {} of {}", self.offset, self.size),
                    retry_after: None,
                },
                Err(error) => error,
            };
            self.answer = None;
            if self.sources.len() > 1 && self.client.mirrors.failed(&self.sources[0], &error) {
                self.sources.pop_front();
                self.at = place(&self.sources[0], &self.digest);
                continue;
            }
            if self.offset - self.began >= PROGRESS {
                self.attempt = 1;
            }
            self.began = self.offset;
            if !error.retryable() || !self.client.transport.pause(&self.at, self.attempt, &error).await? {
                return Err(error);
            }
            self.attempt += 1;
        }
    }

    /// Takes note of the next piece. Whoever passes pieces on must not have the last one before all are right.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let source = &self.sources[0];
        if self.sources.len() > 1 && self.served.last() != Some(source) {
            self.served.push(source.clone());
        }
        self.offset += bytes.len() as u64;
        if let Some(verifier) = &mut self.verifier {
            verifier.update(bytes).map_err(|error| self.mismatch(error.to_string()))?;
        } else if self.offset > self.size {
            return Err(self.mismatch(format!("content has more than its {} bytes", self.size)));
        }
        if self.offset == self.size { self.finish() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<(), Error> {
        let verified = self.verifier.take().map_or(Ok(()), Verifier::finish);
        verified.map_err(|error| self.mismatch(error.to_string()))
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
            .request(Method::GET, Operation::PullBlob, &self.sources[0], self.at.subject.clone(), &tail)?;
        if self.offset > 0 {
            let range = HeaderValue::from_str(&format!("bytes={}-", self.offset));
            call.headers.insert(RANGE, range.expect("invariant: digits are a valid header"));
        }
        let mut answer = self.client.transport.exchange(&call).await?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::PARTIAL_CONTENT if self.offset > 0 => {
                let range = answer.header(CONTENT_RANGE).and_then(content_range);
                if range.is_some_and(|(first, whole)| first == self.offset && whole.is_none_or(|whole| whole == self.size)) {
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

    /// The wrong bytes as an error, of which the mirrors that sent some take note.
    fn mismatch(&self, problem: String) -> Error {
        let error = Error::DigestMismatch {
            at: Box::new(self.at.clone()),
            problem,
        };
        for mirror in &self.served {
            self.client.mirrors.failed(mirror, &error);
        }
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let table = [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            (" bytes  0-0/1 ", Some((0, Some(1)))),
            ("bytes 5-9/9", None),
            ("bytes 9-5/10", None),
            ("bytes 50-9/10", None),
            ("bytes */10", None),
            ("bytes 5-9", None),
            ("items 5-9/10", None),
            ("bytes 5-99999999999999999999/*", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
