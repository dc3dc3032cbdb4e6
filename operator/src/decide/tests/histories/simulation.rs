//! The model: an API server with versions, and two leaders that work on it.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{BuildPhase, LocalRef, annotation};
use robotimage_crds::reason::Reason;

use super::super::world::{World, image, platform, revision};
use super::event::Event;
use super::invariant::{CONVERGES, NO_LOOP, NO_LOSS, ONE_BUILD, Seen, Violation, holds};
use super::leader::Leader;
use super::mutation::Mutation;
use crate::decide::{Action, Chance, Next, thin};
use crate::observe::Refusal;
use crate::source::SourceFailure;

/// Calls after which a leader that does not rest is said never to.
const ENDLESS: usize = 30;
/// Time in which the newest commit comes to be the image once faults have stopped: what was queued, what was forced and what failed
/// is built before, and a build pod looks every quarter of an hour.
const SOON: SignedDuration = SignedDuration::from_mins(50);
/// Builds that may be made after faults have stopped: what was queued, what was forced, what failed, and the newest.
const BUILDS: i64 = 8;

pub(super) struct Simulation {
    pub(super) world: World,
    leaders: [Leader; 2],
    mutation: Mutation,
    pub(super) seen: Seen,
    version: u64,
    draws: u64,
    slow_deletion: bool,
    quota: bool,
    writes: usize,
    /// Only build pods see the source.
    private: bool,
}

impl Simulation {
    pub(super) fn new(private: bool, mutation: Mutation) -> Self {
        let mut image = image();
        if private {
            image.spec.source.git.as_mut().expect("git").secret_ref = Some(LocalRef { name: "git".to_owned() });
        }
        let world = World::with(image, platform(""));
        Self {
            leaders: [Leader::new(&world), Leader::new(&world)],
            world,
            mutation,
            seen: Seen::default(),
            version: 0,
            draws: 0,
            slow_deletion: false,
            quota: false,
            writes: 0,
            private,
        }
    }

    /// A whole history, and what follows when everything works again.
    pub(super) fn run(private: bool, events: &[Event], mutation: Mutation) -> Result<(), Violation> {
        let mut simulation = Self::new(private, mutation);
        for event in events {
            simulation.happen(event)?;
        }
        simulation.converge()
    }

    /// The resource has changed.
    pub(super) fn changed(&mut self) {
        self.version += 1;
        self.world.image.metadata.resource_version = Some(self.version.to_string());
    }

