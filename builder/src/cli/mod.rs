//! The command line: what people type, what they see, and the exit code.
//!
//! Invariant: results go to standard output, everything else to standard error; the exit code is the reason's.

mod args;
mod build;
mod check;
mod deliver;
mod dockerfile;
mod environment;
mod guard;
mod inputs;
mod inspect;
mod kept;
mod manual;
mod network;
mod output;
mod plan;
mod planned;
mod progress;
mod rcc;

pub use manual::{failures, reference};

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use robotimage_crds::build::Step;
use tracing_subscriber::EnvFilter;

use crate::environment::laptop;
use crate::steps::{self, StepOptions};
use args::{Cli, Command, StepArgs};

/// Variable with the filter of the log, such as `debug` or `robotimage_registry=debug`.
const LOG: &str = "ROBOTIMAGE_LOG";

/// The whole program.
pub fn main() -> ExitCode {
    // Before anything else: a process that enters namespaces must still have one thread.
    if std::env::args_os().nth(1).is_some_and(|argument| argument == "__resolve") {
        return laptop::child_main();
    }
    let command = Cli::parse().command;
    // Another provider could only be there if this function ran twice; then it is the same one.
    rustls::crypto::aws_lc_rs::default_provider().install_default().ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the program cannot start its threads: {error}");
            return ExitCode::from(70);
        }
    };
    // A step's report is out and its pod ends; on a laptop an interrupted rcc is given the time to end in order.
    let patience = match command {
        Command::Build(_) | Command::Check(_) | Command::Plan(_) => Duration::from_secs(10),
        Command::Inspect(_)
        | Command::Dockerfile(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Fetch(_)
        | Command::Resolve(_)
        | Command::Publish(_) => Duration::from_millis(100),
    };
    let code = runtime.block_on(run(command));
    runtime.shutdown_timeout(patience);
    ExitCode::from(code)
}

async fn run(command: Command) -> u8 {
    match command {
        Command::Build(args) => {
            log(false);
            Box::pin(build::run(&args)).await
        }
        Command::Check(args) => {
            log(false);
            check::run(&args)
        }
        Command::Plan(args) => {
            log(false);
            Box::pin(plan::run(&args)).await
        }
        Command::Completions(args) => manual::completions(&args),
        Command::Man(args) => manual::man(&args),
        Command::Inspect(args) => {
            log(false);
            Box::pin(inspect::run(&args)).await
        }
        Command::Dockerfile(args) => {
            log(false);
            Box::pin(dockerfile::run(&args)).await
        }
        Command::Fetch(args) => Box::pin(step(Step::Fetch, args)).await,
        Command::Resolve(args) => Box::pin(step(Step::Resolve, args)).await,
        Command::Publish(args) => Box::pin(step(Step::Publish, args)).await,
    }
}

async fn step(step: Step, args: StepArgs) -> u8 {
    log(true);
    let options = StepOptions {
        root: args.root,
        report: args.report,
    };
    Box::pin(steps::run(step, &options)).await
}

/// Lines of JSON in a pod; on a laptop warnings only, for people.
fn log(json: bool) {
    let filter = EnvFilter::try_from_env(LOG).unwrap_or_else(|_| EnvFilter::new(if json { "info" } else { "warn" }));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .init();
    } else {
        lines
            .without_time()
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
    }
}
