//! Our own two images, assembled by our own crates: a base image and one layer with the binaries.
//!
//! Invariant: the same binaries on the same base give the same digest; nothing but the base's blobs and our layer is in them.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use robotimage_builder::image::base::BaseReader;
use robotimage_builder::image::oci;
use robotimage_layer::{Codec, LayerBuilder, WriteOptions};
use robotimage_registry::{BlobSource, Client, Descriptor, Digest, MediaType, Reference, Repository, ResolvedImage};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::process::run;

/// User and group of the operator's container.
const OPERATOR_USER: &str = "65532:65532";
/// Users of the three steps of a build pod: an rcc that is linked with cgo panics where its user has no entry in /etc/passwd.
const BUILD_USERS: &str = "robotimage-fetch:x:10001:10100::/home/robot:/usr/sbin/nologin\n\
robotimage-resolve:x:10002:10100::/home/robot:/bin/bash\n\
robotimage-publish:x:10003:10100::/home/robot:/usr/sbin/nologin\n";

/// The release binaries.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `robotimage`.
    pub builder: PathBuf,
    /// `robotimage-operator`.
    pub operator: PathBuf,
    /// `robotimage-launcher`, static.
    pub launcher: PathBuf,
    /// `kubectl-robotimage`.
    pub plugin: PathBuf,
}

/// Builds the release binaries of the work tree at `root`, into the cache's target folder; quick when nothing changed.
pub fn binaries(cache: &Cache, root: &Path) -> Result<Binaries> {
    let target = target(cache);
    let cargo = || cargo(root, &target);
    run(
        "release build of operator, builder and plugin",
        cargo().args([
            "--release",
            "-p",
            "robotimage-builder",
            "-p",
            "robotimage-operator",
            "-p",
            "robotimage-kubectl",
        ]),
    )?;
    // The launcher is PID 1 of images with any base, musl or none included: it must not need a loader.
    run(
        "static build of the launcher",
        cargo()
            .args([
                "--profile",
                "launcher",
                "-p",
                "robotimage-launcher",
                "--target",
                "x86_64-unknown-linux-gnu",
            ])
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
    )?;
    let release = target.join("release");
    Ok(Binaries {
        builder: release.join("robotimage"),
        operator: release.join("robotimage-operator"),
        plugin: release.join("kubectl-robotimage"),
        launcher: target.join("x86_64-unknown-linux-gnu/launcher/robotimage-launcher"),
    })
}

/// Builds the release binary of the operator alone.
pub fn operator(cache: &Cache, root: &Path) -> Result<PathBuf> {
    let target = target(cache);
    let mut build = cargo(root, &target);
    run(
        "release build of the operator",
        build.args(["--release", "-p", "robotimage-operator"]),
    )?;
    Ok(target.join("release/robotimage-operator"))
}

fn target(cache: &Cache) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| cache.root().join("target"), PathBuf::from)
}

fn cargo(root: &Path, target: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target)
        .arg("build")
        .arg("--locked")
        .arg("--quiet");
    command
}

/// Where our images were pushed to, by digest.
#[derive(Debug, Clone)]
pub struct Images {
    /// For the chart's `operator.image`.
    pub operator: String,
    /// For the chart's `builder.image`.
    pub builder: String,
}

/// Assembles both images on `base` and pushes them below `prefix` (`registry.example.com/robotimage`) as `operator` and
/// `builder`, with the given tag.
pub async fn push(client: &Client, binaries: &Binaries, base: &str, prefix: &str, tag: &str) -> Result<Images> {
    let base = Reference::parse(base).map_err(other("base image"))?;
    let resolved = client.resolve_image(&base, "linux", "amd64").await.map_err(other("base image"))?;
    let from = base.to_repository();
    let passwd = passwd(client, &from, &resolved).await?;

    let mut operator = LayerBuilder::new();
    operator.file_from("usr/local/bin/robotimage-operator", &binaries.operator, 0o755);
    let operator = Content {
        layer: operator,
        entrypoint: "/usr/local/bin/robotimage-operator",
        user: OPERATOR_USER,
        title: "RobotImage operator",
    };
    let mut builder = LayerBuilder::new();
    builder
        .file_from("usr/local/bin/robotimage", &binaries.builder, 0o755)
        .file_from("usr/local/lib/robotimage/launcher", &binaries.launcher, 0o755)
        .file("etc/passwd", format!("{passwd}{BUILD_USERS}"), 0o644);
    // Mount points, so that a read-only root works with every runtime.
    for folder in [
        "workspace/source",
        "workspace/spec",
        "workspace/scratch",
        "opt/rcc",
        "home/robot",
        "platform",
        "secrets",
    ] {
        builder.dir(folder, 0o755);
    }
    let builder = Content {
        layer: builder,
        entrypoint: "/usr/local/bin/robotimage",
        user: "10001:10100",
        title: "RobotImage builder",
    };
    Ok(Images {
        operator: Box::pin(assemble(client, &from, &resolved, operator, &format!("{prefix}/operator"), tag)).await?,
        builder: Box::pin(assemble(client, &from, &resolved, builder, &format!("{prefix}/builder"), tag)).await?,
    })
}

