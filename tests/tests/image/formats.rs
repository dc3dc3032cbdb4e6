//! Every reader takes the image: crane, skopeo, umoci, containerd, and our own verifier.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use robotimage_tests::Namespace;
use robotimage_tests::namespace::REGISTRY_SECRET;
use robotimage_tests::pods::{self, RunOptions};
use robotimage_tests::process::run;
use robotimage_tests::verify::Image;

use crate::fixture::{ARCHIVE_NAME, Fixture};

/// Most that rcc and the runtime home may weigh, compressed, in bytes.
const OVERHEAD: u64 = 25_000_000;

fn skopeo(fixture: &Fixture, args: &[&str]) -> String {
    let book = fixture.bed.book();
    let auth = fixture.folder.join("out/auth.json");
    std::fs::write(&auth, book.registry.docker_config().to_string()).expect("a file for the login");
    let mut command = Command::new("skopeo");
    command
        .args(args)
        .env("REGISTRY_AUTH_FILE", &auth)
        .env("SSL_CERT_FILE", &book.ca_bundle);
    run("skopeo", &mut command).expect("skopeo")
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn our_own_verifier_reads_every_byte() {
    let fixture = Fixture::get().await;
    let expected: [(Option<&str>, &[&str]); 5] = [
        (None, &[]),
        (Some("rcc"), &[]),
        (Some("environment"), &["opt/rcc/holotree/dc4d952_5a1fac3_9fcd2534"]),
        (Some("home"), &[]),
        (Some("code"), &["home/robot/app"]),
    ];
    for (name, made, codec) in [
        ("zstd", &fixture.zstd, "zstd"),
        ("gzip", &fixture.gzip, "gzip"),
        ("rcc 17", &fixture.old, "zstd"),
    ] {
        for (role, opaque) in expected {
            let layers: Vec<_> = made.image.of_role(role).collect();
            assert!(!layers.is_empty(), "{name}: no layer {role:?}");
            let found: Vec<&str> = layers.iter().flat_map(|layer| &layer.opaque).map(String::as_str).collect();
            assert_eq!(found, opaque, "{name}: opaque folders of {role:?}");
            assert!(
                role.is_none() || layers.iter().all(|layer| layer.media_type.ends_with(codec)),
                "{name}: {role:?} is {codec}"
            );
        }
        let writable = made.image.writable();
        assert!(
            writable.iter().any(|path| path == "/home/robot/app/output") && writable.iter().any(|path| path == "/tmp"),
            "{writable:?}"
        );
        assert_eq!(made.image.config["config"]["User"], "1000:0");
    }
    let diff_ids = |image: &Image| image.layers.iter().map(|layer| layer.diff_id.clone()).collect::<Vec<_>>();
    assert_eq!(
        diff_ids(&fixture.zstd.image),
        diff_ids(&fixture.gzip.image),
        "the codec changes nothing inside"
    );
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn what_is_beyond_base_environment_and_code_is_small() {
    let fixture = Fixture::get().await;
    println!(
        "{:<10}{:>10}{:>10}{:>14}{:>10}{:>10}{:>12}",
        "MB", "base", "rcc", "environment", "home", "code", "overhead"
    );
    for (name, made) in [("zstd", &fixture.zstd), ("gzip", &fixture.gzip), ("rcc 17", &fixture.old)] {
        let size = |role: Option<&str>| made.image.of_role(role).map(|layer| layer.size).sum::<u64>();
        let overhead = size(Some("rcc")) + size(Some("home"));
        let shown = [None, Some("rcc"), Some("environment"), Some("home"), Some("code")].map(|role| megabytes(size(role)));
        println!(
            "{name:<10}{:>10}{:>10}{:>14}{:>10}{:>10}{:>12}",
            shown[0],
            shown[1],
            shown[2],
            shown[3],
            shown[4],
            megabytes(overhead)
        );
        assert!(overhead <= OVERHEAD, "{name}: {overhead} bytes");
    }
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{:03}", bytes / 1_000_000, bytes % 1_000_000 / 1000)
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn gzip_is_taken_by_crane_skopeo_and_umoci() {
    let fixture = Fixture::get().await;
    let reference = fixture.reference("gzip");
    fixture
        .bed
        .book()
        .registry
        .crane(&["validate", "--remote", &reference])
        .expect("crane takes the pushed image");
    let archive = fixture.archive.display().to_string();
    fixture
        .bed
        .book()
        .registry
        .crane(&["validate", "--tarball", &archive])
        .expect("crane takes the archive");
    let inspected = skopeo(&fixture, &["inspect", &format!("docker-archive:{archive}")]);
    assert!(inspected.contains("robotimage.dev/writable"), "{inspected}");
    assert_pulled(&fixture, "gzip", &fixture.gzip.image);

    let bundle = fixture.folder.join("run/umoci");
    let layout = fixture.gzip.layout.display().to_string();
    let mut unpack = Command::new("umoci");
    unpack
        .args(["unpack", "--image", &format!("{layout}:{}", name_in(Path::new(&layout)))])
        .arg(&bundle);
    run("umoci", &mut unpack).expect("umoci unpacks it");
    for path in [
        "usr/local/bin/rcc",
        "home/robot/app/robot.yaml",
        "home/robot/.robocorp/hololib/catalog",
        "opt/rcc/holotree",
        "etc/debian_version",
    ] {
        assert!(bundle.join("rootfs").join(path).exists(), "{path}");
    }
    let listed = run("umoci", Command::new("umoci").args(["list", "--layout", &layout])).expect("umoci lists it");
    assert_eq!(listed.trim(), name_in(Path::new(&layout)));
    std::fs::remove_dir_all(&bundle).expect("removal");
}

/// The name that the layout gives its image.
fn name_in(layout: &Path) -> String {
    let bytes = std::fs::read(layout.join("index.json")).expect("an index");
    let index: serde_json::Value = serde_json::from_slice(&bytes).expect("an index");
    index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"]
        .as_str()
        .expect("a name")
        .to_owned()
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn zstd_is_taken_by_skopeo() {
    let fixture = Fixture::get().await;
    assert_pulled(&fixture, "zstd", &fixture.zstd.image);
}

/// skopeo reads its configuration in the registry and copies it out of it, and it is the same image.
fn assert_pulled(fixture: &Fixture, tag: &str, image: &Image) {
    let source = format!("docker://{}", fixture.reference(tag));
    let inspected = skopeo(fixture, &["inspect", &source]);
    assert!(inspected.contains(&image.digest), "{inspected}");
    let folder = fixture.folder.join("run").join(format!("pulled-{tag}"));
    skopeo(fixture, &["copy", "--quiet", &source, &format!("oci:{}:pulled", folder.display())]);
    let pulled = Image::read(&folder).expect("what was pulled is whole");
    assert_eq!(pulled.digest, image.digest);
    std::fs::remove_dir_all(&folder).expect("removal");
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn containerd_pulls_imports_and_runs_it() {
    let fixture = Fixture::get().await;
    let namespace = Namespace::fresh(&fixture.bed, "image").await.expect("a namespace");
    fixture.bed.node().import(&fixture.archive).expect("containerd imports the archive");
    let volumes = Some(fixture.zstd.image.writable());
    let cases = [
        ("zstd", fixture.reference("zstd"), None, None),
        ("zstd-read-only", fixture.reference("zstd"), volumes.clone(), None),
        ("gzip-stranger", fixture.reference("gzip"), volumes, Some(1_234_567_890)),
        ("archive", ARCHIVE_NAME.to_owned(), None, None),
    ];
    for (name, image, read_only, user) in cases {
        let options = RunOptions {
            pull_secret: Some(REGISTRY_SECRET.to_owned()),
            read_only,
            user,
            ..RunOptions::default()
        };
        let pod = pods::pod(name, &image, &options);
        let finished = pods::run(namespace.client(), namespace.name(), &pod, Duration::from_mins(2))
            .await
            .expect("a pod");
        println!("{name}: {:.1} s from creation to end", finished.took.as_secs_f64());
        assert_eq!(finished.exit_code, 0, "{name}:\n{}", finished.log);
        let uid = user.unwrap_or(1000);
        assert!(
            finished.log.contains(&format!("due: 435 EUR, python 3.11.7, user {uid}")),
            "{name}:\n{}",
            finished.log
        );
    }
    namespace.delete().await.expect("removal");
}
