//! What a resource asks for, with the platform's defaults filled in: the one place where the spec is read.

use std::collections::BTreeMap;
use std::time::Duration;

use robotimage_crds::api::{
    BaseUpdate, Compression, GitRef, GitSource, HttpSource, LocalRef, OciSource, Platform as ImagePlatform, RobotImageSpec, Source,
    Supersede,
};
use robotimage_crds::build::{PlanFrom, PlanIgnore, PlanRcc};
use robotimage_crds::duration;
use robotimage_registry::{Reference, Requirement};

use super::cron::Cron;
use crate::config::{Platform, PollingMode};
use crate::observe::Revision;
use crate::quantity::larger;
use crate::source::{GitQuestion, Question};

/// Polling interval of a resource that names none.
const DEFAULT_INTERVAL: Duration = Duration::from_mins(5);
/// Retries after failures of the infrastructure, and at most.
const DEFAULT_RETRIES: u32 = 3;
const MOST_RETRIES: u32 = 10;
/// Name that stands for a commit given by its id.
const PINNED: &str = "commit";
/// Ended builds of each kind to keep, and at most.
const DEFAULT_HISTORY: u32 = 5;
const MOST_HISTORY: u32 = 10;

/// A resource's wishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// No new builds and no polling.
    pub suspended: bool,
    /// How often a moving source is looked at.
    pub interval: Duration,
    /// How often a moving base or rcc image is looked at.
    pub base_interval: Duration,
    /// How often a published image is looked for.
    pub image_interval: Duration,
    /// When the environment is solved anew.
    pub refresh: Option<Cron>,
    /// What is asked for and makes no sense, and why: until it is changed, nothing is built.
    pub refused: Option<String>,
    /// Whether the operator asks registries at all.
    pub polls_registries: bool,
    /// The source.
    pub source: SourceKind,
    /// Files of it that are left out.
    pub ignore: PlanIgnore,
    /// Who finds out the revision.
    pub finder: Finder,
    /// Folder of the source; empty for its root.
    pub path: String,
    /// The robot file.
    pub robot_file: String,
    /// The task, if chosen.
    pub task: Option<String>,
    /// The image.
    pub image: ImageSettings,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Counted retries of one request after its first attempt.
    pub retries: u32,
    /// What a newer request does to a live build.
    pub supersede: Supersede,
    /// Requests of each step, all three resources.
    pub requests: BTreeMap<String, String>,
    /// Limits of each step, all three resources, none below its request.
    pub limits: BTreeMap<String, String>,
    /// What the memory limit grows to at most after OutOfMemory.
    pub max_memory: String,
    /// Succeeded builds to keep.
    pub keep_succeeded: usize,
    /// Failed builds to keep.
    pub keep_failed: usize,
}

/// The image that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSettings {
    /// Target repository.
    pub repository: String,
    /// Tags, unrendered.
    pub tags: Vec<String>,
    /// Secret to push with.
    pub push_secret: Option<String>,
    /// Secret to read the repository with.
    pub pull_secret: Option<String>,
    /// Platform.
    pub platform: ImagePlatform,
    /// Base image.
    pub base: String,
    /// What a new digest of the base means.
    pub base_update: BaseUpdate,
    /// Secret to read the base with.
    pub base_secret: Option<String>,
    /// Which rcc.
    pub rcc: PlanRcc,
    /// Secret to read the rcc image with.
    pub rcc_secret: Option<String>,
    /// Compression of layers.
    pub compression: Compression,
    /// `user:group`.
    pub user: String,
    /// Labels, unrendered.
    pub labels: BTreeMap<String, String>,
    /// Annotations, unrendered.
    pub annotations: BTreeMap<String, String>,
    /// The ConfigMap that announces it.
    pub publish_to: Option<String>,
    /// Recipe version.
    pub compatibility: u32,
}

/// The one kind of source that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A git repository.
    Git(GitSource),
    /// An archive behind a URL.
    Http(HttpSource),
    /// An artifact in a registry.
    Oci(OciSource),
    /// A ConfigMap, by its name.
    ConfigMap(String),
}

