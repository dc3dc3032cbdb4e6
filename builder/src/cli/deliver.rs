//! Where a finished image goes: a layout or an archive on disk, repositories in registries.

use std::path::Path;
use std::sync::Arc;

use robotimage_registry::{Client, Reference, Repository};

use super::args::{BuildArgs, Output};
use super::build::{Folders, Stop, blocking};
use super::output::{Built, Row};
use crate::failure::Failure;
use crate::image::pipeline::{self, Pack, PublishError, Target};
use crate::image::pull::BaseBlobs;
use crate::image::push::Pushed;
use crate::image::unpacked::{self, Unfinished};
use crate::image::{Image, Recipe, push, store};
use crate::steps::{self, Side};

/// Writes the image to disk, where that was asked for.
pub(super) async fn keep(
    args: &BuildArgs,
    image: &Image,
    blobs: &BaseBlobs,
    names: &[Reference],
    folders: &Folders,
    stop: &Stop,
    built: &mut Built,
) -> Result<(), Failure> {
    let fail = |error: store::StoreError| steps::store_failure(&error);
    let layout = |root: &Path| store::layout(root).map_err(fail);
    let tag = names.first().map(ToString::to_string);
    let interrupt = Arc::clone(&stop.interrupt);
    let (kind, path) = match (&args.save, &args.output) {
        (Some(path), _) => (store::Archive::Docker, path),
        (None, Some(Output::OciArchive(path))) => (store::Archive::Oci, path),
        (None, Some(Output::Layout(root))) => {
            // To a layout that is there already, only whole images are added.
            // What cannot be listed cannot be written either, and the layout says why.
            let unfinished = Unfinished::at(root).ok().flatten();
            let target = layout(root)?;
            store::to_layout(image, blobs, &target, tag.as_deref(), &folders.scratch)
                .await
                .map_err(fail)?;
            if let Some(unfinished) = unfinished {
                unfinished.keep();
            }
            built.written.push(root.display().to_string());
            return Ok(());
        }
        (None, Some(Output::Tree(root))) => {
            let (image, to) = (image.clone(), root.clone());
            blocking(move || unpacked::to_tree(&image, &to, &interrupt).map_err(|error| steps::store_failure(&error))).await?;
            built.written.push(root.display().to_string());
            return Ok(());
        }
        (None, None) => return Ok(()),
    };
    let staged = layout(&folders.scratch.join("layout"))?;
    store::to_layout(image, blobs, &staged, tag.as_deref(), &folders.scratch)
        .await
        .map_err(fail)?;
    let (digest, names): (String, Vec<String>) = (image.digest.clone(), names.iter().map(ToString::to_string).collect());
    let to = path.clone();
    blocking(move || store::to_archive(kind, &staged, &digest, &names, &to, &interrupt).map_err(|error| steps::store_failure(&error)))
        .await?;
    built.written.push(path.display().to_string());
    Ok(())
}

/// The repositories of the names, in the order in which they are first named.
pub(super) fn repositories(names: &[Reference]) -> Vec<Repository> {
    let mut repositories: Vec<Repository> = Vec::new();
    for name in names {
        let repository = name.to_repository();
        if !repositories.contains(&repository) {
            repositories.push(repository);
        }
    }
    repositories
}

/// The way to the registries.
#[derive(Debug)]
pub(super) struct Sending<'a> {
    client: &'a Client,
    blobs: &'a BaseBlobs,
    names: &'a [Reference],
    scratch: &'a Path,
    /// None when nothing is pushed.
    repositories: Vec<Repository>,
    /// The files of layers serve more than the first push.
    keep: bool,
}

impl<'a> Sending<'a> {
    /// To the repository of each name, if the image is to be pushed.
    pub(super) fn new(args: &BuildArgs, client: &'a Client, blobs: &'a BaseBlobs, names: &'a [Reference], scratch: &'a Path) -> Self {
        let repositories = if args.push { repositories(names) } else { Vec::new() };
        let keep = repositories.len() > 1 || args.save.is_some() || args.output.is_some();
        Self {
            client,
            blobs,
            names,
            scratch,
            repositories,
            keep,
        }
    }

    fn target<'t>(&'t self, repository: &'t Repository) -> Target<'t> {
        Target {
            client: self.client,
            repository,
            base: self.blobs,
            scratch: self.scratch,
            keep: self.keep,
        }
    }

    /// Packs, and pushes to the first repository meanwhile.
    pub(super) async fn first(&self, recipe: &Recipe, pack: Arc<Pack>) -> Result<(Image, Pushed), Failure> {
        match self.repositories.first() {
            Some(repository) => pipeline::publish(&self.target(repository), |_| recipe.below(&[]), pack).await,
            None => pipeline::pack(self.scratch, pack).await.map(|image| (image, Pushed::default())),
        }
        .map_err(failed)
    }

    /// Pushes to the other repositories, and sets the tags of all.
    pub(super) async fn rest(&self, image: &Image, first: Pushed, built: &mut Built) -> Result<(), Failure> {
        let mut done = Some(first);
        for repository in &self.repositories {
            let pushed = match done.take() {
                Some(pushed) => pushed,
                None => push::push(&self.target(repository), image).await.map_err(failed)?,
            };
            let of_repository = self.names.iter().filter(|name| name.to_repository() == *repository);
            let tags: Vec<String> = of_repository.filter_map(|name| name.tag().map(str::to_owned)).collect();
            push::tag(self.client, repository, &image.manifest, &tags)
                .await
                .map_err(|error| steps::failure(&error, Side::Push))?;
            built.tags.extend(tags.iter().map(|tag| format!("{repository}:{tag}")));
            if built.reference.is_none() {
                built.reference = Some(format!("{repository}@{}", image.digest));
                let report = image.report(|layer| pushed.sent.get(&layer.descriptor.digest).copied().unwrap_or(0));
                built.layers = report.into_iter().map(|row| Row::of(row, true)).collect();
            }
        }
        Ok(())
    }
}

fn failed(error: PublishError) -> Failure {
    match error {
        PublishError::Pack(failure) => failure,
        PublishError::Registry(error) => steps::failure(&error, Side::Push),
    }
}
