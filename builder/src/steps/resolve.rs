//! The second step: untrusted code, the package installs. It has no credential but the index's.
//!
//! Invariant: it reads what fetch wrote into the spec volume and nothing else, and writes below the environment volume.

use std::path::Path;
use std::time::Duration;

use robotimage_crds::build::{Resolved, paths};

use super::Context;
use super::facts::{ENVIRONMENT, Facts, RCC};
use super::fetch::blocking;
use crate::environment::{self, ResolveRequest};
use crate::failure::Failure;
use crate::rcc::Rcc;

/// rcc is told to end this long before the step's deadline, so that its last lines are reported.
const MARGIN: Duration = Duration::from_secs(3);

pub(super) async fn run(context: &Context) -> Result<Resolved, Failure> {
    let facts = Facts::read(&context.root, &context.plan.build_id)?;
    let Some(wanted) = facts.recipe.environment.clone().filter(|_| facts.needs_environment()) else {
        tracing::info!(noop = facts.fetched.noop, reuse = facts.fetched.reuse, "nothing to resolve");
        return Ok(Resolved::default());
    };
    let context = context.clone();
    let resolved = blocking(move || {
        let root = &context.root;
        let spec = root.path(paths::SPEC);
        let rcc = Rcc {
            path: spec.join(RCC),
            version: facts.recipe.rcc_version.clone(),
            sha256: facts.recipe.rcc.trim_start_matches("sha256:").to_owned(),
        };
        let folder = Path::new(&facts.recipe.robot.file).parent().unwrap_or(Path::new(""));
        let resolved = environment::resolve(&ResolveRequest {
            rcc: &rcc,
            spec: &spec.join(ENVIRONMENT),
            folder,
            environment_file: Path::new(&wanted.file),
            rcc_home: &root.path(paths::RCC_HOME),
            home: &root.path(paths::HOME),
            platform: Some(&root.path(paths::PLATFORM)),
            index_secret: None,
            glibc: facts.recipe.base.facts.glibc.as_deref().unwrap_or_default(),
            deadline: context.deadline.checked_sub(MARGIN).unwrap_or(context.deadline),
            cancel: context.interrupt.clone(),
            progress: &|phase| tracing::info!(phase, "resolve"),
            bytecode: true,
            key: &wanted.key,
        })?;
        Ok(resolved)
    })
    .await?;
    for package in &resolved.not_reproducible {
        tracing::warn!(package, "built from source, so different at every resolve");
    }
    for path in &resolved.outside {
        tracing::warn!(path, "an installer left this outside of the environment; it is not in the image");
    }
    Ok(Resolved {
        packages: i64::try_from(resolved.packages.len()).unwrap_or(i64::MAX),
    })
}
