//! How a build stands once its facts are known: the image that is there, the environment cache, and the plan.
//!
//! Invariant: what cannot be read is only not saved; the one thing that ends the step is being told to stop.

use robotimage_crds::build::{PlanKind, Previous, paths};
use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Digest, Error, Repository};

use super::fetch::{blocking, reader};
use super::{Context, Side};
use crate::failure::Failure;
use crate::image::learned::Learned;
use crate::image::{Recipe, Reused, Role};
use crate::reuse::{self, Answer, Keep, PreviousImage, Standing, cache, previous};

/// From this attempt on nothing is taken over: whatever was taken over before may be why they failed.
const FRESH_ATTEMPT: u32 = 3;

/// What need not be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The previous image is the one wanted.
    pub(super) noop: bool,
    /// Layers that are taken over.
    pub(super) reused: Vec<Reused>,
    /// What is to be done.
    pub(super) kind: PlanKind,
    /// What the environment cache said; empty when it was not asked.
    pub(super) cache: String,
    /// Whether the environment is to be kept once it is made.
    pub(super) keep: Keep,
    /// Number of packages of an environment that is taken over, if known.
    pub(super) packages: i64,
}

impl Found {
    fn has(&self, role: Role) -> bool {
        self.reused.iter().any(|layer| layer.role == role)
    }

    /// Whether a later step runs rcc or puts it into a layer.
    pub(super) fn needs_rcc(&self, recipe: &Recipe) -> bool {
        let resolves = recipe.environment.is_some() && !self.has(Role::Environment);
        !self.noop && (resolves || !self.has(Role::Rcc))
    }
}

/// Looks whether the previous image is there.
pub(super) async fn look(context: &Context) -> Result<There, Failure> {
    let Some(previous) = &context.plan.previous else {
        return Ok(There::No);
    };
    let client = reader(context, &[paths::PULL_SECRET], Side::Target)?;
    previous_image(&client, &target(context)?, previous).await
}

/// Looks at the previous image, then at the environment cache.
pub(super) async fn find(context: &Context, recipe: &Recipe, image: There) -> Result<Found, Failure> {
    let plan = &context.plan;
    let repository = target(context)?;
    let client = reader(context, &[paths::PULL_SECRET], Side::Target)?;
    let stale = plan.attempt >= FRESH_ATTEMPT;
    // An image that cannot be read now may still be there, and publish will see.
    let there = !matches!(image, There::No);
    let mut found = Found {
        noop: there
            && plan
                .previous
                .as_ref()
                .is_some_and(|previous| previous.build_key == recipe.build_key()),
        ..Found::default()
    };
    let image = match image {
        There::Yes(image) => Some(*image),
        There::No | There::Unread => None,
    };
    if !found.noop && !stale {
        if let Some(image) = &image {
            let layers = recipe.reusable(&image.manifest, &image.config);
            found.reused = skip(previous::still_there(&client, &repository, layers).await)?.unwrap_or_default();
            found.packages = plan.previous.as_ref().map_or(0, |previous| previous.packages);
        }
        if recipe.environment.is_some() && !found.has(Role::Environment) {
            ask_cache(&client, context, &repository, recipe, &mut found).await?;
        }
        if let Some(image) = &image {
            same_code(context, recipe, image, &mut found).await?;
        }
    }
    found.kind = reuse::kind(&Standing {
        same: found.noop,
        previous: image.is_some(),
        environment: recipe.environment.as_ref().map(|_| found.has(Role::Environment)),
        code: found.has(Role::Code),
    });
    tracing::info!(plan = %found.kind, cache = found.cache, layers = found.reused.len(), "what is taken over");
    Ok(found)
}

/// The repository of the image.
pub(super) fn target(context: &Context) -> Result<Repository, Failure> {
    Repository::parse(&context.plan.image.repository)
        .map_err(|error| Failure::new(Reason::NotAllowed, format!("image.repository: {error}")))
}

/// Where environments are kept; none when the platform keeps none.
pub(super) fn cache_place(context: &Context) -> Option<Repository> {
    let named = context.plan.platform.environment_cache.as_deref()?;
    match Repository::parse(named) {
        Ok(place) => Some(place),
        Err(error) => {
            tracing::warn!(%error, "the repository of the environment cache has no valid name; nothing is kept");
            None
        }
    }
}

/// Whether the previous image is there.
#[derive(Debug)]
pub(super) enum There {
    Yes(Box<PreviousImage>),
    No,
    /// It cannot be read, or is none of ours.
    Unread,
}

impl There {
    /// What that image says of its base, its rcc and its environment file. Only a first attempt believes it: one that fails
    /// because something is gone is followed by one that looks for itself.
    pub(super) fn learned(&self, context: &Context) -> Option<Learned> {
        match self {
            Self::Yes(image) if context.plan.attempt == 1 => Learned::read(&image.manifest),
            Self::Yes(_) | Self::No | Self::Unread => None,
        }
    }
}

async fn previous_image(client: &Client, repository: &Repository, previous: &Previous) -> Result<There, Failure> {
    let Ok(digest) = Digest::try_from(previous.digest.as_str()) else {
        return Ok(There::No);
    };
    match PreviousImage::read(client, &repository.with_digest(&digest)).await {
        Ok(Some(image)) => Ok(There::Yes(Box::new(image))),
        Ok(None) => Ok(There::Unread),
        Err(Error::NotFound { .. }) => {
            tracing::warn!(digest = previous.digest, "the previous image is gone; everything is made anew");
            Ok(There::No)
        }
        Err(Error::Canceled { .. }) => Err(stopped()),
        Err(error) => {
            tracing::warn!(%error, "the previous image cannot be read; nothing is taken over from it");
            Ok(There::Unread)
        }
    }
}

async fn ask_cache(client: &Client, context: &Context, repository: &Repository, recipe: &Recipe, found: &mut Found) -> Result<(), Failure> {
    let Some(place) = cache_place(context) else {
        return Ok(());
    };
    let Some(answer) = skip(cache::look(client, &place, repository, recipe).await)? else {
        return Ok(());
    };
    tracing::info!(repository = %place, answer = %answer, "environment cache");
    found.cache = answer.to_string();
    found.keep = answer.keep();
    if let Answer::Hit(hit) = answer {
        found.reused.extend(hit.layers);
        found.packages = hit.packages;
    }
    Ok(())
}

/// Takes the code over when base, rcc or configuration are what changed: only then can it be the same.
async fn same_code(context: &Context, recipe: &Recipe, image: &PreviousImage, found: &mut Found) -> Result<(), Failure> {
    let complete = recipe.environment.is_none() || found.has(Role::Environment);
    if !complete || reuse::changes(recipe, image).is_empty() {
        return Ok(());
    }
    let (recipe, source) = (recipe.clone(), context.root.path(paths::SOURCE));
    let cancel = context.interrupt.clone();
    let code = blocking(move || recipe.measure(Role::Code, &previous::code_parts(&source), &cancel)).await?;
    if let Some(layer) = code.and_then(|code| image.same(&code)) {
        found.reused.push(layer);
    }
    Ok(())
}

/// The value, or none when the registry did not give it; being told to stop ends the step.
fn skip<T>(answer: Result<T, Error>) -> Result<Option<T>, Failure> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Error::Canceled { .. }) => Err(stopped()),
        Err(error) => {
            tracing::warn!(%error, "the registry does not say what it has; it is made anew");
            Ok(None)
        }
    }
}

fn stopped() -> Failure {
    Failure::new(Reason::Canceled, "the build was told to stop")
}
