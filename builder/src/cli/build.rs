//! `robotimage build`: the three steps of a build pod, on this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use robotimage_crds::api::Compression as Codec;
use robotimage_crds::build::PlanPlatform;
use robotimage_crds::reason::Reason;
use robotimage_registry::{AddressPolicy, Client, ClientOptions, Credentials, Reference};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::{BuildArgs, Compression};
use super::deliver::{Sending, keep};
use super::environment::Environment;
use super::output::{self, Built, Row};
use super::progress::{Progress, bytes};
use crate::failure::Failure;
use crate::image::layers::Spool;
use crate::image::pipeline::{Making, Pack};
use crate::image::pull::{BaseBlobs, from_layout, from_registry};
use crate::image::{Base, Parts, Recipe};
use crate::leak::Finder;
use crate::rcc::Rcc;
use crate::source::{Limits, LocalSource};
use crate::steps::prepare::{self, Prepared};
use crate::steps::{self, make_empty};

/// What one's own folder may hold; a guard against packing a home directory by mistake.
pub(super) const LIMITS: Limits = Limits {
    bytes: 4 << 30,
    entries: 500_000,
};

/// Home of rcc while it is asked for its version and its hash, below the scratch folder.
const RCC_HOME: &str = "rcc-home";

pub(super) async fn run(args: &BuildArgs) -> u8 {
    let stop = Stop::default();
    let result = tokio::select! {
        biased;
        result = build(args, &stop) => result,
        () = interrupted() => Err(Failure::new(Reason::Canceled, "interrupted")),
    };
    stop.cancel.cancel();
    stop.interrupt.store(true, Ordering::Relaxed);
    match result {
        Ok(built) => {
            output::built(&built, args.json);
            0
        }
        Err(failure) => output::failed(&failure, args.json),
    }
}

/// Waits for Ctrl-C, or for the end that a supervisor asks for.
async fn interrupted() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => signals.recv().await.map_or((), drop),
            // Without a handler, the signal ends the process as it always did.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// Ends waiting and blocking work.
#[derive(Clone, Debug, Default)]
pub(super) struct Stop {
    pub(super) cancel: CancellationToken,
    pub(super) interrupt: Arc<AtomicBool>,
}

/// Folders of this machine.
#[derive(Clone, Debug)]
pub(super) struct Folders {
    /// What outlives a build.
    pub(super) cache: PathBuf,
    /// What does not.
    pub(super) scratch: PathBuf,
}

async fn build(args: &BuildArgs, stop: &Stop) -> Result<Built, Failure> {
    let progress = Progress::detect(args.json);
    let names = names(&args.tags)?;
    let cache = cache()?;
    std::fs::create_dir_all(&cache).map_err(|error| Failure::io("make", &cache, &error))?;
    let scratch = tempfile::Builder::new()
        .prefix("build-")
        .tempdir_in(&cache)
        .map_err(|error| Failure::io("write to", &cache, &error))?;
    let folders = Folders {
        cache: cache.clone(),
        scratch: scratch.path().to_owned(),
    };

    let phase = progress.phase("validate");
    let context = args.dir.canonicalize().ok().filter(|dir| dir.is_dir()).ok_or_else(|| {
        let message = format!("{} is no folder; give the one with the robot", args.dir.display());
        Failure::new(Reason::SourceNotFound, message)
    })?;
    let (prepared, source, rcc) = validate(args, &context, &folders).await?;
    let task = prepared.facts.title.as_deref().unwrap_or("no task");
    phase.done(&format!(
        "{}, task \"{task}\", {} files and folders, {}, rcc {}",
        prepared.facts.file,
        source.entries,
        bytes(source.bytes),
        rcc.version
    ));
    if !args.json {
        for warning in &prepared.warnings {
            eprintln!("warning: {warning}");
        }
    }

    let phase = progress.phase("base");
    let client = registry(args, stop)?;
    phase.announce(&format!("reading {}", args.base_image));
    let (base, blobs) = base(args, &client, &folders).await?;
    let size: u64 = base.layers.iter().map(|layer| layer.size).sum();
    phase.done(&format!(
        "{}, {}, glibc {}",
        base.facts.os.as_deref().unwrap_or("no os-release"),
        bytes(size),
        base.facts.glibc.as_deref().unwrap_or("none")
    ));

    let rcc_path = rcc.path.clone();
    let launcher = launcher(args)?;
    let recipe = recipe(args, &context, &prepared, &source, &rcc, &launcher, base, &folders).await?;
    let phase = progress.phase("resolve");
    let environment = Environment::obtain(args, &context, &prepared, &rcc, &recipe, &folders, stop, &phase).await?;
    phase.done(&environment.summary());
    if !args.json {
        for warning in environment.warnings() {
            eprintln!("warning: {warning}");
        }
    }

    let phase = progress.phase("assemble");
    let pack = pack(&recipe, &context, &rcc_path, &launcher, &environment, &phase)?;
    let sending = Sending::new(args, &client, &blobs, &names, &folders.scratch);
    if args.push {
        phase.announce("packing and pushing");
    }
    let (image, pushed) = sending.first(&recipe, pack).await?;
    phase.done(&format!("{} layers, {}", image.layers.len(), bytes(image.size())));

    let phase = progress.phase("complete");
    let mut built = Built {
        digest: image.digest.clone(),
        reference: None,
        size: image.size(),
        layers: image.report(|_| 0).into_iter().map(|row| Row::of(row, false)).collect(),
        environment_key: recipe.environment.as_ref().map(|environment| environment.key.clone()),
        packages: environment.packages(),
        environment_cached: environment.cached,
        not_reproducible: environment.not_reproducible(),
        build_key: recipe.build_key(),
        base: recipe.base.digest.clone(),
        rcc: recipe.rcc_version.clone(),
        written: Vec::new(),
        tags: Vec::new(),
    };
    keep(args, &image, &blobs, &names, &folders, &mut built).await?;
    sending.rest(&image, pushed, &mut built).await?;
    phase.done(&image.digest);
    Ok(built)
}

