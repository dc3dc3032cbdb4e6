//! What a client sends to a server: its requests, and the bytes of their bodies.
//!
//! Invariant: bytes pass unchanged; only the way towards the server is read, as HTTP/1.1 without encryption.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::error::{Error, Result};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// `PUT`.
    pub(super) method: String,
    /// With its query.
    pub(super) path: String,
    /// Bytes of its body, without the marks of chunks.
    pub(super) body: u64,
}

/// A running counter; dropping it ends it.
#[derive(Debug)]
pub(super) struct Counter {
    address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Counter {
    /// Listens on loopback for a server at `ip:port`.
    pub(super) async fn before(server: &str) -> Result<Self> {
        let failed = |error| Error::Other(format!("counter before {server}: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (server, into) = (server.to_owned(), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(carry(client, server.clone(), Arc::clone(&into)));
            }
        });
        Ok(Self { address, seen, task })
    }

    /// `ip:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// The requests since the last call.
    pub(super) fn take(&self) -> Vec<Request> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, server: String, seen: Arc<Mutex<Vec<Request>>>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let upward = async {
        let mut reader = Reader::default();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(size @ 1..) = from_client.read(&mut buffer).await {
            // Counted before it is passed on: the answer may come at once.
            reader.feed(&buffer[..size], |request| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            });
            if to_server.write_all(&buffer[..size]).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = upward => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

/// Where in a stream of requests it is.
#[derive(Debug, Default)]
struct Reader {
    state: State,
    line: Vec<u8>,
    length: Option<Length>,
    request: Option<Request>,
}

/// How a body ends.
#[derive(Debug)]
enum Length {
    Known(u64),
    Chunked,
}

#[derive(Debug, Default, PartialEq)]
enum State {
    #[default]
    Head,
    /// So many bytes of a body are left.
    Body(u64),
    /// The line with the size of a chunk.
    Size,
    /// So many bytes of a chunk are left, with the line end behind it.
    Chunk(u64),
    /// Lines behind the last chunk.
    Trailer,
}

impl Reader {
    /// Takes the next bytes; calls `whole` at the end of each request.
    fn feed(&mut self, mut bytes: &[u8], mut whole: impl FnMut(Request)) {
        while !bytes.is_empty() {
            match self.state {
                State::Body(left) | State::Chunk(left) => {
                    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    let left = left - taken as u64;
                    self.state = match self.state {
                        State::Body(_) => State::Body(left),
                        _ if left == 0 => State::Size,
                        _ => State::Chunk(left),
                    };
                }
                State::Head | State::Size | State::Trailer => {
                    self.line.push(bytes[0]);
                    let ended = bytes[0] == b'\n';
                    bytes = &bytes[1..];
                    if ended {
                        let line = std::mem::take(&mut self.line);
                        self.state = self.after(String::from_utf8_lossy(&line).trim_end());
                    }
                }
            }
            if self.state == State::Body(0) {
                self.state = State::Head;
                self.length = None;
                self.request.take().into_iter().for_each(&mut whole);
            }
        }
    }

    /// What follows a whole line.
    fn after(&mut self, line: &str) -> State {
        match (&self.state, line) {
            (State::Head, "") => match self.length.take() {
                Some(Length::Known(length)) => {
                    self.add(length);
                    State::Body(length)
                }
                Some(Length::Chunked) => State::Size,
                None => State::Body(0),
            },
            (State::Head, line) => {
                let Some((name, value)) = line.split_once(": ").filter(|_| self.request.is_some()) else {
                    let mut words = line.split(' ').map(str::to_owned);
                    self.request = words
                        .next()
                        .zip(words.next())
                        .map(|(method, path)| Request { method, path, body: 0 });
                    return State::Head;
                };
                if name.eq_ignore_ascii_case("content-length") {
                    self.length = value.trim().parse().ok().map(Length::Known);
                } else if name.eq_ignore_ascii_case("transfer-encoding") && value.contains("chunked") {
                    self.length = Some(Length::Chunked);
                }
                State::Head
            }
            (State::Size, line) => {
                let size = line
                    .split(';')
                    .next()
                    .and_then(|size| u64::from_str_radix(size.trim(), 16).ok())
                    .unwrap_or(0);
                self.add(size);
                if size == 0 { State::Trailer } else { State::Chunk(size + 2) }
            }
            (State::Trailer, "") => State::Body(0),
            _ => State::Trailer,
        }
    }

    fn add(&mut self, bytes: u64) {
        if let Some(request) = &mut self.request {
            request.body += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b"HEAD /v2/a/blobs/x HTTP/1.1\r\nHost: r\r\n\r\n\
PUT /v2/a/manifests/1 HTTP/1.1\r\nHost: r\r\nContent-Length: 5\r\n\r\nab\r\nc\
PATCH /up?x=1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n0\r\n\r\n\
GET /v2/ HTTP/1.1\r\n\r\n";

    #[test]
    fn requests_are_counted_wherever_the_stream_is_cut() {
        let wanted = [
            ("HEAD", "/v2/a/blobs/x", 0),
            ("PUT", "/v2/a/manifests/1", 5),
            ("PATCH", "/up?x=1", 13),
            ("GET", "/v2/", 0),
        ];
        for size in [1, 2, 3, 7, 50, STREAM.len()] {
            let (mut reader, mut found) = (Reader::default(), Vec::new());
            for piece in STREAM.chunks(size) {
                reader.feed(piece, |request| found.push(request));
            }
            let found: Vec<_> = found.iter().map(|r| (r.method.as_str(), r.path.as_str(), r.body)).collect();
            assert_eq!(found, wanted, "in pieces of {size}");
        }
    }

    #[tokio::test]
    async fn it_stands_before_a_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let counter = Counter::before(&listener.local_addr().unwrap().to_string()).await.unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; STREAM.len()];
            stream.read_exact(&mut bytes).await.unwrap();
            stream.write_all(b"done").await.unwrap();
            bytes
        });
        let mut client = TcpStream::connect(counter.address()).await.unwrap();
        client.write_all(STREAM).await.unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(server.await.unwrap(), STREAM, "unchanged");
        assert_eq!(counter.take().len(), 4);
        assert_eq!(counter.take(), [], "taken once");
    }
}
