//! A model of one namespace: a RobotImage, its Jobs and pods, a git server's answer, and a clock.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{LatestBuild, RobotImage, RobotImageSpec, RobotImageStatus};
use serde_json::json;

use crate::config::Platform;
use crate::decide::{
    Action, Chance, Decision, Look, Next, Note, Settings, decide, last_build, look_wish, next_digest_look, next_image_look, next_look,
};
use crate::observe::{Announced, Answer, Check, Checks, ImageCheck, JobView, Observed, PodView, Refusal, Revision, SourceKnowledge, Turn};
use crate::registry::LookupFailure;
use crate::source::SourceFailure;

pub(super) const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(super) const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

pub(super) const UP_TO_DATE: &str = "Ready=True/UpToDate Available=True/ImagePublished SourceReady=True/Resolved | Ready";
pub(super) const BUILDING: &str =
    "Ready=Unknown/Progressing Reconciling=True/Building Available=False/NeverBuilt SourceReady=True/Resolved | Building";

/// The platform of the tests.
pub(super) fn platform(extra: &str) -> Platform {
    let text = format!("builderImage: builder:1\nbase: {{image: 'base:1'}}\nrcc: {{image: 'rcc:1'}}\n{extra}");
    Platform::new(Platform::parse(&text).unwrap(), String::new(), None).unwrap()
}

/// A resource with a public source on a branch.
pub(super) fn image() -> RobotImage {
    let spec: RobotImageSpec = serde_json::from_value(json!({
        "source": {"git": {"url": "https://git.example.com/a.git", "ref": {"branch": "main"}}},
        "image": {"repository": "registry.example.com/robots/a", "secretRef": {"name": "push"}},
    }))
    .unwrap();
    let mut image = RobotImage::new("invoices", spec);
    image.metadata.namespace = Some("finance".to_owned());
    image.metadata.uid = Some("0f7c1d2e-0000-4000-8000-000000000001".to_owned());
    image.metadata.generation = Some(1);
    // What the schema's default makes of an object that nobody has seen.
    image.status = Some(RobotImageStatus {
        observed_generation: Some(-1),
        ..RobotImageStatus::default()
    });
    image
}

