//! `robotimage build`: the three steps of a build pod, on this machine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use robotimage_crds::api::Compression as Codec;
use robotimage_crds::build::PlanEnvironment;
use robotimage_crds::reason::Reason;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::args::{BuildArgs, Compression};
use super::deliver::{Sending, keep, repositories};
use super::environment::Environment;
use super::inputs::{base, cache, context, credentials, launcher, names};
use super::kept;
use super::output::{self, Built, Row};
use super::progress::{Progress, bytes};
use crate::failure::Failure;
use crate::image::layers::Spool;
use crate::image::pipeline::{Making, Pack};
use crate::image::{Base, Parts, Recipe};
use crate::leak::Finder;
use crate::rcc::Rcc;
use crate::reuse::{Answer, Keep};
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
pub(super) async fn interrupted() {
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

/// A build that ended without an image.
struct Ended {
    failure: Failure,
    /// Layers of the environment cache went away meanwhile: without it the build may end well.
    again: bool,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self { failure, again: false }
    }
}

async fn build(args: &BuildArgs, stop: &Stop) -> Result<Built, Failure> {
    match Box::pin(once(args, stop, true)).await {
        Err(Ended { failure, again: true }) => {
            tracing::warn!(%failure, "the kept environment went away; everything is made anew");
            Box::pin(once(args, stop, false)).await
        }
        ended => ended,
    }
    .map_err(|ended| ended.failure)
}

async fn once(args: &BuildArgs, stop: &Stop, ask_cache: bool) -> Result<Built, Ended> {
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
    let context = context(args)?;
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
    let client = args.network.client(stop)?;
    phase.announce(&format!("reading {}", args.base_image));
    let (base, blobs) = base(args, &client, &folders).await?;
    // What is pushed goes to the registry itself, and is read back from there.
    let client = client.without_mirrors();
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
    let repositories = repositories(&names);
    let answer = if ask_cache {
        kept::look(args, &client, &repositories, &recipe).await?
    } else {
        None
    };
    let how = answer.as_ref().map_or(Keep::ByKey, Answer::keep);
    let said = answer.as_ref().map(ToString::to_string);
    let environment = match answer {
        Some(Answer::Hit(hit)) => Environment::taken_over(*hit),
        _ => Environment::obtain(args, &context, &prepared, &rcc, &recipe, &folders, stop, &phase).await?,
    };
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
    let (image, pushed) = sending.first(&recipe, pack).await.map_err(|failure| Ended {
        again: environment.is_lost(&failure),
        failure,
    })?;
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
        environment_cache: said,
        not_reproducible: environment.not_reproducible(),
        build_key: recipe.build_key(),
        base: recipe.base.digest.clone(),
        rcc: recipe.rcc_version.clone(),
        written: Vec::new(),
        tags: Vec::new(),
    };
    keep(args, &image, &blobs, &names, &folders, stop, &mut built).await?;
    sending.rest(&image, pushed, &mut built).await?;
    if args.push {
        kept::keep(args, &client, &repositories, &recipe, &image, environment.packages(), how).await?;
    }
    phase.done(&image.digest);
    Ok(built)
}

pub(super) async fn validate(args: &BuildArgs, context: &Path, folders: &Folders) -> Result<(Prepared, LocalSource, Rcc), Failure> {
    let (context, file, task) = (context.to_owned(), args.robot.clone(), args.task.clone());
    let (binary, rcc_home) = (args.rcc.obtain(&args.network, folders).await?, folders.scratch.join(RCC_HOME));
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

#[expect(clippy::too_many_arguments, reason = "each is another input of the image")]
pub(super) async fn recipe(
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
            blueprint: None,
            base: &base,
            settings: settings.as_deref(),
            compression,
            compatibility: 1,
            plan: PlanEnvironment::default(),
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
    let taken = environment.layers();
    let secrets = Arc::new(Finder::new(credentials()?.values()));
    Ok(Arc::new(move |making: &Making| {
        if taken.iter().any(|layer| making.gone.contains(&layer.descriptor.digest)) {
            return Err(Failure::new(
                Reason::RegistryProtocol,
                "the registry has lost layers of the environment that was to be taken over",
            ));
        }
        let parts = Parts {
            source: &context,
            rcc: &rcc,
            launcher: &launcher,
            environment: tree.as_deref(),
            reused: &taken,
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
