//! Entry points of the fuzz targets: each takes what a stranger may send, and asserts what must hold whatever it is.
//!
//! Invariant: compiled for fuzzers and tests only. The tests run every kept input, so what a fuzzer once found stays mended
//! without a fuzzer being there.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageConfiguration};
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use url::Url;

use crate::answer::{ErrorDocument, classify};
use crate::auth::{Authorization, TokenAnswer};
use crate::challenge::{self, Challenge};
use crate::client::{Client, Fetched, media_type, next_page};
use crate::context::{Context, Operation};
use crate::credentials::Credentials;
use crate::documents::{Document, Offered, candidates, read};
use crate::download::content_range;
use crate::error::Error;
use crate::hosts::same_origin;
use crate::options::ClientOptions;
use crate::reference::Reference;
use crate::retry::{self, RetryPolicy};
use crate::{auth, digest, range};

/// Longest message that may reach a status or a log, in bytes.
const MESSAGE: usize = 2048;

fn context(operation: Operation) -> Context {
    Context {
        operation,
        host: "r.example.com".to_owned(),
        subject: "r.example.com/a:1".to_owned(),
    }
}

fn client() -> &'static Client {
    static CLIENT: OnceLock<Client> = OnceLock::new();
    CLIENT.get_or_init(|| Client::new(ClientOptions::default(), Credentials::none()).expect("the default settings are valid"))
}

/// A message is short and cannot steer a terminal or forge a line of a log.
fn fit_to_print(error: &Error) {
    let text = error.to_string();
    assert!(text.len() <= MESSAGE, "{} bytes: {text:.300}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// Text of a reference.
pub fn reference(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let reference = match Reference::parse(text) {
        Ok(reference) => reference,
        Err(error) => {
            assert!(!error.to_string().chars().any(char::is_control), "{error:?}");
            return;
        }
    };
    let shown = reference.to_string();
    assert_eq!(Reference::parse(&shown).as_ref(), Ok(&reference), "{shown}");
    let Ok(endpoint) = client().transport.hosts.endpoint(reference.registry()) else {
        return;
    };
    let path = format!("/v2/{}/manifests/{}", reference.repository(), reference.locator());
    let url = endpoint.join(&path).expect("a valid reference makes a URL");
    assert!(same_origin(&endpoint, &url) && url.path() == path && url.query().is_none(), "{url}");
}

/// Header values, one a line.
pub fn headers(data: &[u8]) {
    let mut challenges = HeaderMap::new();
    let origin = Url::parse("https://r.example.com/v2/a/blobs/uploads/").expect("a URL");
    let at = context(Operation::PushBlob);
    let now = jiff::Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(500_000);
    for line in data.split(|byte| *byte == b'\n') {
        let Ok(value) = HeaderValue::from_bytes(line) else { continue };
        challenges.append(WWW_AUTHENTICATE, value.clone());
        let wait = retry::retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value.clone())]), now);
        assert!(RetryPolicy::default().delay(1, u64::MAX, wait) <= Duration::from_secs(330));
        let location = HeaderMap::from_iter([(LOCATION, value.clone())]);
        match client().transport.location(&at, &origin, &origin, &location) {
            Ok(url) => assert!(
                url.scheme() == "https" && url.username().is_empty() && url.password().is_none(),
                "{url}"
            ),
            Err(error) => fit_to_print(&error),
        }
        let Ok(text) = value.to_str() else { continue };
        if let Some(held) = range::parse_received(text) {
            assert!(text.contains(&(held.saturating_sub(1)).to_string()) || held == 0, "{text}: {held}");
        }
        if let Some((first, whole)) = content_range(text) {
            assert!(whole.is_none_or(|whole| first < whole), "{text}");
        }
        if let Some(next) = next_page(text) {
            assert!(text.contains(&format!("<{next}>")), "{text}");
        }
    }
    if let Some(Challenge::Bearer { realm, .. }) = challenge::parse(&challenges) {
        assert!(!realm.is_empty());
    }
}

