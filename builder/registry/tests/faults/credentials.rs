//! Tokens, refusals, and where credentials go.

use axum::http::Method;
use robotimage_registry::{BlobSource, Client, ClientOptions, Credentials, Error, ErrorKind, Repository};

use crate::mock_registry::{Fault, MockRegistry};
use crate::{answer, blob, descriptor, options, repository, with_token};

/// Credentials for one host: user `robot`, password `hunter2hunter2`.
fn credentials(host: &str) -> Credentials {
    let json = format!(r#"{{"auths": {{"{host}": {{"username": "robot", "password": "hunter2hunter2"}}}}}}"#);
    Credentials::from_docker_config(json.as_bytes()).unwrap()
}

#[tokio::test]
async fn tokens_are_shared_scoped_and_renewed() {
    let registry = MockRegistry::start().await;
    with_token(&registry, &format!("http://{}/token", registry.host));
    let client = Client::new(options(), credentials(&registry.host)).unwrap();
    let repository = repository(&registry);
    let sources: Vec<BlobSource> = (1..=8).map(|n| blob(n * 100)).collect();
    let pushes = sources.iter().map(|source| client.push_blob(&repository, source, None));
    for outcome in futures::future::join_all(pushes).await {
        outcome.unwrap();
    }
    let asked = registry.seen(&Method::GET, "/token");
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert!(
        asked[0].target.contains("scope=repository%3Arobots%2Fa%3Apull%2Cpush&") || asked[0].target.ends_with("pull%2Cpush"),
        "{asked:?}"
    );
    assert!(asked[0].authorization.as_deref().unwrap().starts_with("Basic "));

    // The token expires in the middle of an upload: only the refused request is repeated.
    registry.store().seen.clear();
    let challenge = registry.store().challenge.clone();
    registry.on(
        Method::PUT,
        "digest=",
        1,
        Fault::Answer(401, vec![("www-authenticate", challenge)], String::new()),
    );
    client.push_blob(&repository, &blob(2_000_000), None).await.unwrap();
    assert_eq!(registry.seen(&Method::GET, "/token").len(), 1);
    assert_eq!(registry.seen(&Method::POST, "").len(), 1, "the session is kept");

    // A mount asks for both scopes.
    let from = Repository::parse(&format!("{}/robots/b", registry.host)).unwrap();
    client.push_blob(&repository, &blob(31), Some(&from)).await.unwrap();
    let asked = registry.seen(&Method::GET, "/token").pop().unwrap().target;
    assert!(
        asked.contains("robots%2Fb%3Apull") && asked.contains("robots%2Fa%3Apull%2Cpush"),
        "{asked}"
    );
}

#[tokio::test]
async fn refused_credentials_are_an_error_without_secrets() {
    let registry = MockRegistry::start().await;
    with_token(&registry, &format!("http://{}/token", registry.host));
    registry.store().token = Some("never".into());
    registry.on(
        Method::GET,
        "/v2/robots/denied/",
        9,
        Fault::Answer(
            403,
            vec![("content-type", "application/json".into())],
            r#"{"errors":[{"code":"DENIED","message":"token-one may not read"}]}"#.into(),
        ),
    );
    let client = Client::new(options(), credentials(&registry.host)).unwrap();
    let error = client.manifest(&repository(&registry).with_tag("x").unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { anonymous: false, .. }), "{error}");
    assert!(registry.seen(&Method::GET, "/manifests/").len() <= 3, "no endless loop");
    // The token is known now, and the registry repeats it in its message.
    let denied = Repository::parse(&format!("{}/robots/denied", registry.host)).unwrap();
    let error = client.manifest(&denied.with_tag("x").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    let text = format!("{error} {error:?}");
    assert!(!text.contains("token-one") && !text.contains("hunter2"), "{text}");

    registry.on(Method::GET, "/token", 9, answer(401));
    let fresh = Client::new(options(), credentials(&registry.host)).unwrap();
    let error = fresh.manifest(&repository(&registry).with_tag("x").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let (registry, other) = (MockRegistry::start().await, MockRegistry::start().await);
    with_token(&registry, &format!("http://{}/token", registry.host));
    let client = Client::new(options(), credentials(&registry.host)).unwrap();
    let repository = repository(&registry);
    let content = b"content of a blob";
    other.put_blob("cdn", content);

    // A redirect of a download to a blob store, once a token is at hand.
    assert!(!client.blob_exists(&repository, descriptor(content).digest()).await.unwrap());
    let target = format!("http://{}/v2/cdn/blobs/{}", other.host, descriptor(content).digest());
    registry.on(
        Method::GET,
        "/blobs/",
        1,
        Fault::Answer(307, vec![("location", target)], String::new()),
    );
    assert_eq!(
        &client.blob_bytes(&repository, &descriptor(content), 100).await.unwrap()[..],
        content
    );

    assert!(registry.seen(&Method::GET, "/blobs/")[0].authorization.is_some());
    assert_eq!(other.seen(&Method::GET, "/v2/cdn/")[0].authorization, None);

    // An upload session on another host, which even asks for credentials.
    registry.store().session_base = format!("http://{}", other.host);
    other.store().sessions.insert("s0".into(), Vec::new());
    other.on(
        Method::PUT,
        "digest=",
        1,
        Fault::Answer(
            401,
            vec![("www-authenticate", format!(r#"Basic realm="http://{}/""#, other.host))],
            String::new(),
        ),
    );
    let refused = client.push_blob(&repository, &blob(1000), None).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unauthorized, "{refused}");
    assert!(other.store().seen.len() >= 2);
    for seen in &other.store().seen {
        assert_eq!(seen.authorization, None, "{seen:?}");
    }

    // Unless listed, another host is not gone to at all.
    let strict = ClientOptions {
        allowed_hosts: Some(Vec::new()),
        ..options()
    };
    let strict = Client::new(strict, credentials(&registry.host)).unwrap();
    other.store().seen.clear();
    let error = strict.push_blob(&repository, &blob(1000), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostNotAllowed, "{error}");
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
    with_token(&registry, &format!("http://{}/token", other.host));
    let strict = ClientOptions {
        allowed_hosts: Some(Vec::new()),
        ..options()
    };
    let strict = Client::new(strict, credentials(&registry.host)).unwrap();
    let error = strict.manifest(&repository.with_tag("x").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HostNotAllowed, "{error}");
    assert!(other.store().seen.is_empty());
}
