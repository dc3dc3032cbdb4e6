//! Connections that break at random bytes, for campaigns.
//!
//! Invariant: what happens to connection number `n` follows from the seed and `n` alone, so a seed shows the same breaks
//! again as long as the client connects in the same order.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::error::{Error, Result};

/// How often, and how late.
#[derive(Debug, Clone, Copy)]
pub struct Breaks {
    /// So many connections of a hundred are broken.
    pub percent: u64,
    /// After at most so many bytes in one direction, small numbers being likelier.
    pub most: u64,
    /// How long a connection that falls silent stays open.
    pub silence: Duration,
}

/// A running breaker; dropping it ends it and its connections.
#[derive(Debug)]
pub struct Breaker {
    address: String,
    broken: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// What becomes of one connection.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// Bytes to the server, or else to the client, until it breaks.
    upward: bool,
    bytes: u64,
    /// Reset, closed, or silent.
    end: u64,
}

impl Breaker {
    /// Listens on a free port of 127.0.0.1 for the server at `server`.
    pub async fn start(server: &str, seed: u64, breaks: Breaks) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Other(format!("the breaker cannot listen: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?.to_string();
        let broken = Arc::new(AtomicU64::new(0));
        let (server, count) = (server.to_owned(), Arc::clone(&broken));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                let fate = fate(seed, number, breaks);
                number += 1;
                connections.spawn(carry(client, server.clone(), fate, breaks.silence, Arc::clone(&count)));
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, broken, task })
    }

    /// `host:port` to give to clients.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Connections broken so far.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }
}

impl Drop for Breaker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A well-mixed number out of a seed and a place in its sequence.
fn mixed(seed: u64, place: u64) -> u64 {
    let mut word = seed.wrapping_add(place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

fn fate(seed: u64, number: u64, breaks: Breaks) -> Option<Fate> {
    let draw = |place| mixed(seed, number.wrapping_mul(8).wrapping_add(place));
    // Evenly over the number of digits, so that heads and bodies are both hit.
    let bits = draw(2) % u64::from(breaks.most.max(2).ilog2() + 1);
    let bytes = draw(3) % (2_u64 << bits);
    (draw(0) % 100 < breaks.percent).then(|| Fate {
        upward: draw(1) % 2 == 0,
        bytes,
        end: draw(4) % 3,
    })
}

async fn carry(client: TcpStream, server: String, fate: Option<Fate>, silence: Duration, broken: Arc<AtomicU64>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (mut client, mut server) = (client, server);
    let Some(fate) = fate else {
        // However it ends, both sides are closed with it.
        let _ends = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        return;
    };
    let whole = {
        let ((mut client_read, mut client_write), (mut server_read, mut server_write)) = (client.split(), server.split());
        let most = |upward: bool| if fate.upward == upward { fate.bytes } else { u64::MAX };
        tokio::select! {
            whole = pour(&mut client_read, &mut server_write, most(true)) => whole,
            whole = pour(&mut server_read, &mut client_write, most(false)) => whole,
        }
    };
    if whole {
        return;
    }
    broken.fetch_add(1, Ordering::Relaxed);
    if fate.end == 2 {
        tokio::time::sleep(silence).await;
    } else if fate.end == 0
        && let Err(error) = client.set_zero_linger()
    {
        tracing::warn!(%error, "a connection ends without a reset");
    }
}

/// Carries at most so many bytes; false when that is what ended it.
async fn pour(from: &mut (impl AsyncReadExt + Unpin), to: &mut (impl AsyncWriteExt + Unpin), most: u64) -> bool {
    let mut left = most;
    let mut buffer = vec![0; 16 << 10];
    while left > 0 {
        let room = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match from.read(&mut buffer[..room]).await {
            Ok(0) | Err(_) => return true,
            Ok(read) => {
                if to.write_all(&buffer[..read]).await.is_err() {
                    return true;
                }
                left -= read as u64;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_reaches_everything() {
        let breaks = Breaks {
            percent: 50,
            most: 100_000,
            silence: Duration::ZERO,
        };
        let fates: Vec<Option<Fate>> = (0..1000).map(|number| fate(7, number, breaks)).collect();
        let again: Vec<Option<Fate>> = (0..1000).map(|number| fate(7, number, breaks)).collect();
        assert_eq!(format!("{fates:?}"), format!("{again:?}"));
        let broken: Vec<&Fate> = fates.iter().flatten().collect();
        assert!((400..600).contains(&broken.len()), "{}", broken.len());
        for end in 0..3 {
            assert!(broken.iter().any(|fate| fate.end == end && fate.upward));
            assert!(broken.iter().any(|fate| fate.end == end && !fate.upward));
        }
        assert!(broken.iter().any(|fate| fate.bytes < 10) && broken.iter().any(|fate| fate.bytes > 10_000));
        assert_ne!(mixed(7, 0), mixed(8, 0));
    }
}
