//! The environment cache of a build on this machine: the same one that build pods use.
//!
//! Invariant: it is only asked when the image goes to a registry and nowhere else, since what it has is not on this machine.

use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Error, Repository};

use super::args::BuildArgs;
use crate::failure::Failure;
use crate::image::{Image, Recipe};
use crate::reuse::{Answer, Artifact, Keep, cache};
use crate::steps::{self, Side};

/// Where environments are kept: the repository that was named, or the image's own; none when there is to be none.
pub(super) fn place(args: &BuildArgs, repositories: &[Repository]) -> Result<Option<Repository>, Failure> {
    if args.no_environment_cache {
        return Ok(None);
    }
    match &args.environment_cache {
        Some(named) => Repository::parse(named)
            .map(Some)
            .map_err(|error| Failure::new(Reason::NotAllowed, format!("--environment-cache: {error}"))),
        None => Ok(repositories.first().cloned()),
    }
}

/// Asks for the environment; none when it is not to be asked.
pub(super) async fn look(
    args: &BuildArgs,
    client: &Client,
    repositories: &[Repository],
    recipe: &Recipe,
) -> Result<Option<Answer>, Failure> {
    let only_pushed = args.push && args.save.is_none() && args.output.is_none();
    let (Some(target), Some(place)) = (repositories.first(), place(args, repositories)?) else {
        return Ok(None);
    };
    if !only_pushed || recipe.environment.is_none() {
        return Ok(None);
    }
    let mut answer = cache::look(client, &place, target, recipe)
        .await
        .map_err(|error| steps::failure(&error, Side::Target))?;
    if let Answer::Hit(hit) = &mut answer {
        // Other names may lie in other repositories, so each layer says where it is.
        for layer in &mut hit.layers {
            layer.from.get_or_insert_with(|| place.clone());
        }
    }
    Ok(Some(answer))
}

/// Keeps the environment of a pushed image; what goes wrong is said and changes nothing.
pub(super) async fn keep(
    args: &BuildArgs,
    client: &Client,
    repositories: &[Repository],
    recipe: &Recipe,
    image: &Image,
    packages: usize,
    how: Keep,
) -> Result<(), Failure> {
    let (Some(source), Some(place)) = (repositories.first(), place(args, repositories)?) else {
        return Ok(());
    };
    let count = i64::try_from(packages).unwrap_or(i64::MAX);
    let Some(made) = Artifact::of(recipe, &image.layers, count).filter(|_| how != Keep::No) else {
        return Ok(());
    };
    match cache::keep(client, source, &place, recipe, &made, how).await {
        Ok(_) => Ok(()),
        Err(error @ Error::Canceled { .. }) => Err(steps::failure(&error, Side::Push)),
        Err(error) => {
            tracing::warn!(repository = %place, %error, "this environment is not kept for other images");
            Ok(())
        }
    }
}
