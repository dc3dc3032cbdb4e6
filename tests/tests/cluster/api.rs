//! The API on a real API server, without any operator: what is refused and in which words, what is accepted, what one sees.

use std::process::Output;
use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams, ValidationDirective};
use kube::core::response::StatusSummary;
use robotimage_crds::api::RobotImage;
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::{Bed, Namespace};
use serde_json::{Value, json};

use crate::objects::merge;
use crate::setup::install_definition;

/// Makes a base object bad (or differently good) by a JSON merge patch.
struct Case {
    name: &'static str,
    change: Value,
    /// What the refusal must say, besides the field.
    field: &'static str,
    says: &'static str,
}

fn case(name: &'static str, change: Value, field: &'static str, says: &'static str) -> Case {
    Case { name, change, field, says }
}

/// The smallest valid object: a source and a repository.
fn smallest() -> Value {
    json!({
        "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage",
        "metadata": {"name": "invoices"},
        "spec": {
            "source": {"git": {"url": "https://git.example.com/rpa/invoices.git"}},
            "image": {"repository": "registry.example.com/robots/invoices"},
        },
    })
}

fn changed(change: &Value) -> Value {
    let mut object = smallest();
    merge(&mut object, change);
    object
}

async fn namespace() -> (std::sync::Arc<Bed>, Namespace) {
    let bed = Bed::shared().await.expect("a test bed");
    install_definition(&bed).await;
    let namespace = Namespace::fresh(&bed, "api").await.expect("a namespace");
    (bed, namespace)
}

/// What the server says to an object: its refusal, or nothing.
async fn said(namespace: &Namespace, object: &Value) -> Result<(), String> {
    let mut params = PatchParams::apply("api-suite").force();
    params.dry_run = true;
    params.field_validation = Some(ValidationDirective::Strict);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    match namespace.api::<RobotImage>().patch(name, &params, &Patch::Apply(object)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.status == Some(StatusSummary::Failure) => Err(status.message),
        Err(other) => panic!("not an answer of the API server: {other}"),
    }
}

