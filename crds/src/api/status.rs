//! What the operator says. Reasons are open strings, so that an older client can read a newer operator.
//!
//! Invariant: at its largest, with full history, the whole status stays under 6 KiB; a test fills it to the brim.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Everything observed of a RobotImage.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RobotImageStatus {
    /// Generation of the spec that this status speaks of; -1 before the first pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Available, SourceReady, and Reconciling and Stalled while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "map"), extend("x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// One line for people: Ready, Building (resolve), Failed: PackageNotFound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The revision last resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceStatus>,
    /// The environment of the latest image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentStatus>,
    /// What else went into the latest image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Inputs>,
    /// The latest image that was pushed and verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_image: Option<LatestImage>,
    /// The build that runs, or the last that ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_build: Option<LatestBuild>,
    /// The last failure, until a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<LastFailure>,
    /// Ended builds, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub history: Vec<HistoryEntry>,
    /// Number of the last build; raised before its Job is made, so that no number is used twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_counter: Option<i64>,
    /// Wishes by annotation that were acted on, as far as they were read: control characters as spaces, at most 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled: Option<LastHandled>,
    /// The same of Flux's annotation `reconcile.fluxcd.io/requestedAt`, under Flux's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The loop guard: what was built again and again.
    #[serde(default, rename = "loop", skip_serializing_if = "Option::is_none")]
    pub repeated: Option<LoopStatus>,
}

/// Builds that ended in the build key of the image before them, or went back to a configuration of the platform that was left
/// before, without a person having asked for them.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LoopStatus {
    /// The build key.
    pub build_key: String,
    /// How many; one more than 5 when a sixth was wanted within the hour and not made.
    pub count: u32,
    /// When the first of them ended.
    pub since: Time,
    /// The configuration of the platform that was left last, by the first digits of its hash: a build that goes back to it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
}

/// Values of our annotations that were acted on. An annotation raises no generation: who waits for one waits for this.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastHandled {
    /// Of `robotimage.dev/requestedAt`: the source was resolved anew, and a standing failure tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<String>,
    /// Of `robotimage.dev/forceAt`: a build was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force_at: Option<String>,
    /// Of `robotimage.dev/cancel`: the build of this number was ended, or was not there to be ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<String>,
}

/// A resolved revision.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SourceStatus {
    /// Reference and commit, `main@sha1:4be1…`; of other sources what was hashed, and the hash: `etag@sha256:…`.
    pub revision: String,
    /// The same for people: `main@4be1c2d`.
    pub short: String,
    /// Hash of the tree at `source.path`, as the fetch step found it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tree_hash: Option<String>,
    /// Author's name, at most 64 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// First line of the commit's message, at most 72 bytes; of an archive its SHA-256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The resolved environment.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct EnvironmentStatus {
    /// SHA-256 over everything that decides it.
    pub key: String,
    /// rcc's own blueprint hash; a display value, it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blueprint: Option<String>,
    /// Number of installed packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packages: Option<i64>,
    /// When it was resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Time>,
}

/// Inputs of the latest image beside source and environment.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Inputs {
    /// Base image by the digest of its platform manifest.
    pub base: String,
    /// rcc's version and the SHA-256 of its binary: `v19.0.2@sha256:…`.
    pub rcc: String,
    /// Digest of the image that rcc was taken from; absent when it was downloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rcc_image: Option<String>,
    /// Recipe version of the layers.
    pub compatibility: u32,
    /// Of base, rcc and image (the published one), those that the operator may not look at without credentials: only a build
    /// sees a newer base or rcc, and nobody sees that the image is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub unchecked: Vec<String>,
}

/// A pushed and verified image.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LatestImage {
    /// What to deploy: `repository@sha256:…`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Digest of the manifest.
    pub digest: String,
    /// The digest for people: its first 12 digits.
    pub short: String,
    /// Tags that were set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub tags: Vec<String>,
    /// Bytes of all layers, compressed.
    pub size: i64,
    /// Bytes that the build which made it sent to the registry.
    pub uploaded: i64,
    /// The layers by role.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub layers: Vec<LayerStatus>,
    /// Platforms of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub platforms: Vec<String>,
    /// Request key of the build that made or confirmed it.
    pub request_key: String,
    /// Build key: what the bytes depend on.
    pub build_key: String,
    /// When it was published.
    pub published_at: Time,
}

/// Layers of one role.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerStatus {
    /// base, rcc, environment, home or code.
    pub role: String,
    /// Number of layers.
    pub count: u32,
    /// Compressed bytes.
    pub size: i64,
    /// Bytes of it that were uploaded, the rest was there.
    pub uploaded: i64,
}

/// Where a build is.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuildPhase {
    /// Decided and counted; its Job may not exist yet.
    #[default]
    Pending,
    /// Its Job exists.
    Running,
    /// It made or confirmed an image.
    Succeeded,
    /// It ended without one.
    Failed,
    /// It was canceled, or given up for a newer one or by suspension.
    Canceled,
}

/// Why a build was made.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeReason {
    /// Initial, SourceChanged, ConfigChanged, BaseChanged, RccChanged, PlatformChanged, Refresh, Requested, ImageMissing or Retry.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it was, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// What it is now, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// One step of a build.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StepStatus {
    /// fetch, resolve or publish.
    pub name: String,
    /// When its container started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// How long it ran, for example 12s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Of resolve: what the environment cache said: hit, miss, or bad, and why. Absent when it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
}

/// The build that runs, or the last that ran.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LatestBuild {
    /// Its number; never used twice for one RobotImage.
    pub number: i64,
    /// Attempt of this number, from 1.
    pub attempt: u32,
    /// Random id of the attempt; a report must carry it.
    pub build_id: String,
    /// Name of its Job.
    pub job: String,
    /// UID of its Job, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// What was asked.
    pub request_key: String,
    /// Generation of the spec it builds.
    pub generation: i64,
    /// Where it is.
    pub phase: BuildPhase,
    /// Noop, CodeOnly, RebaseOnly or Full, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Why it was made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub reasons: Vec<ChangeReason>,
    /// Its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub steps: Vec<StepStatus>,
    /// What keeps it from starting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// Memory limit of its steps, where an attempt before ran out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// From decision to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Revision it builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
}

/// What keeps a build from starting.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// Unschedulable, BuilderImagePullFailed, QuotaExceeded or PodRejected.
    pub reason: String,
    /// When that was seen first: the platform's `builds.queueLimit` counts from here.
    pub since: Time,
}

/// The last failure, of a build or of the source's resolution.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct LastFailure {
    /// A reason of the list in docs/reference.
    pub reason: String,
    /// Who can mend it: User, Platform or Infrastructure.
    pub owner: String,
    /// Whether the operator tries again by itself.
    pub retryable: bool,
    /// What failed, where, and what to do.
    pub message: String,
    /// Last lines of the failed step's output, secrets replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_tail: Option<String>,
    /// What was asked when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_key: Option<String>,
    /// Attempts so far that count.
    pub attempts: u32,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_retry_at: Option<Time>,
    /// Generation of the spec that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

/// An ended build, in short.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Number of the build.
    pub number: i64,
    /// Short digest of what it made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Short revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Types of its reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub reasons: Vec<String>,
    /// Succeeded, or the reason of its failure.
    pub outcome: String,
    /// When it was decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// From decision to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}
