//! `/healthz`, `/readyz` and `/metrics`.

use std::net::SocketAddr;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::controller::Controller;
use crate::watchdog::Watchdog;

/// Serves until `stop` ends. `/healthz` says that no watch hangs; `/readyz` that every watch has listed its objects, whether or
/// not this replica leads.
pub async fn serve(
    listen: SocketAddr,
    controller: Controller,
    watchdog: Watchdog,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(listen).await?;
    axum::serve(listener, router(controller, watchdog))
        .with_graceful_shutdown(stop)
        .await
}

fn router(controller: Controller, watchdog: Watchdog) -> Router {
    Router::new()
        .route("/healthz", get(move || std::future::ready(healthy(&watchdog))))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(controller)
}

fn healthy(watchdog: &Watchdog) -> (StatusCode, String) {
    match watchdog.silence(Instant::now()) {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(silence) => {
            tracing::error!(watch = silence.watch, seconds = silence.since.as_secs(), "a watch hangs");
            let text = format!("the watch of {} is silent for {} s\n", silence.watch, silence.since.as_secs());
            (StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
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
