//! What can be written on the command line. Names here are contracts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use robotimage_layer::Codec;

use super::dockerfile::DockerfileArgs;
use super::inspect::InspectArgs;
use super::manual::{CompletionsArgs, ManArgs};
use super::network::NetworkArgs;
use super::rcc::RccArgs;

/// Turns a robot into a container image, without Docker, root or a Dockerfile.
#[derive(Parser, Debug)]
#[command(name = "robotimage", version, disable_help_subcommand = true, after_help = EXIT_CODES)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 2 usage; 10 the robot is at fault; 11 credentials refused; 12 not found; \
20 infrastructure, try again; 21 rate-limited, try later; 70 a bug of robotimage; 130 interrupted.";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Build an image from a folder.
    Build(Box<BuildArgs>),
    /// Validate a robot without building it.
    Check(CheckArgs),
    /// Say what a build with the same arguments would do, and why; needs --tag, the image to compare with.
    Plan(Box<BuildArgs>),
    /// Say what an image holds, and why.
    Inspect(InspectArgs),
    /// Write a Dockerfile that builds the same image, for pipelines that want one.
    Dockerfile(Box<DockerfileArgs>),
    /// Print a completion script for a shell.
    Completions(CompletionsArgs),
    /// Write the manual pages.
    Man(ManArgs),
    /// The first step of a build pod: source, base facts, keys.
    #[command(hide = true)]
    Fetch(StepArgs),
    /// The second step of a build pod: the environment.
    #[command(hide = true)]
    Resolve(StepArgs),
    /// The third step of a build pod: layers and push.
    #[command(hide = true)]
    Publish(StepArgs),
}

