//! Cases of meaning whose matter are tags: those that may not move, those of newer builds, and those that list referrers.

use std::sync::Arc;

use bytes::Bytes;
use robotimage_crds::reason::Reason;
use robotimage_registry::{BlobSource, Client, Digest, Error, ErrorKind, MediaType, TagOutcome, digest};
use robotimage_tests::faultproxy::{Fault, Reply};
use serde_json::json;

use crate::ground::{Case, Ground, Image, TAG, descriptor, publish, push_image, reason, referrer};
use crate::semantic::{LASTING, change, meets, pushes_whole};
use crate::steps::Step;

fn ecr() -> Fault {
    Fault::Answer(Reply::error(
        400,
        "ImageTagAlreadyExistsException",
        "The image tag 'v1' already exists and cannot be overwritten because the repository is immutable.",
    ))
}

pub(crate) async fn immutable_and_same(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    case.push().await.unwrap();
    meets(&case, 1, Step::HeadManifest, Fault::Answer(Reply::new(404)));
    meets(&case, LASTING, Step::PutTag, ecr());
    case.push().await.unwrap();
    case.assert_whole().await;
    "success".to_owned()
}

pub(crate) async fn immutable_and_other(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    case.push().await.unwrap();
    meets(&case, LASTING, Step::PutTag, ecr());
    let second = Image::new(&format!("{name} second"));
    let client = case.client(case.options());
    let error = publish(&client, &case.repository(), &case.base(), &second).await.unwrap_err();
    assert_eq!(
        (error.kind(), reason(&error)),
        (ErrorKind::TagImmutable, Reason::TagImmutable),
        "{error}"
    );
    assert!(error.to_string().contains(second.digest().as_ref()), "{error}");
    let stored = ground.repository(&case.stored_name());
    let by_digest = ground.direct.manifest(&stored.with_digest(&second.digest())).await.unwrap();
    assert!(by_digest.bytes == second.manifest);
    let tagged = ground.direct.head_manifest(&stored.with_tag(TAG).unwrap()).await.unwrap();
    assert_eq!(tagged, Some(case.image.digest()));
    reason(&error).to_string()
}

/// The number of the build that made an image, as what refers to it tells.
async fn number(client: &Client, case: &Case, digest: &Digest) -> Result<u64, Error> {
    let listed = client.referrers(&case.repository(), digest).await?;
    let numbers = listed
        .iter()
        .filter_map(|entry| entry.annotations().as_ref()?.get("build")?.parse().ok());
    Ok(numbers.max().unwrap_or(0))
}

async fn build(case: &Case, image: &Image, own: u64) -> TagOutcome {
    let client = case.client(case.options());
    let (repository, kind) = (case.repository(), MediaType::ImageManifest);
    push_image(&client, &repository, &case.base(), &image.built()).await.unwrap();
    let empty = BlobSource::from_bytes(Bytes::from_static(b"{}"));
    client.push_blob(&repository, &empty, None).await.unwrap();
    let record = referrer(&descriptor(&kind, &image.manifest), &json!({"build": own.to_string()}));
    client.push_referrer(&repository, &image.digest(), record, &kind).await.unwrap();
    let keep = async |digest: Digest| Ok(number(&client, case, &digest).await? > own);
    client
        .tag_unless(&repository, image.manifest.clone(), &kind, TAG, keep)
        .await
        .unwrap()
}

pub(crate) async fn superseded(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let images = [41, 42, 43].map(|number| Image::new(&format!("{name} build {number}")));
    assert_eq!(build(&case, &images[1], 42).await, TagOutcome::Created);
    let older = build(&case, &images[0], 41).await;
    assert_eq!(older, TagOutcome::Superseded { by: images[1].digest() });
    assert_eq!(case.tag_writes(), 1);
    assert_eq!(build(&case, &images[2], 43).await, TagOutcome::Moved { from: images[1].digest() });
    Reason::Superseded.to_string()
}

pub(crate) async fn two_writers(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    case.push().await.unwrap();
    let (subject, repository, kind) = (case.image.digest(), case.repository(), MediaType::ImageManifest);
    let described = descriptor(&kind, &case.image.manifest);
    let clients = [case.client(case.options()), case.client(case.options())];
    let mut written = vec![digest::sha256(&case.image.referrer)];
    for round in 0..4 {
        let both = [0, 1].map(|writer| referrer(&described, &json!({"writer": format!("{writer} in round {round}")})));
        let pushes = clients
            .iter()
            .zip(&both)
            .map(|(client, bytes)| client.push_referrer(&repository, &subject, bytes.clone(), &kind));
        for outcome in futures::future::join_all(pushes).await {
            written.push(outcome.unwrap());
        }
    }
    let listed = ground
        .direct
        .referrers(&ground.repository(&case.stored_name()), &subject)
        .await
        .unwrap();
    let lost: Vec<&Digest> = written
        .iter()
        .filter(|digest| !listed.iter().any(|entry| entry.digest() == *digest))
        .collect();
    assert!(lost.is_empty() && listed.len() == 9, "{} of 9 listed, lost {lost:?}", listed.len());
    "success, 9 of 9 listed".to_owned()
}

pub(crate) async fn subject(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    pushes_whole(&case).await;
    let case = Case::new(&ground, &format!("{name}-listed"), false).await;
    let digest = case.image.digest().to_string();
    meets(
        &case,
        LASTING,
        Step::Referrer,
        change(move |head| head.set("oci-subject", digest.clone())),
    );
    case.push().await.unwrap();
    let tags = ground.direct.list_tags(&ground.repository(&case.stored_name())).await.unwrap();
    assert_eq!(tags, [TAG], "no list by tag where the registry keeps one");
    "success".to_owned()
}
