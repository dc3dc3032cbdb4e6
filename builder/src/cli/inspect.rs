//! `robotimage inspect`: what an image holds, and why. It reads and changes nothing.

use std::path::Path;

use clap::Args;
use robotimage_registry::Reference;

use super::build::{Stop, blocking};
use super::guard::guarded;
use super::network::NetworkArgs;
use super::output::{failed, print, to_json};
use super::progress;
use super::progress::{Progress, bytes};
use crate::environment::PackageKind;
use crate::failure::Failure;
use crate::image::Role;
use crate::inspect::packages::PackageReader;
use crate::inspect::stored::Files;
use crate::inspect::{Inspected, Stored, inspect};

#[derive(Args, Debug)]
pub(super) struct InspectArgs {
    /// A reference in a registry, oci:DIR for a layout, oci-archive:FILE or docker-archive:FILE for an archive, or the path of
    /// one of these.
    #[arg(value_name = "IMAGE")]
    image: String,
    /// List the packages of the environment; all of its layers are read for it.
    #[arg(long)]
    packages: bool,
    #[command(flatten)]
    network: NetworkArgs,
    /// One JSON object on standard output instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: &InspectArgs) -> u8 {
    let stop = Stop::default();
    match Box::pin(guarded(&stop, look(args, &stop))).await {
        Ok(inspected) => {
            print(&if args.json { to_json(&inspected) } else { text(&inspected) });
            0
        }
        Err(failure) => failed(&failure, args.json),
    }
}

async fn look(args: &InspectArgs, stop: &Stop) -> Result<Inspected, Failure> {
    let progress = Progress::detect(args.json);
    let phase = progress.phase("inspect");
    let stored = stored(args, stop)?;
    let documents = stored.documents(&args.image).await?;
    let mut inspected = inspect(&documents);
    if args.packages {
        read_packages(&stored, &documents.manifest.layers, &mut inspected, &phase).await?;
    }
    drop(phase);
    Ok(inspected)
}

/// Where the image is, by what was written.
fn stored(args: &InspectArgs, stop: &Stop) -> Result<Stored, Failure> {
    let (kind, rest) = args.image.split_once(':').unwrap_or_default();
    let path = Path::new(&args.image);
    let files = match kind {
        "oci" => Files::layout(Path::new(rest)),
        "oci-archive" | "docker-archive" => Files::archive(Path::new(rest)),
        _ if path.is_file() => Files::archive(path),
        _ if path.join("oci-layout").is_file() => Files::layout(path),
        _ => {
            let reference = Reference::parse(&args.image).map_err(|error| {
                let message = format!("{error}; write a reference, oci:DIR, or the path of an archive");
                Failure::new(robotimage_crds::reason::Reason::SourceNotFound, message)
            })?;
            let client = args.network.client(stop)?;
            return Ok(Stored::Registry { client, reference });
        }
    };
    files.map(Stored::Disk)
}

async fn read_packages(
    stored: &Stored,
    layers: &[crate::image::oci::Descriptor],
    inspected: &mut Inspected,
    phase: &progress::Phase,
) -> Result<(), Failure> {
    let scratch = tempfile::Builder::new()
        .prefix("inspect-")
        .tempdir()
        .map_err(|error| Failure::io("write to", &std::env::temp_dir(), &error))?;
    let mut reader = PackageReader::default();
    for (descriptor, row) in layers.iter().zip(&inspected.layers) {
        if row.role != Some(Role::Environment) {
            continue;
        }
        phase.announce(&format!("reading {} of {}", bytes(row.size), row.why));
        let layer = stored.layer(descriptor, scratch.path()).await?;
        let name = format!("layer {} of {}", row.digest, inspected.image);
        reader = blocking(move || {
            reader.layer(layer).map_err(|error| {
                let message = format!("{name} cannot be read: {error}");
                Failure::new(robotimage_crds::reason::Reason::DigestMismatch, message)
            })?;
            Ok(reader)
        })
        .await?;
    }
    if let Some(environment) = &mut inspected.environment {
        environment.packages = Some(reader.finish());
    }
    Ok(())
}

fn text(image: &Inspected) -> String {
    let mut lines = Vec::new();
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("{:<13}{value}", format!("{name}:")));
        }
    };
    let short = |digest: &str| digest.chars().take("sha256:".len() + 12).collect::<String>();
    let join = |one: &Option<String>, two: &Option<String>| {
        let both = [one.as_deref(), two.as_deref()];
        both.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    line("Image", &image.image);
    line(
        "Digest",
        image.digest.as_deref().unwrap_or("none: a docker archive has no manifest"),
    );
    line("Platform", &image.platform);
    line("Size", &format!("{} in {} layers", bytes(image.size), image.layers.len()));
    line("Base", &join(&image.base.name, &image.base.digest));
    let glibc = image.base.glibc.as_ref().map(|version| format!("glibc {version}"));
    line(
        "Base holds",
        &[image.base.os.clone(), glibc].into_iter().flatten().collect::<Vec<_>>().join(", "),
    );
    if let Some(rcc) = &image.rcc {
        line("rcc", &format!("{} {}", rcc.version, rcc.digest));
    }
    line("Robot", &join(&image.robot.title, &image.robot.file));
    if let Some(environment) = &image.environment {
        line("Environment", environment.key.as_deref().unwrap_or("without a key"));
    }
    line("User", &image.run.user);
    line("Entrypoint", &image.run.entrypoint.join(" "));
    line("Cmd", &image.run.cmd.join(" "));
    line("Works in", &image.run.working_dir);
    line("emptyDirs", &image.run.writable.join(" "));
    lines.push(String::new());
    lines.push(format!("{:<13}{:>10}  {:<21}WHY", "LAYER", "SIZE", "DIGEST"));
    for layer in &image.layers {
        let role = layer.role.map_or("other", Role::as_str);
        lines.push(format!(
            "{role:<13}{:>10}  {:<21}{}",
            bytes(layer.size),
            short(&layer.digest),
            layer.why
        ));
    }
    if let Some(packages) = image.environment.as_ref().and_then(|environment| environment.packages.as_ref()) {
        lines.push(String::new());
        lines.push(format!("{:<40}{:<20}FROM", format!("PACKAGE ({})", packages.len()), "VERSION"));
        for package in packages {
            let kind = match package.kind {
                PackageKind::Conda => "conda",
                PackageKind::Pip => "pip",
            };
            lines.push(format!("{:<40}{:<20}{kind}", package.name, package.version));
        }
    }
    if !image.robot_image {
        lines.push(String::new());
        lines.push("No layer of it was made by RobotImage.".to_owned());
    }
    // Names in an image are a stranger's, and a terminal obeys some characters.
    let clean = |letter: char| if letter.is_control() && letter != '\n' { '?' } else { letter };
    (lines.join("\n") + "\n").chars().map(clean).collect()
}