impl SourceKind {
    /// The first kind that is set; the schema lets only one be.
    fn of(source: &Source) -> Option<Self> {
        let git = source.git.clone().map(Self::Git);
        let http = || source.http.clone().map(Self::Http);
        let oci = || source.oci.clone().map(Self::Oci);
        let config_map = || source.config_map.as_ref().map(|target| Self::ConfigMap(target.name.clone()));
        git.or_else(http).or_else(oci).or_else(config_map)
    }

    /// Its Secret.
    pub fn secret(&self) -> Option<&str> {
        let reference: Option<&LocalRef> = match self {
            Self::Git(git) => git.secret_ref.as_ref(),
            Self::Http(http) => http.secret_ref.as_ref(),
            Self::Oci(oci) => oci.secret_ref.as_ref(),
            Self::ConfigMap(_) => None,
        };
        reference.map(|secret| secret.name.as_str())
    }

    /// What is wrong with it beyond what the schema can see.
    fn refused(&self) -> Option<String> {
        match self {
            Self::Git(git) => {
                let versions = git.reference.as_ref()?.semver.as_deref()?;
                let error = Requirement::parse(versions).err()?;
                Some(format!("spec.source.git.ref.semver {error}"))
            }
            Self::Oci(oci) => match Reference::parse(&oci.image) {
                Ok(reference) if reference.digest().is_none() || self.pinned().is_some() => None,
                Ok(_) => Some("spec.source.oci.image has a digest that is no SHA-256; name it by its sha256 digest or by a tag".to_owned()),
                Err(error) => Some(format!("spec.source.oci.image: {error}")),
            },
            Self::Http(_) | Self::ConfigMap(_) => None,
        }
    }

    /// What the operator asks of it; `None` where only a build pod can look.
    pub fn question(&self) -> Option<Question> {
        match self {
            Self::Git(git) => {
                let reference = git.reference.clone().unwrap_or_default();
                Some(Question::Git(GitQuestion {
                    url: git.url.clone(),
                    branch: reference.branch,
                    tag: reference.tag,
                    semver: reference.semver,
                }))
            }
            Self::Http(http) => Some(Question::Http { url: http.url.clone() }),
            Self::Oci(oci) => Some(Question::Oci { image: oci.image.clone() }),
            Self::ConfigMap(_) => None,
        }
    }

    /// What the plan says of it.
    pub fn plan(&self) -> PlanFrom {
        match self {
            Self::Git(git) => PlanFrom::Git { url: git.url.clone() },
            Self::Http(http) => PlanFrom::Http {
                url: http.url.clone(),
                sha256: http.sha256.clone(),
            },
            Self::Oci(oci) => PlanFrom::Oci { image: oci.image.clone() },
            Self::ConfigMap(name) => PlanFrom::ConfigMap { name: name.clone() },
        }
    }

    /// The revision that the spec itself names.
    fn pinned(&self) -> Option<Revision> {
        let (reference, commit) = match self {
            Self::Git(git) => (PINNED, git.reference.as_ref()?.commit.clone()?),
            Self::Http(http) => ("archive", http.sha256.clone()?),
            Self::Oci(oci) => {
                let reference = Reference::parse(&oci.image).ok()?;
                ("digest", reference.digest()?.to_string().strip_prefix("sha256:")?.to_owned())
            }
            Self::ConfigMap(_) => return None,
        };
        Some(Revision {
            reference: reference.to_owned(),
            commit,
        })
    }
}

/// Who finds out which revision is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finder {
    /// Nobody needs to: the spec names it.
    Pinned(Revision),
    /// The operator asks the server.
    Operator,
    /// The fetch step does, with credentials that the operator does not read; looks again after `poll`, if at all.
    Fetch {
        /// Time between two looks; `None` when the platform polls nothing.
        poll: Option<Duration>,
    },
}

