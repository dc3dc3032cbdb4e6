//! A static file server: the conda channel and the rcc binaries, under URLs that pods and laptops share.
//!
//! Invariant: it serves regular files below its root and nothing else.

use std::path::{Component, Path, PathBuf};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio_util::io::ReaderStream;

use crate::error::Result;
use crate::pki::Issued;
use crate::web::Server;

/// Serves a folder on `ip:port`.
pub fn serve(bind: &str, tls: Option<Issued>, root: PathBuf) -> Result<Server> {
    let router = Router::new().fallback(move |request: Request| {
        let root = root.clone();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        async move { file(&root, &method, uri.path()).await }
    });
    Server::start(bind, tls, router)
}

async fn file(root: &Path, method: &Method, path: &str) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    let opened = if plain {
        tokio::fs::File::open(root.join(relative)).await.ok()
    } else {
        None
    };
    let Some(file) = opened else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let size = match file.metadata().await {
        Ok(metadata) if metadata.is_file() => metadata.len(),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let kind = match relative.extension().and_then(|extension| extension.to_str()) {
        Some("json") => "application/json",
        _ => "application/octet-stream",
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from_stream(ReaderStream::new(file))
    };
    (
        [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, size.to_string())],
        body,
    )
        .into_response()
}
