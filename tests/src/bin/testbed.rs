//! `testbed`: a real cluster with registries, git server and conda channel on this machine, kept for hand work.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use robotimage_tests::{Error, command, demo};
use tracing_subscriber::EnvFilter;

/// A real one-node Kubernetes cluster with registries, a git server and a conda channel.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a test bed and keep it; a second one gets addresses of its own with --another.
    Up {
        /// Start one even though one is running.
        #[arg(long)]
        another: bool,
    },
    /// End the kept test bed, or all of them.
    Down {
        /// Every instance of this cache.
        #[arg(long)]
        all: bool,
    },
    /// Say what runs.
    Status,
    /// Print shell lines that export its addresses: eval "$(testbed env)".
    Env,
    /// Commit a folder to the git server, making the repository when it is not there; prints its URL and the commit.
    Commit {
        /// The repository's name, without `.git`.
        name: String,
        /// The folder; all its files.
        folder: std::path::PathBuf,
        /// Ask for GIT_USER and GIT_PASSWORD.
        #[arg(long)]
        private: bool,
        /// The branch.
        #[arg(long, default_value = "main")]
        branch: String,
        /// The commit's message.
        #[arg(short, long, default_value = "a change")]
        message: String,
    },
    /// Make a namespace that enforces Pod Security `restricted`, with the registry's Secret `registry` and the git
    /// server's Secret `git`.
    Namespace {
        /// Its name.
        name: String,
    },
    /// Remove what crashed runs left behind.
    Sweep,
    /// From an empty machine to a running robot, and from a pushed commit to the next image.
    Demo,
    /// Build our images and push them to the kept test bed.
    Images,
    /// Build our images and install the chart into the kept test bed.
    Install,
    /// Build every part into the cache.
    Build,
    /// Say what this machine lacks, each with the command that installs it.
    Prerequisites,
    /// Install the Debian packages that are missing.
    Setup,
    /// Serve git and files for a kept test bed.
    #[command(hide = true)]
    Serve {
        /// Its run folder.
        folder: std::path::PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Only what goes wrong while something is ended; an API server that is starting answers 500, which is no news. RUST_LOG shows more.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,kube_client=off"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter)
        .init();
    let result = match arguments.command {
        Command::Up { another } => command::up(another).await,
        Command::Down { all } => command::down(all),
        Command::Status => command::status(),
        Command::Env => command::env(),
        Command::Commit {
            name,
            folder,
            private,
            branch,
            message,
        } => command::commit(&name, &folder, private, &branch, &message),
        Command::Namespace { name } => command::namespace(&name).await,
        Command::Sweep => command::sweep(),
        Command::Demo => demo::run().await,
        Command::Images => command::images().await,
        Command::Install => command::install().await,
        Command::Build => command::build(),
        Command::Prerequisites => command::prerequisites(),
        Command::Setup => command::setup(),
        Command::Serve { folder } => command::serve(&folder).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::from(if matches!(error, Error::NotRunning(_)) { 12 } else { 1 })
        }
    }
}