impl Settings {
    /// Reads a spec. `None` when it names no source that this version knows.
    pub fn of(spec: &RobotImageSpec, namespace: &str, platform: &Platform) -> Option<Self> {
        let source = SourceKind::of(&spec.source)?;
        let ignore = spec.source.ignore.clone().unwrap_or_default();
        let build = spec.build.clone().unwrap_or_default();
        let resources = build.resources.unwrap_or_default();
        let (requests, limits) = resources_of(
            &resources.requests.unwrap_or_default(),
            &resources.limits.unwrap_or_default(),
            platform,
        );
        let asked = spec.interval.as_deref().and_then(duration::parse).unwrap_or(DEFAULT_INTERVAL);
        let interval = asked.max(platform.config.min_interval.0);
        let robot = spec.robot.clone().unwrap_or_default();
        let history = spec.history.clone().unwrap_or_default();
        let keep = |wish: Option<u32>| wish.unwrap_or(DEFAULT_HISTORY).clamp(1, MOST_HISTORY) as usize;
        let schedule = spec.environment.as_ref().and_then(|environment| environment.refresh.as_deref());
        let (refresh, refused) = schedule.map_or((None, None), refresh_of);
        let refused = refused.or_else(|| source.refused());
        Some(Self {
            suspended: spec.suspend.unwrap_or(false),
            interval,
            base_interval: interval.max(platform.config.registry_polling.base_interval.0),
            image_interval: interval.max(platform.config.registry_polling.image_interval.0),
            refresh,
            refused,
            polls_registries: platform.config.registry_polling.enabled,
            finder: finder(&source, namespace, interval, platform),
            source,
            ignore: PlanIgnore {
                patterns: ignore.patterns.unwrap_or_default(),
                from_robot: ignore.from_robot.unwrap_or(false),
            },
            path: spec.source.path.clone().unwrap_or_default(),
            robot_file: robot.file.unwrap_or_else(|| "robot.yaml".to_owned()),
            task: robot.task,
            image: image_settings(spec, platform),
            timeout: build
                .timeout
                .as_deref()
                .and_then(duration::parse)
                .unwrap_or(platform.config.build_timeout.0),
            retries: build.retries.unwrap_or(DEFAULT_RETRIES).min(MOST_RETRIES),
            supersede: build.supersede.unwrap_or_default(),
            requests,
            limits,
            max_memory: platform.config.resources.max_memory.clone(),
            keep_succeeded: keep(history.succeeded),
            keep_failed: keep(history.failed),
        })
    }

    /// The reference of a git repository, as the spec has it.
    pub fn reference(&self) -> Option<&GitRef> {
        match &self.source {
            SourceKind::Git(git) => git.reference.as_ref(),
            SourceKind::Http(_) | SourceKind::Oci(_) | SourceKind::ConfigMap(_) => None,
        }
    }

    /// The base, when its digest is looked after: its reference can move, and is wanted to.
    pub fn moving_base(&self) -> Option<&str> {
        let image = &self.image;
        (self.polls_registries && image.base_update != BaseUpdate::Pin && !image.base.contains('@')).then_some(&*image.base)
    }

    /// The image with rcc, when its digest is looked after.
    pub fn moving_rcc(&self) -> Option<&str> {
        match &self.image.rcc {
            PlanRcc::Image(image) if self.polls_registries && !image.contains('@') => Some(image),
            PlanRcc::Image(_) | PlanRcc::Http(_) => None,
        }
    }
}

/// The schedule, or why it is none.
fn refresh_of(text: &str) -> (Option<Cron>, Option<String>) {
    match Cron::parse(text) {
        Ok(cron) => (Some(cron), None),
        Err(error) => {
            let text = crate::text::line(text, 100);
            (None, Some(format!("spec.environment.refresh \"{text}\" {error}")))
        }
    }
}

fn finder(source: &SourceKind, namespace: &str, interval: Duration, platform: &Platform) -> Finder {
    if let Some(revision) = source.pinned() {
        return Finder::Pinned(revision);
    }
    let asks = match source {
        SourceKind::Git(_) | SourceKind::Http(_) => source.secret().is_none() || platform.reads_secrets_of(namespace),
        SourceKind::Oci(_) => source.secret().is_none() && platform.config.registry_polling.enabled,
        // The operator reads no ConfigMaps.
        SourceKind::ConfigMap(_) => false,
    };
    if asks {
        return Finder::Operator;
    }
    let polling = &platform.config.source_polling;
    Finder::Fetch {
        poll: (polling.mode != PollingMode::Off).then(|| interval.max(polling.pod_interval.0)),
    }
}

