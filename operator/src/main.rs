//! Entry point: arguments, logs, signals.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;
use kube::client::ClientBuilder;
use robotimage_operator::config::{Period, Platform};
use robotimage_operator::controller::Controller;
use robotimage_operator::http;
use robotimage_operator::lease::{Election, Keeper, Leader, Leadership, Timing};
use robotimage_operator::watchdog::Watchdog;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

/// How long reconciles may go on after SIGTERM. They may be cut anywhere, and another replica waits.
const DRAIN: Duration = Duration::from_secs(1);

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
    /// How long the API server is to keep a watch, at least 1s. /healthz fails when one is silent for a third longer.
    #[arg(long, default_value = "200s", value_parser = watch_timeout)]
    watch_timeout: Period,
}

fn watch_timeout(text: &str) -> Result<Period, String> {
    let period = robotimage_crds::duration::parse(text).filter(|period| period.as_secs() >= 1);
    period
        .map(Period)
        .ok_or_else(|| "it takes a duration of a second and more, such as 200s".to_owned())
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
    let watchdog = Watchdog::new(arguments.watch_timeout.0);
    let client = ClientBuilder::try_from(config)
        .context("the client for the API server cannot be made")?
        .with_layer(&watchdog.layer())
        .build();

    let (stop, stopping) = watch::channel(false);
    let (resign, resigning) = watch::channel(false);
    let (leadership, keeper) = candidate(&client, &platform);
    let mut election = tokio::spawn(async move {
        match keeper {
            Some(keeper) => keeper.run(ended(resigning)).await,
            None => ended(resigning).await,
        }
    });
    let (controller, work) = Controller::start(&client, &platform, &leadership, &watchdog, &stopping)?;
    let mut served = tokio::spawn(http::serve(arguments.listen, controller, watchdog, ended(stopping.clone())));
    let mut work = tokio::spawn(work);
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), listen = %arguments.listen, "started");
    let failed = tokio::select! {
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
        ended = &mut served => Some(anyhow::anyhow!("{} cannot be served: {ended:?}", arguments.listen)),
        _ = &mut work => Some(anyhow::anyhow!("the controller ended by itself")),
        // A replica that never leads again would be one that looks well and does nothing.
        ended = &mut election => return Err(anyhow::anyhow!("the election ended by itself: {ended:?}")),
    };
    tracing::info!("stopping");
    stop.send_replace(true);
    if failed.is_none() && tokio::time::timeout(DRAIN, &mut work).await.is_err() {
        tracing::info!("what is under way is left to the next leader");
    }
    // Nothing is written from here on, so that the next one may begin.
    resign.send_replace(true);
    election.await.context("the election panicked")?;
    failed.map_or(Ok(()), Err)
}

/// The election that this process takes part in, and what it says.
fn candidate(client: &kube::Client, platform: &Platform) -> (Leadership, Option<Keeper>) {
    let config = &platform.config.leader_election;
    if !config.enabled {
        return (Leadership::always(), None);
    }
    let timing = Timing {
        duration: config.lease_duration.0,
        renew: config.renew_deadline.0,
        retry: config.retry_period.0,
    };
    // A restarted container has the name of the one before it, and must not take that one's lease for its own.
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "robotimage-operator".to_owned());
    let me = format!("{host}_{}", robotimage_operator::controller::process_id());
    let namespace = match config.namespace.as_str() {
        "" => client.default_namespace(),
        named => named,
    };
    let (leader, leadership) = Leader::new();
    let keeper = Keeper::new(client.clone(), namespace, &config.lease_name, Election::new(me, timing), leader);
    (leadership, Some(keeper))
}

async fn ended(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone: an end, too.
    let _ = stop.wait_for(|stop| *stop).await;
}