/// What stands on the base.
struct Content {
    layer: LayerBuilder,
    entrypoint: &'static str,
    user: &'static str,
    title: &'static str,
}

async fn assemble(client: &Client, from: &Repository, base: &ResolvedImage, content: Content, to: &str, tag: &str) -> Result<String> {
    let to = Repository::parse(to).map_err(other("target repository"))?;
    for layer in base.manifest.layers() {
        client
            .copy_blob(client, from, &to, layer)
            .await
            .map_err(other("copy of a base layer"))?;
    }
    let spool = tempfile::NamedTempFile::new().map_err(Error::io("create", "a temporary file"))?;
    let layer = content
        .layer
        .write(Codec::Gzip, &WriteOptions::default(), spool.as_file())
        .map_err(other("layer of our binaries"))?;
    let digest: Digest = layer.digest.parse().map_err(other("digest of our layer"))?;
    let blob = BlobSource::from_file(spool.path(), digest, layer.size);
    client.push_blob(&to, &blob, None).await.map_err(other("push of our layer"))?;

    let mut config: oci::Config = serde_json::from_slice(&base.config_bytes).map_err(other("configuration of the base"))?;
    config.created = Some(oci::CREATED.to_owned());
    config.config.entrypoint = vec![content.entrypoint.to_owned()];
    config.config.cmd = Vec::new();
    content.user.clone_into(&mut config.config.user);
    config
        .config
        .labels
        .insert("org.opencontainers.image.title".to_owned(), content.title.to_owned());
    config.rootfs.diff_ids.push(layer.diff_id.clone());
    config.history.push(oci::History {
        created: Some(oci::CREATED.to_owned()),
        created_by: Some(content.title.to_owned()),
        ..oci::History::default()
    });
    let config = oci::to_bytes(&config);
    client
        .push_blob(&to, &BlobSource::from_bytes(config.clone()), None)
        .await
        .map_err(other("push of the configuration"))?;

    let mut layers: Vec<oci::Descriptor> = base.manifest.layers().iter().map(descriptor).collect();
    layers.push(oci::Descriptor {
        media_type: layer.media_type.to_owned(),
        digest: layer.digest,
        size: layer.size,
        annotations: std::collections::BTreeMap::new(),
    });
    let manifest = oci::to_bytes(&oci::Manifest {
        schema_version: 2,
        media_type: oci::MANIFEST.to_owned(),
        config: oci::Descriptor {
            media_type: oci::CONFIG.to_owned(),
            digest: oci::digest(&config),
            size: config.len() as u64,
            annotations: std::collections::BTreeMap::new(),
        },
        layers,
        annotations: std::collections::BTreeMap::new(),
    });
    let manifest = Bytes::from(manifest);
    let digest = client
        .push_manifest(&to, manifest.clone(), &MediaType::ImageManifest)
        .await
        .map_err(other("push of the manifest"))?;
    client
        .tag(&to, manifest, &MediaType::ImageManifest, tag)
        .await
        .map_err(other("tag of the image"))?;
    Ok(format!("{to}@{digest}"))
}

fn descriptor(from: &Descriptor) -> oci::Descriptor {
    oci::Descriptor {
        media_type: from.media_type().to_string(),
        digest: from.digest().to_string(),
        size: from.size(),
        annotations: std::collections::BTreeMap::new(),
    }
}

/// The base's /etc/passwd.
async fn passwd(client: &Client, from: &Repository, base: &ResolvedImage) -> Result<String> {
    let mut reader = BaseReader::default();
    for layer in base.manifest.layers() {
        let bytes = client
            .blob_bytes(from, layer, 2 << 30)
            .await
            .map_err(other("read of a base layer"))?;
        reader.layer(&bytes[..]).map_err(other("content of a base layer"))?;
    }
    Ok(reader.finish().passwd.unwrap_or_default())
}

/// For `map_err`: what was being done, and the other crate's own words.
fn other<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Other(format!("{what}: {error}"))
}
