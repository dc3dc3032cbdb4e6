//! The third step: trusted code over untrusted bytes. Layers and push.
//!
//! Invariant: nothing in the source and in the environment is executed or followed; no layer holds a credential of this step;
//! no tag moves before the image can be read by its digest, and none after a signal to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use robotimage_crds::build::{Published, paths};
use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Credentials, Digest, ErrorKind, Repository};

use super::facts::{Facts, RCC};
use super::fetch::{LAUNCHER, base_reference, blocking};
use super::keep::keep;
use super::root::make_empty;
use super::{Context, Side, access};
use crate::environment::{self, SEALED_PATH};
use crate::failure::Failure;
use crate::image::layers::Spool;
use crate::image::pipeline::{self, Making, Pack, PublishError, Target};
use crate::image::pull::BaseBlobs;
use crate::image::push;
use crate::image::{Image, Parts, Reused, Role};
use crate::leak::Finder;

pub(super) async fn run(context: &Context) -> Result<Published, Failure> {
    let plan = &context.plan;
    let facts = Facts::read(&context.root, &plan.build_id)?;
    let repository = Repository::parse(&plan.image.repository)
        .map_err(|error| Failure::new(Reason::NotAllowed, format!("image.repository: {error}")))?;
    let push_credentials = access::credentials(&context.root, &[paths::PUSH_SECRET], Side::Push)?;
    if plan.image.push_secret && push_credentials.is_none() {
        return Err(Failure::new(
            Reason::SecretMissing,
            "the push Secret that image.secretRef names does not exist, or has no key .dockerconfigjson; create it with kubectl create secret docker-registry",
        ));
    }
    let client = access::client(&context.registry()?, push_credentials.clone())?;
    if facts.fetched.noop {
        return noop(context, &facts, &client, &repository).await;
    }
    let base = base_blobs(context, &client, push_credentials.as_ref())?;
    let secrets = secrets(&[&push_credentials, &base.credentials]);
    let scratch = context.root.path(paths::SCRATCH);
    make_empty(&scratch)?;
    let target = Target {
        client: &client,
        repository: &repository,
        base: &base.blobs,
        scratch: &scratch,
        keep: false,
    };
    let counted = packages(context, &facts);
    let pack = pack(context, &facts, secrets);
    let kept = |gone: &BTreeSet<String>| facts.recipe.below(&still_there(&facts.reused, gone));
    let publishing = pipeline::publish(&target, kept, pack);
    let fail = |error| lost(&error, &facts).unwrap_or_else(|| failed(error));
    let ((image, pushed), packages) = tokio::try_join!(async { publishing.await.map_err(fail) }, counted)?;
    tracing::info!(digest = image.digest, size = image.size(), "image");
    push::tag(&client, &repository, &image.manifest, &facts.tags)
        .await
        .map_err(|error| access::failure(&error, Side::Push))?;
    keep(context, &facts, &client, &repository, &image, packages).await;
    Ok(published(&image, &pushed.sent, packages))
}

fn failed(error: PublishError) -> Failure {
    match error {
        PublishError::Pack(failure) => failure,
        PublishError::Registry(error) => access::failure(&error, Side::Push),
    }
}

/// What it means that a blob is not found, when layers are taken over that fetch has seen elsewhere.
fn lost(error: &PublishError, facts: &Facts) -> Option<Failure> {
    let PublishError::Registry(error) = error else { return None };
    let elsewhere = facts.reused.iter().any(|layer| layer.from.is_some());
    (elsewhere && error.kind() == ErrorKind::NotFound).then(|| {
        let message = format!("a layer that was to be taken over is gone: {error}; the next attempt looks again");
        Failure::new(Reason::RegistryUnavailable, message)
    })
}

/// The previous image is the one wanted; tags that are not there yet are still set.
async fn noop(context: &Context, facts: &Facts, client: &Client, repository: &Repository) -> Result<Published, Failure> {
    let bug = || Failure::new(Reason::InternalError, "fetch found nothing to do without a previous image");
    let previous = context.plan.previous.as_ref().ok_or_else(bug)?;
    let digest = Digest::try_from(previous.digest.as_str()).map_err(|_| bug())?;
    let fail = |error| access::failure(&error, Side::Push);
    let manifest = client.manifest(&repository.with_digest(&digest)).await.map_err(fail)?;
    push::tag(client, repository, &manifest.bytes, &facts.tags).await.map_err(fail)?;
    Ok(Published {
        digest: previous.digest.clone(),
        noop: true,
        ..Published::default()
    })
}

