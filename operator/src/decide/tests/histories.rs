//! Random histories: edits, commits, failures, deletions, restarts and crashes between any two calls. Whatever happens, the
//! invariants hold after every step, and when it stops, the image is built.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;
use robotimage_crds::api::BuildPhase;
use robotimage_crds::build::{Outcome, Step, Want};
use robotimage_crds::reason::Reason;

use super::world::{World, digest, fetched, revision, running, waiting};
use crate::decide::request_key::{request_key, stem};
use crate::decide::{Action, Next};
use crate::observe::Revision;
use crate::registry::LookupFailure;
use crate::source::SourceFailure;

/// What happens next.
#[derive(Clone, Debug)]
enum Event {
    Pass(u64),
    Commit(u8),
    ServerFails(bool),
    BaseMoves(char),
    RegistryFails(bool),
    EditTask(u8),
    EditInterval,
    Suspend(bool),
    PodStarts,
    FetchEnds,
    Succeed(bool),
    Fail(Step, Reason),
    JobTakenAway,
    PodTakenAway,
    Restart,
    SlowDeletion(bool),
    Reap,
    /// The operator goes on until it rests, or is killed after this many calls.
    Work(Option<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    let reasons = prop::sample::select(vec![
        Reason::RobotYamlInvalid,
        Reason::PackageNotFound,
        Reason::RegistryUnavailable,
        Reason::BuildTimeout,
        Reason::PushUnauthorized,
        Reason::Canceled,
    ]);
    let steps = prop::sample::select(Step::ALL.to_vec());
    prop_oneof![
        2 => (1_u64..2000).prop_map(Event::Pass),
        2 => (0_u8..6).prop_map(Event::Commit),
        1 => any::<bool>().prop_map(Event::ServerFails),
        1 => prop::sample::select(vec!['1', '4', '5']).prop_map(Event::BaseMoves),
        1 => any::<bool>().prop_map(Event::RegistryFails),
        1 => (0_u8..3).prop_map(Event::EditTask),
        1 => Just(Event::EditInterval),
        1 => any::<bool>().prop_map(Event::Suspend),
        2 => Just(Event::PodStarts),
        2 => Just(Event::FetchEnds),
        3 => any::<bool>().prop_map(Event::Succeed),
        3 => (steps, reasons).prop_map(|(step, reason)| Event::Fail(step, reason)),
        1 => Just(Event::JobTakenAway),
        1 => Just(Event::PodTakenAway),
        1 => Just(Event::Restart),
        1 => any::<bool>().prop_map(Event::SlowDeletion),
        2 => Just(Event::Reap),
        6 => prop::option::of(1_u8..4).prop_map(Event::Work),
    ]
}

struct Run {
    world: World,
    slow_deletion: bool,
    /// Build ids by number and attempt.
    ids: BTreeMap<(i64, u32), String>,
    counter: i64,
    generation: i64,
}

impl Run {
    fn new() -> Self {
        Self {
            world: World::new(),
            slow_deletion: false,
            ids: BTreeMap::new(),
            counter: 0,
            generation: -1,
        }
    }

    fn live_job(&self) -> bool {
        let Some(build) = self.world.status().latest_build else {
            return false;
        };
        self.world
            .jobs
            .iter()
            .any(|job| job.metadata.name.as_ref() == Some(&build.job) && job.status.is_none())
    }

    fn commit(&self) -> String {
        self.world
            .status()
            .latest_build
            .and_then(|build| build.revision)
            .and_then(|text| Revision::parse(&text))
            .map(|revision| revision.commit)
            .unwrap_or_default()
    }

