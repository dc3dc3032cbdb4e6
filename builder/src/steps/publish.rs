//! The third step: trusted code over untrusted bytes. Layers and push.
//!
//! Invariant: nothing in the source and in the environment is executed or followed; no tag moves before the image can be
//! read by its digest, and none after a signal to stop.

use std::collections::BTreeMap;

use robotimage_crds::build::{Published, paths};
use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Digest, Repository};

use super::facts::{Facts, RCC};
use super::fetch::{LAUNCHER, base_reference, blocking};
use super::root::make_empty;
use super::{Context, Side, access};
use crate::environment::{self, SEALED_PATH};
use crate::failure::Failure;
use crate::image::layers::Spool;
use crate::image::pull::BaseBlobs;
use crate::image::push;
use crate::image::{Image, Parts};

pub(super) async fn run(context: &Context) -> Result<Published, Failure> {
    let plan = &context.plan;
    let facts = Facts::read(&context.root, &plan.build_id)?;
    let repository = Repository::parse(&plan.image.repository)
        .map_err(|error| Failure::new(Reason::NotAllowed, format!("image.repository: {error}")))?;
    let credentials = access::credentials(&context.root, &[paths::PUSH_SECRET], Side::Push)?;
    if plan.image.push_secret && credentials.is_none() {
        return Err(Failure::new(
            Reason::SecretMissing,
            "the push Secret that image.secretRef names does not exist, or has no key .dockerconfigjson; create it with kubectl create secret docker-registry",
        ));
    }
    let client = access::client(&context.registry()?, credentials)?;
    if facts.fetched.noop {
        return noop(context, &facts, &client, &repository).await;
    }
    let (image, packages) = assemble(context, &facts).await?;
    tracing::info!(digest = image.digest, size = image.size(), "image");
    let base = base_blobs(context, &client)?;
    let fail = |error| access::failure(&error, Side::Push);
    let pushed = push::push(&client, &repository, &image, &base).await.map_err(fail)?;
    push::tag(&client, &repository, &image.manifest, &facts.tags).await.map_err(fail)?;
    Ok(published(&image, &pushed.sent, packages))
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

async fn assemble(context: &Context, facts: &Facts) -> Result<(Image, i64), Failure> {
    let scratch = context.root.path(paths::SCRATCH);
    make_empty(&scratch)?;
    let root = context.root.clone();
    let facts = facts.clone();
    let cancel = context.interrupt.clone();
    blocking(move || {
        let tree = facts
            .recipe
            .environment
            .as_ref()
            .filter(|_| facts.needs_environment())
            .map(|_| root.path(SEALED_PATH));
        let packages = match &tree {
            Some(tree) => i64::try_from(environment::inventory(tree)?.len()).unwrap_or(i64::MAX),
            None => 0,
        };
        let parts = Parts {
            source: &root.path(paths::SOURCE),
            rcc: &root.path(paths::SPEC).join(RCC),
            launcher: &root.path(LAUNCHER),
            environment: tree.as_deref(),
            reused: &facts.reused,
        };
        let spool = Spool {
            folder: &scratch,
            codec: facts.recipe.codec(),
            cancel,
            progress: None,
        };
        Ok((facts.recipe.make(&parts, &spool)?, packages))
    })
    .await
}

/// Where the base's blobs are copied from: with its own Secret, or with the one to push where there is none, so that a base
/// in the target's registry can be mounted.
fn base_blobs(context: &Context, push: &Client) -> Result<BaseBlobs, Failure> {
    let reference = base_reference(&context.plan.image.base)?;
    let own = access::credentials(&context.root, &[paths::BASE_SECRET, paths::PULL_SECRET], Side::Base)?;
    let client = match own {
        Some(credentials) => access::client(&context.registry()?, Some(credentials))?,
        None => push.clone(),
    };
    Ok(BaseBlobs::Registry {
        client,
        repository: reference.to_repository(),
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
