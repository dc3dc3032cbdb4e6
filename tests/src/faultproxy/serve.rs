//! The connections of the proxy: one request after the other, each forwarded over a connection of its own.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::fault::{Fault, Reply};
use super::head::{Head, LIMIT, Request};
use super::{Door, Seen, Shared};

/// How long a refused body is swallowed, so that its sender gets to read the answer.
const DRAIN: Duration = Duration::from_secs(2);

type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A client's connection, with what was read too much.
struct Wire {
    stream: Stream,
    read: Vec<u8>,
}

/// What becomes of a connection after a request.
enum After {
    GoOn,
    Close,
    Reset,
}

/// Takes connections until the task is ended, and ends them with it.
pub(super) async fn accept(shared: Arc<Shared>, door: Door, listener: TcpListener) {
    let acceptor = match &shared.certificate {
        Some(certificate) if door != Door::Other => match certificate.acceptor() {
            Ok(acceptor) => Some(acceptor),
            Err(error) => return tracing::error!(%error, "a door of the fault proxy stays closed"),
        },
        _ => None,
    };
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(Arc::clone(&shared), door, stream, acceptor.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(shared: Arc<Shared>, door: Door, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
    shared.state().connections += 1;
    let mut generation = shared.generation.subscribe();
    let stream = match acceptor {
        None => Either::Left(stream),
        // A client that does not trust the certificate leaves here.
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => Either::Right(stream),
            Err(_) => return,
        },
    };
    let mut wire = Wire { stream, read: Vec::new() };
    loop {
        let head = tokio::select! {
            // A closed channel is the end of the proxy.
            _ = generation.changed() => return wire.reset(),
            head = wire.head() => head,
        };
        let Ok(Some(head)) = head else { return };
        match request(&shared, door, &mut wire, head).await {
            Ok(After::GoOn) => {}
            Ok(After::Close) | Err(_) => return,
            Ok(After::Reset) => return wire.reset(),
        }
    }
}

/// One request from its head to its answer.
async fn request(shared: &Shared, door: Door, wire: &mut Wire, head: Head) -> io::Result<After> {
    let length = head.length().unwrap_or(0);
    let (request, place, fault) = admit(shared, door, head, length);
    let own = match &fault {
        Some(Fault::Answer(reply)) => Some(reply.clone()),
        Some(Fault::FirstThen(first, reply)) => {
            first();
            Some(reply.clone())
        }
        Some(Fault::Redirect(status, to)) => {
            let location = format!("{}://{}{}", shared.scheme(*to), shared.address(*to), request.target);
            Some(Reply::new(*status).with("location", location))
        }
        _ => None,
    };
    if let Some(reply) = own {
        wire.reply(&request.method, &reply).await?;
        // Answered before the body is read, as proxies do.
        return tokio::time::timeout(DRAIN, wire.skip(length)).await?.map(|()| After::GoOn);
    }
    match &fault {
        Some(Fault::Reset) => return Ok(After::Reset),
        Some(Fault::Certificate(shown)) => {
            if let Some(certificate) = &shared.certificate {
                certificate.show(*shown).map_err(io::Error::other)?;
            }
            shared.generation.send_modify(|number| *number += 1);
            return Ok(After::Reset);
        }
        Some(Fault::Stall) => {
            tokio::io::copy(&mut wire.stream, &mut tokio::io::sink()).await?;
            return Ok(After::Close);
        }
        Some(Fault::Raw(bytes)) => {
            wire.skip(length).await?;
            wire.stream.write_all(bytes).await?;
            wire.stream.shutdown().await?;
            // A close with bytes unread would be a reset, and could overtake what was written.
            tokio::time::timeout(DRAIN, tokio::io::copy(&mut wire.stream, &mut tokio::io::sink())).await??;
            return Ok(After::Close);
        }
        Some(Fault::First(first)) => first(),
        _ => {}
    }
    let target = match &fault {
        Some(Fault::Target(change)) => change(&request.target),
        _ => request.target.clone(),
    };
    let sent = match &fault {
        Some(Fault::Part(bytes, _)) => length.min(*bytes),
        _ => length,
    };
    let answer = forward(shared, &request, &target, wire, sent).await?;
    wire.skip(length - sent).await?;
    let (mut head, body) = split(&answer)?;
    if let Some(seen) = shared.state().seen.get_mut(place) {
        seen.status = Some(head.status());
    }
    match &fault {
        Some(Fault::Lost) => return Ok(After::Reset),
        Some(Fault::DoneThen(reply) | Fault::Part(_, reply)) => return wire.reply(&request.method, reply).await.map(|()| After::GoOn),
        _ => {}
    }
    translate(shared, &mut head);
    if let Some(Fault::Change(change)) = &fault {
        change(&mut head);
    }
    let bodyless = request.method == "HEAD" || matches!(head.status(), 204 | 304);
    let framed = bodyless || head.length().is_some() || head.get("transfer-encoding").is_some();
    let mut bytes = head.to_bytes();
    bytes.extend_from_slice(body);
    if let Some(Fault::Drip(pause)) = fault {
        for byte in bytes {
            wire.stream.write_all(&[byte]).await?;
            wire.stream.flush().await?;
            tokio::time::sleep(pause).await;
        }
    } else {
        wire.stream.write_all(&bytes).await?;
        wire.stream.flush().await?;
    }
    Ok(if framed { After::GoOn } else { After::Close })
}

/// Records a request and picks its fault.
fn admit(shared: &Shared, door: Door, head: Head, length: u64) -> (Request, usize, Option<Fault>) {
    let mut state = shared.state();
    let number = state.seen.iter().filter(|seen| seen.door == door).count();
    let request = Request::new(door, number, head);
    let rule = state.rules.iter_mut().find(|rule| rule.times > 0 && (rule.when)(&request));
    let fault = rule.map(|rule| {
        rule.times -= 1;
        rule.fault.clone()
    });
    state.seen.push(Seen {
        door,
        method: request.method.clone(),
        target: request.target.clone(),
        authorization: request.head.get("authorization").map(str::to_owned),
        length,
        fault: fault.as_ref().map(Fault::name),
        status: None,
        at: Instant::now(),
    });
    (request, state.seen.len() - 1, fault)
}

/// Sends the request to where it belongs, and gives the whole answer.
async fn forward(shared: &Shared, request: &Request, target: &str, wire: &mut Wire, length: u64) -> io::Result<Vec<u8>> {
    let upstream = match (request.door, &shared.behind.token) {
        (Door::Token, Some(token)) => token,
        _ => &shared.behind.registry,
    };
    let mut head = request.head.clone();
    head.first = format!("{} {target} HTTP/1.1", request.method);
    head.set("connection", "close");
    if head.length().is_some() {
        head.set("content-length", length.to_string());
    }
    if shared.scheme(request.door) == "https" {
        head.set("x-forwarded-proto", "https");
    }
    if request.door == Door::Other {
        // The address is signed, in a manner of speaking: the store opens by itself what was asked for with a right.
        let state = shared.state();
        let mut asked = state.seen.iter().rev().filter(|seen| seen.door == Door::Registry);
        if let Some(right) = asked.find_map(|seen| seen.authorization.clone()) {
            head.set("authorization", right);
        }
    }
    let mut to = TcpStream::connect(upstream).await?;
    to.write_all(&head.to_bytes()).await?;
    wire.pour(length, &mut to).await?;
    let mut answer = Vec::new();
    match to.read_to_end(&mut answer).await {
        // A registry that refuses a body before its end may reset the connection after its answer.
        Err(error) if answer.is_empty() => return Err(error),
        _ => {}
    }
    Ok(answer)
}

fn split(answer: &[u8]) -> io::Result<(Head, &[u8])> {
    let broken = || io::Error::new(io::ErrorKind::InvalidData, "the registry's answer is no HTTP");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(broken)?;
    let mut head = Head::parse(&answer[..end]).ok_or_else(broken)?;
    head.remove("connection");
    Ok((head, &answer[end + 4..]))
}

/// The token service is reached by the proxy's door, and not by the name that the registry knows it by.
fn translate(shared: &Shared, head: &mut Head) {
    let (Some(token), Some(challenge)) = (&shared.behind.token, head.get("www-authenticate")) else {
        return;
    };
    let door = format!("{}://{}", shared.scheme(Door::Token), shared.address(Door::Token));
    let challenge = challenge.replace(&format!("http://{token}"), &door);
    head.set("www-authenticate", challenge);
}

impl Wire {
    /// The next request's head; `None` when the client has left.
    async fn head(&mut self) -> io::Result<Option<Head>> {
        let mut buffer = vec![0; 16 << 10];
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = std::mem::replace(&mut self.read, rest);
                return Ok(Head::parse(&head[..end]));
            }
            let read = self.stream.read(&mut buffer).await?;
            if read == 0 || self.read.len() > LIMIT {
                return Ok(None);
            }
            self.read.extend_from_slice(&buffer[..read]);
        }
    }

    /// Hands so many bytes of the body on. A registry that takes no more has answered already.
    async fn pour(&mut self, length: u64, to: &mut TcpStream) -> io::Result<()> {
        let mut left = usize::try_from(length).map_err(io::Error::other)?;
        let mut taken = true;
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            if self.read.is_empty() {
                let read = self.stream.read(&mut buffer[..left.min(64 << 10)]).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.read.extend_from_slice(&buffer[..read]);
            }
            let rest = self.read.split_off(left.min(self.read.len()));
            let piece = std::mem::replace(&mut self.read, rest);
            taken = taken && to.write_all(&piece).await.is_ok();
            left -= piece.len();
        }
        Ok(())
    }

    /// Throws so many bytes of the body away.
    async fn skip(&mut self, mut length: u64) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        while length > 0 {
            if self.read.is_empty() {
                let most = usize::try_from(length).unwrap_or(usize::MAX).min(buffer.len());
                let read = self.stream.read(&mut buffer[..most]).await?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                length -= read as u64;
            } else {
                let most = usize::try_from(length).unwrap_or(usize::MAX).min(self.read.len());
                self.read.drain(..most);
                length -= most as u64;
            }
        }
        Ok(())
    }

    async fn reply(&mut self, method: &str, reply: &Reply) -> io::Result<()> {
        let mut head = Head {
            first: format!("HTTP/1.1 {} Told", reply.status),
            headers: reply.headers.clone(),
        };
        if reply.status != 204 {
            head.set("content-length", (reply.body.len() as u64 + reply.filler).to_string());
        }
        self.stream.write_all(&head.to_bytes()).await?;
        if method == "HEAD" {
            return self.stream.flush().await;
        }
        self.stream.write_all(&reply.body).await?;
        let mut left = reply.filler;
        let filler = vec![b'x'; 64 << 10];
        while left > 0 {
            let piece = usize::try_from(left).unwrap_or(usize::MAX).min(filler.len());
            self.stream.write_all(&filler[..piece]).await?;
            left -= piece as u64;
        }
        self.stream.flush().await
    }

    /// Ends the connection as a crashed host or an impatient firewall does.
    fn reset(self) {
        let tcp = match &self.stream {
            Either::Left(tcp) => tcp,
            Either::Right(tls) => tls.get_ref().0,
        };
        if let Err(error) = tcp.set_zero_linger() {
            tracing::warn!(%error, "a connection ends without a reset");
        }
    }
}
