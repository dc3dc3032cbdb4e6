//! One of two operators that both believe to lead: it sees the model API server through watches that lag behind, reads
//! directly where the real one does, and is right or wrong about the time.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use robotimage_crds::api::{BuildPhase, RobotImage};

use super::super::world::{World, digest};
use super::mutation::Mutation;
use crate::decide::{Chance, Decision, Look, Next, Settings, decide, gives_up, last_build, look_wish, next_look};
use crate::observe::{Answer, Check, Checks, JobView, Observed, PodView, Refusal, SourceKnowledge, Turn, is_doubtful};

/// What a registry says of base and rcc, which do not move here.
fn found(digit: char, at: Timestamp) -> Check {
    Check {
        at,
        failures: 0,
        digest: Some(digest(digit)),
        failure: None,
    }
}

fn views(jobs: &[Job]) -> Vec<JobView> {
    jobs.iter().map(JobView::of).collect()
}

fn pod_views(pods: &[Pod]) -> Vec<PodView> {
    pods.iter().map(PodView::of).collect()
}

pub(super) struct Leader {
    /// Its watches: the resource, Jobs, pods. Read once, as the real indexes do.
    pub(super) image: RobotImage,
    jobs: Vec<JobView>,
    pods: Vec<PodView>,
    pub(super) skew: i64,
    answer: Option<Answer>,
    /// Build id, and why its Job was not taken.
    pub(super) refused: Option<(String, Refusal)>,
    seen: Timestamp,
}

impl Leader {
    pub(super) fn new(world: &World) -> Self {
        Self {
            image: world.image.clone(),
            jobs: Vec::new(),
            pods: Vec::new(),
            skew: 0,
            answer: None,
            refused: None,
            seen: world.now,
        }
    }

    /// Killed and started again: it lists everything before it does anything.
    pub(super) fn restart(&mut self, world: &World) {
        let skew = self.skew;
        *self = Self::new(world);
        self.skew = skew;
        self.watch(world, [true; 3]);
    }

    pub(super) fn watch(&mut self, world: &World, [image, jobs, pods]: [bool; 3]) {
        if image {
            self.image = world.image.clone();
        }
        if jobs {
            self.jobs = views(&world.jobs);
        }
        if pods {
            self.pods = pod_views(&world.pods);
        }
    }

    pub(super) fn now(&self, world: &World) -> Timestamp {
        world.now.saturating_add(SignedDuration::from_secs(self.skew)).expect("a time")
    }

    /// Observes and decides. What is read directly, and when, is what `observe::Reader` reads.
    pub(super) fn decide(&mut self, world: &World, image: &RobotImage, chance: Chance, mutation: Mutation) -> (Observed, Decision) {
        let now = self.now(world);
        self.look_up(world, image, now);
        let (mut jobs, mut pods) = (self.jobs.clone(), self.pods.clone());
        let build = image.status.as_ref().and_then(|status| status.latest_build.as_ref());
        if let Some(build) = build.filter(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running)) {
            if !jobs.iter().any(|job| job.name == build.job) {
                (jobs, pods) = (views(&world.jobs), pod_views(&world.pods));
            }
            let own = jobs.iter().find(|job| job.name == build.job);
            if own.is_some_and(|job| is_doubtful(build, job, &pods, now)) {
                pods = pod_views(&world.pods);
            }
        }
        pods.sort_by_key(|pod| pod.created);
        let refused = self
            .refused
            .as_ref()
            .filter(|(id, _)| build.is_some_and(|build| build.build_id == *id));
        let mut observed = Observed {
            refusal: refused.map(|(_, refusal)| refusal.clone()),
            image: image.clone(),
            jobs,
            pods,
            source: self.knowledge(),
            checks: Checks {
                base: Some(found('1', now)),
                rcc: Some(found('3', now)),
                ..Checks::default()
            },
            announced: None,
            turn: Turn::Now,
        };
        mutation.observed(&mut observed);
        let mut decision = decide(&observed, &world.platform, now, chance);
        let believed = mutation == Mutation::IndexBelieved;
        if !believed && matches!(&decision.next, Next::Write(status) if gives_up(&observed, status)) {
            (observed.jobs, observed.pods) = (views(&world.jobs), pod_views(&world.pods));
            observed.pods.sort_by_key(|pod| pod.created);
            mutation.observed(&mut observed);
            decision = decide(&observed, &world.platform, now, chance);
        }
        mutation.decision(&observed, &mut decision);
        (observed, decision)
    }

    fn knowledge(&self) -> SourceKnowledge {
        SourceKnowledge {
            seen_at: self.seen,
            seen_chance: 0.5,
            answer: self.answer.clone(),
            asking: false,
        }
    }

    fn look_up(&mut self, world: &World, image: &RobotImage, now: Timestamp) {
        let settings = Settings::of(&image.spec, "finance", &world.platform).expect("a source");
        let due = next_look(image, &settings, &self.knowledge(), &world.platform.hash, now);
        if matches!(due, Look::At(time) if time <= now) {
            let before = self.answer.as_ref().map_or(0, |answer| answer.failures);
            self.answer = Some(Answer {
                at: now,
                chance: 0.5,
                generation: image.metadata.generation.unwrap_or_default(),
                build: last_build(image),
                wish: look_wish(image).0,
                failures: if world.server.is_ok() { 0 } else { before + 1 },
                result: world.server.clone(),
            });
        }
    }
}
