//! What a user asks for. Every string, list and map is bounded: the API server refuses what the operator would choke on.

#![expect(unreachable_pub, reason = "the derive repeats each struct inside a private block")]
#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column is one more attribute of the same words"
)]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::RobotImageStatus;

/// A robot in a source repository that becomes a container image in a registry.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "robotimage.dev",
    version = "v1alpha1",
    kind = "RobotImage",
    plural = "robotimages",
    singular = "robotimage",
    shortname = "rimg",
    category = "robots",
    namespaced,
    status = "RobotImageStatus",
    doc = "RobotImage turns a robot (robot.yaml and its code) from a source repository into a container image in a registry.",
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.summary"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.source.short"),
    printcolumn(name = "Digest", type_ = "string", json_path = ".status.latestImage.short"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image.repository", priority = 1),
    printcolumn(name = "Size", type_ = "integer", json_path = ".status.latestImage.size", priority = 1),
    printcolumn(name = "Plan", type_ = "string", json_path = ".status.latestBuild.plan", priority = 1),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.latestBuild.duration", priority = 1),
    validation = "size(self.metadata.name) <= 63"
)]
#[serde(rename_all = "camelCase")]
pub struct RobotImageSpec {
    /// Stops builds and source polling. A build that runs is left to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// How often a moving source is resolved anew, at least 10s; the platform may demand more. Default 5m, with 10 % jitter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 20), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s')").message("interval must be at least 10s"))]
    pub interval: Option<String>,

    /// Where the robot comes from.
    pub source: Source,

    /// Which robot of the source, and which of its tasks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robot: Option<Robot>,

    /// The environment that the robot runs in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,

    /// The image to make and where to push it.
    pub image: Image,

    /// How the build runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,

    /// How many ended builds to keep, in the status and as Jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<HistoryLimits>,
}

/// A source: exactly one kind, and the folder inside it that is the robot's context.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.git), has(self.http), has(self.oci), has(self.configMap)].filter(x, x).size() == 1").message("exactly one source must be set: git, http, oci or configMap"))]
pub struct Source {
    /// A git repository over HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,

    /// An archive behind a URL: tar, tar.gz, tar.zst or zip.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,

    /// An artifact in a registry, as `flux push artifact` and `oras push` make it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<OciSource>,

    /// A ConfigMap of the same namespace, each key a file: for tiny robots. The operator does not read it; a build pod looks at
    /// it again at most every 15 minutes, or when robotimage.dev/requestedAt says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapRef>,

    /// Folder of the source that holds the robot; only its tree makes a new image. Default: the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^/\x00-\x1f\\][^\x00-\x1f\\]*$"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '..' || p == '.git')").message("path must stay inside the source: no '..' and no '.git'"))]
    pub path: Option<String>,

    /// Files of that folder that are left out, of the image and of what makes a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore: Option<Ignore>,
}

/// Files that are left out.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Ignore {
    /// Patterns as in a .gitignore at `source.path`, one a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub patterns: Option<String>,
    /// Whether what the files of robot.yaml's `ignoreFiles` name is left out too, as `rcc robot wrap` does. Default false: `rcc
    /// run` leaves nothing out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_robot: Option<bool>,
}

/// An archive behind a URL.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HttpSource {
    /// Its address, https (plain http only for hosts that the platform lists), without user or password in it.
    #[schemars(length(min = 10, max = 1024), regex(pattern = r"^https?://[^\s\x00-\x1f@\\]+$"))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getHost() != ''").message("url must be a valid https URL; credentials belong in secretRef"))]
    pub url: String,

    /// SHA-256 of its bytes, 64 hexadecimal digits: the source is then never polled. Without it the server's ETag, Last-Modified
    /// or, of up to 4 MiB, the bytes themselves are asked for at every interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,

    /// Secret with `username` and `password`, or `bearerToken`, and `hosts` (the hosts it may be sent to); optional `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// An artifact in a registry.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct OciSource {
    /// Its reference by tag (followed at every interval) or digest (never polled), for example
    /// ghcr.io/example/invoices:v1.
    #[schemars(length(min = 3, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"))]
    pub image: String,

    /// Secret of type kubernetes.io/dockerconfigjson to read it with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// A git repository and what to take from it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct GitSource {
    /// Address of the repository, https (plain http only for hosts that the platform lists), without user or password in it.
    #[schemars(length(min = 10, max = 1024), regex(pattern = r"^https?://[^\s\x00-\x1f@\\]+$"))]
    #[x_kube(validation = Rule::new("isURL(self) && url(self).getHost() != ''").message("url must be a valid https URL; credentials belong in secretRef"))]
    pub url: String,

    /// Branch, tag, version or commit. Default: the repository's default branch.
    #[serde(default, rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitRef>,

    /// Secret with `username` and `password`, or `bearerToken`, and `hosts` (the hosts it may be sent to); optional `ca.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// Exactly one of branch, tag, semver and commit.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.branch), has(self.tag), has(self.semver), has(self.commit)].filter(x, x).size() == 1").message("exactly one of branch, tag, semver and commit must be set"))]
