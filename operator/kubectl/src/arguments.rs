//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use robotimage_crds::build::Step;
use robotimage_crds::duration;

use crate::completion::Target;

/// Build and follow RobotImages: robots in git that become container images.
#[derive(Parser, Debug)]
#[command(
    name = "kubectl-robotimage",
    bin_name = "kubectl robotimage",
    version,
    after_help = "NAME may be written as invoice-reader or rimg/invoice-reader. Exit codes: 0 done, 1 failed, 2 wrong usage, 124 time is over, 130 interrupted."
)]
pub(crate) struct Arguments {
    /// Where the cluster is.
    #[command(flatten)]
    pub(crate) connection: ConnectionArguments,
    /// What is printed.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text)]
    pub(crate) output: Format,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The same as those of kubectl.
#[derive(Args, Debug, Default)]
pub(crate) struct ConnectionArguments {
    /// Namespace; default: that of the context.
    #[arg(short, long, global = true)]
    pub(crate) namespace: Option<String>,
    /// Context of the kubeconfig; default: its current one.
    #[arg(long, global = true)]
    pub(crate) context: Option<String>,
    /// Kubeconfig file; default: those of KUBECONFIG, or ~/.kube/config.
    #[arg(long, global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
}

/// What is printed on standard output.
#[derive(ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For machines; the shape is in docs/kubectl.md.
    Json,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// How RobotImages stand: a table of all, or one in detail.
    Status(StatusArguments),
    /// The log of a build, step after step; its result is the exit code.
    Logs(LogsArguments),
    /// Build now, even when nothing has changed.
    Build(BuildArguments),
    /// End a build that runs, or that would be tried again.
    Cancel(CancelArguments),
    /// No further builds and no polling; a build that runs is left to end.
    Suspend(Named),
    /// Build and poll again.
    Resume(Named),
    /// Why the last build was made, why none runs, and what comes next.
    Explain(ExplainArguments),
    /// Print a completion script.
    Completion {
        /// Whom it is for.
        #[arg(value_enum)]
        target: Target,
    },
    /// Candidates for the last word, as kubectl asks for them.
    #[command(name = "__complete", hide = true)]
    Candidates {
        /// The words after `kubectl robotimage`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

/// A command on one RobotImage.
#[derive(Args, Debug)]
pub(crate) struct Named {
    /// Name of the RobotImage.
    #[arg(value_parser = name)]
    pub(crate) name: String,
}

/// `status`.
#[derive(Args, Debug)]
pub(crate) struct StatusArguments {
    /// Name of the RobotImage; all of the namespace without it.
    #[arg(value_parser = name, conflicts_with_all = ["all_namespaces", "selector"])]
    pub(crate) name: Option<String>,
    /// Those of all namespaces.
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Those with these labels, for example team=finance.
    #[arg(short = 'l', long)]
    pub(crate) selector: Option<String>,
}

/// `logs`.
#[derive(Args, Debug)]
pub(crate) struct LogsArguments {
    /// Name of the RobotImage.
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Wait for what is not there yet, and end with the build.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Number of the build; default: the last one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) build: Option<i64>,
    /// One step only.
    #[arg(long, value_enum)]
    pub(crate) step: Option<StepName>,
    /// Lines as the steps wrote them, without step and time.
    #[arg(long)]
    pub(crate) raw: bool,
}

/// A step of a build.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepName {
    /// Reads the source.
    Fetch,
    /// Resolves the environment.
    Resolve,
    /// Packs and pushes.
    Publish,
}

impl From<StepName> for Step {
    fn from(name: StepName) -> Self {
        match name {
            StepName::Fetch => Self::Fetch,
            StepName::Resolve => Self::Resolve,
            StepName::Publish => Self::Publish,
        }
    }
}

/// `build`.
#[derive(Args, Debug)]
pub(crate) struct BuildArguments {
    /// Name of the RobotImage.
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Wait until the image is published (exit code 0), the build has failed (1) or time is over (124).
    #[arg(short, long)]
    pub(crate) wait: bool,
    /// How long to wait, for example 20m; default: as long as it takes.
    #[arg(long, value_parser = period, requires = "wait")]
    pub(crate) timeout: Option<Duration>,
}

/// `cancel`.
#[derive(Args, Debug)]
pub(crate) struct CancelArguments {
    /// Name of the RobotImage.
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Number of the build; default: the one that runs or would be tried again.
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) number: Option<i64>,
}

/// `explain`.
#[derive(Args, Debug)]
pub(crate) struct ExplainArguments {
    /// Name of the RobotImage.
    #[arg(value_parser = name)]
    pub(crate) name: String,
    /// Namespace that the operator was installed into: its configuration is read there, if that is allowed.
    #[arg(long, default_value = "robotimage-system")]
    pub(crate) system_namespace: String,
}

/// The name of a RobotImage, with or without its kind before it.
fn name(text: &str) -> Result<String, String> {
    let name = match text.split_once('/') {
        Some(("rimg" | "robotimage" | "robotimages" | "robotimage.robotimage.dev" | "robotimages.robotimage.dev", name)) => name,
        Some((kind, _)) => return Err(format!("{kind} is not a kind that this plugin knows; it takes rimg/NAME or NAME")),
        None => text,
    };
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.is_empty() || name.len() > 253 || !name.chars().all(valid) {
        return Err("a name has lowercase letters, digits, '-' and '.'".to_owned());
    }
    Ok(name.to_owned())
}

/// A duration such as 90s or 1h30m; above zero.
fn period(text: &str) -> Result<Duration, String> {
    duration::parse(text)
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| "it is not a duration such as 90s, 20m or 1h30m".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn names_may_carry_their_kind() {
        assert_eq!(name("invoices"), Ok("invoices".to_owned()));
        assert_eq!(name("rimg/invoices"), Ok("invoices".to_owned()));
        assert_eq!(name("robotimages.robotimage.dev/a.b"), Ok("a.b".to_owned()));
        assert!(name("pod/invoices").unwrap_err().starts_with("pod is not"));
        for bad in ["", "rimg/", "a/b/c", "UPPER", "../x", "a b", &"x".repeat(254)] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn timeouts_are_durations() {
        assert_eq!(period("1m30s"), Ok(Duration::from_secs(90)));
        assert!(period("0s").is_err() && period("5").is_err() && period("soon").is_err());
    }
}
