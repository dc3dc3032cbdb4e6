//! The first step: trusted code over untrusted bytes. Source, rcc, base, keys.
//!
//! Invariant: nothing of the source is executed. rcc is, because the platform chose it.

use std::collections::BTreeMap;

use robotimage_crds::build::{Fetched, paths, render};
use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Credentials, Reference};

use super::facts::{ENVIRONMENT, Facts, RCC};
use super::prepare::{self, Prepared};
use super::rcc::ChosenRcc;
use super::root::make_empty;
use super::{Context, Side, access, binary, source, standing};
use crate::failure::Failure;
use crate::image::learned::Learned;
use crate::image::pull::from_registry;
use crate::image::{Base, Recipe, Role};
use crate::source::Checkout;

/// Where the builder image has the launcher.
pub(super) const LAUNCHER: &str = "/usr/local/lib/robotimage/launcher";

pub(super) async fn run(context: &Context) -> Result<Fetched, Failure> {
    let plan = &context.plan;
    let scratch = context.root.path(paths::SCRATCH);
    let spec = context.root.path(paths::SPEC);
    make_empty(&scratch)?;
    make_empty(&spec)?;
    let (source, previous) = tokio::try_join!(source::fetch(context, &scratch), standing::look(context))?;
    tracing::info!(
        commit = source.commit,
        tree = source.tree,
        bytes = source.bytes,
        entries = source.entries,
        "source"
    );
    let folder = context.root.path(paths::SOURCE);
    let prepared = blocking({
        let (folder, file, task) = (folder.clone(), plan.robot.file.clone(), plan.robot.task.clone());
        move || prepare::robot(&folder, &file, task.as_deref())
    })
    .await?;
    let learned = previous.learned(context);
    let binary = spec.join(RCC);
    let (base, mut rcc) = tokio::try_join!(
        base(context, learned.as_ref()),
        ChosenRcc::choose(context, learned.as_ref(), &binary)
    )?;
    tracing::info!(digest = base.digest, glibc = base.facts.glibc, os = base.facts.os, "base");
    let recipe = recipe(context, &source, prepared.clone(), base, &mut rcc, learned.as_ref()).await?;
    tracing::info!(version = rcc.rcc.version, sha256 = rcc.rcc.sha256, "rcc");
    let found = standing::find(context, &recipe, previous).await?;
    if found.needs_rcc(&recipe) {
        rcc.bring(context).await?;
    }
    let fetched = Fetched {
        commit: source.commit.clone(),
        reference: source.reference,
        tree: source.tree,
        author: source.author,
        message: source.message,
        base: recipe.base.digest.clone(),
        rcc: recipe.rcc_version.clone(),
        rcc_digest: recipe.rcc.clone(),
        rcc_image: rcc.image.clone(),
        build_key: recipe.build_key(),
        environment_key: recipe
            .environment
            .as_ref()
            .map(|environment| environment.key.clone())
            .unwrap_or_default(),
        blueprint: recipe
            .environment
            .as_ref()
            .map(|environment| environment.blueprint.clone())
            .unwrap_or_default(),
        noop: found.noop,
        reuse: found.reused.iter().any(|layer| layer.role == Role::Environment),
        plan: found.kind,
        cache: found.cache,
    };
    prepared.copy_environment(&folder, &spec.join(ENVIRONMENT))?;
    let facts = Facts {
        version: 1,
        build_id: plan.build_id.clone(),
        fetched: fetched.clone(),
        recipe,
        reused: found.reused,
        packages: found.packages,
        keep: found.keep,
        tags: rendered(&plan.image.tags, &source.commit)?,
    };
    facts.write(&context.root)?;
    Ok(fetched)
}

/// Work that blocks, on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Failure::new(
            Reason::InternalError,
            format!("a step broke off: {error}; please report this bug"),
        ))
    })
}

/// A client that reads with the first of these Secrets that is mounted.
pub(super) fn reader(context: &Context, secrets: &[&str], side: Side) -> Result<Client, Failure> {
    let credentials: Option<Credentials> = access::credentials(&context.root, secrets, side)?;
    match side {
        Side::Base | Side::Rcc => access::reader(&context.registry()?, &context.plan.platform, credentials),
        Side::Target | Side::Push => access::client(&context.registry()?, credentials),
    }
}

async fn base(context: &Context, learned: Option<&Learned>) -> Result<Base, Failure> {
    let reference = base_reference(&context.plan.image.base)?;
    let client = reader(context, &[paths::BASE_SECRET, paths::PULL_SECRET], Side::Base)?;
    let (base, _) = from_registry(&client, &reference, None, learned)
        .await
        .map_err(|error| access::pull_failure(&error))?;
    Ok(base)
}

/// The reference of a base image.
pub fn base_reference(text: &str) -> Result<Reference, Failure> {
    Reference::parse(text).map_err(|error| Failure::new(Reason::BaseNotFound, format!("base: {error}")))
}

/// All facts of the image.
async fn recipe(
    context: &Context,
    source: &Checkout,
    prepared: Prepared,
    base: Base,
    chosen: &mut ChosenRcc,
    learned: Option<&Learned>,
) -> Result<Recipe, Failure> {
    let file = prepared.environment_file_digest();
    let digest = format!("sha256:{}", chosen.rcc.sha256);
    let blueprint = file
        .as_deref()
        .and_then(|file| learned?.blueprint(&digest, file))
        .map(str::to_owned);
    if file.is_some() && blueprint.is_none() {
        chosen.bring(context).await?;
    }
    let launcher = context.root.path(LAUNCHER);
    let settings = context.root.path(paths::PLATFORM);
    let folder = context.root.path(paths::SOURCE);
    let (image, rcc, rcc_home) = (context.plan.image.clone(), chosen.rcc.clone(), chosen.home());
    let (tree, commit, plan) = (source.tree.clone(), source.commit.clone(), context.plan.environment);
    blocking(move || {
        let environment = prepared.environment(&prepare::EnvironmentInputs {
            context: &folder,
            rcc: &rcc,
            rcc_home: &rcc_home,
            blueprint: blueprint.as_deref(),
            base: &base,
            settings: Some(&settings),
            compression: image.compression,
            compatibility: image.compatibility,
            plan,
        })?;
        let map = |values: &BTreeMap<String, String>| {
            values
                .iter()
                .map(|(key, value)| Ok((key.clone(), rendered_one(value, &commit)?)))
                .collect::<Result<_, Failure>>()
        };
        Ok(Recipe {
            tree,
            base,
            rcc: format!("sha256:{}", rcc.sha256),
            rcc_version: rcc.version,
            launcher: binary::digest(&launcher)?,
            robot: prepared.facts,
            environment,
            user: image.user.clone(),
            labels: map(&image.labels)?,
            annotations: map(&image.annotations)?,
            compression: image.compression,
            compatibility: image.compatibility,
        })
    })
    .await
}

fn rendered_one(template: &str, commit: &str) -> Result<String, Failure> {
    render(template, commit).map_err(|error| Failure::new(Reason::NotAllowed, error.to_string()))
}

fn rendered(templates: &[String], commit: &str) -> Result<Vec<String>, Failure> {
    templates.iter().map(|template| rendered_one(template, commit)).collect()
}
