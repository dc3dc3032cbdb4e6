//! Packing and pushing at once: while layers are on their way to the registry, the next one is packed.
//!
//! Invariant: when the future ends, however it ends, the packing has ended too and its files are gone, unless they are to be
//! kept. At most [`WAITING`] finished layers and those under way lie on disk; a failed upload ends the packing and a failed
//! packing the uploads. The manifest comes after all blobs.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use robotimage_crds::reason::Reason;
use robotimage_registry::{BlobSource, Client, Error, ErrorKind, MediaType, PushOutcome, Repository};
use tokio::sync::mpsc;

use super::assemble::{Content, Image, ImageLayer};
use super::pull::BaseBlobs;
use super::push::{Pushed, described};
use crate::failure::Failure;

/// Blobs that are sent at once.
const AT_ONCE: usize = 3;
/// Finished layers that wait for their turn.
const WAITING: usize = 1;

/// Where an image goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// With the credentials to push.
    pub client: &'a Client,
    /// The repository.
    pub repository: &'a Repository,
    /// Where the base's blobs are copied from.
    pub base: &'a BaseBlobs,
    /// Existing folder for the files of layers.
    pub scratch: &'a Path,
    /// The files stay in `scratch` for other uses of the image, which the result names.
    pub keep: bool,
}

