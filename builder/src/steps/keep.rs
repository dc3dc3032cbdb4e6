//! Keeping the environment that a build made, once its image is published.
//!
//! Invariant: the image is done by then; whatever goes wrong here is said and changes nothing.

use robotimage_registry::{Client, Repository};

use super::facts::Facts;
use super::{Context, MARGIN, standing};
use crate::image::Image;
use crate::reuse::{Artifact, Keep, cache};

/// Keeps the environment, when fetch found none to take over.
pub(super) async fn keep(context: &Context, facts: &Facts, client: &Client, repository: &Repository, image: &Image, packages: i64) {
    let (Some(place), Some(made)) = (standing::cache_place(context), Artifact::of(&facts.recipe, &image.layers, packages)) else {
        return;
    };
    if facts.keep == Keep::No {
        return;
    }
    let work = cache::keep(client, repository, &place, &facts.recipe, &made, facts.keep);
    // The step's own deadline would call the whole build failed.
    let until = context.deadline.checked_sub(MARGIN).unwrap_or(context.deadline);
    match tokio::time::timeout_at(until.into(), work).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(repository = %place, %error, "environment cache: this environment is not kept"),
        Err(_) => tracing::warn!(repository = %place, "environment cache: no time is left to keep this environment"),
    }
}