pub struct GitRef {
    /// A branch; followed at every interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[^-/.\s\x00-\x1f~^:?*\[\\][^\s\x00-\x1f~^:?*\[\\]*$")
    )]
    pub branch: Option<String>,
    /// A tag; followed at every interval, because tags can be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 255),
        regex(pattern = r"^[^-/.\s\x00-\x1f~^:?*\[\\][^\s\x00-\x1f~^:?*\[\\]*$")
    )]
    pub tag: Option<String>,
    /// The tag with the highest version of these, for example `^1.2`, `1.4.*` or `>=1.0 <2`; looked for at every interval. Tags
    /// may begin with a `v`; prereleases count only where they are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 100), regex(pattern = r"^[0-9A-Za-z.*<>=~^, +-]+$"))]
    pub semver: Option<String>,
    /// A full commit id, 40 hexadecimal digits; never polled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 40, max = 40), regex(pattern = r"^[0-9a-f]{40}$"))]
    pub commit: Option<String>,
}

/// Name of a Secret in the namespace of the RobotImage.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct LocalRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// The robot inside the source.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Robot {
    /// The robot file, relative to `source.path`. Default robot.yaml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[^/\x00-\x1f\\][^\x00-\x1f\\]*\.ya?ml$"))]
    #[x_kube(validation = Rule::new("!self.split('/').exists(p, p == '..')").message("robot.file must stay inside source.path: no '..'"))]
    pub file: Option<String>,
    /// The task that the image runs; required when the robot has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\x00-\x1f]+$"))]
    pub task: Option<String>,
}

/// The environment that the robot runs in.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// When its packages are solved anew, so that those which are not pinned become newer: minute, hour, day of the month,
    /// month and day of the week, in UTC, for example `0 3 * * 1`. Default: only when the environment file changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 9, max = 100),
        regex(
            pattern = r"^(\*|[0-5]?[0-9](-[0-5]?[0-9])?)(/[1-9][0-9]?)?(,(\*|[0-5]?[0-9](-[0-5]?[0-9])?)(/[1-9][0-9]?)?)* (\*|([01]?[0-9]|2[0-3])(-([01]?[0-9]|2[0-3]))?)(/[1-9][0-9]?)?(,(\*|([01]?[0-9]|2[0-3])(-([01]?[0-9]|2[0-3]))?)(/[1-9][0-9]?)?)* (\*|(0?[1-9]|[12][0-9]|3[01])(-(0?[1-9]|[12][0-9]|3[01]))?)(/[1-9][0-9]?)?(,(\*|(0?[1-9]|[12][0-9]|3[01])(-(0?[1-9]|[12][0-9]|3[01]))?)(/[1-9][0-9]?)?)* (\*|(0?[1-9]|1[0-2])(-(0?[1-9]|1[0-2]))?)(/[1-9][0-9]?)?(,(\*|(0?[1-9]|1[0-2])(-(0?[1-9]|1[0-2]))?)(/[1-9][0-9]?)?)* (\*|[0-7](-[0-7])?)(/[1-9][0-9]?)?(,(\*|[0-7](-[0-7])?)(/[1-9][0-9]?)?)*$"
        )
    )]
    pub refresh: Option<String>,
}

/// The image and its repository.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Target repository, for example registry.example.com/robots/invoices; no tag, no digest.
    #[schemars(
        length(min = 3, max = 255),
        regex(pattern = r"^[a-zA-Z0-9.-]+(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+$")
    )]
    pub repository: String,
    /// Tags to set; `{{source.short}}` is the short revision: the first 12 digits of commit or SHA-256. Default: that one. The
    /// digest in the status is what to deploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 10),
        inner(length(min = 1, max = 128), regex(pattern = r"^([A-Za-z0-9_.-]|\{\{ ?source\.short ?\}\})+$"))
    )]
    pub tags: Option<Vec<String>>,
    /// Secret of type kubernetes.io/dockerconfigjson to push with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Secret to read the target repository with. Default: `secretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull_secret_ref: Option<LocalRef>,
    /// Platforms to build. Only linux/amd64 today.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1))]
    pub platforms: Option<Vec<Platform>>,
    /// What the image stands on. Default: the base of the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<BaseSource>,
    /// The rcc inside the image. Default: the rcc of the platform.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcc: Option<RccSource>,
    /// Compression of our layers. Default: the platform's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// User and group of the image's configuration, numeric. Default 1000:0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 21), regex(pattern = r"^[0-9]{1,10}(:[0-9]{1,10})?$"))]
    pub user: Option<String>,
    /// Labels of the image's configuration; values may use `{{source.short}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 512})))]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the image's manifest; values may use `{{source.short}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32, "additionalProperties" = serde_json::json!({"type": "string", "maxLength": 512})))]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Where else the newest image is announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish_to: Option<PublishTo>,
    /// Recipe version of the layers, never raised silently. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1))]
    pub compatibility: Option<u32>,
}