/// `-t` as references with a tag.
fn names(tags: &[String]) -> Result<Vec<Reference>, Failure> {
    let wrong = |problem: String| Failure::new(Reason::NotAllowed, format!("--tag: {problem}"));
    tags.iter()
        .map(|text| {
            let reference = Reference::parse(text).map_err(|error| wrong(error.to_string()))?;
            match (reference.tag(), reference.digest()) {
                (_, Some(_)) => Err(wrong(format!(
                    "{text} names a digest, which only a finished image has; leave it out"
                ))),
                (Some(_), None) => Ok(reference),
                (None, None) => reference.with_tag("latest").map_err(|error| wrong(error.to_string())),
            }
        })
        .collect()
}

/// `$ROBOTIMAGE_CACHE`, else `~/.cache/robotimage`.
fn cache() -> Result<PathBuf, Failure> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("ROBOTIMAGE_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("robotimage")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/robotimage")))
        .ok_or_else(|| {
            Failure::new(
                Reason::InternalError,
                "there is no place for the cache: HOME is not set; set ROBOTIMAGE_CACHE",
            )
        })
}

async fn validate(args: &BuildArgs, context: &Path, folders: &Folders) -> Result<(Prepared, LocalSource, Rcc), Failure> {
    let (context, file, task) = (context.to_owned(), args.robot.clone(), args.task.clone());
    let (binary, rcc_home) = (rcc_path(args)?, folders.scratch.join(RCC_HOME));
    blocking(move || {
        let prepared = prepare::robot(&context, &file, task.as_deref())?;
        let artifacts = prepared.facts.artifacts_to_skip();
        let source = LocalSource::scan(&context, artifacts.as_deref(), LIMITS)?;
        make_empty(&rcc_home)?;
        Ok((prepared, source, Rcc::probe(&binary, &rcc_home)?))
    })
    .await
}

/// Work that blocks, on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Failure::new(
            Reason::InternalError,
            format!("a phase broke off: {error}; please report this bug"),
        ))
    })
}

fn rcc_path(args: &BuildArgs) -> Result<PathBuf, Failure> {
    let missing = |message: String| Failure::new(Reason::RccUnavailable, message);
    if let Some(path) = &args.rcc_exec {
        return path
            .canonicalize()
            .map_err(|error| missing(format!("rcc at {}: {error}; correct --rcc-exec", path.display())));
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths)
        .map(|folder| folder.join("rcc"))
        .find(|path| path.is_file())
        .ok_or_else(|| missing("there is no rcc in PATH; install it, or give --rcc-exec FILE".to_owned()))
}

fn launcher(args: &BuildArgs) -> Result<PathBuf, Failure> {
    let path = match &args.launcher {
        Some(path) => path.clone(),
        None => std::env::current_exe()
            .map_err(|error| {
                Failure::new(
                    Reason::InternalError,
                    format!("this program cannot find itself: {error}; give --launcher FILE"),
                )
            })?
            .with_file_name("robotimage-launcher"),
    };
    if path.is_file() {
        return Ok(path);
    }
    let message = format!("the launcher {} is not there; give --launcher FILE", path.display());
    Err(Failure::new(Reason::RccUnavailable, message))
}

