//! `robotimage plan`: what a build with the same arguments would do, and why. It builds nothing and sends nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use robotimage_crds::reason::Reason;
use robotimage_registry::{Client, Error, Presence, Reference, Repository};

use super::args::BuildArgs;
use super::build::{self, Folders, Stop, blocking};
use super::output::{self, print, to_json};
use super::planned::Planned;
use super::progress::Progress;
use super::{inputs, kept};
use crate::failure::Failure;
use crate::image::oci::Descriptor;
use crate::image::pull::BaseBlobs;
use crate::image::push::described;
use crate::image::{Content, Image, ImageLayer, Parts, Recipe, Reused, Role};
use crate::reuse::plan::Fate;
use crate::reuse::{self, Answer, Change, PreviousImage, Standing, cache, plan, previous};
use crate::steps::{self, Side};

pub(super) async fn run(args: &BuildArgs) -> u8 {
    if args.tags.is_empty() {
        eprintln!("error: a plan compares with the image that is there: give its name with --tag NAME");
        return 2;
    }
    let stop = Stop::default();
    let result = tokio::select! {
        biased;
        result = survey(args, &stop) => result,
        () = build::interrupted() => Err(Failure::new(Reason::Canceled, "interrupted")),
    };
    stop.cancel.cancel();
    stop.interrupt.store(true, Ordering::Relaxed);
    match result {
        Ok(planned) if args.json => {
            print(&to_json(&planned));
            0
        }
        Ok(planned) => {
            print(&planned.text());
            0
        }
        Err(failure) => output::failed(&failure, args.json),
    }
}

async fn survey(args: &BuildArgs, stop: &Stop) -> Result<Planned, Failure> {
    let progress = Progress::detect(args.json);
    let names = inputs::names(&args.tags)?;
    let Some(target) = names.first() else {
        return Err(Failure::new(Reason::NotAllowed, "no name to compare with; give --tag NAME"));
    };
    let cache = inputs::cache()?;
    std::fs::create_dir_all(&cache).map_err(|error| Failure::io("make", &cache, &error))?;
    let scratch = tempfile::Builder::new()
        .prefix("plan-")
        .tempdir_in(&cache)
        .map_err(|error| Failure::io("write to", &cache, &error))?;
    let folders = Folders {
        cache,
        scratch: scratch.path().to_owned(),
    };
    let phase = progress.phase("plan");
    phase.announce(&format!("comparing with {target}"));
    let ready = Box::pin(Ready::of(args, &folders, stop)).await?;
    let look = Look {
        client: &ready.client,
        repository: target.to_repository(),
        recipe: &ready.recipe,
    };
    let previous = look.previous(target).await?;
    let planned = look.plan(args, previous, &ready, stop).await?;
    phase.done(planned.plan.as_str());
    Ok(planned)
}

/// What is known before anything is made.
struct Ready {
    context: PathBuf,
    rcc: PathBuf,
    launcher: PathBuf,
    client: Client,
    blobs: BaseBlobs,
    recipe: Recipe,
}

impl Ready {
    async fn of(args: &BuildArgs, folders: &Folders, stop: &Stop) -> Result<Self, Failure> {
        let context = inputs::context(args)?;
        let (prepared, source, rcc) = build::validate(args, &context, folders).await?;
        let client = args.network.client(stop)?;
        let (base, blobs) = inputs::base(args, &client, folders).await?;
        let launcher = inputs::launcher(args)?;
        let recipe = build::recipe(args, &context, &prepared, &source, &rcc, &launcher, base, folders).await?;
        Ok(Self {
            context,
            rcc: rcc.path,
            launcher,
            // The image to compare with is in the registry itself.
            client: client.without_mirrors(),
            blobs,
            recipe,
        })
    }
}

/// What is compared, and with what.
struct Look<'a> {
    client: &'a Client,
    repository: Repository,
    recipe: &'a Recipe,
}

