//! Faults while blobs, manifests and tags are written.

use axum::http::Method;
use robotimage_registry::{
    BlobSource, Client, ClientOptions, Credentials, Digest, ErrorKind, MediaType, PushOutcome, Repository, RetryPolicy, TagOutcome,
};

use crate::mock_registry::{Fault, MockRegistry};
use crate::{answer, blob, client, options, repository};

const UPLOADED: PushOutcome = PushOutcome::Uploaded { bytes: 1000 };

#[tokio::test]
async fn transient_faults_at_each_step_of_a_push_end_in_success() {
    let steps = [
        (Method::HEAD, "/blobs/"),
        (Method::POST, "/blobs/uploads/"),
        (Method::PUT, "digest="),
    ];
    let html = Fault::Answer(503, vec![("content-type", "text/html".into())], "<html>".repeat(100_000));
    let busy = Fault::Answer(429, vec![("retry-after", "0".into())], String::new());
    for (method, part) in &steps {
        for fault in [
            html.clone(),
            busy.clone(),
            Fault::Cut,
            answer(408),
            answer(500),
            answer(504),
            answer(522),
        ] {
            let registry = MockRegistry::start().await;
            registry.on(method.clone(), part, 2, fault.clone());
            let outcome = client().push_blob(&repository(&registry), &blob(1000), None).await;
            assert_eq!(outcome.unwrap(), UPLOADED, "{method} {part} {fault:?}");
            assert_eq!(registry.store().blobs.len(), 1);
        }
    }
}

#[tokio::test]
async fn a_lost_answer_is_neither_a_failure_nor_a_second_upload() {
    let registry = MockRegistry::start().await;
    registry.on(Method::PUT, "digest=", 1, Fault::DoneThenCut);
    assert_eq!(
        client().push_blob(&repository(&registry), &blob(1000), None).await.unwrap(),
        UPLOADED
    );
    assert_eq!(registry.seen(&Method::PUT, "").len(), 1);

    let manifest = bytes::Bytes::from_static(b"{\"schemaVersion\":2}");
    registry.on(Method::PUT, "/manifests/", 1, Fault::DoneThenCut);
    let tagged = client()
        .tag(&repository(&registry), manifest, &MediaType::ImageManifest, "v1")
        .await
        .unwrap();
    assert_eq!(tagged, TagOutcome::Created);
    assert_eq!(registry.seen(&Method::PUT, "/manifests/").len(), 1, "the tag was written once");
}

