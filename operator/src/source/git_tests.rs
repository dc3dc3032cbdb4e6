//! Look-ups against a server of our own on loopback: a mock, because no real git server misbehaves so.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use robotimage_crds::reason::Reason;

use super::{GitClient, GitCredentials, GitQuestion, SourceFailure};
use crate::config::Platform;
use crate::observe::Revision;

const COMMIT: &str = "4be1c2d0aa11bb22cc33dd44ee55ff6677889900";
const ADVERTISED: &str = "001e# service=git-upload-pack\n0000000eversion 2\n0000";

/// What the mock server does, by the first part of the path.
struct Mock {
    requests: AtomicU32,
    own: SocketAddr,
}

fn git(kind: &str, body: impl Into<Body>) -> Response {
    ([("content-type", format!("application/x-git-upload-pack-{kind}"))], body.into()).into_response()
}

async fn answer(State(mock): State<Arc<Mock>>, headers: HeaderMap, request: Request) -> Response {
    mock.requests.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    let case = path.split('/').nth(1).unwrap_or_default().to_owned();
    let port = mock.own.port();
    if path.ends_with("/git-upload-pack") {
        return match case.as_str() {
            "huge" => git("result", Body::from(vec![b'x'; 2 * 1024 * 1024])),
            "lies" => git("result", "0006x\n<script>secret</script>"),
            _ => git("result", format!("003d{COMMIT} refs/heads/main\n0000")),
        };
    }
    match case.as_str() {
        "private" if headers.get("authorization").and_then(|value| value.to_str().ok()) != Some("Basic YWRhOnB3") => {
            StatusCode::UNAUTHORIZED.into_response()
        }
        "denied" => StatusCode::FORBIDDEN.into_response(),
        "gone" => StatusCode::NOT_FOUND.into_response(),
        "busy" => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "77")]).into_response(),
        "page" => ([("content-type", "text/html")], "<html>").into_response(),
        "moved" => (
            StatusCode::FOUND,
            [("location", "/ok/info/refs?service=git-upload-pack".to_owned())],
        )
            .into_response(),
        "loop" => (
            StatusCode::FOUND,
            [("location", "/loop/info/refs?service=git-upload-pack".to_owned())],
        )
            .into_response(),
        "away" => (
            StatusCode::FOUND,
            [("location", format!("http://localhost:{port}/ok/info/refs?service=git-upload-pack"))],
        )
            .into_response(),
        _ => git("advertisement", ADVERTISED),
    }
}

async fn serve() -> (SocketAddr, Arc<Mock>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap();
    let mock = Arc::new(Mock {
        requests: AtomicU32::new(0),
        own,
    });
    let router = Router::new().fallback(answer).with_state(Arc::clone(&mock));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (own, mock)
}

fn client(extra: &str) -> GitClient {
    let text = format!("builderImage: a\nbase: {{image: b}}\nrcc: {{image: c}}\n{extra}");
    GitClient::new(Arc::new(
        Platform::new(Platform::parse(&text).unwrap(), String::new(), None).unwrap(),
    ))
    .unwrap()
}

fn open() -> GitClient {
    client("plainHttp: [127.0.0.1, localhost]\naddressPolicy: {allow: [127.0.0.0/8, '::1']}\n")
}

fn question(url: String, branch: &str) -> GitQuestion {
    GitQuestion {
        url,
        branch: Some(branch.to_owned()),
        tag: None,
        semver: None,
    }
}

fn secret(pairs: &[(&str, &str)]) -> GitCredentials {
    let data = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), k8s_openapi::ByteString(value.as_bytes().to_vec())))
        .collect();
    GitCredentials::of("git", &data).unwrap()
}

async fn ask(case: &str, branch: &str) -> Result<Revision, SourceFailure> {
    let (own, _) = serve().await;
    open().ask(&question(format!("http://{own}/{case}"), branch), None).await
}