impl Look<'_> {
    async fn previous(&self, target: &Reference) -> Result<Option<PreviousImage>, Failure> {
        match PreviousImage::read(self.client, target).await {
            Ok(image) => Ok(image),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn plan(&self, args: &BuildArgs, previous: Option<PreviousImage>, ready: &Ready, stop: &Stop) -> Result<Planned, Failure> {
        let mut reused = match &previous {
            Some(image) => {
                let fitting = self.recipe.reusable(&image.manifest, &image.config);
                previous::still_there(self.client, &self.repository, fitting)
                    .await
                    .map_err(|error| failed(&error))?
            }
            None => Vec::new(),
        };
        let (mut said, mut packages) = (None, None);
        if self.recipe.environment.is_some()
            && !reused.iter().any(|layer| layer.role == Role::Environment)
            && let Some(place) = kept::place(args, std::slice::from_ref(&self.repository))?
        {
            let answer = cache::look(self.client, &place, &self.repository, self.recipe)
                .await
                .map_err(|error| failed(&error))?;
            said = Some(answer.to_string());
            if let Answer::Hit(hit) = answer {
                packages = Some(hit.packages);
                reused.extend(hit.layers);
            }
        }
        let measured = self.measured(ready, stop, &reused).await?;
        let code = measured.iter().find(|layer| layer.role == Role::Code);
        let same_code = previous.as_ref().zip(code).is_some_and(|(image, code)| image.same(code).is_some());
        let layers = self.fates(&ready.blobs, &reused, &measured).await?;
        let image = self.image(&reused, &measured);
        let digest = image.as_ref().map(|image| image.digest.clone());
        let environment = self.recipe.environment.as_ref();
        let standing = Standing {
            same: previous.as_ref().is_some_and(|image| Some(&image.digest) == digest.as_ref()),
            previous: previous.as_ref().is_some_and(|image| !image.layers(Role::Code).is_empty()),
            environment: environment.map(|_| reused.iter().any(|layer| layer.role == Role::Environment)),
            code: same_code,
        };
        let reasons = previous.as_ref().filter(|_| standing.previous && !standing.same).map(|image| {
            let was = image.layers(Role::Code).pop().map(|layer| layer.descriptor.digest);
            let is = code.map(|code| code.descriptor.digest.as_str());
            let mut reasons: Vec<Change> = reuse::changes::source(was.as_deref(), is).into_iter().collect();
            reasons.extend(reuse::changes(self.recipe, image));
            reasons
        });
        let parts = plan::parts(&layers);
        let documents = image.map(|image| {
            if standing.same {
                0
            } else {
                (image.manifest.len() + image.config.len()) as u64
            }
        });
        let unknown: BTreeSet<Role> = parts.iter().filter(|part| part.sends.is_none()).map(|part| part.role).collect();
        Ok(Planned {
            plan: reuse::kind(&standing),
            previous: previous.map(|image| format!("{}@{}", self.repository, image.digest)),
            digest,
            reasons: reasons.unwrap_or_default(),
            environment_cache: said,
            packages,
            sends: plan::sends(&parts).0 + documents.unwrap_or(0),
            layers: parts,
            documents,
            unknown: unknown.into_iter().collect(),
        })
    }

    /// The layers that are not taken over and can be known before: they are made, and only their digests are kept.
    async fn measured(&self, ready: &Ready, stop: &Stop, reused: &[Reused]) -> Result<Vec<ImageLayer>, Failure> {
        let missing: Vec<Role> = [Role::Rcc, Role::Home, Role::Code]
            .into_iter()
            .filter(|role| *role != Role::Home || self.recipe.environment.is_none())
            .filter(|role| !reused.iter().any(|layer| layer.role == *role))
            .collect();
        let (recipe, context, rcc, launcher) = (
            self.recipe.clone(),
            ready.context.clone(),
            ready.rcc.clone(),
            ready.launcher.clone(),
        );
        let cancel = Arc::clone(&stop.interrupt);
        blocking(move || {
            let parts = Parts {
                source: &context,
                rcc: &rcc,
                launcher: &launcher,
                environment: None,
                reused: &[],
            };
            missing
                .into_iter()
                .filter_map(|role| recipe.measure(role, &parts, &cancel).transpose())
                .collect()
        })
        .await
    }

    /// What becomes of each layer, from the bottom.
    async fn fates(
        &self,
        blobs: &BaseBlobs,
        reused: &[Reused],
        measured: &[ImageLayer],
    ) -> Result<Vec<(Role, Fate, Option<u64>)>, Failure> {
        let mut fates = Vec::new();
        let mountable = matches!(blobs, BaseBlobs::Registry { repository, .. } if repository.registry() == self.repository.registry());
        for layer in &self.recipe.base.layers {
            let fate = match (self.has(layer).await?, mountable) {
                (true, _) => Fate::Reused,
                (false, true) => Fate::Mounted,
                (false, false) => Fate::Copied,
            };
            fates.push((Role::Base, fate, Some(layer.size)));
        }
        for role in [Role::Rcc, Role::Environment, Role::Home, Role::Code] {
            let taken: Vec<&Reused> = reused.iter().filter(|layer| layer.role == role).collect();
            let made: Vec<&ImageLayer> = measured.iter().filter(|layer| layer.role == role).collect();
            for layer in &taken {
                let fate = match &layer.from {
                    Some(_) if !self.has(&layer.descriptor).await? => Fate::Mounted,
                    _ => Fate::Reused,
                };
                fates.push((role, fate, Some(layer.descriptor.size)));
            }
            for layer in &made {
                let fate = if self.has(&layer.descriptor).await? {
                    Fate::Reused
                } else {
                    Fate::Made
                };
                fates.push((role, fate, Some(layer.descriptor.size)));
            }
            let wanted = self.recipe.environment.is_some() || role != Role::Environment;
            if taken.is_empty() && made.is_empty() && wanted {
                fates.push((role, Fate::Made, None));
            }
        }
        Ok(fates)
    }

    async fn has(&self, layer: &Descriptor) -> Result<bool, Failure> {
        let descriptor = described(layer).map_err(|error| failed(&error))?;
        let presence = self
            .client
            .presence(&self.repository, &descriptor)
            .await
            .map_err(|error| failed(&error))?;
        Ok(presence == Presence::Whole)
    }

    /// The image, when all of its layers are known.
    fn image(&self, reused: &[Reused], measured: &[ImageLayer]) -> Option<Image> {
        let mut above: Vec<ImageLayer> = reused
            .iter()
            .filter(|layer| layer.role != Role::Base)
            .map(|layer| ImageLayer {
                role: layer.role,
                descriptor: layer.descriptor.clone(),
                diff_id: layer.diff_id.clone(),
                content: Content::Previous,
            })
            .chain(measured.iter().cloned())
            .collect();
        above.sort_by_key(|layer| layer.role);
        let complete = self.recipe.environment.is_none() || above.iter().any(|layer| layer.role == Role::Environment);
        let mut layers = self.recipe.below(&[]);
        layers.extend(above);
        complete.then(|| self.recipe.image(layers))
    }
}

fn failed(error: &Error) -> Failure {
    steps::failure(error, Side::Target)
}
