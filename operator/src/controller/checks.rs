//! What registries have told of the images that an object names, asked for when it is due.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use robotimage_crds::api::RobotImage;

use super::reconcile::Context;
use crate::decide::{Look, Settings, next_digest_look, next_image_look};
use crate::observe::{Check, Checks, ImageCheck, SourceKnowledge};

/// How long a first build waits for the digest of its base, so that its request has it.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is known of base and rcc. A slow registry is not waited for: its answer wakes the object.
pub(super) async fn checks(context: &Context, image: &RobotImage, source: &SourceKnowledge) -> Checks {
    let namespace = image.namespace().unwrap_or_default();
    let Some(settings) = Settings::of(&image.spec, &namespace, &context.platform) else {
        return Checks::default();
    };
    let (base, asking_base) = check(context, image, &settings, source, settings.moving_base()).await;
    let (rcc, asking_rcc) = check(context, image, &settings, source, settings.moving_rcc()).await;
    let (published, asking_image) = look_for(context, image, &settings, source);
    Checks {
        base,
        rcc,
        asking: asking_base || asking_rcc,
        image: published,
        asking_image,
    }
}

/// Looks for the published image, and wakes the object with the answer.
fn look_for(context: &Context, image: &RobotImage, settings: &Settings, source: &SourceKnowledge) -> (Option<ImageCheck>, bool) {
    let uid = image.uid().unwrap_or_default();
    let (known, asking) = context.memory.image(&uid);
    let due = matches!(next_image_look(image, settings, source, known.as_ref()), Look::At(time) if time <= Timestamp::now());
    let status = image.status.as_ref();
    let published = status.and_then(|status| status.latest_image.as_ref());
    let (Some(published), true) = (published, due && !asking && image.metadata.deletion_timestamp.is_none()) else {
        return (known, asking);
    };
    context.memory.asking_image(&uid);
    let build = status
        .and_then(|status| status.latest_build.as_ref())
        .map_or(0, |build| build.number);
    let (registries, reference) = (context.registries.clone(), published.reference.clone());
    let (memory, wake, object) = (Arc::clone(&context.memory), context.wake.clone(), ObjectRef::from_obj(image));
    tokio::spawn(async move {
        let answer = registries.exists(&reference).await;
        memory.looked_for(&uid, build, &answer);
        // The receiver lives as long as the process.
        drop(wake.send(object));
    });
    (known, true)
}

async fn check(
    context: &Context,
    image: &RobotImage,
    settings: &Settings,
    source: &SourceKnowledge,
    reference: Option<&str>,
) -> (Option<Check>, bool) {
    let Some(reference) = reference else {
        return (None, false);
    };
    let (known, asking) = context.registries.known(reference);
    let now = Timestamp::now();
    let due = matches!(next_digest_look(image, settings, source, known.as_ref()), Look::At(time) if time <= now);
    if asking && known.is_some() || !due || image.metadata.deletion_timestamp.is_some() {
        return (known, asking);
    }
    let first = known.is_none() && image.status.as_ref().is_none_or(|status| status.latest_build.is_none());
    let (mut asked, wake, object) = (context.registries.ask(reference), context.wake.clone(), ObjectRef::from_obj(image));
    let answered = first && tokio::time::timeout(PATIENCE, &mut asked).await.is_ok();
    if !answered {
        tokio::spawn(async move {
            asked.await;
            // The receiver lives as long as the process.
            drop(wake.send(object));
        });
    }
    context.registries.known(reference)
}
