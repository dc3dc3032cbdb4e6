//! A wire between a client and a real server that can be cut, slowed, frozen or pulled out.
//!
//! Invariant: bytes pass unchanged and in order; what is behind it, TLS included, does not know that it is there. A
//! server's certificate is valid for the wire's address when both are on the same IP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result};

/// How often a waiting connection looks whether it may go on.
const TICK: Duration = Duration::from_millis(10);

/// What the wire does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Nothing special.
    Whole,
    /// Connections stay open and carry nothing.
    Frozen,
    /// Connections are closed, new ones at once.
    Out,
    /// Each direction of each connection carries so many bytes a second.
    Slow(u64),
    /// After so many more bytes towards the server every connection is closed; then the wire is whole again.
    CutAfter(u64),
}

/// A running wire; dropping it closes its connections.
#[derive(Debug)]
pub struct Cable {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<tokio::runtime::Runtime>,
}

#[derive(Debug)]
struct Shared {
    wire: Mutex<Wire>,
    /// Raised by each cut; a connection made under an earlier number closes.
    generation: AtomicU64,
    carried: AtomicU64,
}

impl Cable {
    /// Listens on `ip` (a free port) and connects to `server` (`ip:port`).
    pub fn lay(ip: &str, server: &str) -> Result<Self> {
        let failed = |why: String| Error::Other(format!("wire from {ip} to {server}: {why}"));
        let target: SocketAddr = server.parse().map_err(|_| failed("the server is not an ip:port".into()))?;
        let listener = std::net::TcpListener::bind((ip, 0)).map_err(|error| failed(error.to_string()))?;
        listener.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        let shared = Arc::new(Shared {
            wire: Mutex::new(Wire::Whole),
            generation: AtomicU64::new(0),
            carried: AtomicU64::new(0),
        });
        let state = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("invariant: a bound, non-blocking socket");
            loop {
                if let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(connect(client, target, Arc::clone(&state)));
                }
            }
        });
        Ok(Self {
            address,
            shared,
            runtime: Some(runtime),
        })
    }

    /// `ip:port` to give to clients.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on.
    pub fn set(&self, wire: Wire) {
        self.shared.set(wire);
    }

    /// Bytes carried towards the server so far.
    pub fn carried(&self) -> u64 {
        self.shared.carried.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes have been carried towards the server.
    pub async fn wait_for(&self, bytes: u64, limit: Duration) -> Result<()> {
        let reached = async {
            while self.carried() < bytes {
                tokio::time::sleep(TICK).await;
            }
        };
        let late = |_| Error::Other(format!("only {} of {bytes} bytes came over the wire", self.carried()));
        tokio::time::timeout(limit, reached).await.map_err(late)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn wire(&self) -> Wire {
        *self.wire.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, wire: Wire) {
        *self.wire.lock().unwrap_or_else(PoisonError::into_inner) = wire;
        if wire == Wire::Out {
            self.generation.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How much of `length` bytes may go to the server before a cut; the cut itself when it is due.
    fn allow(&self, length: usize) -> Option<usize> {
        let mut wire = self.wire.lock().unwrap_or_else(PoisonError::into_inner);
        let Wire::CutAfter(left) = *wire else { return Some(length) };
        if left == 0 {
            *wire = Wire::Whole;
            self.generation.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let allowed = left.min(length as u64);
        *wire = Wire::CutAfter(left - allowed);
        usize::try_from(allowed).ok()
    }
}

async fn connect(client: TcpStream, target: SocketAddr, shared: Arc<Shared>) {
    let generation = shared.generation.load(Ordering::Relaxed);
    while shared.wire() == Wire::Frozen {
        tokio::time::sleep(TICK).await;
    }
    if shared.wire() == Wire::Out {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else { return };
    let ((client_read, client_write), (server_read, server_write)) = (client.into_split(), server.into_split());
    let cut = async {
        while shared.generation.load(Ordering::Relaxed) == generation {
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        () = cut => {}
        _ = async { tokio::join!(
            carry(client_read, server_write, &shared, generation, true),
            carry(server_read, client_write, &shared, generation, false),
        ) } => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, shared: &Shared, born: u64, upward: bool) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(size) = from.read(&mut buffer).await {
        if size == 0 {
            break;
        }
        while shared.wire() == Wire::Frozen {
            tokio::time::sleep(TICK).await;
        }
        let mut bytes = &buffer[..size];
        while !bytes.is_empty() {
            // A cut ends both directions, by the generation that it raises.
            let cut = shared.generation.load(Ordering::Relaxed) != born;
            let allowed = match (cut, upward) {
                (true, _) => None,
                (false, true) => shared.allow(bytes.len()),
                (false, false) => Some(bytes.len()),
            };
            let Some(allowed) = allowed else {
                return std::future::pending().await;
            };
            if let Wire::Slow(rate) = shared.wire() {
                let micros = (allowed as u64).saturating_mul(1_000_000) / rate.max(1);
                tokio::time::sleep(Duration::from_micros(micros)).await;
            }
            if to.write_all(&bytes[..allowed]).await.is_err() {
                return;
            }
            if upward {
                shared.carried.fetch_add(allowed as u64, Ordering::Relaxed);
            }
            bytes = &bytes[allowed..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    /// A server that sends back what it gets, and a wire to it.
    async fn echo() -> (Cable, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cable = Cable::lay("127.0.0.1", &listener.local_addr().unwrap().to_string()).unwrap();
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.into_split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        (cable, server)
    }

    async fn talk(stream: &mut TcpStream, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(bytes).await?;
        let mut answer = vec![0; bytes.len()];
        stream.read_exact(&mut answer).await.map(|_| answer)
    }

    #[tokio::test]
    async fn bytes_pass_until_it_is_cut_and_again_after() {
        let (cable, server) = echo().await;
        let mut first = TcpStream::connect(cable.address()).await.unwrap();
        assert_eq!(talk(&mut first, b"hello").await.unwrap(), b"hello");
        cable.set(Wire::CutAfter(3));
        assert!(talk(&mut first, b"world").await.is_err());
        assert_eq!(cable.carried(), 8, "exactly three bytes of the second word");
        let mut second = TcpStream::connect(cable.address()).await.unwrap();
        assert_eq!(talk(&mut second, b"again").await.unwrap(), b"again");
        cable.set(Wire::Out);
        assert!(talk(&mut second, b"gone").await.is_err());
        server.abort();
    }

    #[tokio::test]
    async fn it_freezes_and_slows() {
        let (cable, server) = echo().await;
        let mut stream = TcpStream::connect(cable.address()).await.unwrap();
        cable.set(Wire::Frozen);
        let frozen = timeout(Duration::from_millis(200), talk(&mut stream, b"a")).await;
        assert!(frozen.is_err(), "nothing comes through");
        cable.set(Wire::Slow(100));
        let began = Instant::now();
        // The byte from before, then forty at a hundred a second, there and back.
        assert_eq!(talk(&mut stream, &[b'b'; 40]).await.unwrap()[..2], *b"ab");
        assert!(began.elapsed() >= Duration::from_millis(390), "{:?}", began.elapsed());
        server.abort();
    }
}
