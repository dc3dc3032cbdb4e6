//! The other tools that can do the same work, each at its best: what is run, its version and its codec.
//!
//! Invariant: every peer gets the same files, the same base in the same registry and a warm page cache, leaves an image
//! that the registry serves, and is never left out without a reason.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::fresh::Stand;
use super::measure::{Usage, measure};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::parts;
use crate::process::run;

/// As crane's and our own layers are: sorted, without times and owners.
pub(super) const TAR: &str = "tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --format=gnu";

/// A tool, or a pipe of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// `tar | crane append -f -`.
    Crane,
    /// `umoci insert`, then `skopeo copy`.
    Umoci,
    /// `buildah from`, `copy`, `commit docker://`.
    Buildah,
    /// `tar | zstd -1 -T2 | curl`.
    Shell,
}

/// What a peer is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    /// Registry and scratch.
    pub(super) stand: &'a Stand,
    /// Stands for `/`: the files are at `inside` below it.
    pub(super) root: &'a Path,
    /// The same files where they may be written: umoci opens its source as if it were to change it.
    pub(super) tree: &'a Path,
    /// Path in the image, without the leading slash.
    pub(super) inside: &'a str,
}

/// What came of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pushed {
    /// What it took.
    pub(super) usage: Usage,
    /// Compressed bytes of what was put on the base.
    pub(super) bytes: u64,
}

impl Peer {
    /// All of them, the one that the goal names first.
    pub(super) const ALL: [Self; 4] = [Self::Crane, Self::Umoci, Self::Shell, Self::Buildah];

    /// Its name in the figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crane => "crane append",
            Self::Umoci => "umoci + skopeo",
            Self::Buildah => "buildah",
            Self::Shell => "tar | zstd -1 -T2 | curl",
        }
    }

    fn slug(self) -> &'static str {
        match self {
            Self::Crane => "crane",
            Self::Umoci => "umoci",
            Self::Buildah => "buildah",
            Self::Shell => "shell",
        }
    }

    /// Versions and codec, or why it cannot run here.
    pub(super) fn describe(self, cache: &Cache) -> Result<String, String> {
        let ask = |program: &str, argument: &str| {
            let said = run("version", Command::new(program).arg(argument))
                .map_err(|_| format!("`{program} {argument}` fails; is it installed?"))?;
            Ok::<_, String>(said.lines().next().unwrap_or_default().trim().to_owned())
        };
        match self {
            Self::Crane => {
                let crane = parts::crane(cache).map_err(|error| error.to_string())?;
                let go = run("version of Go", Command::new("go").arg("version").arg(&crane)).map_err(|error| error.to_string())?;
                let go = go.split_whitespace().last().unwrap_or_default().to_owned();
                Ok(format!(
                    "{}; crane {} of {go}, gzip of Go's library, best speed",
                    ask("tar", "--version")?,
                    parts::crane_version()
                ))
            }
            Self::Umoci => Ok(format!(
                "{}, {}; gzip in parallel",
                ask("umoci", "--version")?,
                ask("skopeo", "--version")?
            )),
            Self::Buildah => Ok(format!(
                "{}; gzip in parallel, overlay storage, chroot isolation",
                ask("buildah", "--version")?
            )),
            Self::Shell => Ok(format!(
                "{}, {}, {}, {}; zstd level 1, two threads",
                ask("tar", "--version")?,
                ask("zstd", "--version")?.trim_matches('*').trim(),
                ask("openssl", "version")?,
                ask("curl", "--version")?.split(' ').take(2).collect::<Vec<_>>().join(" "),
            )),
        }
    }

    /// Puts the files on the base and pushes the image as `bench/NAME:1`.
    pub(super) fn push(self, cache: &Cache, work: Work<'_>) -> Result<Pushed> {
        let at = work.stand.registry().at();
        let (root, base) = (work.root.display(), work.stand.base());
        let (inside, target) = (work.inside, format!("bench/{}:1", self.slug()));
        let reference = work.stand.reference(&target);
        let scratch = work.stand.fresh().path().join(self.slug());
        std::fs::create_dir_all(&scratch).map_err(Error::io("create", &scratch))?;
        let scratch = scratch.display();
        let script = match self {
            Self::Crane => {
                let crane = parts::crane(cache)?;
                format!(
                    "{TAR} -C {root} -cf - {inside} | {} append --insecure -b {base} -f - -t {reference}",
                    crane.display()
                )
            }
            Self::Umoci => {
                let pull = format!("skopeo copy --quiet --src-tls-verify=false docker://{base} oci:{scratch}/layout:base");
                run("base for umoci", Command::new("bash").args(["-c", &pull]))?;
                format!(
                    "umoci insert --image {scratch}/layout:base --tag new {} /{inside}
                     skopeo copy --quiet --dest-tls-verify=false oci:{scratch}/layout:new docker://{reference}",
                    work.tree.display()
                )
            }
            Self::Buildah => {
                let storage = format!("--root {scratch}/root --runroot {scratch}/run --storage-driver overlay");
                let pull = format!("buildah {storage} pull --quiet --tls-verify=false docker://{base}");
                run("base for buildah", Command::new("bash").args(["-c", &pull]))?;
                format!(
                    "export TMPDIR={scratch}
                     container=$(buildah {storage} from --pull-never --isolation chroot {base})
                     buildah {storage} copy --quiet $container {root}/{inside} /{inside} >/dev/null
                     buildah {storage} commit --quiet --tls-verify=false --format oci $container docker://{reference}"
                )
            }
            Self::Shell => shell(&work, &format!("{scratch}"))?,
        };
        let words = ["bash", "-euo", "pipefail", "-c", &script].map(str::to_owned);
        let (usage, _) = measure(self.name(), &words, &[])?;
        if self == Self::Buildah {
            // Its storage is mounted somewhere below; a mount would keep the file system alive.
            let unmount = format!("umount --lazy {scratch}/root/overlay || true");
            run("unmount of buildah's storage", Command::new("bash").args(["-c", &unmount]))?;
        }
        let manifest = |name: &str| -> Result<Value> {
            let text = at.crane(&["manifest", &at.reference(name)])?;
            serde_json::from_str(&text).map_err(|error| Error::Other(format!("manifest of {name}: {error}")))
        };
        let (image, base) = (manifest(&target)?, manifest(crate::base::NAME)?);
        let layers = |manifest: &Value| manifest["layers"].as_array().cloned().unwrap_or_default();
        let (image, base) = (layers(&image), layers(&base).len());
        if image.len() <= base {
            return Err(Error::Other(format!("{} pushed an image with nothing on its base", self.name())));
        }
        let bytes = image[base..].iter().filter_map(|layer| layer["size"].as_u64()).sum();
        Ok(Pushed { usage, bytes })
    }
}

