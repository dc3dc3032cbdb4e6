//! A small HTTP or HTTPS server of our own, on a thread of its own, that records what it is asked and can misbehave.
//!
//! Invariant: stopping it closes every connection at once and frees its port; a fault touches only requests that
//! match its rule.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::error::{Error, Result};
use crate::pki::Issued;

/// How a server misbehaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Answers with this status and a short text.
    Status(u16),
    /// 429 or 503 with `Retry-After` in seconds.
    Busy(u16, u32),
    /// Redirects (307) to the same path below this base URL.
    Redirect(String),
    /// Waits before it answers.
    Delay(Duration),
    /// Never answers.
    Hang,
    /// Answers properly, but closes the connection after so many bytes of the body.
    Cut(usize),
    /// Sends the body in pieces with this pause between them.
    Slow(Duration),
}

/// A fault and the requests that it touches.
#[derive(Debug, Clone)]
pub struct Rule {
    /// What happens.
    pub fault: Fault,
    /// Only when the path with its query contains this; empty means always.
    pub path: String,
    /// How many more times; `None` is for ever.
    pub times: Option<u32>,
}

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// All headers, credentials included: do not print it.
    pub headers: HeaderMap,
    /// Who asked.
    pub peer: SocketAddr,
}

impl Seen {
    /// Whether credentials came with it.
    pub fn has_credentials(&self) -> bool {
        self.headers.contains_key(header::AUTHORIZATION) || self.headers.contains_key(header::COOKIE)
    }
}

#[derive(Debug, Default)]
struct Shared {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    tls: Option<Issued>,
    shared: Arc<Mutex<Shared>>,
    router: Router,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Server {
    /// Binds `ip:port` (port 0: a free one) and serves `router`.
    pub fn start(bind: &str, tls: Option<Issued>, router: Router) -> Result<Self> {
        let bind: SocketAddr = bind.parse().map_err(|_| Error::Other(format!("`{bind}` is not an ip:port")))?;
        let mut server = Self {
            address: bind,
            tls,
            shared: Arc::default(),
            router,
            runtime: None,
        };
        server.start_again()?;
        Ok(server)
    }

    /// `ip:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// `http://ip:port` or `https://ip:port`.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.address)
    }

    /// Every request so far.
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.shared).seen.clone()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        locked(&self.shared).seen.clear();
    }

    /// From now on misbehaves for every request.
    pub fn fault(&self, fault: Fault) {
        self.fault_rule(Rule {
            fault,
            path: String::new(),
            times: None,
        });
    }

    /// Adds a fault for some requests; the first rule that matches wins.
    pub fn fault_rule(&self, rule: Rule) {
        locked(&self.shared).rules.push(rule);
    }

    /// Behaves again.
    pub fn heal(&self) {
        locked(&self.shared).rules.clear();
    }

    /// Refuses connections and drops those it has; the record stays.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Serves again on the same port.
    pub fn start_again(&mut self) -> Result<()> {
        self.stop();
        let failed = |why: String| Error::Other(format!("the server on {} cannot start: {why}", self.address));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let listener = bind(self.address).map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let acceptor = self.tls.as_ref().map(acceptor).transpose()?;
        let shared = Arc::clone(&self.shared);
        let watched = from_fn(move |request: Request, next: Next| {
            let shared = Arc::clone(&shared);
            async move { answer(shared, request, next).await }
        });
        let service = self.router.clone().layer(watched).into_make_service_with_connect_info::<Peer>();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("invariant: a bound, non-blocking socket");
            let (sender, connections) = mpsc::channel(16);
            tokio::spawn(accept(listener, acceptor, sender));
            // `serve` ends only with its runtime.
            axum::serve(Accepted { connections, address }, service).await
        });
        self.address = address;
        self.runtime = Some(runtime);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A port that we have just left may still hold closing connections, and the old runtime may need a moment to let go.
fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let mut tries = 0;
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            Err(error) if tries >= 50 => return Err(error),
            Err(_) => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