fn image_settings(spec: &RobotImageSpec, platform: &Platform) -> ImageSettings {
    let image = &spec.image;
    let secret = |reference: &Option<robotimage_crds::api::LocalRef>| reference.as_ref().map(|secret| secret.name.clone());
    let push_secret = secret(&image.secret_ref);
    let pull_secret = secret(&image.pull_secret_ref).or_else(|| push_secret.clone());
    let base = image.base.clone().unwrap_or_default();
    // A base or rcc of the platform is read with the platform's Secret, one of the resource's with the resource's.
    let base_secret = secret(&base.secret_ref)
        .or_else(|| {
            if base.image.is_none() {
                platform.config.base.secret_name.clone()
            } else {
                None
            }
        })
        .or_else(|| pull_secret.clone());
    let rcc_secret = match &image.rcc {
        Some(rcc) => secret(&rcc.secret_ref),
        None => platform.config.rcc.secret_name.clone(),
    }
    .or_else(|| pull_secret.clone());
    let rcc = image
        .rcc
        .as_ref()
        .and_then(|rcc| {
            rcc.image
                .clone()
                .map(PlanRcc::Image)
                .or_else(|| rcc.http.clone().map(PlanRcc::Http))
        })
        .unwrap_or_else(|| platform.rcc.clone());
    ImageSettings {
        repository: image.repository.clone(),
        tags: image.tags.clone().unwrap_or_else(|| vec!["{{source.short}}".to_owned()]),
        push_secret,
        pull_secret,
        platform: image
            .platforms
            .as_deref()
            .and_then(<[_]>::first)
            .copied()
            .unwrap_or(ImagePlatform::LinuxAmd64),
        base_update: base.update.unwrap_or_default(),
        base: base.image.unwrap_or_else(|| platform.config.base.image.clone()),
        base_secret,
        rcc,
        rcc_secret,
        compression: image.compression.unwrap_or(platform.config.compression),
        user: image.user.clone().unwrap_or_else(|| "1000:0".to_owned()),
        labels: image.labels.clone().unwrap_or_default(),
        annotations: image.annotations.clone().unwrap_or_default(),
        publish_to: image.publish_to.as_ref().map(|target| target.config_map.name.clone()),
        compatibility: image.compatibility.unwrap_or(1),
    }
}

/// All three resources in both maps: a namespace with a quota on limits refuses a pod that leaves one out. A limit is
/// raised to a request that is larger, and a default request lowered to a limit that is smaller.
fn resources_of(
    requests: &BTreeMap<String, String>,
    limits: &BTreeMap<String, String>,
    platform: &Platform,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let defaults = &platform.config.resources;
    let mut out = (BTreeMap::new(), BTreeMap::new());
    for (name, least, most) in [
        ("cpu", "100m", "2"),
        ("memory", "256Mi", "2Gi"),
        ("ephemeral-storage", "1Gi", "10Gi"),
    ] {
        let default_request = defaults.requests.get(name).map_or(least, String::as_str);
        let default_limit = defaults.limits.get(name).map_or(most, String::as_str);
        let (request, limit) = match (requests.get(name), limits.get(name)) {
            (Some(request), Some(limit)) => (request.as_str(), larger(limit, request)),
            (Some(request), None) => (request.as_str(), larger(default_limit, request)),
            (None, Some(limit)) if larger(default_request, limit) == default_request => (limit.as_str(), limit.as_str()),
            (None, Some(limit)) => (default_request, limit.as_str()),
            (None, None) => (default_request, larger(default_limit, default_request)),
        };
        out.0.insert(name.to_owned(), request.to_owned());
        out.1.insert(name.to_owned(), limit.to_owned());
    }
    out
}
