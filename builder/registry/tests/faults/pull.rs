//! Faults while reading: redirects, addresses, content, time.

use std::time::{Duration, Instant};

use axum::http::Method;
use robotimage_registry::{AddressPolicy, Client, ClientOptions, Credentials, Error, ErrorKind, Reference, RetryPolicy};

use crate::mock_registry::{Fault, MockRegistry};
use crate::{client, descriptor, options, repository, with_token};

#[tokio::test]
async fn redirects_end() {
    let registry = MockRegistry::start().await;
    registry.on(
        Method::GET,
        "/manifests/",
        100,
        Fault::Answer(302, vec![("location", "?again".into())], String::new()),
    );
    let error = client().manifest(&repository(&registry).with_tag("x").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!(registry.seen(&Method::GET, "").len(), 6);
    for location in ["ftp://x/", "http://user:pw@127.0.0.1/", "http://[broken"] {
        let registry = MockRegistry::start().await;
        registry.on(
            Method::GET,
            "/manifests/",
            1,
            Fault::Answer(302, vec![("location", location.into())], String::new()),
        );
        let error = client().manifest(&repository(&registry).with_tag("x").unwrap()).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Protocol | ErrorKind::HostNotAllowed),
            "{location}: {error}"
        );
        assert!(!error.to_string().contains("pw"), "{error}");
    }
}

#[tokio::test]
async fn addresses_are_checked_where_the_connection_is_made() {
    let registry = MockRegistry::start().await;
    let port = registry.host.rsplit(':').next().unwrap().to_owned();
    let tenant = |policy: AddressPolicy| {
        let options = ClientOptions {
            address_policy: policy,
            plain_http: vec!["localhost".into()],
            ..options()
        };
        Client::new(options, Credentials::none()).unwrap()
    };
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
    ] {
        let reference = Reference::parse(&format!("{host}/a:1")).unwrap();
        let error = tenant(AddressPolicy::tenant(&[])).manifest(&reference).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddressDenied, "{error}");
        assert!(!error.retryable());
    }
    assert!(registry.store().seen.is_empty());
    // A permitted registry that leads to a denied address.
    let allowed = AddressPolicy::tenant(&[]).with_allowed(["127.0.0.1/32".parse().unwrap()]);
    registry.on(
        Method::GET,
        "/manifests/",
        1,
        Fault::Answer(307, vec![("location", format!("http://127.0.0.2:{port}/x"))], String::new()),
    );
    let error = tenant(allowed)
        .manifest(&repository(&registry).with_tag("x").unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddressDenied, "{error}");
}

#[tokio::test]
async fn wrong_content_is_never_returned() {
    let registry = MockRegistry::start().await;
    let repository = repository(&registry);
    let wanted = descriptor(b"the right content");
    for wrong in [&b"the wrong content"[..], b"the right content and more", b"short"] {
        registry.store().blobs.insert(
            ("robots/a".into(), wanted.digest().to_string()),
            bytes::Bytes::copy_from_slice(wrong),
        );
        let error = client().blob_bytes(&repository, &wanted, 100).await.unwrap_err();
        assert!(
            matches!(
                error.kind(),
                ErrorKind::DigestMismatch | ErrorKind::Unavailable | ErrorKind::Protocol
            ),
            "{error}"
        );
        assert_ne!(wrong, b"the right content");
    }
    let pinned = repository.with_digest(wanted.digest());
    registry.store().manifests.insert(
        ("robots/a".into(), wanted.digest().to_string()),
        ("{}".into(), "application/vnd.oci.image.manifest.v1+json".into()),
    );
    let error = client().manifest(&pinned).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
    // The digest that a registry claims for a tag is held against the bytes too.
    let claim = vec![("docker-content-digest", wanted.digest().to_string())];
    registry.on(Method::GET, "/manifests/", 1, Fault::Answer(200, claim, "{}".into()));
    let error = client().manifest(&repository.with_tag("x").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
}

#[tokio::test]
async fn downloads_resume_and_huge_answers_do_not_fill_memory() {
    let registry = MockRegistry::start().await;
    let content: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
    registry.put_blob("robots/a", &content);
    // The first answer ends early although it is complete HTTP.
    let part = String::from_utf8(vec![0; 4]).unwrap();
    registry.on(Method::GET, "/blobs/", 1, Fault::Answer(200, Vec::new(), part));
    let limit = content.len() as u64;
    let out = client()
        .blob_bytes(&repository(&registry), &descriptor(&content), limit)
        .await
        .unwrap();
    assert!(out == content);
    assert_eq!(registry.seen(&Method::GET, "/blobs/").len(), 2);

    let huge = Fault::Answer(200, Vec::new(), "x".repeat(5_000_000));
    registry.on(Method::GET, "/manifests/", 1, huge);
    let error = client().manifest(&repository(&registry).with_tag("x").unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    registry.on(Method::GET, "/token", 9, Fault::Answer(200, Vec::new(), "y".repeat(5_000_000)));
    with_token(&registry, &format!("http://{}/token", registry.host));
    let error = client().manifest(&repository(&registry).with_tag("x").unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[tokio::test]
async fn stalls_deadlines_and_cancellation_end_calls() {
    let registry = MockRegistry::start().await;
    registry.on(Method::GET, "", 100, Fault::Stall(Duration::from_secs(30)));
    let reference = repository(&registry).with_tag("x").unwrap();
    let once = RetryPolicy::never();
    let idle = ClientOptions {
        request_timeout: Duration::from_millis(100),
        retry: once.clone(),
        ..options()
    };
    let soon = ClientOptions {
        deadline: Some(Instant::now() + Duration::from_millis(200)),
        ..options()
    };
    let canceled = ClientOptions::default();
    let token = canceled.cancel.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        token.cancel();
    });
    for (options, kind) in [
        (idle, ErrorKind::Timeout),
        (soon, ErrorKind::Timeout),
        (canceled, ErrorKind::Canceled),
    ] {
        let begun = Instant::now();
        let error = Client::new(options, Credentials::none())
            .unwrap()
            .manifest(&reference)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_host_that_is_not_there_and_one_that_speaks_no_tls() {
    let registry = MockRegistry::start().await;
    let once = ClientOptions {
        retry: RetryPolicy::never(),
        tls_hosts: vec![registry.host.clone()],
        ..options()
    };
    let client = Client::new(once, Credentials::none()).unwrap();
    let error = client.manifest(&repository(&registry).with_tag("x").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("plain http"), "{error}");
    let gone = Reference::parse("127.0.0.1:1/a:1").unwrap();
    let error = client.manifest(&gone).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}
