//! Look-ups against a server of our own on loopback: a mock, because one real server answers in one way only.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use robotimage_crds::reason::Reason;

use super::{GitCredentials, HttpClient, MOST_BYTES, revision};
use crate::config::Platform;
use crate::observe::Revision;
use crate::source::SourceFailure;

/// Hosts and credentials that the mock server saw.
type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

async fn answer(State((seen, port)): State<(Seen, u16)>, request: Request) -> Response {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let host = header("host").unwrap_or_default();
    let authorization = header("authorization");
    seen.lock().unwrap().push((host, authorization.clone()));
    let head = request.method() == Method::HEAD;
    let to = |to: String| (StatusCode::FOUND, [("location", to)]).into_response();
    match request.uri().path().trim_start_matches('/') {
        "etag" => ([("etag", "\"v1\""), ("last-modified", "Sun, 01 Mar 2026 00:00:00 GMT")], "x").into_response(),
        "modified" => ([("last-modified", "Sun, 01 Mar 2026 00:00:00 GMT")], "x").into_response(),
        "neither" => "bytes".into_response(),
        "large" if head => ().into_response(),
        "large" => vec![b'x'; MOST_BYTES + 1].into_response(),
        "no-head" if head => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        "private" if authorization.is_none() => StatusCode::UNAUTHORIZED.into_response(),
        "no-head" | "private" => ([("etag", "\"v1\"")], "x").into_response(),
        "denied" => StatusCode::FORBIDDEN.into_response(),
        "busy" => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "77")]).into_response(),
        "away" => to(format!("http://localhost:{port}/etag")),
        "loop" => to("/loop".to_owned()),
        "nowhere" => StatusCode::FOUND.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn serve() -> (SocketAddr, Seen) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    let seen = Seen::default();
    let router = Router::new().fallback(answer).with_state((Arc::clone(&seen), own.port()));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (own, seen)
}

fn client() -> HttpClient {
    let text = "builderImage: a\nbase: {image: b}\nrcc: {image: c}\nplainHttp: [127.0.0.1, localhost]\naddressPolicy: {allow: [127.0.0.0/8, '::1']}\n";
    HttpClient::new(Arc::new(
        Platform::new(Platform::parse(text).unwrap(), String::new(), None).unwrap(),
    ))
    .unwrap()
}

fn secret(hosts: &str) -> GitCredentials {
    let pairs = [("bearerToken", "t0k"), ("hosts", hosts)];
    let data = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())))
        .collect();
    GitCredentials::of("web", &data).unwrap()
}

async fn ask(case: &str) -> Result<Revision, SourceFailure> {
    let (own, _) = serve().await;
    client().ask(&format!("http://{own}/{case}"), None).await
}

#[tokio::test]
async fn what_the_server_says_of_the_file() {
    for (case, expected) in [
        ("etag", revision("etag", b"\"v1\"")),
        ("no-head", revision("etag", b"\"v1\"")),
        ("modified", revision("modified", b"Sun, 01 Mar 2026 00:00:00 GMT")),
        ("neither", revision("archive", b"bytes")),
        ("away", revision("etag", b"\"v1\"")),
    ] {
        assert_eq!(ask(case).await, Ok(expected), "{case}");
    }
}

#[tokio::test]
async fn failures_have_their_reasons() {
    for (case, reason) in [
        ("private", Reason::SourceAuthFailed),
        ("denied", Reason::SourceAuthFailed),
        ("gone", Reason::SourceNotFound),
        ("busy", Reason::SourceUnreachable),
        ("loop", Reason::SourceUnreachable),
        ("nowhere", Reason::NotAllowed),
        ("large", Reason::SourceRejected),
    ] {
        assert_eq!(ask(case).await.unwrap_err().reason, reason, "{case}");
    }
    assert_eq!(ask("busy").await.unwrap_err().retry_after, Some(std::time::Duration::from_secs(77)));
    assert!(ask("large").await.unwrap_err().message.contains("name its sha256"));
}

#[tokio::test]
async fn credentials_go_to_the_hosts_that_are_named() {
    let (own, seen) = serve().await;
    let url = |path: &str| format!("http://{own}/{path}");
    let here = secret("127.0.0.1");
    assert!(client().ask(&url("private"), Some(("web", &here))).await.is_ok());
    seen.lock().unwrap().clear();
    let elsewhere = secret("files.example.com");
    let failure = client().ask(&url("private"), Some(("web", &elsewhere))).await.unwrap_err();
    assert_eq!(failure.reason, Reason::CredentialHostMismatch);
    assert!(seen.lock().unwrap().is_empty(), "nothing was sent");
    for (hosts, followed) in [("127.0.0.1", None), ("127.0.0.1 localhost", Some("Bearer t0k"))] {
        seen.lock().unwrap().clear();
        assert!(client().ask(&url("away"), Some(("web", &secret(hosts)))).await.is_ok());
        let seen = seen.lock().unwrap();
        let to = |name: &str| {
            seen.iter()
                .filter(|(host, _)| host.starts_with(name))
                .map(|(_, sent)| sent.as_deref())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (to("127.0.0.1"), to("localhost")),
            (vec![Some("Bearer t0k")], vec![followed]),
            "{hosts}"
        );
    }
}