/// How many packages the environment has: counted, or as it is said of one that is taken over.
async fn packages(context: &Context, facts: &Facts) -> Result<i64, Failure> {
    let Some(tree) = tree(context, facts) else {
        return Ok(facts.packages);
    };
    let packages = blocking(move || Ok(environment::inventory(&tree)?)).await?;
    Ok(i64::try_from(packages.len()).unwrap_or(i64::MAX))
}

fn tree(context: &Context, facts: &Facts) -> Option<PathBuf> {
    facts.needs_environment().then(|| context.root.path(SEALED_PATH))
}

/// The layers of the previous image that can still be taken over. Environment and runtime home belong together.
fn still_there(reused: &[Reused], gone: &BTreeSet<String>) -> Vec<Reused> {
    let lost = |layer: &Reused| gone.contains(&layer.descriptor.digest);
    let environment = |layer: &Reused| matches!(layer.role, Role::Environment | Role::Home);
    let half = reused.iter().any(|layer| environment(layer) && lost(layer));
    let kept = reused.iter().filter(|layer| !(lost(layer) || half && environment(layer)));
    kept.cloned().collect()
}

/// What packs the layers, on a thread of its own.
fn pack(context: &Context, facts: &Facts, secrets: Finder) -> Arc<Pack> {
    let (root, tree, facts, secrets) = (context.root.clone(), tree(context, facts), facts.clone(), Arc::new(secrets));
    Arc::new(move |making: &Making| {
        let reused = still_there(&facts.reused, &making.gone);
        let has = |role: Role| reused.iter().any(|layer| layer.role == role);
        let rcc = root.path(paths::SPEC).join(RCC);
        // Fetch brings rcc only when something is to be made with it.
        let lost = [
            ("environment", facts.fetched.reuse && !has(Role::Environment)),
            ("rcc", !has(Role::Rcc) && !rcc.exists()),
        ];
        if let Some((what, _)) = lost.into_iter().find(|(_, lost)| *lost) {
            let message =
                format!("the registry has lost layers of the {what} that were to be taken over; the next attempt makes them anew");
            return Err(Failure::new(Reason::RegistryProtocol, message));
        }
        let parts = Parts {
            source: &root.path(paths::SOURCE),
            rcc: &rcc,
            launcher: &root.path(LAUNCHER),
            environment: tree.as_deref(),
            reused: &reused,
        };
        let spool = Spool {
            folder: &making.folder,
            codec: facts.recipe.codec(),
            secrets: Arc::clone(&secrets),
            cancel: Arc::clone(&making.cancel),
            progress: None,
        };
        facts.recipe.make(&parts, &spool, &mut |layer| making.done(layer))
    })
}

/// Every credential that this step holds: none of them may be in a layer.
fn secrets(held: &[&Option<Credentials>]) -> Finder {
    Finder::new(held.iter().copied().flatten().flat_map(Credentials::values))
}

/// Where the base's blobs are copied from.
struct BaseSide {
    blobs: BaseBlobs,
    credentials: Option<Credentials>,
}

/// With its own Secret, or with the one to push where there is none, so that a base in the target's registry can be mounted.
fn base_blobs(context: &Context, push: &Client, push_credentials: Option<&Credentials>) -> Result<BaseSide, Failure> {
    let reference = base_reference(&context.plan.image.base)?;
    let credentials = access::credentials(&context.root, &[paths::BASE_SECRET, paths::PULL_SECRET], Side::Base)?;
    let platform = &context.plan.platform;
    let client = match &credentials {
        None if platform.mirrors.is_empty() => push.clone(),
        found => access::reader(&context.registry()?, platform, found.clone().or_else(|| push_credentials.cloned()))?,
    };
    let repository = reference.to_repository();
    Ok(BaseSide {
        blobs: BaseBlobs::Registry { client, repository },
        credentials,
    })
}

fn published(image: &Image, sent: &BTreeMap<String, u64>, packages: i64) -> Published {
    let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    Published {
        digest: image.digest.clone(),
        size: number(image.size()),
        uploaded: number(sent.values().sum()),
        layers: image.report(|layer| sent.get(&layer.descriptor.digest).copied().unwrap_or(0)),
        packages,
        noop: false,
    }
}