    fn happen(&mut self, event: &Event) -> Result<(), Violation> {
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
            Event::Platform(number) => {
                world.platform = platform(&format!("index: {{piprc: x{number}}}\n")).into();
                // A change of the configuration is a restart.
                self.leaders.iter_mut().for_each(|leader| leader.restart(world));
            }
            Event::Quota(full) => self.quota = *full,
            Event::SlowDeletion(slow) => self.slow_deletion = *slow,
            Event::Reap => self.reap(),
            Event::Restart(leader) => self.leaders[*leader].restart(world),
            Event::Clock(leader, seconds) => self.leaders[*leader].skew = *seconds,
            Event::Watch(leader, news) => self.leaders[*leader].watch(world, *news),
            Event::Work(leader, calls) => return self.work(*leader, calls.map_or(usize::MAX, usize::from)),
            Event::EditTask(_) | Event::EditInterval | Event::EditBuild(..) | Event::Suspend(_) | Event::Wish(..) | Event::Cancel(_) => {
                self.person(event);
            }
            _ => self.build_event(event),
        }
        Ok(())
    }

    fn chance(&mut self) -> Chance {
        self.draws += 1;
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.draws.to_le_bytes());
        let mixed = self.draws.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        Chance {
            id,
            unit: f64::from(u32::try_from(mixed).unwrap_or_default()) / f64::from(u32::MAX),
        }
    }

    /// One reconcile, as the controller makes it, ended after so many calls.
    fn work(&mut self, number: usize, calls: usize) -> Result<(), Violation> {
        let mut image = self.leaders[number].image.clone();
        let whole = image.clone();
        // What the controller keeps of a resource: only a decision to rest may be made from it.
        let (mut fresh, mut thinned) = (false, thin(&mut image));
        let mut made = 0;
        while made < calls {
            holds(made < ENDLESS, NO_LOOP, || {
                format!("it does not come to rest: {:?}", self.world.status())
            })?;
            let chance = self.chance();
            let (observed, decision) = self.leaders[number].decide(&self.world, &image, chance, self.mutation);
            match decision.next {
                Next::Rest if thinned => {
                    let (_, again) = self.leaders[number].decide(&self.world, &whole, chance, self.mutation);
                    let same = again.next == Next::Rest && (again.again, again.wants) == (decision.again, decision.wants);
                    return holds(same, NO_LOSS, || {
                        format!("rests on a part of the resource, and on the whole: {again:?}")
                    });
                }
                Next::Rest => return Ok(()),
                _ if thinned => (image, fresh, thinned) = (self.world.image.clone(), true, false),
                Next::Write(status) => {
                    made += 1;
                    holds(Some(&*status) != observed.image.status.as_ref(), NO_LOOP, || {
                        "an equal status is written".to_owned()
                    })?;
                    if image.metadata.resource_version == self.world.image.metadata.resource_version
                        || self.mutation == Mutation::VersionIgnored
                    {
                        let before = self.world.status();
                        self.world.image.status = Some(*status);
                        self.writes += 1;
                        self.changed();
                        self.seen.written(&self.world, &before)?;
                    }
                    (image, fresh) = (self.world.image.clone(), true);
                }
                Next::Act(_) if !fresh => (image, fresh) = (self.world.image.clone(), true),
                Next::Act(actions) => {
                    for action in actions {
                        self.act(number, action)?;
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whether a Job may still push, told without the code that is tried here.
    fn runs(&self, job: &Job) -> bool {
        let own = |pod: &&Pod| pod.metadata.owner_references.as_ref().expect("owners")[0].uid == *job.metadata.uid.as_ref().expect("a UID");
        let phase = self.world.pods.iter().find(own).and_then(|pod| pod.status.as_ref()?.phase.clone());
        phase.map_or(job.status.is_none(), |phase| phase == "Running" || phase == "Pending")
    }

    /// Carries an action out, unless the API server refuses it.
    fn act(&mut self, number: usize, action: Action) -> Result<(), Violation> {
        let build = self.world.status().latest_build.expect("no action before the first build");
        match &action {
            Action::Announce { .. } => self.world.apply(action),
            Action::CreateJob(job) => {
                holds(
                    job.metadata.name.as_ref() == Some(&build.job) && build.phase == BuildPhase::Pending,
                    NO_LOSS,
                    || format!("{:?} is not announced by {build:?}", job.metadata.name),
                )?;
                let other = self
                    .world
                    .jobs
                    .iter()
                    .find(|other| other.metadata.name != job.metadata.name && self.runs(other));
                holds(other.is_none(), ONE_BUILD, || format!("{:?} beside {other:?}", job.metadata.name))?;
                if self.quota {
                    self.looked(build.number);
                    let refusal = Refusal {
                        reason: Reason::QuotaExceeded,
                        message: "exceeded quota".to_owned(),
                    };
                    self.leaders[number].refused = Some((build.build_id, refusal));
                    return Ok(());
                }
                self.leaders[number].refused = None;
                self.world.apply(action);
            }
            Action::DeleteJob { uid, .. } => {
                let now = Time(self.world.now);
                let live = matches!(build.phase, BuildPhase::Pending | BuildPhase::Running);
                let Some(job) = self.world.jobs.iter_mut().find(|job| job.metadata.uid.as_ref() == Some(uid)) else {
                    return Ok(());
                };
                let own = job.metadata.name.as_ref() == Some(&build.job);
                holds(!(live && own), NO_LOSS, || format!("the live build's Job is deleted: {build:?}"))?;
                if self.slow_deletion {
                    job.metadata.deletion_timestamp = Some(now);
                } else {
                    self.world.apply(action);
                }
            }
        }
        Ok(())
    }

    fn both_work(&mut self) -> Result<(), Violation> {
        for leader in 0..2 {
            self.leaders[leader].watch(&self.world, [true; 3]);
            self.work(leader, usize::MAX)?;
        }
        Ok(())
    }

    /// Everything works from now on: the newest commit must come to be the image, and then nothing more happens.
    fn converge(&mut self) -> Result<(), Violation> {
        let commit = "c".repeat(40);
        (self.slow_deletion, self.quota) = (false, false);
        self.world.server = Ok(revision(&commit));
        // Clocks that were ahead have left times in the status that are yet to come: nothing is to wait for them.
        self.leaders.iter_mut().for_each(|leader| leader.skew = 0);
        self.world.pass(1);
        // A wish that was not seen yet is of before the edit that ends whatever waits for a person.
        self.both_work()?;
        self.world.edit(|spec| {
            spec.suspend = None;
            spec.interval = Some("5m".to_owned());
        });
        self.changed();
        let (first, began) = (self.world.status().build_counter.unwrap_or_default(), self.world.now);
        for _ in 0..60 {
            let waited = self.world.now.duration_since(began);
            holds(waited < SOON, CONVERGES, || {
                format!("not in {waited:#}: {:#?}", self.world.status())
            })?;
            self.reap();
            self.both_work()?;
            let status = self.world.status();
            let built = status.build_counter.unwrap_or_default() - first;
            holds(built <= BUILDS, NO_LOOP, || format!("{built} builds: {:?}", status.history))?;
            if self.is_done(&commit) {
                return self.stays_at_rest();
            }
            if self.live_job().is_some() {
                self.world.pass(5);
                self.build_event(&Event::Succeed(true));
            } else {
                // A little longer than an interval.
                self.world.pass(350);
            }
        }
        holds(false, CONVERGES, || format!("{:#?}", self.world.status()))
    }

    fn is_done(&self, commit: &str) -> bool {
        let status = self.world.status();
        let ready = status
            .conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let idle = !status.conditions.iter().any(|condition| condition.type_ == "Reconciling");
        let annotations = self.world.image.metadata.annotations.clone().unwrap_or_default();
        let handled = status.last_handled.clone().unwrap_or_default();
        let heard = [
            (annotation::REQUESTED_AT, handled.requested_at),
            (annotation::FORCE_AT, handled.force_at),
            (annotation::CANCEL, handled.cancel),
            (annotation::FLUX_REQUESTED_AT, status.last_handled_reconcile_at.clone()),
        ]
        .into_iter()
        .all(|(name, handled)| annotations.get(name).is_none_or(|wish| handled.as_ref() == Some(wish)));
        ready && idle && heard && status.source.is_some_and(|source| source.revision.ends_with(commit))
    }

    fn stays_at_rest(&mut self) -> Result<(), Violation> {
        if self.private {
            // A build pod goes on looking.
            return Ok(());
        }
        let at_rest = (self.writes, self.world.jobs.len());
        let later: Timestamp = self.world.pass(3600).now;
        self.both_work()?;
        holds(at_rest == (self.writes, self.world.jobs.len()), NO_LOOP, || {
            format!("it does not stay at rest until {later}: {:?}", self.world.status())
        })
    }
}