/// A platform that images are made for.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux on x86-64.
    #[serde(rename = "linux/amd64")]
    LinuxAmd64,
}

/// The image below ours.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BaseSource {
    /// Reference by tag or digest. Default: the platform's base.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"))]
    pub image: Option<String>,
    /// Secret of type kubernetes.io/dockerconfigjson to read it with. Default: `image.pullSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// What a new digest behind the reference means: Rebase puts the image on the new base, Rebuild installs the packages
    /// anew as well, Pin keeps the digest of the first image. Default Rebase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<BaseUpdate>,
}

/// Where the newest image is announced, for tools that cannot read a status.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PublishTo {
    /// A ConfigMap of the same namespace with the keys ref, digest and tag. The operator makes it; one that it has not made
    /// stays as it is.
    pub config_map: ConfigMapRef,
}

/// Name of a ConfigMap in the namespace of the RobotImage.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// What a new digest of the base means.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BaseUpdate {
    /// The image is put on the new base; environment and code are taken over where they fit.
    #[default]
    Rebase,
    /// The packages are installed anew on the new base.
    Rebuild,
    /// The digest of the first image is kept.
    Pin,
}

/// Where rcc comes from: an image that holds it, or a file behind a URL with its checksum.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.image), has(self.http)].filter(x, x).size() == 1").message("exactly one of image and http must be set"))]
pub struct RccSource {
    /// An image with the binary at /rcc or /usr/local/bin/rcc.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._:/@-]*$"))]
    pub image: Option<String>,
    /// A file behind a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFile>,
    /// Secret of type kubernetes.io/dockerconfigjson to read the image with. Default: `image.pullSecretRef`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// One file behind a URL, known by its checksum.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct HttpFile {
    /// Its address, https (plain http only for hosts that the platform lists).
    #[schemars(length(min = 10, max = 1024), regex(pattern = r"^https?://[^\s\x00-\x1f@\\]+$"))]
    pub url: String,
    /// SHA-256 of its bytes, 64 hexadecimal digits.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub sha256: String,
}

/// Compression of layers.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Any reader takes it.
    Gzip,
    /// Smaller and faster; needs containerd 1.5, CRI-O 1.20 or newer.
    Zstd,
}

/// How the build runs.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Build {
    /// Time for one attempt, from 10s to 24h. Default 30m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 20), regex(pattern = r"^([0-9]{1,6}(ms|s|m|h))+$"))]
    #[x_kube(validation = Rule::new("duration(self) >= duration('10s') && duration(self) <= duration('24h')").message("build.timeout must be between 10s and 24h"))]
    pub timeout: Option<String>,
    /// How often a build is tried again after a failure of the infrastructure, 0 to 10. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10))]
    pub retries: Option<u32>,
    /// What a newer request does to a build that is not over. Default CancelRunning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersede: Option<Supersede>,
    /// Requests and limits of each build step. Default: the platform's. After OutOfMemory the next attempt has twice the memory,
    /// as far as the platform allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// What a newer request does to a build that is not over.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Supersede {
    /// The build is given up wherever it is.
    #[default]
    CancelRunning,
    /// A build whose pod has started ends first; one that still waits is given up.
    CancelPending,
    /// Every build that has a Job ends before the next begins.
    Queue,
}

/// Requests and limits, by the names `cpu`, `memory` and `ephemeral-storage`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[x_kube(validation = Rule::new("[has(self.requests) ? self.requests : {}, has(self.limits) ? self.limits : {}].all(m, m.all(k, k in ['cpu', 'memory', 'ephemeral-storage'] && isQuantity(m[k]) && quantity(m[k]).isGreaterThan(quantity('0'))))").message("resources: only cpu, memory and ephemeral-storage, each a quantity above zero"))]
pub struct Resources {
    /// What the scheduler reserves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 3, "additionalProperties" = serde_json::json!({"type": "string", "minLength": 1, "maxLength": 20})))]
    pub requests: Option<BTreeMap<String, String>>,
    /// What a step may use at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 3, "additionalProperties" = serde_json::json!({"type": "string", "minLength": 1, "maxLength": 20})))]
    pub limits: Option<BTreeMap<String, String>>,
}

/// How many ended builds to keep.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Succeeded ones, 1 to 10. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub succeeded: Option<u32>,
    /// Failed ones, 1 to 10. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub failed: Option<u32>,
}
