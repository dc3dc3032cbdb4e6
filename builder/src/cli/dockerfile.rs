//! `robotimage dockerfile`: a Dockerfile that builds the same image.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Args;
use robotimage_crds::reason::Reason;
use robotimage_registry::Reference;
use serde::Serialize;

use super::args::{pair, user};
use super::build::Stop;
use super::guard::guarded;
use super::network::NetworkArgs;
use super::output::{failed, print, to_json};
use super::rcc::RccArgs;
use crate::failure::Failure;
use crate::image::dockerfile::{Dockerfile, RccSource, Tools};
use crate::image::oci::Run;
use crate::image::run::{RunSpec, config};
use crate::image::{Base, BaseFacts};
use crate::steps::{self, Side, prepare};

#[derive(Args, Debug)]
pub(super) struct DockerfileArgs {
    /// Folder with the robot, and the context of the build.
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
    /// The robot file, relative to DIR.
    #[arg(short = 'r', long = "robot", default_value = "robot.yaml", value_name = "FILE")]
    robot: String,
    /// Base image; its digest is looked up unless the reference has one.
    #[arg(long, default_value = "debian:bookworm-slim", value_name = "IMAGE")]
    base_image: String,
    /// Image with robotimage and its launcher, best by digest. Default: the build context `tools`.
    #[arg(long, value_name = "IMAGE")]
    builder_image: Option<String>,
    #[command(flatten)]
    rcc: RccArgs,
    /// The build has a context `settings` with settings.yaml, piprc, micromambarc and ca-bundle.pem for resolving.
    #[arg(long)]
    settings: bool,
    /// The task that the image runs; needed when the robot has several.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,
    /// `user:group` that the image runs as, numeric.
    #[arg(long, default_value = "1000:0", value_name = "UID:GID", value_parser = user)]
    user: String,
    /// Label of the image, key=value; can be given several times.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Write to this file instead of standard output.
    #[arg(short = 'o', long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    network: NetworkArgs,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

/// The JSON shape of `robotimage dockerfile --json`.
#[derive(Serialize, Debug)]
struct Document {
    /// The base with its digest.
    base: String,
    /// The text.
    dockerfile: String,
    /// The file that it was written to.
    written: Option<String>,
}

pub(super) async fn run(args: &DockerfileArgs) -> u8 {
    let stop = Stop::default();
    let made = Box::pin(guarded(&stop, write(args, &stop))).await;
    match made {
        Ok(written) if args.json => print(&to_json(&written)),
        Ok(Document { written: Some(path), .. }) => print(&format!("Written: {path}\n")),
        Ok(written) => print(&written.dockerfile),
        Err(failure) => return failed(&failure, args.json),
    }
    0
}

async fn write(args: &DockerfileArgs, stop: &Stop) -> Result<Document, Failure> {
    if args.rcc.exec.is_some() {
        let message =
            "--rcc-exec names a file of this machine; put rcc into the build context `tools`, or give --rcc-url with --rcc-sha256";
        return Err(Failure::new(Reason::NotAllowed, message));
    }
    let context = args.dir.canonicalize().ok().filter(|dir| dir.is_dir()).ok_or_else(|| {
        let message = format!("{} is no folder; give the one with the robot", args.dir.display());
        Failure::new(Reason::SourceNotFound, message)
    })?;
    let prepared = prepare::robot(&context, &args.robot, args.task.as_deref())?;
    if !args.json {
        for warning in &prepared.warnings {
            eprintln!("warning: {warning}");
        }
    }
    let base = pinned(args, stop).await?;
    let facts = &prepared.facts;
    let run = contract(&base, facts, args);
    let tools = args.builder_image.clone().map_or(Tools::Context, Tools::Image);
    let rcc = args.rcc.download().map_or(RccSource::Context, |source| RccSource::Url {
        url: source.url,
        sha256: source.sha256,
    });
    let dockerfile = Dockerfile {
        base: &base.reference,
        robot_file: &facts.file,
        task: facts.task.as_deref(),
        user: &args.user,
        run: &run,
        tools: &tools,
        rcc: &rcc,
        settings: args.settings,
    }
    .text();
    if let Some(path) = &args.output {
        put(path, &dockerfile)?;
    }
    Ok(Document {
        base: base.reference,
        dockerfile,
        written: args.output.as_ref().map(|path| path.display().to_string()),
    })
}

/// A base by digest.
struct Pinned {
    /// `repository[:tag]@sha256:...`.
    reference: String,
    name: String,
    digest: String,
}

async fn pinned(args: &DockerfileArgs, stop: &Stop) -> Result<Pinned, Failure> {
    if args.base_image.starts_with("oci:") || args.base_image.starts_with("rootfs:") {
        let message = "a Dockerfile names its base by a reference in a registry; give one with --base-image";
        return Err(Failure::new(Reason::NotAllowed, message));
    }
    let reference: Reference = steps::base_reference(&args.base_image)?;
    let name = match reference.tag() {
        Some(tag) => format!("{}:{tag}", reference.to_repository()),
        None => reference.to_repository().to_string(),
    };
    let digest = if let Some(digest) = reference.digest() {
        digest.to_string()
    } else {
        let client = args.network.client(stop)?;
        let image = client.resolve_image(&reference, "linux", "amd64").await;
        let image = image.map_err(|error| steps::failure(&error, Side::Base))?;
        let digest = image.reference.digest().map(ToString::to_string);
        digest.ok_or_else(|| Failure::new(Reason::BaseNotFound, format!("base image {reference} has no digest")))?
    };
    Ok(Pinned {
        reference: format!("{name}@{digest}"),
        name,
        digest,
    })
}

/// How the image runs: what [`config`] says of a base without variables, because a Dockerfile inherits those itself.
fn contract(base: &Pinned, facts: &crate::image::RobotFacts, args: &DockerfileArgs) -> Run {
    let base = Base {
        name: Some(base.name.clone()),
        digest: base.digest.clone(),
        layers: Vec::new(),
        diff_ids: Vec::new(),
        env: vec!["PATH=".to_owned()],
        history: Vec::new(),
        facts: BaseFacts::default(),
    };
    let labels: BTreeMap<String, String> = args.labels.iter().cloned().collect();
    let spec = RunSpec {
        base: &base,
        robot_file: &facts.file,
        task: facts.task.as_deref(),
        title: facts.title.as_deref(),
        artifacts: &facts.artifacts_in_image(),
        user: &args.user,
        labels: &labels,
    };
    let mut run = config(&spec, &[]).config;
    run.env.retain(|variable| variable != "PATH=");
    run
}

/// Whole or not at all.
fn put(path: &std::path::Path, text: &str) -> Result<(), Failure> {
    let io = |error: std::io::Error| Failure::io("write", path, &error);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => std::path::Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(permissions())
        .tempfile_in(folder)
        .map_err(io)?;
    file.write_all(text.as_bytes()).map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// As any other source file: readable by whoever builds from it.
fn permissions() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o644)
}
