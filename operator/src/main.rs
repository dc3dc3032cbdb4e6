//! Entry point: arguments, logs, signals.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use robotimage_operator::config::Platform;
use robotimage_operator::controller::Controller;
use robotimage_operator::http;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// The RobotImage operator.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// The platform's configuration file.
    #[arg(long, default_value = "/etc/robotimage/operator.yaml")]
    config: PathBuf,
    /// Address of /healthz, /readyz and /metrics.
    #[arg(long, default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| anyhow::anyhow!("another TLS provider is installed"))?;

    let mut config = kube::Config::infer()
        .await
        .context("no cluster: neither a service account nor a kubeconfig was found")?;
    // Repeated calls are ours to decide on: the client's own repetition knows no end and obeys any Retry-After.
    config.default_retry = false;
    let api_server = config
        .cluster_url
        .host()
        .and_then(|host| host.trim_matches(['[', ']']).parse().ok());
    let platform = Arc::new(Platform::load(&arguments.config, api_server)?);
    let client = kube::Client::try_from(config).context("the client for the API server cannot be made")?;

    let (stop, stopping) = watch::channel(false);
    let (controller, work) = Controller::start(&client, &platform, &stopping)?;
    let mut served = tokio::spawn(http::serve(arguments.listen, controller, ended(stopping.clone())));
    let mut work = tokio::spawn(work);
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %arguments.listen, "started");
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
        ended = &mut served => Some(anyhow::anyhow!("{} cannot be served: {ended:?}", arguments.listen)),
        _ = &mut work => Some(anyhow::anyhow!("the controller ended by itself")),
    };
    stop.send_replace(true);
    if let Some(error) = failed {
        return Err(error);
    }
    tracing::info!("stopping");
    work.await.context("the controller panicked")
}

async fn ended(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone: an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}