#[tokio::test]
async fn statuses_of_the_closing_request() {
    // An answer that says nothing is believed only when the blob is there.
    for status in [200, 202, 204] {
        let registry = MockRegistry::start().await;
        registry.on(Method::PUT, "digest=", 1, answer(status));
        assert_eq!(
            client().push_blob(&repository(&registry), &blob(1000), None).await.unwrap(),
            UPLOADED,
            "{status}"
        );
        assert_eq!(registry.seen(&Method::PUT, "").len(), 2, "{status}: the first answer was a lie");
    }
    let registry = MockRegistry::start().await;
    let digest = robotimage_registry::digest::sha256(b"other").to_string();
    registry.on(
        Method::PUT,
        "digest=",
        1,
        Fault::Answer(201, vec![("docker-content-digest", digest)], String::new()),
    );
    let error = client().push_blob(&repository(&registry), &blob(1000), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
}

#[tokio::test]
async fn lasting_faults_have_a_name_and_no_storm() {
    let quota = r#"{"errors":[{"code":"DENIED","message":"adding 1 GiB would exceed the quota"}]}"#;
    let json = vec![("content-type", "application/json".to_owned())];
    let table = [
        (answer(403), ErrorKind::Denied, 1),
        (Fault::Answer(500, json, quota.into()), ErrorKind::Quota, 1),
        (answer(507), ErrorKind::Quota, 1),
        (answer(404), ErrorKind::NotFound, 1),
        (answer(401), ErrorKind::Unauthorized, 1),
        (answer(202), ErrorKind::Protocol, 1),
        (answer(503), ErrorKind::Unavailable, 6),
        (
            Fault::Answer(429, vec![("retry-after", "86400".into())], String::new()),
            ErrorKind::RateLimited,
            6,
        ),
    ];
    for (fault, kind, requests) in table {
        let registry = MockRegistry::start().await;
        registry.on(Method::POST, "", 100, fault.clone());
        let error = client().push_blob(&repository(&registry), &blob(1000), None).await.unwrap_err();
        assert_eq!(
            (error.kind(), registry.seen(&Method::POST, "").len()),
            (kind, requests),
            "{fault:?}: {error}"
        );
        assert!(error.to_string().contains("robots/a"), "{error}");
    }
}

#[tokio::test]
async fn mounts() {
    let source = blob(1000);
    for (fault, outcome, posts) in [
        (None, PushOutcome::Mounted, 1),
        // "Not possible, go on with this session."
        (Some(()), UPLOADED, 1),
    ] {
        let registry = MockRegistry::start().await;
        registry.store().mounts = fault.is_none();
        registry
            .store()
            .blobs
            .insert(("robots/b".into(), source.digest().to_string()), "x".into());
        let from = Repository::parse(&format!("{}/robots/b", registry.host)).unwrap();
        assert_eq!(
            client().push_blob(&repository(&registry), &source, Some(&from)).await.unwrap(),
            outcome
        );
        assert_eq!(registry.seen(&Method::POST, "").len(), posts, "the session of the mount is used");
    }
    for status in [401, 403, 404, 405] {
        let registry = MockRegistry::start().await;
        registry.on(Method::POST, "mount=", 1, answer(status));
        let from = Repository::parse(&format!("{}/robots/b", registry.host)).unwrap();
        let client = client();
        assert_eq!(
            client.push_blob(&repository(&registry), &source, Some(&from)).await.unwrap(),
            UPLOADED,
            "{status}"
        );
        client.push_blob(&repository(&registry), &blob(999), Some(&from)).await.unwrap();
        assert_eq!(
            registry.seen(&Method::POST, "mount=").len(),
            1,
            "{status}: asked once for the pair of repositories"
        );
    }
}

#[tokio::test]
async fn a_broken_stream_goes_on_where_it_stopped() {
    let registry = MockRegistry::start().await;
    registry.on(Method::PATCH, "", 1, Fault::CutAfter(300_000));
    let client = Client::new(
        ClientOptions {
            single_put_limit: 1,
            ..options()
        },
        Credentials::none(),
    )
    .unwrap();
    let source = blob(1_000_000);
    client.push_blob(&repository(&registry), &source, None).await.unwrap();
    let sent: Vec<usize> = registry.seen(&Method::PATCH, "").iter().map(|seen| seen.body).collect();
    assert_eq!(sent, [300_000, 700_000]);

    // A session that is gone, or that the registry says nothing about, is begun anew.
    for gone in [answer(404), answer(416)] {
        let registry = MockRegistry::start().await;
        registry.on(Method::PATCH, "", 1, gone);
        registry.on(Method::GET, "/uploads/", 1, answer(404));
        client.push_blob(&repository(&registry), &source, None).await.unwrap();
        assert_eq!(registry.seen(&Method::POST, "").len(), 2);
    }
}

#[tokio::test]
async fn files_are_sent_again_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer");
    let content = vec![7; 3_000_000];
    std::fs::write(&path, &content).unwrap();
    let digest = robotimage_registry::digest::sha256(&content);
    let registry = MockRegistry::start().await;
    registry.on(Method::PUT, "digest=", 2, Fault::Cut);
    let source = BlobSource::from_file(&path, digest.clone(), 3_000_000);
    client().push_blob(&repository(&registry), &source, None).await.unwrap();
    assert_eq!(
        registry.seen(&Method::PUT, "").iter().map(|seen| seen.body).collect::<Vec<_>>(),
        [3_000_000; 3]
    );

    let error = client()
        .push_blob(
            &repository(&registry),
            &BlobSource::from_file(folder.path().join("gone"), digest, 3_000_000),
            None,
        )
        .await;
    assert!(error.is_ok(), "a blob that is there needs no file");
    let other = Digest::try_from(format!("sha256:{:064}", 1)).unwrap();
    let error = client()
        .push_blob(&repository(&registry), &BlobSource::from_file(&path, other.clone(), 5), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error:?}");
    let error = client()
        .push_blob(&repository(&registry), &BlobSource::from_file(&path, other, 3_000_000), None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
}

#[tokio::test]
async fn immutable_tags() {
    let manifest = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
    let (old, new) = (manifest(r#"{"n":1}"#), manifest(r#"{"n":2}"#));
    let registry = MockRegistry::start().await;
    let (client, repository) = (client(), repository(&registry));
    let kind = MediaType::ImageManifest;
    assert_eq!(
        client.tag(&repository, old.clone(), &kind, "v1").await.unwrap(),
        TagOutcome::Created
    );
    let requests = registry.seen(&Method::HEAD, "/manifests/v1").len() + registry.seen(&Method::PUT, "/manifests/v1").len();
    assert_eq!(requests, 2, "one to look, one to write");
    assert_eq!(
        client.tag(&repository, old.clone(), &kind, "v1").await.unwrap(),
        TagOutcome::Unchanged
    );
    assert_eq!(registry.seen(&Method::PUT, "/manifests/v1").len(), 1);
    let ecr = r#"{"errors":[{"code":"TAG_INVALID","message":"The image tag 'v1' already exists and cannot be overwritten because the tag is immutable."}]}"#;
    let refusal = Fault::Answer(400, vec![("content-type", "application/json".into())], ecr.into());
    registry.on(Method::PUT, "/manifests/v1", 1, refusal);
    let error = client.tag(&repository, new.clone(), &kind, "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TagImmutable, "{error}");
    assert_eq!(registry.seen(&Method::PUT, "/manifests/v1").len(), 2, "no second try");
    let moved = client.tag(&repository, new, &kind, "v1").await.unwrap();
    assert!(matches!(moved, TagOutcome::Moved { .. }), "{moved:?}");
    // The tag is moved by somebody else between our write and our check.
    registry.on(Method::PUT, "/manifests/v1", 1, answer(201));
    let third = manifest(r#"{"n":3}"#);
    let error = Client::new(
        ClientOptions {
            retry: RetryPolicy::never(),
            ..options()
        },
        Credentials::none(),
    )
    .unwrap();
    let error = error.tag(&repository, third, &kind, "v1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "written, they say, and not shown: {error}");
}