/// Everything in one pass: both digests are taken while the layer is on its way, then configuration and manifest follow.
fn shell(work: &Work<'_>, scratch: &str) -> Result<String> {
    let at = work.stand.registry().at();
    let base = work.stand.base();
    let parse =
        |text: String| serde_json::from_str::<Value>(&text).map_err(|error| Error::Other(format!("documents of the base: {error}")));
    let manifest = parse(at.crane(&["manifest", &base])?)?;
    let config = parse(at.crane(&["config", &base])?)?;
    let (layer, diff) = (&manifest["layers"][0], &config["rootfs"]["diff_ids"][0]);
    let digest = layer["digest"].as_str().unwrap_or_default();
    let (name, from) = ("bench/shell", crate::base::NAME.split(':').next().unwrap_or_default());
    let (url, root, inside) = (format!("http://{}/v2/{name}", at.address), work.root.display(), work.inside);
    Ok(format!(
        r#"cd {scratch}
        start() {{ curl -sS --fail -X POST -D - -o /dev/null -H 'Content-Length: 0' "$1" | tr -d '\r' | awk 'tolower($1)=="location:" {{print $2}}'; }}
        put() {{ curl -sS --fail -X PUT -H 'Content-Type: application/octet-stream' --data-binary "@$2" "$1&digest=$3"; }}
        start "{url}/blobs/uploads/?mount={digest}&from={from}" >/dev/null
        mkfifo raw packed
        openssl dgst -sha256 -r <raw >diff & openssl dgst -sha256 -r <packed >digest &
        {TAR} -C {root} -cf - {inside} | tee raw | zstd -q -1 -T2 -c | tee packed \
          | curl -sS --fail -X PATCH -H 'Expect:' -H 'Content-Type: application/octet-stream' -D answer -o /dev/null -T - "$(start "{url}/blobs/uploads/")"
        wait
        diff=sha256:$(cut -c1-64 diff) digest=sha256:$(cut -c1-64 digest)
        location=$(tr -d '\r' <answer | awk 'tolower($1)=="location:" {{print $2}}')
        size=$(tr -d '\r' <answer | awk 'tolower($1)=="range:" {{split($2, range, "-"); print range[2] + 1}}')
        : >empty; put "$location" empty $digest
        printf '{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":[{diff},"%s"]}}}}' $diff >config
        config=sha256:$(openssl dgst -sha256 -r <config | cut -c1-64)
        put "$(start "{url}/blobs/uploads/")" config $config
        printf '{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"%s","size":%d}},"layers":[{layer},{{"mediaType":"application/vnd.oci.image.layer.v1.tar+zstd","digest":"%s","size":%d}}]}}' $config $(stat -c %s config) $digest $size >manifest
        curl -sS --fail -X PUT -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' --data-binary @manifest "{url}/manifests/1"
        "#
    ))
}
