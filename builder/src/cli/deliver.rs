//! Where a finished image goes: a layout or an archive on disk, repositories in registries.

use std::path::Path;

use robotimage_registry::{Client, Reference, Repository};

use super::args::{BuildArgs, Output};
use super::build::{Folders, blocking};
use super::output::{Built, Row};
use crate::failure::Failure;
use crate::image::pull::BaseBlobs;
use crate::image::{Image, push, store};
use crate::steps::{self, Side};

/// Writes the image to disk, where that was asked for.
pub(super) async fn keep(
    args: &BuildArgs,
    image: &Image,
    blobs: &BaseBlobs,
    names: &[Reference],
    folders: &Folders,
    built: &mut Built,
) -> Result<(), Failure> {
    let fail = |error: store::StoreError| steps::store_failure(&error);
    let layout = |root: &Path| store::layout(root).map_err(fail);
    let tag = names.first().map(ToString::to_string);
    let (kind, path) = match (&args.save, &args.output) {
        (Some(path), _) => (store::Archive::Docker, path),
        (None, Some(Output::OciArchive(path))) => (store::Archive::Oci, path),
        (None, Some(Output::Layout(root))) => {
            let target = layout(root)?;
            store::to_layout(image, blobs, &target, tag.as_deref(), &folders.scratch)
                .await
                .map_err(fail)?;
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
    blocking(move || store::to_archive(kind, &staged, &digest, &names, &to).map_err(|error| steps::store_failure(&error))).await?;
    built.written.push(path.display().to_string());
    Ok(())
}

/// Pushes to the repository of each name, and tags there.
pub(super) async fn send(client: &Client, image: &Image, blobs: &BaseBlobs, names: &[Reference], built: &mut Built) -> Result<(), Failure> {
    let fail = |error| steps::failure(&error, Side::Push);
    let mut repositories: Vec<Repository> = Vec::new();
    for name in names {
        let repository = name.to_repository();
        if !repositories.contains(&repository) {
            repositories.push(repository);
        }
    }
    for repository in &repositories {
        let pushed = push::push(client, repository, image, blobs).await.map_err(fail)?;
        let of_repository = names.iter().filter(|name| name.to_repository() == *repository);
        let tags: Vec<String> = of_repository.filter_map(|name| name.tag().map(str::to_owned)).collect();
        push::tag(client, repository, &image.manifest, &tags).await.map_err(fail)?;
        built.tags.extend(tags.iter().map(|tag| format!("{repository}:{tag}")));
        if built.reference.is_none() {
            built.reference = Some(format!("{repository}@{}", image.digest));
            let report = image.report(|layer| pushed.sent.get(&layer.descriptor.digest).copied().unwrap_or(0));
            built.layers = report.into_iter().map(|row| Row::of(row, true)).collect();
        }
    }
    Ok(())
}