    fn happen(&mut self, event: &Event) {
        let world = &mut self.world;
        match event {
            Event::Pass(seconds) => drop(world.pass(*seconds)),
            Event::Commit(number) => world.server = Ok(revision(&format!("{number:040x}"))),
            Event::ServerFails(for_good) => {
                let reason = if *for_good {
                    Reason::GitRevisionNotFound
                } else {
                    Reason::SourceUnreachable
                };
                world.server = Err(SourceFailure::new(reason, "it failed"));
            }
            Event::BaseMoves(digit) => world.registry[0] = Ok(digest(*digit)),
            Event::RegistryFails(refused) => {
                world.registry[0] = Err(if *refused {
                    LookupFailure::Refused {
                        host: "registry.example.com".to_owned(),
                    }
                } else {
                    LookupFailure::failed(Reason::RegistryUnavailable, "it fails")
                });
            }
            Event::EditTask(task) => world.edit(|spec| spec.robot.get_or_insert_default().task = Some(format!("task {task}"))),
            Event::EditInterval => world.edit(|spec| spec.interval = Some(if spec.interval.is_none() { "1m" } else { "2m" }.to_owned())),
            Event::Suspend(suspend) => world.edit(|spec| spec.suspend = Some(*suspend)),
            Event::Restart => world.restart(),
            Event::SlowDeletion(slow) => self.slow_deletion = *slow,
            Event::Reap => {
                let gone: Vec<_> = world
                    .jobs
                    .iter()
                    .filter(|job| job.metadata.deletion_timestamp.is_some())
                    .filter_map(|job| job.metadata.uid.clone())
                    .collect();
                for uid in gone {
                    world.apply(Action::DeleteJob { name: String::new(), uid });
                }
            }
            Event::Work(calls) => self.work(calls.map_or(usize::MAX, usize::from)),
            Event::PodStarts | Event::FetchEnds | Event::Succeed(_) | Event::Fail(..) | Event::JobTakenAway | Event::PodTakenAway => {
                self.build_event(event);
            }
        }
    }

    /// Something happens to the live build's Job, if there is one.
    fn build_event(&mut self, event: &Event) {
        if !self.live_job() {
            return;
        }
        let commit = self.commit();
        let world = &mut self.world;
        let job = world.build().job;
        match event {
            Event::PodStarts => world.pod("Running", [running(world.now), waiting(""), waiting("")]),
            Event::FetchEnds => {
                let fetched = world.done(Step::Fetch, Outcome::Fetched(Box::new(fetched(&commit))));
                world.pod("Running", [fetched, running(world.now), waiting("")]);
            }
            Event::Succeed(noop) => {
                let digest = if *noop {
                    'd'
                } else {
                    char::from_digit(u32::from(commit.bytes().last().unwrap_or(b'0')) % 10, 16).unwrap_or('0')
                };
                world.succeed(&commit, digest, *noop);
            }
            Event::Fail(step, reason) => world.fail(*step, *reason),
            Event::JobTakenAway => {
                let uid = world
                    .jobs
                    .iter()
                    .find(|other| other.metadata.name.as_ref() == Some(&job))
                    .and_then(|job| job.metadata.uid.clone());
                world.apply(Action::DeleteJob {
                    name: job,
                    uid: uid.unwrap_or_default(),
                });
            }
            _ => {
                world.pods.clear();
                world.end_job("Failed");
            }
        }
    }

    /// Whether a Job may still push, told without the code that is tried here.
    fn runs(&self, job: &Job) -> bool {
        let own = |pod: &&Pod| pod.metadata.owner_references.as_ref().unwrap()[0].uid == *job.metadata.uid.as_ref().unwrap();
        let phase = self
            .world
            .pods
            .iter()
            .find(own)
            .map(|pod| pod.status.as_ref().unwrap().phase.clone().unwrap());
        phase.map_or(job.status.is_none(), |phase| phase == "Running")
    }

    fn work(&mut self, calls: usize) {
        for call in 0..calls {
            assert!(call < 30, "it does not come to rest: {:#?}", self.world.last);
            let before = self.world.jobs.clone();
            let decision = self.world.decision();
            match decision.next.clone() {
                Next::Rest => return,
                Next::Act(actions) => actions.into_iter().for_each(|action| self.act(action)),
                Next::Write(status) => {
                    assert_ne!(Some(&*status), self.world.image.status.as_ref(), "an equal status was written");
                    assert_eq!(before, self.world.jobs);
                    self.world.image.status = Some(*status);
                }
            }
            self.check();
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Announce { .. } => self.world.apply(action),
            Action::CreateJob(ref job) => {
                let build = self.world.build();
                assert_eq!(
                    job.metadata.name.as_ref(),
                    Some(&build.job),
                    "a Job that the status does not announce"
                );
                assert_eq!(build.phase, BuildPhase::Pending);
                let other = self
                    .world
                    .jobs
                    .iter()
                    .find(|other| other.metadata.name != job.metadata.name && self.runs(other));
                assert!(other.is_none(), "two builds at once: {other:?}");
                self.world.apply(action);
            }
            Action::DeleteJob { ref uid, .. } => {
                let status = self.world.status();
                let job = self
                    .world
                    .jobs
                    .iter()
                    .find(|job| job.metadata.uid.as_ref() == Some(uid))
                    .expect("a Job that exists")
                    .clone();
                let live = status.latest_build.as_ref().is_some_and(|build| {
                    Some(&build.job) == job.metadata.name.as_ref() && matches!(build.phase, BuildPhase::Pending | BuildPhase::Running)
                });
                assert!(!live, "the live build's Job is deleted");
                if self.slow_deletion {
                    let now = self.world.now;
                    self.world
                        .jobs
                        .iter_mut()
                        .filter(|job| job.metadata.uid.as_ref() == Some(uid))
                        .for_each(|job| job.metadata.deletion_timestamp = Some(Time(now)));
                } else {
                    self.world.apply(action);
                }
            }
        }
    }

