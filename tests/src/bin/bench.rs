//! `bench`: what the builder costs, beside other tools; `make bench` runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use robotimage_tests::bench::{Settings, measure, run_all};
use tracing_subscriber::EnvFilter;

/// Measures the builder beside other tools, prints a table and writes target/bench/builder.json.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Only these parts: cold, pack, code, growth, pull, start, cluster.
    only: Vec<String>,
    /// How often each thing is measured.
    #[arg(long, env = "BENCH_RUNS", default_value_t = 5)]
    runs: usize,
    /// Small corpora and one run: shows that everything works.
    #[arg(long, env = "BENCH_QUICK", action = clap::ArgAction::SetTrue, value_parser = clap::builder::FalseyValueParser::new())]
    quick: bool,
    #[command(subcommand)]
    hidden: Option<Hidden>,
}

#[derive(Subcommand)]
enum Hidden {
    /// Runs a program and writes what it took to a file.
    #[command(name = measure::SUBCOMMAND, hide = true)]
    Measure {
        /// The file.
        result: PathBuf,
        /// The program and its arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Before anything is started: what is measured must be the only child.
    if let Some(Hidden::Measure { result, words }) = arguments.hidden {
        return match measure::child(&result, &words) {
            Ok(code) => ExitCode::from(code),
            Err(error) => failed(&error),
        };
    }
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
    let settings = Settings {
        only: arguments.only,
        runs: if arguments.quick { 1 } else { arguments.runs },
        quick: arguments.quick,
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(run_all(settings)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("bench: {error}");
    ExitCode::FAILURE
}
