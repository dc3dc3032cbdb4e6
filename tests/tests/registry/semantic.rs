//! Twenty-two cases in which an answer means something. What the real registry does by itself is not injected.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use robotimage_crds::reason::Reason;
use robotimage_registry::{BlobSource, ClientOptions, MediaType, PushOutcome, RetryPolicy, digest, json};
use robotimage_tests::faultproxy::{Door, Fault, Head, Reply, Rule, Seen};
use robotimage_tests::tokenservice::User;
use serde_json::json;

use crate::ground::{Case, Ground, base_layer, descriptor, push_image, reason};
use crate::steps::Step;
use crate::table::{Row, caught};
use crate::tags::{immutable_and_other, immutable_and_same, subject, superseded, two_writers};

pub(crate) const LASTING: usize = usize::MAX;

/// A case: its name, what is injected, what must come of it.
type Told = (&'static str, &'static str, &'static str);

macro_rules! cases {
    ($($told:expr => $work:ident,)+) => {
        [$(($told, (|ground, name| $work(ground, name).boxed()) as fn(Arc<Ground>, String) -> BoxFuture<'static, String>),)+]
    };
}

/// All of them, numbered from `first`.
pub(crate) async fn all(ground: &Arc<Ground>, first: usize) -> Vec<Row> {
    let cases: [(Told, _); 22] = cases! {
        ("mount answered 202", "nothing: the source lacks the blob", "success with that session") => mount_opens_a_session,
        ("mount answered 404, 405", "404; 405", "success") => mount_is_unknown,
        ("mount answered 401", "nothing: the source may not be read", "success") => mount_is_not_allowed,
        ("PATCH: BLOB_UPLOAD_UNKNOWN", "the session is removed from the storage", "success with a new session") => session_is_gone,
        ("PUT: BLOB_UPLOAD_UNKNOWN, blob there", "404 after it was done", "success, sent once") => session_was_closed,
        ("PUT: BLOB_UNKNOWN, blob absent", "404", "success, sent again") => blob_did_not_arrive,
        ("PATCH: 416", "416 after 64 KiB", "success, resumed there") => stream_is_resumed,
        ("OCI-Chunk-Min-Length", "the header", "success, no smaller chunk") => chunks_are_large,
        ("POST?digest answered 202", "the parameter; the client sends none", "success with PUT") => post_with_a_digest,
        ("closing PUT answered 200, 202, 204", "the status after it was done", "success after HEAD") => other_statuses,
        ("MANIFEST_BLOB_UNKNOWN after HEAD said 200", "the lie of HEAD", "success, blob pushed again") => head_lied,
        ("collected between HEAD and manifest", "the blob is removed from the storage", "success, blob pushed again") => collected,
        ("immutable tag, same digest", "HEAD 404, then 400 as ECR says it", "success, nothing written") => immutable_and_same,
        ("immutable tag, other digest", "400 as ECR says it", "TagImmutable, image there by digest") => immutable_and_other,
        ("older build finishes last", "nothing", "Superseded, tag unchanged") => superseded,
        ("quota", "Harbor 500 and 400, 403, 413, 507 at POST and PUT", "StorageExceeded, no storm") => quota,
        ("manifest over 4 MiB", "nothing; nothing; 413", "RegistryProtocol, no tag") => manifest_too_large,
        ("no referrers API, two writers", "nothing", "success, none lost") => two_writers,
        ("subject without OCI-Subject", "nothing; the header", "success by the tag; without it") => subject,
        ("307, 308 to a blob store", "redirects of PUT, PATCH and GET", "success, no credentials there") => blob_store,
        ("token realm elsewhere", "nothing, with and without it being allowed", "NotAllowed; success") => realm_elsewhere,
        ("token not valid yet", "a token service whose clock is ahead", "success after waiting") => token_not_valid_yet,
    };
    let rows = cases.into_iter().enumerate().map(|(index, ((name, injected, must), work))| {
        let ground = Arc::clone(ground);
        async move {
            Row {
                number: first + index,
                name: name.to_owned(),
                injected: injected.to_owned(),
                must: must.to_owned(),
                did: caught(work(ground, format!("s{}", index + 1))).await,
            }
        }
    });
    futures::stream::iter(rows).buffered(8).collect().await
}

pub(crate) fn meets(case: &Case, times: usize, step: Step, fault: Fault) {
    let image = case.image.digest().to_string();
    case.proxy.rule(Rule::new(times, fault, move |request| step.is(request, &image)));
}

pub(crate) fn change(change: impl Fn(&mut Head) + Send + Sync + 'static) -> Fault {
    Fault::Change(Arc::new(change))
}

fn seen(case: &Case, method: &str, part: &str) -> Vec<Seen> {
    let mut all = case.proxy.seen();
    all.retain(|seen| seen.method == method && seen.target.contains(part) && seen.door == Door::Registry && seen.authorization.is_some());
    all
}

fn statuses(seen: &[Seen]) -> Vec<u16> {
    seen.iter().map(|seen| seen.status.unwrap_or(0)).collect()
}

pub(crate) async fn pushes_whole(case: &Case) {
    case.push().await.unwrap();
    case.assert_credentials_stayed();
    case.assert_whole().await;
}

fn base_source() -> BlobSource {
    BlobSource::from_bytes(base_layer())
}

async fn mount_opens_a_session(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let from = case.through("base/none");
    let client = case.client(case.options());
    let outcome = client.push_blob(&case.repository(), &base_source(), Some(&from)).await;
    assert!(matches!(outcome, Ok(PushOutcome::Uploaded { .. })), "{outcome:?}");
    assert_eq!(statuses(&seen(&case, "POST", "")), [202], "one session, that of the mount");
    pushes_whole(&case).await;
    "success with that session".to_owned()
}

async fn mount_is_unknown(ground: Arc<Ground>, name: String) -> String {
    for status in [404, 405] {
        let case = Case::new(&ground, &format!("{name}-{status}"), false).await;
        case.proxy.rule(Rule::new(LASTING, Fault::Answer(Reply::new(status)), |request| {
            request.target.contains("mount=")
        }));
        pushes_whole(&case).await;
        assert_eq!(seen(&case, "POST", "mount=").len(), 1);
    }
    "success".to_owned()
}

async fn mount_is_not_allowed(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let from = case.through("private/os");
    let client = case.client(case.options());
    let outcome = client.push_blob(&case.repository(), &base_source(), Some(&from)).await;
    assert!(matches!(outcome, Ok(PushOutcome::Uploaded { .. })), "{outcome:?}");
    let refused = statuses(&seen(&case, "POST", "mount="));
    assert!(!refused.is_empty() && refused.iter().all(|status| *status == 401), "{refused:?}");
    pushes_whole(&case).await;
    format!("success after {} refusals", refused.len())
}

async fn session_is_gone(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let sessions = ground.stored(&case.stored_name()).join("_uploads");
    let remove = move || std::fs::remove_dir_all(&sessions).unwrap();
    meets(&case, 1, Step::Patch, Fault::First(Arc::new(remove)));
    pushes_whole(&case).await;
    let patches = statuses(&seen(&case, "PATCH", ""));
    // The registry refuses before it has read everything, so its first answer may be lost.
    assert!(matches!(patches[..], [0 | 404, 202]), "{patches:?}");
    format!("success, PATCH answered {patches:?}")
}

async fn session_was_closed(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    meets(
        &case,
        1,
        Step::PutBlob,
        Fault::DoneThen(Reply::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")),
    );
    pushes_whole(&case).await;
    // The base is mounted; what refers to the image has a blob of its own.
    let puts = statuses(&seen(&case, "PUT", "/uploads/"));
    assert_eq!(puts, [201; 4]);
    "success, sent once".to_owned()
}

async fn blob_did_not_arrive(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let unknown = Reply::error(404, "BLOB_UNKNOWN", "blob unknown to registry");
    meets(&case, 1, Step::PutBlob, Fault::Answer(unknown));
    pushes_whole(&case).await;
    assert_eq!(seen(&case, "PUT", "/uploads/").len(), 5);
    "success, sent again".to_owned()
}

async fn stream_is_resumed(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let reply = Reply::new(416).with("range", "0-65535");
    meets(&case, 1, Step::Patch, Fault::Part(65_536, reply));
    pushes_whole(&case).await;
    let lengths: Vec<u64> = seen(&case, "PATCH", "").iter().map(|seen| seen.length).collect();
    assert_eq!(lengths, [200_000, 200_000 - 65_536]);
    format!("success, sent {lengths:?}")
}

async fn chunks_are_large(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    meets(
        &case,
        LASTING,
        Step::Post,
        change(|head| head.set("oci-chunk-min-length", "150000")),
    );
    pushes_whole(&case).await;
    let lengths: Vec<u64> = seen(&case, "PATCH", "").iter().map(|seen| seen.length).collect();
    assert_eq!(lengths, [200_000]);
    format!("success, chunks of {lengths:?}")
}

async fn post_with_a_digest(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let digest = digest::sha256(&case.image.small);
    let target = move |target: &str| {
        if target.contains('?') {
            target.to_owned()
        } else {
            format!("{target}?digest={digest}")
        }
    };
    meets(&case, LASTING, Step::Post, Fault::Target(Arc::new(target)));
    pushes_whole(&case).await;
    let posts = statuses(&seen(&case, "POST", "/uploads/"));
    assert_eq!(posts.iter().filter(|status| **status == 202).count(), 4, "{posts:?}");
    format!("success, POST answered {posts:?}")
}

async fn other_statuses(ground: Arc<Ground>, name: String) -> String {
    for status in [200, 202, 204] {
        let case = Case::new(&ground, &format!("{name}-{status}"), false).await;
        let changed = change(move |head| {
            head.set_status(status);
            head.remove("docker-content-digest");
            if status == 204 {
                head.remove("content-length");
            }
        });
        meets(&case, LASTING, Step::PutBlob, changed);
        pushes_whole(&case).await;
        assert_eq!(seen(&case, "PUT", "/uploads/").len(), 4, "{status}: nothing is sent twice");
        let small = digest::sha256(&case.image.small).to_string();
        assert_eq!(statuses(&seen(&case, "HEAD", &small)).last(), Some(&200), "{status}");
    }
    "success after HEAD".to_owned()
}

async fn head_lied(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let large = digest::sha256(&case.image.large).to_string();
    let lie = Reply {
        filler: case.image.large.len() as u64,
        ..Reply::new(200).with("docker-content-digest", &*large)
    };
    case.proxy.rule(Rule::new(LASTING, Fault::Answer(lie), move |request| {
        request.method == "HEAD" && request.target.contains(&large) && request.head.get("authorization").is_some()
    }));
    pushes_whole(&case).await;
    manifest_was_refused_first(&case)
}

async fn collected(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let small = digest::sha256(&case.image.small);
    let link = ground.stored(&case.stored_name()).join("_layers/sha256").join(small.digest());
    let remove = move || std::fs::remove_dir_all(&link).unwrap();
    meets(&case, 1, Step::PutManifest, Fault::First(Arc::new(remove)));
    pushes_whole(&case).await;
    manifest_was_refused_first(&case)
}

fn manifest_was_refused_first(case: &Case) -> String {
    let puts = statuses(&seen(case, "PUT", case.image.digest().as_ref()));
    assert_eq!((puts.len(), puts.last()), (2, Some(&201)), "{puts:?}");
    format!("success, manifest answered {puts:?}")
}

async fn quota(ground: Arc<Ground>, name: String) -> String {
    let harbor = "adding 1.0 MiB of storage resource, which when updated to current usage of 9.8 MiB will exceed the configured upper limit of 10.0 MiB.";
    let replies = [
        Reply::error(500, "UNKNOWN", harbor),
        Reply::error(400, "DENIED", harbor),
        Reply::error(403, "DENIED", "storage quota of the account is used up"),
        Reply::new(413),
        Reply::new(507),
    ];
    for (index, reply) in replies.into_iter().enumerate() {
        for step in [Step::Post, Step::PutBlob] {
            let case = Case::new(&ground, &format!("{name}-{index}-{step:?}").to_lowercase(), false).await;
            meets(&case, LASTING, step, Fault::Answer(reply.clone()));
            let error = case.push().await.unwrap_err();
            assert_eq!(reason(&error), Reason::StorageExceeded, "{error}");
            let hits = case.proxy.seen().iter().filter(|seen| seen.fault.is_some()).count();
            // Four blobs, one of them first as a mount; a denial is asked once more with a new token.
            assert!(hits <= 12, "{hits} requests");
            case.assert_no_tag().await;
        }
    }
    Reason::StorageExceeded.to_string()
}

async fn manifest_too_large(ground: Arc<Ground>, name: String) -> String {
    let mut told = Vec::new();
    for (index, limit) in [4 << 20, 64 << 20, 64 << 20].into_iter().enumerate() {
        let case = Case::new(&ground, &format!("{name}-{index}"), false).await;
        let mut manifest: serde_json::Value = serde_json::from_slice(&case.image.manifest).unwrap();
        if index < 2 {
            manifest["annotations"] = json!({"filler": "x".repeat(5 << 20)});
        } else {
            meets(&case, LASTING, Step::PutManifest, Fault::Answer(Reply::new(413)));
        }
        let mut image = case.image.built();
        image.manifest = json::canonical(&manifest).unwrap();
        drop(manifest);
        let options = ClientOptions {
            manifest_limit: limit,
            ..case.options()
        };
        let client = case.client(options);
        let error = push_image(&client, &case.repository(), &case.base(), &image).await.unwrap_err();
        // The real registry hangs up before it has read everything, and its answer may be lost by that.
        let own = index == 1 && reason(&error) == Reason::RegistryUnavailable;
        assert!(own || reason(&error) == Reason::RegistryProtocol, "{error}");
        case.assert_no_tag().await;
        let text = error.to_string();
        told.push(text.split("unexpected answer: ").nth(1).unwrap_or(&text).to_owned());
    }
    format!("RegistryProtocol: {}", told.join("; "))
}

async fn blob_store(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    meets(&case, LASTING, Step::PutBlob, Fault::Redirect(307, Door::Other));
    meets(&case, LASTING, Step::Patch, Fault::Redirect(308, Door::Other));
    case.proxy.rule(Rule::new(LASTING, Fault::Redirect(307, Door::Other), |request| {
        request.method == "GET" && request.target.contains("/blobs/sha256:") && request.door == Door::Registry
    }));
    pushes_whole(&case).await;
    let read = case.client(case.options());
    let large = descriptor(&MediaType::ImageLayer, &case.image.large);
    let found = read.blob_bytes(&case.repository(), &large, 1 << 20).await.unwrap();
    assert!(found == case.image.large);
    case.assert_credentials_stayed();
    let there = case.proxy.seen().iter().filter(|seen| seen.door == Door::Other).count();
    assert!(there >= 5, "{there} requests");
    format!("success, {there} requests there")
}

async fn realm_elsewhere(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    let options = |allowed: Vec<String>| ClientOptions {
        allowed_hosts: Some(allowed),
        ..case.options()
    };
    let error = case.push_with(options(Vec::new())).await.unwrap_err();
    assert_eq!(reason(&error), Reason::NotAllowed, "{error}");
    assert!(
        case.proxy
            .seen()
            .iter()
            .all(|seen| seen.door == Door::Registry && seen.authorization.is_none())
    );
    case.assert_no_tag().await;
    let allowed = vec![case.proxy.address(Door::Token).to_owned()];
    case.push_with(options(allowed)).await.unwrap();
    case.assert_whole().await;
    "NotAllowed; success".to_owned()
}

async fn token_not_valid_yet(ground: Arc<Ground>, name: String) -> String {
    let case = Case::new(&ground, &name, false).await;
    // The registry forgives a minute; two seconds more are waited for, a third of a second at a time.
    let user = User {
        ahead: 62,
        ..User::new("the first password")
    };
    ground.tokens.set(&name, user);
    let options = ClientOptions {
        retry: RetryPolicy {
            attempts: 30,
            ..case.options().retry
        },
        ..case.options()
    };
    case.push_with(options).await.unwrap();
    case.assert_whole().await;
    let refused = case
        .proxy
        .seen()
        .iter()
        .filter(|seen| seen.status == Some(401) && seen.authorization.is_some())
        .count();
    assert!(refused >= 2, "{refused} refusals");
    let tokens = case.proxy.seen().iter().filter(|seen| seen.door == Door::Token).count();
    format!("success after {refused} refusals of {tokens} tokens")
}