#[derive(Args, Debug)]
pub(super) struct BuildArgs {
    /// Folder with the robot; everything in it is packed, except .git and the artifacts folder's content.
    #[arg(default_value = ".", value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// The robot file, relative to DIR.
    #[arg(short = 'r', long = "robot", default_value = "robot.yaml", value_name = "FILE")]
    pub(super) robot: String,
    /// Name of the image, repository:tag; can be given several times.
    #[arg(short = 't', long = "tag", value_name = "NAME")]
    pub(super) tags: Vec<String>,
    /// Base image: a reference, oci:DIR for a layout on disk, or rootfs:DIR for an unpacked one (only with --output tree:DIR).
    #[arg(long, default_value = "debian:bookworm-slim", value_name = "IMAGE")]
    pub(super) base_image: String,
    /// Write a docker archive (always gzip), for `docker load`.
    #[arg(long, value_name = "FILE", conflicts_with = "output")]
    pub(super) save: Option<PathBuf>,
    /// Write an OCI layout (oci:DIR), an OCI archive (oci-archive:FILE), or our layers unpacked, each role in a folder of its
    /// own (tree:DIR), which a Dockerfile can copy.
    #[arg(long, value_name = "KIND:PATH", value_parser = output)]
    pub(super) output: Option<Output>,
    /// Push to the registry of every --tag.
    #[arg(long, requires = "tags")]
    pub(super) push: bool,
    #[command(flatten)]
    pub(super) rcc: RccArgs,
    /// The launcher that starts rcc in the image. Default: robotimage-launcher beside this program.
    #[arg(long, value_name = "FILE")]
    pub(super) launcher: Option<PathBuf>,
    /// The task that the image runs; needed when the robot has several.
    #[arg(long, value_name = "NAME")]
    pub(super) task: Option<String>,
    /// Platform of the image.
    #[arg(long, default_value = "linux/amd64", value_parser = ["linux/amd64"])]
    pub(super) platform: String,
    /// Compression of our layers.
    #[arg(long, value_enum, value_name = "CODEC")]
    pub(super) compression: Option<Compression>,
    /// `user:group` that the image runs as, numeric.
    #[arg(long, default_value = "1000:0", value_name = "UID:GID", value_parser = user)]
    pub(super) user: String,
    /// Label of the image, key=value; can be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pub(super) labels: Vec<(String, String)>,
    #[command(flatten)]
    pub(super) network: NetworkArgs,
    /// Folder with settings.yaml, piprc, micromambarc and ca-bundle.pem for resolving, as a platform gives them to its pods.
    #[arg(long, value_name = "DIR")]
    pub(super) settings: Option<PathBuf>,
    /// Repository in which finished environments are looked for and kept, in the registry of the image. Default: the one of
    /// the first --tag. Only asked with --push and no file to write.
    #[arg(long, value_name = "REPOSITORY", conflicts_with = "no_environment_cache")]
    pub(super) environment_cache: Option<String>,
    /// Neither look for finished environments nor keep them.
    #[arg(long)]
    pub(super) no_environment_cache: bool,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct CheckArgs {
    /// Folder with the robot.
    #[arg(default_value = ".", value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// The robot file, relative to DIR.
    #[arg(short = 'r', long = "robot", default_value = "robot.yaml", value_name = "FILE")]
    pub(super) robot: String,
    /// The task that the image would run.
    #[arg(long, value_name = "NAME")]
    pub(super) task: Option<String>,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct StepArgs {
    /// Where the pod's folders are.
    #[arg(long, default_value = "/", hide = true)]
    pub(super) root: PathBuf,
    /// Where the report goes.
    #[arg(long, default_value = robotimage_crds::build::paths::TERMINATION, hide = true)]
    pub(super) report: PathBuf,
}

/// Compression by name.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// Any reader takes it.
    Gzip,
    /// Smaller and faster; the default.
    Zstd,
}

impl From<Compression> for Codec {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// Where an image is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Output {
    Layout(PathBuf),
    OciArchive(PathBuf),
    Tree(PathBuf),
}

fn output(text: &str) -> Result<Output, String> {
    match text.split_once(':') {
        Some(("oci", path)) if !path.is_empty() => Ok(Output::Layout(path.into())),
        Some(("oci-archive", path)) if !path.is_empty() => Ok(Output::OciArchive(path.into())),
        Some(("tree", path)) if !path.is_empty() => Ok(Output::Tree(path.into())),
        _ => Err("write oci:DIR, oci-archive:FILE or tree:DIR".to_owned()),
    }
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write key=value".to_owned()),
    }
}

pub(super) fn user(text: &str) -> Result<String, String> {
    let number = |text: &str| text.parse::<u32>().is_ok();
    let good = match text.split_once(':') {
        Some((uid, gid)) => number(uid) && number(gid),
        None => number(text),
    };
    if good {
        Ok(text.to_owned())
    } else {
        Err("write numbers, such as 1000:0".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_people_write() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let Command::Build(build) =
            parse("robotimage build robots/a -r x/robot.yaml -t r/a:1 -t r/a:2 --push --label a=b=c --output oci:out")
                .unwrap()
                .command
        else {
            panic!("a build")
        };
        assert_eq!(
            (build.dir.to_str(), build.robot.as_str(), build.tags.len()),
            (Some("robots/a"), "x/robot.yaml", 2)
        );
        assert_eq!(build.labels, [("a".to_owned(), "b=c".to_owned())]);
        assert_eq!(build.output, Some(Output::Layout("out".into())));
        for bad in [
            "robotimage build --push",
            "robotimage build --output out",
            "robotimage build --save a.tar --output oci:b",
            "robotimage build --label x",
            "robotimage build --mirror docker.io",
            "robotimage build --mirror docker.io=https://mirror.example.com",
            "robotimage build --user robot",
            "robotimage build --rcc-url https://example.com/rcc",
            "robotimage build --rcc-exec rcc --rcc-url https://example.com/rcc --rcc-sha256 0",
            "robotimage inspect",
            "robotimage build --platform linux/arm64",
            "robotimage build --environment-cache r/env --no-environment-cache",
            "robotimage",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
