//! `MockRegistry`: a registry in memory that can be told to misbehave, for faults that a real one does not show on
//! demand. What is not told to fail follows the distribution specification.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use robotimage_registry::digest::sha256;

/// What happens to a request.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// This answer instead.
    Answer(u16, Vec<(&'static str, String)>, String),
    /// The connection ends without an answer; nothing was done.
    Cut,
    /// The request is done, and the connection ends without an answer.
    DoneThenCut,
    /// The request's body is read up to this many bytes, which are kept, and the connection ends.
    CutAfter(usize),
    /// No answer for this long.
    Stall(Duration),
}

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: usize,
}

struct Rule {
    method: Method,
    part: &'static str,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) blobs: HashMap<(String, String), Bytes>,
    pub(crate) manifests: HashMap<(String, String), (Bytes, String)>,
    pub(crate) sessions: HashMap<String, Vec<u8>>,
    pub(crate) seen: Vec<Seen>,
    /// The token that is accepted; `None` lets everybody in.
    pub(crate) token: Option<String>,
    /// Value of `WWW-Authenticate`.
    pub(crate) challenge: String,
    /// What the token endpoint answers.
    pub(crate) token_answer: String,
    /// Base of the `Location` of upload sessions; empty is relative.
    pub(crate) session_base: String,
    /// Does a mount find its source?
    pub(crate) mounts: bool,
    rules: Vec<Rule>,
}

#[derive(Clone)]
pub(crate) struct MockRegistry {
    pub(crate) host: String,
    store: Arc<Mutex<Store>>,
}

impl MockRegistry {
    /// Starts it on a free port of 127.0.0.1. It ends with the test's runtime.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let registry = Self {
            host,
            store: Arc::default(),
        };
        let app = axum::Router::new().fallback(handle).with_state(registry.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        registry
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }

    /// The next `times` requests with that method whose path and query contain `part` meet `fault`.
    pub(crate) fn on(&self, method: Method, part: &'static str, times: usize, fault: Fault) {
        self.store().rules.push(Rule {
            method,
            part,
            times,
            fault,
        });
    }

    pub(crate) fn put_blob(&self, repository: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes).to_string();
        self.store()
            .blobs
            .insert((repository.to_owned(), digest.clone()), Bytes::copy_from_slice(bytes));
        digest
    }

    pub(crate) fn seen(&self, method: &Method, part: &str) -> Vec<Seen> {
        let all = self.store().seen.clone();
        all.into_iter()
            .filter(|seen| seen.method == *method && seen.target.contains(part))
            .collect()
    }
}

/// Ends the connection without a message of a panic hook.
fn cut() -> ! {
    std::panic::resume_unwind(Box::new("cut by the test"))
}

async fn handle(State(registry): State<MockRegistry>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let fault = {
        let mut store = registry.store();
        let rule = store
            .rules
            .iter_mut()
            .find(|rule| rule.times > 0 && rule.method == parts.method && target.contains(rule.part));
        rule.map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        })
    };
    let text = |name: header::HeaderName| parts.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    let mut seen = Seen {
        method: parts.method.clone(),
        target: target.clone(),
        authorization: text(header::AUTHORIZATION),
        body: 0,
    };
    if let Some(Fault::CutAfter(limit)) = fault {
        let mut stream = body.into_data_stream();
        let mut kept = Vec::new();
        while kept.len() < limit {
            kept.extend(futures::StreamExt::next(&mut stream).await.unwrap().unwrap());
        }
        kept.truncate(limit);
        seen.body = kept.len();
        registry.store().seen.push(seen);
        let session = target.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
        registry.store().sessions.insert(session, kept);
        cut()
    }
    if let Some(Fault::Answer(status, headers, content)) = &fault {
        // Answered before the body is read, as proxies do.
        registry.store().seen.push(seen);
        let mut response = (StatusCode::from_u16(*status).unwrap(), content.clone()).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(*name, value.parse().unwrap());
        }
        return response;
    }
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_else(|_| cut());
    seen.body = bytes.len();
    registry.store().seen.push(seen.clone());
    match fault {
        Some(Fault::Cut) => cut(),
        Some(Fault::Stall(time)) => tokio::time::sleep(time).await,
        _ => {}
    }
    let response = answer(
        &mut registry.store(),
        &parts.method,
        &target,
        &parts.headers,
        &bytes,
        seen.authorization.as_deref(),
    );
    if matches!(fault, Some(Fault::DoneThenCut)) {
        cut()
    }
    response
}

