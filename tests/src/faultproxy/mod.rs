//! A proxy between a client and a real registry, for what a real registry cannot be made to do: it refuses, lies, stalls,
//! loses answers, breaks connections, shows bad certificates. What is not told to fail reaches the registry unchanged.
//!
//! One proxy has three doors, each with a port of its own: the registry, its token service, and "another host", which
//! leads to the same registry as a blob store with signed addresses would. [`Breaker`] is the blind sister that knows no
//! HTTP and cuts connections at random bytes.
//!
//! Invariant: a fault touches only requests that match its rule; each request is recorded with the credentials it carried
//! and with what the registry answered, whatever the client was then shown.

mod breaker;
mod fault;
mod head;
mod serve;
mod tls;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::breaker::{Breaker, Breaks};
pub use self::fault::{Fault, Reply, Rule};
pub use self::head::{Head, Request};
use self::tls::Switch;
pub use self::tls::{Authority, Shown};
use crate::error::{Error, Result};

/// Which port a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Door {
    /// The registry.
    Registry,
    /// Its token service.
    Token,
    /// A host that is neither.
    Other,
}

/// What is behind the proxy.
#[derive(Debug, Clone)]
pub struct Behind {
    /// `host:port` of the registry, plain http.
    pub registry: String,
    /// `host:port` of the token service, plain http, when there is one.
    pub token: Option<String>,
    /// Who signs the certificates of the first two doors; plain http without. The other host is always plain.
    pub authority: Option<Authority>,
}

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// By which door.
    pub door: Door,
    /// The method.
    pub method: String,
    /// Path and query as the client wrote them.
    pub target: String,
    /// The header of that name: do not print it.
    pub authorization: Option<String>,
    /// Length of its body, as announced.
    pub length: u64,
    /// The fault that it met.
    pub fault: Option<&'static str>,
    /// What the registry answered; `None` when it was not asked.
    pub status: Option<u16>,
    /// When it came in.
    pub at: Instant,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
    connections: usize,
}

#[derive(Debug)]
struct Shared {
    behind: Behind,
    state: Mutex<State>,
    /// Raised when all connections are to be closed.
    generation: watch::Sender<u64>,
    certificate: Option<Switch>,
    /// What the doors are called by clients.
    doors: [String; 3],
}

/// A running proxy; dropping it ends it and its connections.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl FaultProxy {
    /// Opens the doors on free ports of 127.0.0.1. Needs a tokio runtime, and lives in it.
    pub async fn start(behind: Behind) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Other(format!("the fault proxy cannot listen: {error}"));
        let mut listeners = Vec::new();
        let mut doors = Vec::new();
        for door in [Door::Registry, Door::Token, Door::Other] {
            let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
            doors.push(listener.local_addr().map_err(failed)?.to_string());
            listeners.push((door, listener));
        }
        let certificate = behind.authority.as_ref().map(Switch::new).transpose()?;
        let shared = Arc::new(Shared {
            behind,
            state: Mutex::default(),
            generation: watch::Sender::new(0),
            certificate,
            doors: doors.try_into().expect("invariant: three doors"),
        });
        let tasks = listeners
            .into_iter()
            .map(|(door, listener)| tokio::spawn(serve::accept(Arc::clone(&shared), door, listener)))
            .collect();
        Ok(Self { shared, tasks })
    }

    /// `host:port` of a door.
    pub fn address(&self, door: Door) -> &str {
        self.shared.address(door)
    }

    /// Adds a rule. The first one that matches a request, and has not been used up, wins.
    pub fn rule(&self, rule: Rule) {
        self.shared.state().rules.push(rule);
    }

    /// Connections that were made so far, by all doors.
    pub fn connections(&self) -> usize {
        self.shared.state().connections
    }

    /// Forgets requests and connections so far.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        state.seen.clear();
        state.connections = 0;
    }

    /// Every request so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn address(&self, door: Door) -> &str {
        &self.doors[match door {
            Door::Registry => 0,
            Door::Token => 1,
            Door::Other => 2,
        }]
    }

    fn scheme(&self, door: Door) -> &'static str {
        if self.certificate.is_some() && door != Door::Other {
            "https"
        } else {
            "http"
        }
    }
}