pub(super) struct World {
    pub(super) image: RobotImage,
    pub(super) jobs: Vec<Job>,
    pub(super) pods: Vec<Pod>,
    pub(super) platform: Arc<Platform>,
    pub(super) now: Timestamp,
    pub(super) unit: f64,
    /// What the git server says.
    pub(super) server: Result<Revision, SourceFailure>,
    /// The look-up does not end.
    pub(super) slow: bool,
    pub(super) answer: Option<Answer>,
    /// What the registry says of base and rcc.
    pub(super) registry: [Result<String, LookupFailure>; 2],
    /// Look-ups of base and rcc do not end.
    pub(super) registry_slow: bool,
    /// Whether there is a slot for a build.
    pub(super) turn: Turn,
    /// What was written into the ConfigMap of publishTo.
    pub(super) announced: Option<Announced>,
    pub(super) announcements: usize,
    pub(super) checks: Checks,
    pub(super) digest_looks: usize,
    /// What the registry says of the published image.
    pub(super) published: Result<(), LookupFailure>,
    pub(super) refusal: Option<Refusal>,
    pub(super) notes: Vec<Note>,
    pub(super) writes: usize,
    pub(super) polls: usize,
    pub(super) last: Option<Decision>,
    ids: u64,
    /// When this process first saw the resource.
    pub(super) seen: Timestamp,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(image(), platform(""))
    }

    pub(super) fn with(image: RobotImage, platform: Platform) -> Self {
        let now = "2026-03-01T10:00:00Z".parse().unwrap();
        Self {
            image,
            jobs: Vec::new(),
            pods: Vec::new(),
            platform: Arc::new(platform),
            now,
            unit: 0.5,
            server: Ok(revision(A)),
            slow: false,
            answer: None,
            registry: [Ok(digest('1')), Ok(digest('3'))],
            registry_slow: false,
            turn: Turn::Now,
            announced: None,
            announcements: 0,
            checks: Checks::default(),
            digest_looks: 0,
            published: Ok(()),
            refusal: None,
            notes: Vec::new(),
            writes: 0,
            polls: 0,
            last: None,
            ids: 0,
            seen: now,
        }
    }

    pub(super) fn status(&self) -> RobotImageStatus {
        self.image.status.clone().unwrap_or_default()
    }

    pub(super) fn build(&self) -> LatestBuild {
        self.status().latest_build.expect("a build")
    }

    fn look_up(&mut self) {
        let settings = Settings::of(&self.image.spec, "finance", &self.platform).expect("a source");
        let generation = self.image.metadata.generation.unwrap_or_default();
        let due = matches!(next_look(&self.image, &settings, &self.knowledge(), &self.platform.hash, self.now), Look::At(time) if time <= self.now);
        if due && !self.slow {
            self.polls += 1;
            let failures = if self.server.is_ok() {
                0
            } else {
                self.answer.as_ref().map_or(0, |answer| answer.failures) + 1
            };
            self.answer = Some(Answer {
                at: self.now,
                chance: 0.5,
                generation,
                build: last_build(&self.image),
                wish: look_wish(&self.image).0,
                failures,
                result: self.server.clone(),
            });
        }
    }

    fn look_at_registry(&mut self) {
        let settings = Settings::of(&self.image.spec, "finance", &self.platform).expect("a source");
        let knowledge = self.knowledge();
        let (base, rcc) = (settings.moving_base().is_some(), settings.moving_rcc().is_some());
        self.checks.asking = self.registry_slow;
        let checks = [(base, &mut self.checks.base), (rcc, &mut self.checks.rcc)];
        for ((moving, check), answer) in checks.into_iter().zip(&self.registry) {
            let look = next_digest_look(&self.image, &settings, &knowledge, check.as_ref());
            if !moving || self.registry_slow || !matches!(look, Look::At(time) if time <= self.now) {
                continue;
            }
            self.digest_looks += 1;
            let before = check.take();
            *check = Some(Check {
                at: self.now,
                failures: answer
                    .as_ref()
                    .err()
                    .map_or(0, |_| before.as_ref().map_or(0, |check| check.failures) + 1),
                digest: answer.clone().ok().or(before.and_then(|check| check.digest)),
                failure: answer.clone().err(),
            });
        }
    }

    fn look_for_image(&mut self) {
        let settings = Settings::of(&self.image.spec, "finance", &self.platform).expect("a source");
        let before = self.checks.image.take();
        let look = next_image_look(&self.image, &settings, &self.knowledge(), before.as_ref());
        let number = self.status().latest_build.map_or(0, |build| build.number);
        self.checks.image = if matches!(look, Look::At(time) if time <= self.now) {
            Some(ImageCheck::after(before.as_ref(), number, &self.published, self.now))
        } else {
            before
        };
    }

    /// The digest of the base that the live build's pod takes.
    pub(super) fn taken_base(&self) -> String {
        let name = self.build().job;
        let job = self.jobs.iter().find(|job| job.metadata.name.as_ref() == Some(&name));
        let plan = job.and_then(|job| JobView::of(job).plan);
        let told = plan.and_then(|plan| plan.image.base.split_once('@').map(|(_, digest)| digest.to_owned()));
        told.or_else(|| self.registry[0].clone().ok()).unwrap_or_else(|| digest('1'))
    }

    fn knowledge(&self) -> SourceKnowledge {
        SourceKnowledge {
            seen_at: self.seen,
            seen_chance: 0.5,
            answer: self.answer.clone(),
            asking: self.slow,
        }
    }

    pub(super) fn observe(&mut self) -> Observed {
        self.look_up();
        self.look_at_registry();
        self.look_for_image();
        Observed {
            image: self.image.clone(),
            jobs: self.jobs.iter().map(JobView::of).collect(),
            pods: self.pods.iter().map(PodView::of).collect(),
            source: self.knowledge(),
            checks: self.checks.clone(),
            announced: self.announced.clone(),
            turn: self.turn,
            refusal: self.refusal.clone(),
        }
    }

    /// One decision, not applied.
    pub(super) fn decision(&mut self) -> Decision {
        let observed = self.observe();
        self.ids += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.ids.to_le_bytes());
        decide(&observed, &self.platform, self.now, Chance { id, unit: self.unit })
    }

    /// Decides and applies once; false when there was nothing to do.
    pub(super) fn step(&mut self) -> bool {
        let decision = self.decision();
        let acted = decision.next != Next::Rest;
        match decision.next.clone() {
            Next::Rest => {}
            Next::Write(status) => {
                assert_ne!(Some(&*status), self.image.status.as_ref(), "an equal status was written");
                let size = serde_json::to_vec(&*status).unwrap().len();
                assert!(size <= 6 * 1024, "a status of {size} bytes");
                self.image.status = Some(*status);
                self.notes.extend(decision.notes.clone());
                self.writes += 1;
            }
            Next::Act(actions) => actions.into_iter().for_each(|action| self.apply(action)),
        }
        self.last = Some(decision);
        acted
    }

    pub(super) fn apply(&mut self, action: Action) {
        match action {
            Action::Announce { name, data } => {
                self.announcements += 1;
                self.announced = Some(Announced {
                    name,
                    data,
                    at: self.now,
                    refused: None,
                });
            }
            Action::CreateJob(job) => {
                let name = job.metadata.name.clone();
                if self.jobs.iter().all(|old| old.metadata.name != name) {
                    let mut job = *job;
                    self.ids += 1;
                    job.metadata.uid = Some(format!("job-{}", self.ids));
                    job.metadata.creation_timestamp = Some(Time(self.now));
                    self.jobs.push(job);
                }
            }
            Action::DeleteJob { uid, .. } => {
                self.jobs.retain(|job| job.metadata.uid.as_ref() != Some(&uid));
                self.pods
                    .retain(|pod| pod.metadata.owner_references.as_ref().unwrap()[0].uid != uid);
            }
        }
    }

    /// Until there is nothing to do; the statuses written.
    pub(super) fn settle(&mut self) -> usize {
        let before = self.writes;
        for _ in 0..20 {
            if !self.step() {
                return self.writes - before;
            }
        }
        panic!("it does not come to rest: {:#?}", self.last);
    }

    pub(super) fn pass(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now.checked_add(Duration::from_secs(seconds)).unwrap();
        self
    }

    /// The operator is killed and started again.
    pub(super) fn restart(&mut self) {
        self.answer = None;
        self.checks = Checks::default();
        self.announced = None;
        self.refusal = None;
        self.seen = self.now;
    }

    pub(super) fn edit(&mut self, change: impl FnOnce(&mut RobotImageSpec)) {
        change(&mut self.image.spec);
        self.image.metadata.generation = self.image.metadata.generation.map(|generation| generation + 1);
    }

    /// Sets an annotation, which raises no generation.
    pub(super) fn annotate(&mut self, name: &str, value: &str) {
        let annotations = self.image.metadata.annotations.get_or_insert_default();
        annotations.insert(name.to_owned(), value.to_owned());
    }

    /// Kinds of the reasons of the build.
    pub(super) fn reasons(&self) -> Vec<String> {
        self.build().reasons.into_iter().map(|reason| reason.kind).collect()
    }

    /// The row of the table that the status shows.
    pub(super) fn row(&self) -> String {
        let status = self.status();
        let generation = self.image.metadata.generation;
        let mut text = Vec::new();
        for condition in &status.conditions {
            assert_eq!(condition.observed_generation, generation, "{}", condition.type_);
            text.push(format!("{}={}/{}", condition.type_, condition.status, condition.reason));
        }
        assert_eq!(status.observed_generation, generation);
        format!("{} | {}", text.join(" "), status.summary.unwrap_or_default())
    }

    /// To a first image of commit A, and rest.
    pub(super) fn built() -> Self {
        let mut world = Self::new();
        world.settle();
        world.pass(30).succeed(A, 'd', false);
        world.settle();
        world
    }
}

/// A digest of one digit.
pub(super) fn digest(digit: char) -> String {
    format!("sha256:{}", String::from(digit).repeat(64))
}

pub(super) fn revision(commit: &str) -> Revision {
    Revision {
        reference: "main".to_owned(),
        commit: commit.to_owned(),
    }
}