/// The body of a token service, and of an error.
pub fn answers(data: &[u8]) {
    let asked = tokio::time::Instant::now();
    if let Ok(answer) = serde_json::from_slice::<TokenAnswer>(data)
        && let Some(token) = answer.into_token(asked)
    {
        assert!(token.fresh_until >= asked && token.fresh_until - asked <= Duration::from_hours(24));
        if let Some(header) = Authorization::bearer(&token.value) {
            assert!(header.header.is_sensitive());
        }
    }
    if let Ok(token) = std::str::from_utf8(data) {
        let _valid_from = auth::not_before(token);
    }
    let document: ErrorDocument = serde_json::from_slice(data).unwrap_or_default();
    for operation in [
        Operation::PullManifest,
        Operation::PushBlob,
        Operation::PushManifest,
        Operation::PushTag,
    ] {
        for status in [400, 401, 403, 404, 405, 413, 429, 500, 503] {
            let status = StatusCode::from_u16(status).expect("a status");
            let error = classify(&context(operation), status, &document, &["hunter2".to_owned()], None, false);
            fit_to_print(&error);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}

/// Documents of an image: the first byte says what kind the registry calls it, the rest is the document.
pub fn documents(data: &[u8]) {
    const KINDS: [&str; 6] = [
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "text/html; charset=utf-8",
    ];
    let Some((first, document)) = data.split_first() else { return };
    let at = context(Operation::PullManifest);
    let Some(media_type) = media_type(document, Some(KINDS[usize::from(*first) % KINDS.len()])) else {
        return;
    };
    let fetched = Fetched {
        bytes: Bytes::copy_from_slice(document),
        digest: digest::sha256(document),
        media_type,
    };
    match read(&at, &fetched) {
        Ok(Document::Index(index)) => {
            let chosen = candidates(&index, "linux", "amd64");
            assert!(chosen.len() <= index.manifests().len());
            let mut offered = Offered::default();
            offered.add_index(&index);
            fit_to_print(&Error::PlatformMissing {
                at: Box::new(at.clone()),
                wanted: "linux/amd64".to_owned(),
                offered: offered.list(),
            });
        }
        Ok(Document::Manifest(manifest)) => {
            let ours = |layer: &Descriptor| layer.media_type().to_string().starts_with("application/vnd.oci.image.layer.v1.tar");
            assert!(manifest.layers().iter().all(ours), "{:?}", manifest.layers());
        }
        Ok(Document::Artifact(kind)) => assert!(!kind.chars().any(char::is_control), "{kind:?}"),
        Err(error) => fit_to_print(&error),
    }
    let _is_a_configuration = serde_json::from_slice::<ImageConfiguration>(document).is_ok();
}

/// A docker configuration with credentials.
pub fn credentials(data: &[u8]) {
    match Credentials::from_docker_config(data) {
        Ok(credentials) => {
            for (host, repository) in [
                ("r.example.com", "team/robots"),
                ("docker.io", "library/debian"),
                ("127.0.0.1:5000", "a"),
            ] {
                if let Some(secret) = credentials.lookup(host, repository) {
                    assert!(format!("{secret:?}").contains("***"));
                }
            }
            // No key is one for nobody, whatever stars it holds.
            assert!(credentials.lookup("", "").is_none());
        }
        Err(error) => assert!(
            error.to_string().len() <= MESSAGE && !error.to_string().chars().any(char::is_control),
            "{error:?}"
        ),
    }
}

#[cfg(test)]
mod tests {
    type Target = fn(&[u8]);

    #[test]
    fn kept_inputs() {
        let targets: [(&str, Target); 5] = [
            ("reference", super::reference),
            ("headers", super::headers),
            ("answers", super::answers),
            ("documents", super::documents),
            ("credentials", super::credentials),
        ];
        for (target, run) in targets {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("../../fuzz/seeds")
                .join(target);
            let mut count = 0;
            for entry in std::fs::read_dir(&folder).unwrap() {
                run(&std::fs::read(entry.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "no inputs in {}", folder.display());
        }
    }
}