fn registry(args: &BuildArgs, stop: &Stop) -> Result<Client, Failure> {
    let mut roots = Vec::new();
    for path in &args.ca {
        let bundle = steps::read_small(path)?.ok_or_else(|| {
            Failure::new(
                Reason::CertificateUntrusted,
                format!("the CA file {} does not exist", path.display()),
            )
        })?;
        roots.push(bundle);
    }
    let platform = PlanPlatform {
        plain_http: args.plain_http.clone(),
        ..PlanPlatform::default()
    };
    let options: ClientOptions = steps::client_options(&platform, roots, AddressPolicy::open(), None, &stop.cancel);
    steps::client(&options, Some(credentials()?))
}

/// What the user is logged in with.
fn credentials() -> Result<Credentials, Failure> {
    Credentials::from_environment().map_err(|error| Failure::new(Reason::PushUnauthorized, error.to_string()))
}

async fn base(args: &BuildArgs, client: &Client, folders: &Folders) -> Result<(Base, BaseBlobs), Failure> {
    let facts = folders.cache.join("bases");
    if let Some(folder) = args.base_image.strip_prefix("oci:") {
        let folder = PathBuf::from(folder);
        return blocking(move || from_layout(&folder, Some(&facts)).map_err(|error| steps::pull_failure(&error))).await;
    }
    let reference = steps::base_reference(&args.base_image)?;
    from_registry(client, &reference, Some(&facts))
        .await
        .map_err(|error| steps::pull_failure(&error))
}

#[expect(clippy::too_many_arguments, reason = "each is another input of the image")]
async fn recipe(
    args: &BuildArgs,
    context: &Path,
    prepared: &Prepared,
    source: &LocalSource,
    rcc: &Rcc,
    launcher: &Path,
    base: Base,
    folders: &Folders,
) -> Result<Recipe, Failure> {
    let compression = match args.compression {
        // Nothing that reads a docker archive knows zstd.
        _ if args.save.is_some() => Codec::Gzip,
        Some(Compression::Gzip) => Codec::Gzip,
        Some(Compression::Zstd) | None => Codec::Zstd,
    };
    let (context, prepared, rcc, rcc_home) = (context.to_owned(), prepared.clone(), rcc.clone(), folders.scratch.join(RCC_HOME));
    let launcher = launcher.to_owned();
    let settings = args.settings.clone();
    let (tree, user) = (source.tree.clone(), args.user.clone());
    let labels = args.labels.iter().cloned().collect();
    blocking(move || {
        let environment = prepared.environment(&prepare::EnvironmentInputs {
            context: &context,
            rcc: &rcc,
            rcc_home: &rcc_home,
            base: &base,
            settings: settings.as_deref(),
            compression,
            compatibility: 1,
        })?;
        Ok(Recipe {
            tree,
            base,
            rcc: format!("sha256:{}", rcc.sha256),
            rcc_version: rcc.version,
            launcher: steps::digest(&launcher)?,
            robot: prepared.facts,
            environment,
            user,
            labels,
            annotations: std::collections::BTreeMap::new(),
            compression,
            compatibility: 1,
        })
    })
    .await
}

/// What packs the layers, on a thread of its own.
fn pack(
    recipe: &Recipe,
    context: &Path,
    rcc: &Path,
    launcher: &Path,
    environment: &Environment,
    phase: &super::progress::Phase,
) -> Result<Arc<Pack>, Failure> {
    let (recipe, context, rcc, launcher) = (recipe.clone(), context.to_owned(), rcc.to_owned(), launcher.to_owned());
    let (tree, teller) = (environment.tree().map(Path::to_owned), phase.teller());
    let secrets = Arc::new(Finder::new(credentials()?.values()));
    Ok(Arc::new(move |making: &Making| {
        let parts = Parts {
            source: &context,
            rcc: &rcc,
            launcher: &launcher,
            environment: tree.as_deref(),
            reused: &[],
        };
        let teller = teller.clone();
        let spool = Spool {
            folder: &making.folder,
            codec: recipe.codec(),
            secrets: Arc::clone(&secrets),
            cancel: Arc::clone(&making.cancel),
            progress: Some(Arc::new(move |at: robotimage_layer::Progress| {
                teller(format!("{} of files, {} compressed", bytes(at.uncompressed), bytes(at.compressed)));
            })),
        };
        recipe.make(&parts, &spool, &mut |layer| making.done(layer))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_get_a_tag() {
        let of = |text: &str| names(&[text.to_owned()]).map(|names| names[0].to_string());
        assert_eq!(of("r.example.com/a").unwrap(), "r.example.com/a:latest");
        assert_eq!(of("r.example.com/a:1").unwrap(), "r.example.com/a:1");
        for bad in [
            "r.example.com/A",
            &format!("r.example.com/a@sha256:{}", "0".repeat(64)),
            "https://r/a:1",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
