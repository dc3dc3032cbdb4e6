//! `kubectl robotimage`: what people ask of RobotImages, from a terminal.
//!
//! [`main`] is the whole program. Reading and changing the cluster is at the edge (`cluster`, `watching`); how a build
//! ended and how everything looks are pure functions of the resource, the time and the screen. What the operator decides
//! is asked of its own crate, so that plugin and operator cannot disagree. [`report`] is the shape of `-o json`.

mod advice;
mod arguments;
mod build;
mod change;
mod cluster;
mod completion;
mod ending;
mod error;
mod explain;
mod kubeconfig;
mod logs;
mod near;
mod out;
mod paper;
pub mod report;
mod resource;
mod screen;
mod status;
mod table;
mod watching;
mod words;

use std::process::ExitCode;

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

use arguments::{Arguments, Command};
use cluster::Cluster;
use error::Error;
use out::Out;

pub use resource::State;

/// The program: reads the command line, does what it says, prints what went wrong.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let out = Out::of(arguments.output);
    match run(&arguments, out) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            out.failure(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments, out: Out) -> Result<u8, Error> {
    if let Command::Completion { target } = &arguments.command {
        Out::text(&completion::script(*target))?;
        return Ok(0);
    }
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .map_err(|_| Error::Client("another TLS provider is installed".to_owned()))?;
    let runtime = tokio::runtime::Runtime::new()?;
    let ended = runtime.block_on(async {
        tokio::select! {
            ended = command(arguments, out) => ended,
            interrupted = interrupted() => interrupted,
        }
    });
    // Streams that are still open are not waited for.
    runtime.shutdown_background();
    ended
}

async fn command(arguments: &Arguments, out: Out) -> Result<u8, Error> {
    if let Command::Candidates { words } = &arguments.command {
        return completion::complete(words).await;
    }
    let cluster = Cluster::connect(&arguments.connection).await?;
    match &arguments.command {
        Command::Status(status) => status::run(&cluster, status, out).await,
        Command::Logs(logs) => Box::pin(logs::run(&cluster, logs, out)).await,
        Command::Build(build) => build::run(&cluster, build, out).await,
        Command::Cancel(cancel) => change::cancel(&cluster, cancel, out).await,
        Command::Suspend(named) => change::suspend(&cluster, &named.name, true, out).await,
        Command::Resume(named) => change::suspend(&cluster, &named.name, false, out).await,
        Command::Explain(explain) => Box::pin(explain::run(&cluster, explain, out)).await,
        Command::Completion { .. } | Command::Candidates { .. } => Ok(0),
    }
}

/// Ends when somebody asks for it. What was asked of the cluster goes on there.
async fn interrupted() -> Result<u8, Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Err(Error::Interrupted)
}
