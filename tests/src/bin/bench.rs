//! `bench`: what the builder costs, beside other tools, and `bench operator`: what the operator costs; `make bench` and
//! `make bench-operator` run them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use robotimage_tests::bench::{Settings, measure, run_all};
use robotimage_tests::bench_operator;
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
    command: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Measures the operator against a real API server and writes target/bench/operator.json.
    Operator {
        /// RobotImages at rest.
        #[arg(long, env = "BENCH_OBJECTS", default_value_t = 10_000)]
        objects: usize,
        /// RobotImages of the burst.
        #[arg(long, env = "BENCH_BURST", default_value_t = 1000)]
        burst: usize,
        /// RobotImages that are applied one by one.
        #[arg(long, env = "BENCH_IDLE", default_value_t = 100)]
        idle: usize,
        /// Seconds for which the operator is left alone.
        #[arg(long, env = "BENCH_REST", default_value_t = 60)]
        rest: u64,
    },
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
    if let Some(Part::Measure { result, words }) = &arguments.command {
        return match measure::child(result, words) {
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
    let work = match arguments.command {
        Some(Part::Operator {
            objects,
            burst,
            idle,
            rest,
        }) => {
            let rest = Duration::from_secs(rest);
            let settings = bench_operator::Settings {
                objects,
                burst,
                idle,
                rest,
            };
            runtime.block_on(bench_operator::run(settings))
        }
        _ => runtime.block_on(run_all(settings)),
    };
    match work {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("bench: {error}");
    ExitCode::FAILURE
}
