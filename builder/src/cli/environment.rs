//! The environment of a build on this machine: from the cache, or resolved anew.
//!
//! Invariant: one folder of the cache holds one environment, and one build at a time works in it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use robotimage_crds::reason::Reason;

use super::args::BuildArgs;
use super::build::{Folders, Stop, blocking};
use super::progress::Phase;
use crate::environment::{ResolveRequest, Resolved, laptop};
use crate::failure::Failure;
use crate::image::{Recipe, Reused};
use crate::rcc::Rcc;
use crate::reuse::Hit;
use crate::steps::prepare::Prepared;

/// A resolve of real robots takes minutes; one that takes longer than this hangs.
const TIMEOUT: Duration = Duration::from_hours(2);

/// A sealed environment on disk, or none for a shell robot.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    resolved: Option<Resolved>,
    /// The registry has it.
    taken: Option<Hit>,
    /// Whether an earlier build made it.
    pub(super) cached: bool,
}

impl Environment {
    /// One that a registry has.
    pub(super) fn taken_over(hit: Hit) -> Self {
        Self {
            resolved: None,
            taken: Some(hit),
            cached: true,
        }
    }

    /// Its layers, when a registry has them.
    pub(super) fn layers(&self) -> Vec<Reused> {
        self.taken.as_ref().map(|hit| hit.layers.clone()).unwrap_or_default()
    }

    /// Whether this failure of a push may mean that the registry has lost it.
    pub(super) fn is_lost(&self, failure: &Failure) -> bool {
        let of_blobs = matches!(
            failure.reason,
            Reason::RegistryProtocol | Reason::BaseNotFound | Reason::DigestMismatch
        );
        self.taken.is_some() && of_blobs
    }

    /// Takes it from the cache, or resolves it there.
    #[expect(clippy::too_many_arguments, reason = "each is another input of the environment")]
    pub(super) async fn obtain(
        args: &BuildArgs,
        context: &Path,
        prepared: &Prepared,
        rcc: &Rcc,
        recipe: &Recipe,
        folders: &Folders,
        stop: &Stop,
        phase: &Phase,
    ) -> Result<Self, Failure> {
        let Some(facts) = recipe.environment.clone() else {
            return Ok(Self::default());
        };
        let builds = folders.cache.join("builds");
        let cache = builds.join(&facts.files);
        let (whole, lock) = (cache.join("whole"), builds.join(format!("{}.lock", facts.files)));
        if !whole.exists() {
            phase.announce(&format!("installing {}", facts.file));
        }
        let spec = folders.scratch.join("spec");
        prepared.copy_environment(context, &spec)?;
        let glibc = recipe.base.facts.glibc.clone().unwrap_or_default();
        let (folder, rcc, platform) = (prepared.robot.folder().to_owned(), rcc.clone(), args.settings.clone());
        let (cancel, teller) = (Arc::clone(&stop.interrupt), phase.teller());
        blocking(move || {
            std::fs::create_dir_all(&cache).map_err(|error| Failure::io("make", &cache, &error))?;
            // Another build of the same environment is waited for; its result is then this one's.
            let lock = std::fs::File::create(&lock)
                .and_then(|file| file.lock().map(|()| file))
                .map_err(|error| Failure::io("lock", &lock, &error))?;
            let cached = whole.exists();
            let resolved = laptop::run_resolve(
                &cache,
                &ResolveRequest {
                    rcc: &rcc,
                    spec: &spec,
                    folder: &folder,
                    environment_file: Path::new(&facts.file),
                    rcc_home: &cache,
                    home: &cache,
                    platform: platform.as_deref(),
                    index_secret: None,
                    glibc: &glibc,
                    deadline: Instant::now() + TIMEOUT,
                    cancel,
                    progress: &|phase| teller(phase.to_owned()),
                    bytecode: true,
                    key: &facts.files,
                },
            )?;
            std::fs::write(&whole, "").map_err(|error| Failure::io("write", &whole, &error))?;
            drop(lock);
            Ok(Self {
                resolved: Some(resolved),
                taken: None,
                cached,
            })
        })
        .await
    }

    /// Its folder.
    pub(super) fn tree(&self) -> Option<&Path> {
        self.resolved.as_ref().map(|resolved| resolved.sealed.as_path())
    }

    /// How many packages it has.
    pub(super) fn packages(&self) -> usize {
        if let Some(hit) = &self.taken {
            return usize::try_from(hit.packages).unwrap_or_default();
        }
        self.resolved.as_ref().map_or(0, |resolved| resolved.packages.len())
    }

    /// Packages that differ at every resolve.
    pub(super) fn not_reproducible(&self) -> Vec<String> {
        self.resolved
            .as_ref()
            .map(|resolved| resolved.not_reproducible.clone())
            .unwrap_or_default()
    }

    /// What people should know of it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let Some(resolved) = &self.resolved else {
            return Vec::new();
        };
        let mut warnings = Vec::new();
        if !resolved.not_reproducible.is_empty() {
            warnings.push(format!(
                "built from source, so different at every resolve: {}; prefer packages that come as wheels",
                resolved.not_reproducible.join(", ")
            ));
        }
        if !resolved.outside.is_empty() {
            warnings.push(format!(
                "installers left these outside of the environment, so they are not in the image: {}",
                resolved.outside.join(", ")
            ));
        }
        warnings
    }

    /// One line about it.
    pub(super) fn summary(&self) -> String {
        if let Some(hit) = &self.taken {
            return format!("{} packages, from {}", hit.packages, hit.repository);
        }
        match (&self.resolved, self.cached) {
            (None, _) => "no environment".to_owned(),
            (Some(resolved), true) => format!("{} packages, from the cache", resolved.packages.len()),
            (Some(resolved), false) => format!("{} packages", resolved.packages.len()),
        }
    }
}
