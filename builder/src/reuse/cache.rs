//! Environments in a registry: looked for by their key, and kept for whoever has the same one next.
//!
//! Invariant: nothing here fails a build. What is missing, refused or bad is said, and everything is made anew; a tag that
//! holds something bad is never overwritten, since it may be somebody else's.

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use robotimage_registry::{BlobSource, Client, Digest, Error, ErrorKind, MediaType, Presence, Repository};
use serde::{Deserialize, Serialize};

use super::artifact::{self, Artifact, Bad, Kept};
use crate::image::oci::Descriptor;
use crate::image::push::described;
use crate::image::{Recipe, Reused};

/// Layers that are asked for, or copied, at once.
const AT_ONCE: usize = 4;
/// Environments beside a bad one that are looked at.
const BESIDE: usize = 8;
/// Longest cause that is told.
const CAUSE: usize = 100;

/// What the cache said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    Hit(Box<Hit>),
    /// It is not, or cannot be read.
    Miss {
        /// Why it cannot be read.
        why: Option<String>,
    },
    /// Something else is under its tag.
    Bad {
        /// What is wrong with it.
        why: String,
    },
}

/// An environment that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Where.
    pub repository: Repository,
    /// Under which tag.
    pub tag: String,
    /// Its layers.
    pub layers: Vec<Reused>,
    /// Number of packages.
    pub packages: i64,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hit(_) => f.write_str("hit"),
            Self::Miss { why: None } => f.write_str("miss"),
            Self::Miss { why: Some(why) } => write!(f, "miss: {why}"),
            Self::Bad { why } => write!(f, "bad: {why}"),
        }
    }
}

/// Whether the environment that a build makes is to be kept.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Keep {
    /// It is there, or not wanted.
    #[default]
    No,
    /// Under the tag of its key.
    ByKey,
    /// Beside something bad under that tag.
    Beside,
}

impl Answer {
    /// What is to be kept after a build that got this answer.
    pub fn keep(&self) -> Keep {
        match self {
            Self::Hit(_) => Keep::No,
            Self::Miss { .. } => Keep::ByKey,
            Self::Bad { .. } => Keep::Beside,
        }
    }
}

/// What became of an environment that was to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is under this tag.
    As(String),
    /// Another build had kept a good one meanwhile.
    There,
}

/// Looks for the environment of `recipe` in `place`, for an image of the repository `target`. The one error is `Canceled`.
pub async fn look(client: &Client, place: &Repository, target: &Repository, recipe: &Recipe) -> Result<Answer, Error> {
    let Some(key) = artifact::key(recipe) else {
        return Ok(Answer::Miss { why: None });
    };
    if place.registry() != target.registry() {
        let why = Some("it is in another registry than the image".to_owned());
        return Ok(Answer::Miss { why });
    }
    let answer = at(client, place, target, recipe, &artifact::tag(&key)).await?;
    let Answer::Bad { why } = &answer else { return Ok(answer) };
    tracing::warn!(repository = %place, tag = artifact::tag(&key), why, "environment cache: bad");
    // Somebody had the same trouble before, and kept a good one beside.
    let prefix = format!("{}-", artifact::tag(&key));
    let tags = match client.list_tags(place).await {
        Ok(tags) => tags,
        Err(error @ Error::Canceled { .. }) => return Err(error),
        Err(_) => return Ok(answer),
    };
    for tag in tags.iter().filter(|tag| tag.starts_with(&prefix)).take(BESIDE) {
        let beside = at(client, place, target, recipe, tag).await?;
        if matches!(beside, Answer::Hit(_)) {
            return Ok(beside);
        }
    }
    Ok(answer)
}

/// Looks under one tag.
async fn at(client: &Client, place: &Repository, target: &Repository, recipe: &Recipe, tag: &str) -> Result<Answer, Error> {
    match fetch(client, place, recipe, tag).await {
        Ok(Ok(kept)) => {
            let from = (place != target).then(|| place.clone());
            let layers = kept.layers.into_iter().map(|layer| Reused {
                from: from.clone(),
                ..layer
            });
            Ok(Answer::Hit(Box::new(Hit {
                repository: place.clone(),
                tag: tag.to_owned(),
                layers: layers.collect(),
                packages: kept.packages,
            })))
        }
        Ok(Err(bad)) => Ok(Answer::Bad { why: bad.to_string() }),
        Err(error @ Error::Canceled { .. }) => Err(error),
        Err(Error::NotFound { .. }) => Ok(Answer::Miss { why: None }),
        Err(error) => match error.kind() {
            ErrorKind::DigestMismatch | ErrorKind::Protocol | ErrorKind::BlobUnknown => Ok(Answer::Bad { why: cause(&error) }),
            _ => Ok(Answer::Miss { why: Some(cause(&error)) }),
        },
    }
}