fn many(count: usize, value: &str) -> Value {
    (0..count)
        .map(|number| (format!("key-{number}"), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Every rule and every bound of the schema, broken one by one.
#[rustfmt::skip] // One line a row.
fn refused() -> Vec<Case> {
    let source = |value: Value| json!({"spec": {"source": value}});
    let git = |value: Value| json!({"spec": {"source": {"git": value}}});
    let image = |value: Value| json!({"spec": {"image": value}});
    let robot = |value: Value| json!({"spec": {"robot": value}});
    let build = |value: Value| json!({"spec": {"build": value}});
    let long = |length: usize| "a".repeat(length);
    let label = |value: Value| json!({"spec": {"image": {"labels": value}}});
    vec![
        // What must be there.
        case("no spec", json!({"spec": null}), "spec", "Required"),
        case("no source", json!({"spec": {"source": null}}), "spec.source", "Required"),
        case("no image", json!({"spec": {"image": null}}), "spec.image", "Required"),
        case("no repository", image(json!({"repository": null})), "spec.image.repository", "Required"),
        case("a source of no kind", source(json!({"git": null, "path": "a"})), "spec.source", "exactly one source must be set: git"),
        case("git without url", git(json!({"url": null})), "spec.source.git.url", "Required"),
        case("two sources", source(json!({"oci": {"image": "registry.example.com/a:1"}})), "spec.source", "exactly one source must be set: git, http, oci or configMap"),
        case("http without url", source(json!({"git": null, "http": {"sha256": "0".repeat(64)}})), "spec.source.http.url", "Required"),
        case("user in the url of an archive", source(json!({"git": null, "http": {"url": "https://a:b@example.com/a.zip"}})), "spec.source.http.url", "should match"),
        case("a short checksum of an archive", source(json!({"git": null, "http": {"url": "https://example.com/a.zip", "sha256": "abc"}})), "spec.source.http.sha256", "should be at least 64 chars long"),
        case("an artifact with a scheme", source(json!({"git": null, "oci": {"image": "oci://example.com/a b"}})), "spec.source.oci.image", "should match"),
        case("a ConfigMap without a name", source(json!({"git": null, "configMap": {}})), "spec.source.configMap.name", "Required"),
        case("very many patterns", source(json!({"ignore": {"patterns": long(8193)}})), "spec.source.ignore.patterns", "Too long"),
        case("an unknown source", source(json!({"git": null, "svn": {"url": "https://x.example.com"}})), "spec.source.svn", "field not declared"),
        // Names and unknown fields.
        case("a name of 64 letters", json!({"metadata": {"name": long(64)}}), "RobotImage", "size(self.metadata.name) <= 63"),
        case("an unknown field", json!({"spec": {"intervall": "5m"}}), "spec.intervall", "field not declared"),
        case("an unknown field, deep", git(json!({"ref": {"brunch": "main"}})), "spec.source.git.ref.brunch", "field not declared"),
        // Interval.
        case("interval 1s", json!({"spec": {"interval": "1s"}}), "spec.interval", "interval must be at least 10s"),
        case("interval 9999ms", json!({"spec": {"interval": "9999ms"}}), "spec.interval", "interval must be at least 10s"),
        case("interval in days", json!({"spec": {"interval": "1d"}}), "spec.interval", "should match"),
        case("negative interval", json!({"spec": {"interval": "-10s"}}), "spec.interval", "should match"),
        case("interval as a number", json!({"spec": {"interval": 300}}), "spec.interval", "expected string"),
        case("a very long interval", json!({"spec": {"interval": "1s".repeat(11)}}), "spec.interval", "Too long"),
        // Source.
        case("user in the url", git(json!({"url": "https://me:secret@git.example.com/a.git"})), "spec.source.git.url", "should match"),
        case("ssh address", git(json!({"url": "git@git.example.com:a.git"})), "spec.source.git.url", "should match"),
        case("file url", git(json!({"url": "file:///etc/passwd"})), "spec.source.git.url", "should match"),
        case("url without a host", git(json!({"url": "https:///a.git"})), "spec.source.git.url", "url must be a valid https URL"),
        case("url with a blank", git(json!({"url": "https://git.example.com/a b.git"})), "spec.source.git.url", "should match"),
        case("url with a newline", git(json!({"url": "https://git.example.com/a\n.git"})), "spec.source.git.url", "should match"),
        case("url with a backslash", git(json!({"url": "https://git.example.com\\@evil.example.com"})), "spec.source.git.url", "should match"),
        case("a very long url", git(json!({"url": format!("https://git.example.com/{}", long(1024))})), "spec.source.git.url", "Too long"),
        case("two refs", git(json!({"ref": {"branch": "main", "tag": "v1"}})), "spec.source.git.ref", "exactly one of branch, tag, semver and commit must be set"),
        case("three refs", git(json!({"ref": {"branch": "a", "tag": "b", "commit": "0".repeat(40)}})), "spec.source.git.ref", "exactly one of branch, tag, semver and commit"),
        case("an empty ref", git(json!({"ref": {}})), "spec.source.git.ref", "exactly one of branch, tag, semver and commit must be set"),
        case("branch like an option", git(json!({"ref": {"branch": "--upload-pack=x"}})), "spec.source.git.ref.branch", "should match"),
        case("branch with a blank", git(json!({"ref": {"branch": "my branch"}})), "spec.source.git.ref.branch", "should match"),
        case("tag with a caret", git(json!({"ref": {"tag": "v1^{}"}})), "spec.source.git.ref.tag", "should match"),
        case("empty tag", git(json!({"ref": {"tag": ""}})), "spec.source.git.ref.tag", "should be at least 1 chars long"),
        case("a tag and a version", git(json!({"ref": {"tag": "v1", "semver": "^1"}})), "spec.source.git.ref", "exactly one of branch, tag, semver and commit"),
        case("a version that is none", git(json!({"ref": {"semver": "v1/x"}})), "spec.source.git.ref.semver", "should match"),
        case("a short commit", git(json!({"ref": {"commit": "4be1c2d"}})), "spec.source.git.ref.commit", "should be at least 40 chars long"),
        case("a commit in capitals", git(json!({"ref": {"commit": "A".repeat(40)}})), "spec.source.git.ref.commit", "should match"),
        case("absolute path", source(json!({"path": "/etc"})), "spec.source.path", "should match"),
        case("path upwards", source(json!({"path": "robots/../../etc"})), "spec.source.path", "path must stay inside the source"),
        case("path into .git", source(json!({"path": "robots/.git/hooks"})), "spec.source.path", "path must stay inside the source"),
        case("empty path", source(json!({"path": ""})), "spec.source.path", "should be at least 1 chars long"),
        case("Secret with a path", git(json!({"secretRef": {"name": "../other"}})), "spec.source.git.secretRef.name", "should match"),
        case("Secret of another namespace", git(json!({"secretRef": {"name": "a", "namespace": "kube-system"}})), "spec.source.git.secretRef.namespace", "field not declared"),
        case("Secret without a name", git(json!({"secretRef": {}})), "spec.source.git.secretRef.name", "Required"),
        // Robot.
        case("robot file that is no YAML", robot(json!({"file": "robot.json"})), "spec.robot.file", "should match"),
        case("absolute robot file", robot(json!({"file": "/robot.yaml"})), "spec.robot.file", "should match"),
        case("robot file upwards", robot(json!({"file": "../robot.yaml"})), "spec.robot.file", "robot.file must stay inside source.path"),
        case("empty task", robot(json!({"task": ""})), "spec.robot.task", "should be at least 1 chars long"),
        case("task with a newline", robot(json!({"task": "a\nb"})), "spec.robot.task", "should match"),
        case("a very long task", robot(json!({"task": long(257)})), "spec.robot.task", "Too long"),
        // Image.
        case("tag in the repository", image(json!({"repository": "registry.example.com/robots/a:v1"})), "spec.image.repository", "should match"),
        case("digest in the repository", image(json!({"repository": format!("registry.example.com/a@sha256:{}", "0".repeat(64))})), "spec.image.repository", "should match"),
        case("scheme in the repository", image(json!({"repository": "https://registry.example.com/a"})), "spec.image.repository", "should match"),
        case("repository without a host", image(json!({"repository": "invoices"})), "spec.image.repository", "should match"),
        case("capitals in the repository", image(json!({"repository": "registry.example.com/Robots"})), "spec.image.repository", "should match"),
        case("eleven tags", image(json!({"tags": vec!["a"; 11]})), "spec.image.tags", "must have at most 10 items"),
        case("tag with a slash", image(json!({"tags": ["a/b"]})), "spec.image.tags[0]", "should match"),
        case("unknown template", image(json!({"tags": ["v1", "{{build.number}}"]})), "spec.image.tags[1]", "should match"),
        case("a very long tag", image(json!({"tags": [long(129)]})), "spec.image.tags[0]", "Too long"),
        case("two platforms", image(json!({"platforms": ["linux/amd64", "linux/amd64"]})), "spec.image.platforms", "must have at most 1 item"),
        case("another platform", image(json!({"platforms": ["linux/arm64"]})), "spec.image.platforms[0]", "supported values: \"linux/amd64\""),
        case("no platform", image(json!({"platforms": []})), "spec.image.platforms", "should have at least 1 items"),
        case("base with a blank", image(json!({"base": {"image": "debian slim"}})), "spec.image.base.image", "should match"),
        case("rcc twice", image(json!({"rcc": {"image": "a/rcc:1", "http": {"url": "https://a.example.com/rcc", "sha256": "0".repeat(64)}}})), "spec.image.rcc", "exactly one of image and http must be set"),
        case("rcc from nowhere", image(json!({"rcc": {"secretRef": {"name": "a"}}})), "spec.image.rcc", "exactly one of image and http must be set"),
        case("rcc without a checksum", image(json!({"rcc": {"http": {"url": "https://a.example.com/rcc"}}})), "spec.image.rcc.http.sha256", "Required"),
        case("rcc with a bad checksum", image(json!({"rcc": {"http": {"url": "https://a.example.com/rcc", "sha256": "z".repeat(64)}}})), "spec.image.rcc.http.sha256", "should match"),
        case("password in rcc's url", image(json!({"rcc": {"http": {"url": "https://a:b@a.example.com/rcc", "sha256": "0".repeat(64)}}})), "spec.image.rcc.http.url", "should match"),
        case("another compression", image(json!({"compression": "xz"})), "spec.image.compression", "supported values: \"gzip\", \"zstd\""),
        case("user by name", image(json!({"user": "root"})), "spec.image.user", "should match"),
        case("too many labels", label(many(33, "x")), "spec.image.labels", "must have at most 32 items"),
        case("a label that is too long", label(json!({"a": long(513)})), "spec.image.labels.a", "Too long"),
        case("a label that is a number", label(json!({"a": 1})), "spec.image.labels.a", "expected string"),
        case("too many annotations", image(json!({"annotations": many(33, "x")})), "spec.image.annotations", "must have at most 32 items"),
        case("compatibility of the future", image(json!({"compatibility": 2})), "spec.image.compatibility", "should be less than or equal to 1"),
        // Build.
        case("timeout 9s", build(json!({"timeout": "9s"})), "spec.build.timeout", "build.timeout must be between 10s and 24h"),
        case("timeout 25h", build(json!({"timeout": "25h"})), "spec.build.timeout", "build.timeout must be between 10s and 24h"),
        case("bad quantity", build(json!({"resources": {"limits": {"memory": "2 GB"}}})), "spec.build.resources", "each a quantity above zero"),
        case("no memory at all", build(json!({"resources": {"limits": {"memory": "0"}}})), "spec.build.resources", "each a quantity above zero"),
        case("negative cpu", build(json!({"resources": {"requests": {"cpu": "-1"}}})), "spec.build.resources", "each a quantity above zero"),
        case("a resource of another kind", build(json!({"resources": {"requests": {"nvidia.com/gpu": "1"}}})), "spec.build.resources", "only cpu, memory and ephemeral-storage"),
        case("too many resources", build(json!({"resources": {"requests": many(4, "1")}})), "spec.build.resources.requests", "must have at most 3 items"),
        // History.
        case("no history", json!({"spec": {"history": {"succeeded": 0}}}), "spec.history.succeeded", "should be greater than or equal to 1"),
        case("too much history", json!({"spec": {"history": {"failed": 11}}}), "spec.history.failed", "should be less than or equal to 10"),
        case("half a history", json!({"spec": {"history": {"failed": 1.5}}}), "spec.history.failed", "integer"),
    ]
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn bad_objects_are_refused_and_the_message_names_the_field() {
    let (_bed, namespace) = namespace().await;
    let mut wrong = Vec::new();
    let cases = refused();
    for Case { name, change, field, says } in &cases {
        match said(&namespace, &changed(change)).await {
            Ok(()) => wrong.push(format!("{name}: was accepted")),
            // Strict validation names unknown fields with a leading dot, the schema's own checks without.
            Err(message) if message.contains(field) && message.contains(says) => {}
            Err(message) => wrong.push(format!("{name}: does not name {field} or say {says:?}: {message}")),
        }
    }
    println!("{} bad objects were refused", cases.len() - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    namespace.delete().await.unwrap();
}

/// Everything that can be said, at its bounds.
fn whole() -> Value {
    changed(&json!({"metadata": {"name": "a".repeat(63)}, "spec": {
        "suspend": false, "interval": "10s",
        "source": {"path": "robots/invoice-reader", "git": {
            "url": "https://git.example.com:8443/rpa/invoices", "ref": {"branch": "feature/länge_1.x"}, "secretRef": {"name": "git.credentials"}}},
        "robot": {"file": "deep/er/robot.yml", "task": "Read ÄÖ invoices: all"},
        "image": {
            "repository": "10.0.0.1:5000/robots/invoice__reader-x.y", "tags": ["{{source.short}}", "v1-{{ source.short }}", "a", "b", "c", "d", "e", "f", "g", "latest"],
            "secretRef": {"name": "push"}, "pullSecretRef": {"name": "pull"}, "platforms": ["linux/amd64"],
            "base": {"image": format!("registry.example.com:5000/base/debian:slim@sha256:{}", "0".repeat(64)), "secretRef": {"name": "base"}},
            "rcc": {"http": {"url": "https://downloads.example.com/rcc", "sha256": "0".repeat(64)}, "secretRef": {"name": "rcc"}},
            "compression": "zstd", "user": "1000:0", "compatibility": 1,
            "labels": many(32, &"x".repeat(512)), "annotations": many(32, "{{source.short}}"),
        },
        "build": {"timeout": "24h", "resources": {
            "requests": {"cpu": "100m", "memory": "1Gi", "ephemeral-storage": "1G"}, "limits": {"cpu": "1.5", "memory": "2Gi"}}},
        "history": {"succeeded": 10, "failed": 1},
    }}))
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn good_objects_are_accepted() {
    let (_bed, namespace) = namespace().await;
    let source = |value: Value| changed(&json!({"spec": {"source": value}}));
    let git = |value: Value| source(json!({"git": value}));
    for (name, object) in [
        ("the smallest", smallest()),
        ("the whole", whole()),
        ("by version", git(json!({"ref": {"semver": ">=1.0 <2"}}))),
        ("by tag", git(json!({"ref": {"tag": "v1.0"}}))),
        (
            "by commit",
            git(json!({"ref": {"commit": "0123456789abcdef0123456789abcdef01234567"}})),
        ),
        (
            "plain http, which the platform may allow",
            git(json!({"url": "http://git.example.com/a.git"})),
        ),
        (
            "an archive",
            source(
                json!({"git": null, "http": {"url": "https://files.example.com/a.zip", "sha256": "0".repeat(64), "secretRef": {"name": "web"}}}),
            ),
        ),
        (
            "an artifact",
            source(json!({"git": null, "oci": {"image": "registry.example.com/a:1", "secretRef": {"name": "oci"}}})),
        ),
        ("a ConfigMap", source(json!({"git": null, "configMap": {"name": "robot"}}))),
        (
            "files that are left out",
            source(json!({"ignore": {"patterns": "*.md\n!README.md\n", "fromRobot": true}})),
        ),
        (
            "rcc by image",
            changed(&json!({"spec": {"image": {"rcc": {"image": "registry.example.com/rcc:19"}}}})),
        ),
        (
            "a path with dots in names",
            changed(&json!({"spec": {"source": {"path": "a..b/.gitlab/c"}}})),
        ),
    ] {
        assert_eq!(said(&namespace, &object).await, Ok(()), "{name}");
    }
    // Everything that was said is there: nothing is pruned and nothing is filled in.
    let stored = namespace.apply::<RobotImage>(whole()).await.unwrap();
    assert_eq!(serde_json::to_value(&stored.spec).unwrap(), whole()["spec"]);
    let stored = namespace.apply::<RobotImage>(smallest()).await.unwrap();
    assert_eq!(
        serde_json::to_value(&stored.spec).unwrap(),
        smallest()["spec"],
        "the schema fills in nothing"
    );
    namespace.delete().await.unwrap();
}

/// What an object says that no operator has seen.
#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_object_that_nobody_has_seen_is_in_progress() {
    let (bed, namespace) = namespace().await;
    let kubectl = Kubectl::within(&bed, namespace.name());
    kubectl.apply(&smallest().to_string()).unwrap();
    let status = kubectl.run(&["get", "robotimage", "invoices", "-o", "jsonpath={.status}"]).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&status).unwrap(), json!({"observedGeneration": -1}));
    let waited = kubectl
        .output(&["wait", "--for=condition=Ready", "rimg/invoices", "--timeout=2s"])
        .unwrap();
    assert!(
        !waited.status.success() && text(&waited).contains("timed out waiting for the condition"),
        "{}",
        text(&waited)
    );
    namespace.delete().await.unwrap();
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_typing_error_is_refused_by_strict_apply() {
    let (bed, namespace) = namespace().await;
    let kubectl = Kubectl::within(&bed, namespace.name());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), changed(&json!({"spec": {"image": {"tag": "v1"}}})).to_string()).unwrap();
    let applied = kubectl
        .output(&["apply", "--validate=strict", "-f", &file.path().display().to_string()])
        .unwrap();
    assert!(
        !applied.status.success() && text(&applied).contains("unknown field \"spec.image.tag\""),
        "{}",
        text(&applied)
    );
    namespace.delete().await.unwrap();
}

/// A status as an operator would write it, for what `get` and `describe` show.
fn status() -> Value {
    let condition = |kind: &str, status: &str, reason: &str, message: &str| json!({"type": kind, "status": status, "reason": reason, "message": message, "observedGeneration": 1, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let reference = format!("registry.example.com/robots/invoices@{digest}");
    json!({
        "observedGeneration": 1,
        "conditions": [
            condition("Ready", "True", "UpToDate", &reference),
            condition("Available", "True", "ImagePublished", &reference),
            condition("SourceReady", "True", "Resolved", "main@4be1c2d"),
        ],
        "summary": "Ready",
        "source": {"revision": format!("main@sha1:{}", "4be1c2d0aa".repeat(4)), "short": "main@4be1c2d"},
        "latestImage": {
            "ref": reference, "digest": digest, "short": "0123456789ab", "tags": ["4be1c2d0aa11"], "size": 123_456_789, "uploaded": 1,
            "requestKey": "a", "buildKey": "b", "publishedAt": "2026-01-02T03:04:05Z"},
        "latestBuild": {
            "number": 7, "attempt": 1, "buildId": "0", "job": "invoices-1", "requestKey": "a", "generation": 1, "phase": "Succeeded", "plan": "CodeOnly", "duration": "42s"},
        "buildCounter": 7,
    })
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_person_sees_fields_columns_and_conditions() {
    let (bed, namespace) = namespace().await;
    let kubectl = Kubectl::within(&bed, namespace.name());
    // The API server publishes the schema of a new definition a moment after it serves it.
    let end = Instant::now() + Duration::from_secs(30);
    let explained = loop {
        match kubectl.run(&["explain", "robotimage.spec"]) {
            Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(200)).await,
            explained => break explained.unwrap(),
        }
    };
    for word in [
        "source\t<Object> -required-",
        "image\t<Object> -required-",
        "interval\t<string>",
        "suspend\t<boolean>",
        "How often a moving source",
    ] {
        assert!(explained.contains(word), "{word} in\n{explained}");
    }
    let everything = kubectl.run(&["explain", "robotimage", "--recursive"]).unwrap();
    for word in ["secretRef", "lastFailure", "nextRetryAt"] {
        assert!(everything.contains(word), "{word} in\n{everything}");
    }

    kubectl.apply(&smallest().to_string()).unwrap();
    let patch = json!({"status": status()}).to_string();
    kubectl
        .run(&["patch", "rimg", "invoices", "--subresource=status", "--type=merge", "-p", &patch])
        .unwrap();
    let table = kubectl.run(&["get", "rimg"]).unwrap();
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NAME", "READY", "STATUS", "REVISION", "DIGEST", "AGE"], "{table}");
    assert_eq!(
        rows[1][..5],
        ["invoices", "True", "Ready", "main@4be1c2d", "0123456789ab"],
        "{table}"
    );
    let wide = kubectl.run(&["get", "robots", "-o", "wide"]).unwrap();
    let rows: Vec<Vec<&str>> = wide.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][5..], ["AGE", "IMAGE", "SIZE", "PLAN", "DURATION"], "{wide}");
    assert_eq!(
        rows[1][6..],
        ["registry.example.com/robots/invoices", "123456789", "CodeOnly", "42s"],
        "{wide}"
    );
    let described = kubectl.run(&["describe", "rimg", "invoices"]).unwrap();
    assert!(
        described.contains("Reason:                UpToDate") && described.contains("Build Counter:  7"),
        "{described}"
    );
    kubectl
        .run(&["wait", "--for=condition=Ready", "rimg/invoices", "--timeout=2s"])
        .unwrap();
    println!("{table}\n{wide}\n{described}\n{explained}");
    namespace.delete().await.unwrap();
}