    /// The invariants of every status.
    fn check(&mut self) {
        let world = &self.world;
        let status = world.status();
        let observed = status.observed_generation.unwrap_or(-1);
        assert!(
            observed >= self.generation && observed <= world.image.metadata.generation.unwrap(),
            "observedGeneration"
        );
        self.generation = observed;
        let counter = status.build_counter.unwrap_or_default();
        assert!(counter >= self.counter, "the counter went back");
        self.counter = counter;
        if let Some(build) = &status.latest_build {
            assert!(build.number <= counter, "a build that was not counted");
            let id = self
                .ids
                .entry((build.number, build.attempt))
                .or_insert_with(|| build.build_id.clone());
            assert_eq!(*id, build.build_id, "a number and attempt used twice");
        }
        let condition = |kind: &str| {
            status
                .conditions
                .iter()
                .find(|condition| condition.type_ == kind)
                .map(|condition| condition.status.as_str())
        };
        assert!(
            !(condition("Reconciling").is_some() && condition("Stalled").is_some()),
            "at work and stalled at once"
        );
        match condition("Ready") {
            Some("True") => {
                let image = status.latest_image.as_ref().expect("Ready without an image");
                if condition("Reconciling").is_none() {
                    let source = Revision::parse(&status.source.as_ref().expect("a source").revision).unwrap();
                    let want = Want::Commit {
                        id: source.commit,
                        reference: source.reference,
                    };
                    assert_eq!(
                        stem(&image.request_key),
                        request_key(&world.image.spec, &want, &world.platform.hash),
                        "Ready for what was not built"
                    );
                }
            }
            Some("False") => assert!(
                condition("Reconciling").is_some() || condition("Stalled").is_some(),
                "False and nothing follows"
            ),
            _ => assert!(condition("Reconciling").is_some(), "unknown and idle"),
        }
        let serialized = serde_json::to_vec(&status).unwrap();
        assert!(serialized.len() <= 6 * 1024, "{} bytes", serialized.len());
    }

    /// Everything works from now on: the newest commit must come to be the image.
    fn converge(&mut self) {
        let commit = "c".repeat(40);
        self.slow_deletion = false;
        self.world.server = Ok(revision(&commit));
        self.world.registry[0] = Ok(digest('6'));
        if self.world.image.spec.suspend == Some(true) {
            self.world.edit(|spec| spec.suspend = None);
        }
        for _ in 0..40 {
            self.happen(&Event::Reap);
            self.work(usize::MAX);
            let status = self.world.status();
            let ready = status
                .conditions
                .iter()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            let idle = !status.conditions.iter().any(|condition| condition.type_ == "Reconciling");
            let newest = status.source.as_ref().is_some_and(|source| source.revision.ends_with(&commit));
            let on_base = status
                .inputs
                .as_ref()
                .is_some_and(|inputs| inputs.base == format!("base:1@{}", digest('6')));
            if ready && idle && newest && on_base {
                let (writes, jobs) = (self.world.writes, self.world.jobs.len());
                self.world.pass(3600);
                self.work(usize::MAX);
                assert_eq!(
                    (self.world.writes, self.world.jobs.len()),
                    (writes, jobs),
                    "it does not stay at rest"
                );
                return;
            }
            if self.live_job() {
                self.build_event(&Event::Succeed(false));
            } else {
                self.world.pass(3600);
            }
        }
        panic!("it does not converge: {} {:#?}", self.world.row(), self.world.status());
    }
}

proptest! {
    // PROPTEST_CASES asks for more. A history that fails is printed, and becomes a test of its own.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold_and_it_converges(events in prop::collection::vec(event(), 0..40)) {
        let mut run = Run::new();
        for event in &events {
            run.happen(event);
        }
        run.converge();
    }
}
