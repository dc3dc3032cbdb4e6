//! `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::controller::Controller;

/// Serves until `stop` ends. `/healthz` says that the process runs; `/readyz` that every watch has listed its objects.
pub async fn serve(listen: SocketAddr, controller: Controller, stop: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(listener, router(controller)).with_graceful_shutdown(stop).await
}

fn router(controller: Controller) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(controller)
}

async fn ready(State(controller): State<Controller>) -> impl IntoResponse {
    if controller.is_ready() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed their objects yet\n")
    }
}

async fn metrics(State(controller): State<Controller>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], controller.metrics())
}