/// Reads the documents and asks for each layer once.
async fn fetch(client: &Client, place: &Repository, recipe: &Recipe, tag: &str) -> Result<Result<Kept, Bad>, Error> {
    let fetched = client.manifest(&place.with_tag(tag)?).await?;
    let manifest = match artifact::manifest(recipe, &fetched.bytes) {
        Ok(manifest) => manifest,
        Err(bad) => return Ok(Err(bad)),
    };
    let Ok(descriptor) = described(&manifest.config) else {
        return Ok(Err(Bad::Config("it has no digest".to_owned())));
    };
    let config = match client.blob_bytes(place, &descriptor, client.options().manifest_limit).await {
        Ok(config) => config,
        Err(Error::NotFound { .. }) => return Ok(Err(Bad::Config("it is gone".to_owned()))),
        Err(Error::TooLarge { .. }) => return Ok(Err(Bad::Config("it is too large".to_owned()))),
        Err(error) => return Err(error),
    };
    let kept = match artifact::read(recipe, &manifest, &config) {
        Ok(kept) => kept,
        Err(bad) => return Ok(Err(bad)),
    };
    let asked: Vec<BoxFuture<'_, _>> = kept.layers.iter().map(|layer| problem(client, place, layer).boxed()).collect();
    let problems: Vec<Option<Bad>> = futures::stream::iter(asked).buffered(AT_ONCE).try_collect().await?;
    Ok(problems.into_iter().flatten().next().map_or(Ok(kept), Err))
}

/// What is wrong with the bytes of a layer, as far as asking tells.
async fn problem(client: &Client, place: &Repository, layer: &Reused) -> Result<Option<Bad>, Error> {
    let digest = || layer.descriptor.digest.clone();
    Ok(match client.presence(place, &described(&layer.descriptor)?).await? {
        Presence::Whole => None,
        Presence::Absent => Some(Bad::Gone(digest())),
        Presence::Sized(actual) => Some(Bad::Size {
            digest: digest(),
            actual,
            expected: layer.descriptor.size,
        }),
    })
}

/// Keeps the environment of an image that `source` holds in `place`, which may be the same. An error leaves the image as
/// it is: it is for the log.
pub async fn keep(
    client: &Client,
    source: &Repository,
    place: &Repository,
    recipe: &Recipe,
    made: &Artifact,
    how: Keep,
) -> Result<Stored, Error> {
    let Some(key) = artifact::key(recipe) else {
        return Ok(Stored::There);
    };
    if place.registry() != source.registry() {
        return Err(Error::Configuration(
            "it is to be kept in another registry than the image's".to_owned(),
        ));
    }
    // Two builds of one new key end at about the same time; the first one's environment is as good as ours.
    let tag = match (how, at(client, place, source, recipe, &artifact::tag(&key)).await?) {
        (Keep::No, _) | (_, Answer::Hit(_)) => return Ok(Stored::There),
        (_, Answer::Bad { .. }) | (Keep::Beside, _) => artifact::tag_beside(&key, &made.digest),
        (Keep::ByKey, Answer::Miss { .. }) => artifact::tag(&key),
    };
    if place != source {
        let copies: Vec<BoxFuture<'_, _>> = made.layers.iter().map(|layer| copy(client, source, place, layer).boxed()).collect();
        futures::stream::iter(copies).buffered(AT_ONCE).try_collect::<()>().await?;
    }
    let config = BlobSource::from_bytes(made.config.clone());
    client.push_blob(place, &config, None).await?;
    let manifest = made.manifest.clone();
    let digest: Digest = client
        .push_manifest(place, manifest.clone().into(), &MediaType::ImageManifest)
        .await?;
    match client.tag(place, manifest.into(), &MediaType::ImageManifest, &tag).await {
        Ok(outcome) => {
            tracing::info!(repository = %place, tag, %digest, ?outcome, "environment cache: kept");
            Ok(Stored::As(tag))
        }
        // Another build moved it in the same second; both are good.
        Err(error) if error.kind() == ErrorKind::DigestMismatch => Ok(Stored::There),
        Err(error) => Err(error),
    }
}

async fn copy(client: &Client, source: &Repository, place: &Repository, layer: &Descriptor) -> Result<(), Error> {
    client.copy_blob(client, source, place, &described(layer)?).await.map(drop)
}

/// Why, short enough for a report.
fn cause(error: &Error) -> String {
    let text: String = error.to_string().chars().filter(|c| !c.is_control()).take(CAUSE).collect();
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_and_what_is_kept() {
        let miss = |why: Option<&str>| Answer::Miss {
            why: why.map(str::to_owned),
        };
        let table = [
            (miss(None), "miss", Keep::ByKey),
            (miss(Some("refused")), "miss: refused", Keep::ByKey),
            (Answer::Bad { why: "x".to_owned() }, "bad: x", Keep::Beside),
        ];
        for (answer, said, keep) in table {
            assert_eq!((answer.to_string().as_str(), answer.keep()), (said, keep));
        }
    }
}