/// Why an image is not in the repository.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It could not be packed.
    #[error(transparent)]
    Pack(#[from] Failure),
    /// It could not be pushed.
    #[error(transparent)]
    Registry(#[from] Error),
}

/// What the packing side is given.
#[derive(Debug)]
pub struct Making {
    /// Folder for the files of layers.
    pub folder: PathBuf,
    /// Raised to end the work.
    pub cancel: Arc<AtomicBool>,
    /// Digests of layers that the previous image has and the repository has not any more.
    pub gone: Arc<BTreeSet<String>>,
    finished: mpsc::Sender<ImageLayer>,
}

impl Making {
    /// Sends a finished layer on its way. Waits while too many are waiting.
    pub fn done(&self, layer: &ImageLayer) -> Result<(), Failure> {
        let ended = |_| Failure::new(Reason::Canceled, "the upload has ended");
        self.finished.blocking_send(layer.clone()).map_err(ended)
    }
}

/// The packing side.
pub type Pack = dyn Fn(&Making) -> Result<Image, Failure> + Send + Sync;

/// Packs an image and makes the repository hold it by its digest. `pack` runs on a thread of its own and hands out each layer
/// when it is written; `below` are layers that need no packing. Layers of the previous image are believed to be there; when the
/// registry says that one is not, all are looked for, and the missing ones are packed.
pub async fn publish(
    target: &Target<'_>,
    below: impl Fn(&BTreeSet<String>) -> Vec<ImageLayer>,
    pack: Arc<Pack>,
) -> Result<(Image, Pushed), PublishError> {
    let mut pushed = Pushed::default();
    let nothing = BTreeSet::new();
    let image = once(target, below(&nothing), &pack, nothing, &mut pushed).await?;
    let error = match manifest(target, &image).await {
        Ok(()) => return Ok((image, pushed)),
        Err(error) if error.kind() == ErrorKind::BlobUnknown => error,
        Err(error) => return Err(error.into()),
    };
    let gone = gone(target, &image).await?;
    tracing::warn!(%error, ?gone, "the registry lacks layers that it had; all of them are looked for again");
    let image = once(target, below(&gone), &pack, gone, &mut pushed).await?;
    manifest(target, &image).await?;
    Ok((image, pushed))
}

/// Packs an image into files of `scratch`, which stay there.
pub async fn pack(scratch: &Path, pack: Arc<Pack>) -> Result<Image, PublishError> {
    let mut packing = Packing::start(scratch, true, pack, BTreeSet::new())?;
    while packing.layers.recv().await.is_some() {}
    Ok(packing.finish()?)
}

/// Whether a layer is believed to be in the repository.
fn is_below(target: &Target<'_>, layer: &ImageLayer) -> bool {
    match &layer.content {
        Content::Previous => true,
        Content::Elsewhere(repository) => repository == target.repository,
        Content::Base | Content::File(_) => false,
    }
}

/// Which layers that are believed to be in the repository are not.
async fn gone(target: &Target<'_>, image: &Image) -> Result<BTreeSet<String>, Error> {
    let mut gone = BTreeSet::new();
    for layer in image.layers.iter().filter(|layer| is_below(target, layer)) {
        let digest = described(&layer.descriptor)?.digest().clone();
        if !target.client.blob_exists(target.repository, &digest).await? {
            gone.insert(layer.descriptor.digest.clone());
        }
    }
    Ok(gone)
}

async fn manifest(target: &Target<'_>, image: &Image) -> Result<(), Error> {
    let bytes = image.manifest.clone().into();
    target
        .client
        .push_manifest(target.repository, bytes, &MediaType::ImageManifest)
        .await?;
    Ok(())
}

/// Brings all blobs of the image to the repository.
async fn once(
    target: &Target<'_>,
    below: Vec<ImageLayer>,
    pack: &Arc<Pack>,
    gone: BTreeSet<String>,
    pushed: &mut Pushed,
) -> Result<Image, PublishError> {
    let mut packing = Packing::start(target.scratch, target.keep, Arc::clone(pack), gone)?;
    let mut waiting: VecDeque<ImageLayer> = below.into();
    let mut begun = BTreeSet::new();
    let mut uploads = FuturesUnordered::new();
    let mut image = None;
    loop {
        while uploads.len() < AT_ONCE
            && let Some(layer) = waiting.pop_front()
        {
            // An image may name one blob twice, such as an empty layer.
            if !is_below(target, &layer) && begun.insert(layer.descriptor.digest.clone()) {
                uploads.push(send(target, layer).boxed());
            }
        }
        tokio::select! {
            Some(sent) = uploads.next(), if !uploads.is_empty() => {
                let (digest, bytes): (String, u64) = sent?;
                *pushed.sent.entry(digest).or_default() += bytes;
            }
            layer = packing.layers.recv(), if image.is_none() && waiting.is_empty() => {
                if let Some(layer) = layer {
                    waiting.push_back(layer);
                } else {
                    let made: &Image = image.insert(packing.finish()?);
                    uploads.push(configuration(target, made.config.clone()).boxed());
                }
            }
            else => break,
        }
    }
    drop(uploads);
    Ok(image.expect("invariant: the loop ends after the packing only"))
}

async fn configuration(target: &Target<'_>, bytes: Vec<u8>) -> Result<(String, u64), Error> {
    let source = BlobSource::from_bytes(bytes);
    target.client.push_new_blob(target.repository, &source).await?;
    // It is no layer, so it does not count as one.
    Ok((source.digest().to_string(), 0))
}

/// Makes the repository hold a layer, and removes its file; its digest, and the bytes that were sent for it.
async fn send(target: &Target<'_>, layer: ImageLayer) -> Result<(String, u64), Error> {
    let bytes = match push_layer(target, &layer).await? {
        PushOutcome::Uploaded { bytes } => bytes,
        PushOutcome::Existing | PushOutcome::Mounted => 0,
    };
    let (role, digest, size) = (layer.role.as_str(), &layer.descriptor.digest, layer.descriptor.size);
    tracing::info!(role, digest, size, sent = bytes, "layer is in the repository");
    if let (Content::File(path), false) = (&layer.content, target.keep) {
        // What cannot be removed goes with its folder.
        tokio::fs::remove_file(path).await.ok();
    }
    Ok((layer.descriptor.digest, bytes))
}

async fn push_layer(target: &Target<'_>, layer: &ImageLayer) -> Result<PushOutcome, Error> {
    let Target { client, repository, .. } = *target;
    let descriptor = described(&layer.descriptor)?;
    let file = |path: PathBuf| BlobSource::from_file(path, descriptor.digest().clone(), descriptor.size());
    match (&layer.content, target.base) {
        (Content::File(path), _) => client.push_blob(repository, &file(path.clone()), None).await,
        (Content::Elsewhere(from), _) => client.copy_blob(client, from, repository, &descriptor).await,
        (
            Content::Base | Content::Previous,
            BaseBlobs::Registry {
                client: from,
                repository: of,
            },
        ) => client.copy_blob(from, of, repository, &descriptor).await,
        (Content::Base | Content::Previous, BaseBlobs::Layout(layout)) => {
            client
                .push_blob(repository, &file(layout.blob_path(descriptor.digest())), None)
                .await
        }
    }
}

/// The thread that packs. Dropping it ends the packing and waits for that, at most for the block under way.
struct Packing {
    layers: mpsc::Receiver<ImageLayer>,
    cancel: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Image, Failure>>>,
    /// Goes with its content, after the thread.
    _folder: Option<tempfile::TempDir>,
}

impl Packing {
    fn start(scratch: &Path, keep: bool, pack: Arc<Pack>, gone: BTreeSet<String>) -> Result<Self, Failure> {
        let fail = |error| Failure::io("write to", scratch, &error);
        let own = (!keep)
            .then(|| tempfile::Builder::new().prefix("layers-").tempdir_in(scratch))
            .transpose()
            .map_err(fail)?;
        let (finished, layers) = mpsc::channel(WAITING);
        let cancel: Arc<AtomicBool> = Arc::default();
        let making = Making {
            folder: own.as_ref().map_or(scratch, tempfile::TempDir::path).to_owned(),
            cancel: Arc::clone(&cancel),
            gone: Arc::new(gone),
            finished,
        };
        let thread = std::thread::Builder::new().name("pack".to_owned());
        let thread = thread.spawn(move || pack(&making)).map_err(fail)?;
        Ok(Self {
            layers,
            cancel,
            thread: Some(thread),
            _folder: own,
        })
    }

    /// The result of the thread, which has ended or is about to.
    fn finish(&mut self) -> Result<Image, Failure> {
        let thread = self.thread.take().expect("invariant: a thread is asked once");
        thread.join().unwrap_or_else(|_| {
            let message = "the packing of layers broke off; please report this bug";
            Err(Failure::new(Reason::InternalError, message))
        })
    }
}

impl Drop for Packing {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
        self.layers.close();
        if let Some(thread) = self.thread.take() {
            // Nobody is left who could be told how it ended.
            thread.join().ok();
        }
    }
}