fn answer(store: &mut Store, method: &Method, target: &str, headers: &HeaderMap, body: &Bytes, authorization: Option<&str>) -> Response {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path == "/token" {
        return ([(header::CONTENT_TYPE, "application/json")], store.token_answer.clone()).into_response();
    }
    if let Some(token) = &store.token
        && authorization != Some(&format!("Bearer {token}"))
    {
        return (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, store.challenge.clone())]).into_response();
    }
    let parameter = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    };
    let rest = path.strip_prefix("/v2/").unwrap_or_default();
    if let Some((repository, session)) = rest.split_once("/blobs/uploads/") {
        return upload(store, method, repository, session, headers, body, &parameter);
    }
    if let Some((repository, digest)) = rest.split_once("/blobs/") {
        return match store.blobs.get(&(repository.to_owned(), digest.to_owned())) {
            Some(bytes) => blob(bytes, headers),
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    if let Some((repository, name)) = rest.split_once("/manifests/") {
        if method == Method::PUT {
            let kind = headers[header::CONTENT_TYPE].to_str().unwrap().to_owned();
            let digest = sha256(body).to_string();
            for name in [name.to_owned(), digest.clone()] {
                store.manifests.insert((repository.to_owned(), name), (body.clone(), kind.clone()));
            }
            return (StatusCode::CREATED, [("docker-content-digest", digest)]).into_response();
        }
        return match store.manifests.get(&(repository.to_owned(), name.to_owned())) {
            Some((bytes, kind)) => {
                let headers = [("docker-content-digest", sha256(bytes).to_string()), ("content-type", kind.clone())];
                (headers, bytes.clone()).into_response()
            }
            None => StatusCode::NOT_FOUND.into_response(),
        };
    }
    StatusCode::NOT_FOUND.into_response()
}

fn blob(bytes: &Bytes, headers: &HeaderMap) -> Response {
    let Some(range) = headers.get(header::RANGE) else {
        return bytes.clone().into_response();
    };
    let start: usize = range
        .to_str()
        .unwrap()
        .strip_prefix("bytes=")
        .unwrap()
        .trim_end_matches('-')
        .parse()
        .unwrap();
    let content = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
    (
        StatusCode::PARTIAL_CONTENT,
        [(header::CONTENT_RANGE, content)],
        Body::from(bytes.slice(start..)),
    )
        .into_response()
}

fn upload(
    store: &mut Store,
    method: &Method,
    repository: &str,
    session: &str,
    headers: &HeaderMap,
    body: &Bytes,
    parameter: &dyn Fn(&str) -> Option<String>,
) -> Response {
    let location = |session: &str| {
        (
            header::LOCATION,
            format!("{}/v2/{repository}/blobs/uploads/{session}?state=s", store.session_base),
        )
    };
    if method == Method::POST {
        if let (Some(digest), Some(from), true) = (parameter("mount"), parameter("from"), store.mounts)
            && let Some(bytes) = store.blobs.get(&(from, digest.clone())).cloned()
        {
            store.blobs.insert((repository.to_owned(), digest), bytes);
            return StatusCode::CREATED.into_response();
        }
        let session = format!("s{}", store.sessions.len());
        let answer = (StatusCode::ACCEPTED, [location(&session)]).into_response();
        store.sessions.insert(session, Vec::new());
        return answer;
    }
    let location = location(session);
    let Some(content) = store.sessions.get_mut(session) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let range = |content: &[u8]| (header::RANGE, format!("0-{}", content.len().saturating_sub(1)));
    if method == Method::GET {
        return (StatusCode::NO_CONTENT, [location, range(content)]).into_response();
    }
    if let Some(sent) = headers.get(header::CONTENT_RANGE)
        && !sent.to_str().unwrap().starts_with(&format!("{}-", content.len()))
    {
        return (StatusCode::RANGE_NOT_SATISFIABLE, [location, range(content)]).into_response();
    }
    content.extend_from_slice(body);
    if method == Method::PATCH {
        return (StatusCode::ACCEPTED, [location, range(content)]).into_response();
    }
    let bytes = Bytes::from(store.sessions.remove(session).unwrap());
    let digest = parameter("digest").unwrap();
    if sha256(&bytes).to_string() != digest {
        let body = r#"{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match uploaded content"}]}"#;
        return (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    }
    store.blobs.insert((repository.to_owned(), digest.clone()), bytes);
    (StatusCode::CREATED, [("docker-content-digest", digest)]).into_response()
}
