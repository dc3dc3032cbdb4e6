//! A proxy before the API server that counts an operator's writes and kills it at a chosen one.
//!
//! Invariant: what is forwarded is forwarded unchanged, streams included; a write is numbered before it is forwarded,
//! and the number of a write never depends on leases or events, whose times vary.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::sync::OnceCell;

use crate::error::{Error, Result};
use crate::process::Identity;
use crate::web::Server;

/// An object of the API is at most 1.5 MiB in etcd; a list is not sent by a client.
const BODY_LIMIT: usize = 4 << 20;
/// Written by time and not by what happens to an object.
const NOT_COUNTED: [&str; 2] = ["/leases", "/events"];

/// On which side of a write the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The API server never sees the write.
    Before,
    /// The API server has done it, the process never learns.
    After,
}

/// One counted write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// `POST`, `PUT`, `PATCH` or `DELETE`.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// Status of the answer; none when it was not forwarded or not answered.
    pub code: Option<u16>,
}

impl Write {
    /// For people, without the names that differ from run to run.
    pub fn shown(&self) -> String {
        let parts: Vec<&str> = self.path.split('/').collect();
        let kind = parts
            .iter()
            .position(|part| *part == "namespaces")
            .and_then(|at| parts.get(at + 2))
            .copied()
            .unwrap_or(&self.path);
        let status = if self.path.ends_with("/status") { "/status" } else { "" };
        format!("{} {kind}{status}", self.method)
    }
}

#[derive(Debug, Clone, Copy)]
struct Trap {
    write: usize,
    moment: Moment,
    target: Identity,
}

#[derive(Debug, Default)]
struct Shared {
    writes: Vec<Write>,
    trap: Option<Trap>,
}

/// A running proxy; dropping it ends it.
#[derive(Debug)]
pub struct ApiProxy {
    server: Server,
    shared: Arc<Mutex<Shared>>,
    kubeconfig: PathBuf,
}

impl ApiProxy {
    /// Listens on loopback and calls the API server as the user of `upstream`; writes a kubeconfig for itself into
    /// `folder`.
    pub fn start(upstream: &Path, folder: &Path) -> Result<Self> {
        let shared: Arc<Mutex<Shared>> = Arc::default();
        let (state, upstream) = (Arc::clone(&shared), Arc::new(upstream.to_owned()));
        // The client's worker belongs to the runtime that makes it, and that must be the server's own.
        let client: Arc<OnceCell<kube::Client>> = Arc::default();
        let router = Router::new().fallback(move |request: Request| {
            let (state, upstream, client) = (Arc::clone(&state), Arc::clone(&upstream), Arc::clone(&client));
            async move {
                match client.get_or_try_init(|| crate::node::client(&upstream)).await {
                    Ok(client) => forward(&state, client, request).await,
                    Err(error) => bad_gateway(&error),
                }
            }
        });
        let server = Server::start("127.0.0.1:0", None, router)?;
        let kubeconfig = folder.join(format!("proxy-{}.conf", server.address().replace(':', "-")));
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": server.url()}}],
            "users": [{"name": "proxy", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
        });
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        std::fs::write(&kubeconfig, text.to_string()).map_err(Error::io("write", &kubeconfig))?;
        Ok(Self {
            server,
            shared,
            kubeconfig,
        })
    }

    /// A kubeconfig that goes through the proxy.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The proxy's server: faults, stop and start.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// The counted writes so far; the first is number 0.
    pub fn writes(&self) -> Vec<Write> {
        locked(&self.shared).writes.clone()
    }

    /// Starts counting at 0 again.
    pub fn reset(&self) {
        *locked(&self.shared) = Shared::default();
    }

    /// Kills `target` at write number `write`. The trap is gone when it has fired.
    pub fn kill_at(&self, write: usize, moment: Moment, target: Identity) {
        locked(&self.shared).trap = Some(Trap { write, moment, target });
    }

    /// Whether a trap is still set.
    pub fn is_armed(&self) -> bool {
        locked(&self.shared).trap.is_some()
    }
}

fn locked(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn forward(shared: &Mutex<Shared>, client: &kube::Client, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let read_only = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let number = if read_only || NOT_COUNTED.iter().any(|part| path.contains(part)) {
        None
    } else {
        let mut shared = locked(shared);
        shared.writes.push(Write {
            method: request.method().to_string(),
            path,
            code: None,
        });
        Some(shared.writes.len() - 1)
    };
    if number.is_some_and(|number| spring(shared, number, Moment::Before)) {
        return std::future::pending().await;
    }
    let (mut parts, body) = request.into_parts();
    let body = match to_bytes(body, BODY_LIMIT).await {
        Ok(body) => body,
        Err(error) => return bad_gateway(&error),
    };
    // Both belong to the connection and not to the request; the upstream connection has its own.
    parts.headers.remove(header::HOST);
    parts.headers.remove(header::CONNECTION);
    let request = axum::http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    match client.send(request).await {
        Ok(response) => {
            if let Some(number) = number {
                if let Some(write) = locked(shared).writes.get_mut(number) {
                    write.code = Some(response.status().as_u16());
                }
                if spring(shared, number, Moment::After) {
                    return std::future::pending().await;
                }
            }
            response.map(Body::new)
        }
        Err(error) => bad_gateway(&error),
    }
}

/// Fires the trap when it is set for this moment of this write.
fn spring(shared: &Mutex<Shared>, number: usize, moment: Moment) -> bool {
    let mut shared = locked(shared);
    match shared.trap {
        Some(trap) if trap.write == number && trap.moment == moment => {
            shared.trap = None;
            trap.target.signal(Signal::SIGKILL)
        }
        _ => false,
    }
}

fn bad_gateway(error: &dyn std::error::Error) -> Response {
    (StatusCode::BAD_GATEWAY, format!("proxy of the test bed: {error}\n")).into_response()
}