fn acceptor(issued: &Issued) -> Result<TlsAcceptor> {
    let failed = |path: &PathBuf, why: String| Error::Certificate {
        name: path.display().to_string(),
        why,
    };
    let chain = CertificateDer::pem_file_iter(&issued.certificate)
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| failed(&issued.certificate, error.to_string()))?;
    let key = PrivateKeyDer::from_pem_file(&issued.key).map_err(|error| failed(&issued.key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| failed(&issued.certificate, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}
type Connection = (Box<dyn Stream>, SocketAddr);

/// Handshakes run beside one another, so that a client that never finishes its own blocks nobody.
async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, sender: mpsc::Sender<Connection>) {
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!("a connection could not be accepted: {error}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        tokio::spawn(async move {
            let stream: Box<dyn Stream> = match acceptor {
                None => Box::new(stream),
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(error) => {
                        tracing::debug!(%peer, "TLS handshake failed: {error}");
                        return;
                    }
                },
            };
            if sender.send((stream, peer)).await.is_err() {
                tracing::debug!(%peer, "a connection came while the server stopped");
            }
        });
    }
}

struct Accepted {
    connections: mpsc::Receiver<Connection>,
    address: SocketAddr,
}

impl axum::serve::Listener for Accepted {
    type Io = Box<dyn Stream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // The acceptor ends only together with the runtime.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}

#[derive(Debug, Clone, Copy)]
struct Peer(SocketAddr);

impl axum::extract::connect_info::Connected<axum::serve::IncomingStream<'_, Accepted>> for Peer {
    fn connect_info(stream: axum::serve::IncomingStream<'_, Accepted>) -> Self {
        Self(*stream.remote_addr())
    }
}

async fn answer(shared: Arc<Mutex<Shared>>, request: Request, next: Next) -> Response {
    let path = request.uri().path_and_query().map_or_else(String::new, ToString::to_string);
    let peer = request
        .extensions()
        .get::<ConnectInfo<Peer>>()
        .expect("invariant: every connection has a peer")
        .0
        .0;
    let fault = {
        let mut shared = locked(&shared);
        let method = request.method().to_string();
        shared.seen.push(Seen {
            method,
            path: path.clone(),
            headers: request.headers().clone(),
            peer,
        });
        choose(&mut shared.rules, &path)
    };
    match fault {
        None => next.run(request).await,
        Some(Fault::Status(code)) => (status(code), "the test bed was told to fail\n").into_response(),
        Some(Fault::Busy(code, seconds)) => (status(code), [(header::RETRY_AFTER, seconds.to_string())], "busy\n").into_response(),
        Some(Fault::Redirect(base)) => {
            let target = HeaderValue::from_str(&format!("{}{path}", base.trim_end_matches('/')));
            let target = target.expect("invariant: a base URL of a test is plain ASCII");
            (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, target)]).into_response()
        }
        Some(Fault::Delay(time)) => {
            tokio::time::sleep(time).await;
            next.run(request).await
        }
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Cut(bytes)) => next.run(request).await.map(|body| cut(body, bytes)),
        Some(Fault::Slow(pause)) => next.run(request).await.map(|body| slow(body, pause)),
    }
}

fn choose(rules: &mut Vec<Rule>, path: &str) -> Option<Fault> {
    let index = rules.iter().position(|rule| path.contains(&rule.path))?;
    let fault = rules[index].fault.clone();
    if let Some(times) = &mut rules[index].times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            rules.remove(index);
        }
    }
    Some(fault)
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).expect("invariant: a test names a status that exists")
}

fn cut(body: Body, limit: usize) -> Body {
    let mut left = limit;
    Body::from_stream(body.into_data_stream().map(move |chunk| {
        let chunk = chunk.map_err(std::io::Error::other)?;
        if left == 0 {
            return Err(std::io::Error::other("cut by the test bed"));
        }
        let taken = chunk.slice(..chunk.len().min(left));
        left -= taken.len();
        Ok(taken)
    }))
}

fn slow(body: Body, pause: Duration) -> Body {
    Body::from_stream(body.into_data_stream().then(move |chunk| async move {
        tokio::time::sleep(pause).await;
        chunk
    }))
}