#[tokio::test]
async fn a_branch_is_found() {
    for case in ["ok", "ok/", "moved"] {
        assert_eq!(ask(case, "main").await.unwrap().commit, COMMIT, "{case}");
    }
    assert_eq!(ask("ok", "other").await.unwrap_err().reason, Reason::GitRevisionNotFound);
}

#[tokio::test]
async fn failures_have_their_reasons_and_tell_nothing_of_a_body() {
    for (case, reason) in [
        ("private", Reason::GitAuthFailed),
        ("denied", Reason::GitAuthFailed),
        ("gone", Reason::SourceNotFound),
        ("page", Reason::SourceNotFound),
        ("busy", Reason::SourceUnreachable),
        ("loop", Reason::SourceUnreachable),
        ("away", Reason::NotAllowed),
        ("huge", Reason::SourceRejected),
        ("lies", Reason::SourceUnreachable),
    ] {
        let failure = ask(case, "main").await.unwrap_err();
        assert_eq!(failure.reason, reason, "{case}: {failure}");
        assert!(!failure.message.contains('<'), "{failure}");
    }
    assert_eq!(
        ask("busy", "main").await.unwrap_err().retry_after,
        Some(std::time::Duration::from_secs(77))
    );
}

#[tokio::test]
async fn credentials_go_to_their_host_only() {
    let (own, mock) = serve().await;
    let question = question(format!("http://{own}/private"), "main");
    let named = secret(&[("username", "ada"), ("password", "pw"), ("hosts", "127.0.0.1")]);
    assert_eq!(open().ask(&question, Some(("git", &named))).await.unwrap().commit, COMMIT);
    let before = mock.requests.load(Ordering::SeqCst);
    let other = secret(&[("username", "ada"), ("password", "pw"), ("hosts", "git.example.com")]);
    assert_eq!(
        open().ask(&question, Some(("git", &other))).await.unwrap_err().reason,
        Reason::CredentialHostMismatch
    );
    assert_eq!(mock.requests.load(Ordering::SeqCst), before, "nothing was sent");
    let wrong = secret(&[("username", "ada"), ("password", "no"), ("hosts", "127.0.0.1")]);
    let failure = open().ask(&question, Some(("git", &wrong))).await.unwrap_err();
    assert!(
        failure.reason == Reason::GitAuthFailed && failure.message.contains("does not accept"),
        "{failure}"
    );
}

#[tokio::test]
async fn addresses_and_schemes_are_checked_before_anything_is_sent() {
    let (own, mock) = serve().await;
    let port = own.port();
    for (extra, url, reason) in [
        ("", format!("http://127.0.0.1:{port}/ok"), Reason::NotAllowed),
        (
            "plainHttp: [127.0.0.1]\n",
            format!("http://127.0.0.1:{port}/ok"),
            Reason::NotAllowed,
        ),
        (
            "plainHttp: [localhost]\n",
            format!("http://localhost:{port}/ok"),
            Reason::NotAllowed,
        ),
        (
            "addressPolicy: {allow: [127.0.0.0/8]}\n",
            format!("http://127.0.0.1:{port}/ok"),
            Reason::NotAllowed,
        ),
        (
            "addressPolicy: {allow: [127.0.0.0/8]}\n",
            format!("https://ada:pw@127.0.0.1:{port}/ok"),
            Reason::NotAllowed,
        ),
        (
            "addressPolicy: {allow: [127.0.0.0/8]}\n",
            format!("https://127.0.0.1:{port}/ok"),
            Reason::SourceUnreachable,
        ),
        ("", "no address".to_owned(), Reason::SourceRejected),
    ] {
        let failure = client(extra).ask(&question(url.clone(), "main"), None).await.unwrap_err();
        assert_eq!(failure.reason, reason, "{url}: {failure}");
        assert!(!failure.message.contains("pw"), "{failure}");
    }
    assert_eq!(mock.requests.load(Ordering::SeqCst), 0);
}
