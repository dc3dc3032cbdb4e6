//! The decision: the old status, what was observed, and out comes the next step.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::condition::READY;
use robotimage_crds::api::{Blocked, BuildPhase, LastFailure, LatestBuild, RobotImageStatus, SourceStatus};
use robotimage_crds::build::Fetched;
use robotimage_crds::reason::Reason;

use super::collect::{self, Collected};
use super::defaults::{Finder, Settings};
use super::failure::Terms;
use super::outcome::{Chance, Decision, Next, Note, whole_seconds};
use super::queue::Lane;
use super::request_key::unresolved_key;
use super::resolution::{Resolution, resolve};
use super::schedule;
use super::start::{Start, start};
use super::verdict::{Hindrance, Progress, progress};
use super::wishes::Wishes;
use super::{budget, conditions, failure, history, looping, moving, refused};
use crate::config::Platform;
use crate::observe::{Observed, Turn};

/// A step that lasts longer is told in the status.
pub(super) const LONG_STEP: Duration = Duration::from_secs(10);

/// Decides.
pub fn decide(observed: &Observed, platform: &Platform, now: Timestamp, chance: Chance) -> Decision {
    let now = whole_seconds(now);
    let image = &observed.image;
    if image.metadata.deletion_timestamp.is_some() {
        // The garbage collector takes the Jobs by their owner.
        return Decision {
            next: Next::Rest,
            notes: Vec::new(),
            again: None,
            wants: None,
        };
    }
    let namespace = image.metadata.namespace.as_deref().unwrap_or_default();
    let Some(settings) = Settings::of(&image.spec, namespace, platform) else {
        return refused::unknown_source(observed, platform, now, chance);
    };
    Run {
        observed,
        platform,
        resolution: resolve(image, &settings, &observed.source, &observed.checks, &platform.hash, now),
        settings,
        wishes: Wishes::of(image),
        now,
        chance,
        generation: image.metadata.generation.unwrap_or_default(),
        status: image.status.clone().unwrap_or_default(),
        notes: Vec::new(),
        collected: Collected::default(),
        wants: None,
    }
    .decide()
}

/// One decision on its way.
pub(super) struct Run<'a> {
    pub(super) observed: &'a Observed,
    pub(super) platform: &'a Platform,
    pub(super) settings: Settings,
    pub(super) resolution: Resolution,
    pub(super) wishes: Wishes,
    pub(super) now: Timestamp,
    chance: Chance,
    pub(super) generation: i64,
    /// The old status, step by step becoming the new one.
    pub(super) status: RobotImageStatus,
    pub(super) notes: Vec<Note>,
    pub(super) collected: Collected,
    /// A build would begin if there were a slot for it.
    pub(super) wants: Option<Lane>,
}

impl Run<'_> {
    fn decide(mut self) -> Decision {
        let before = self.observed.image.status.clone().unwrap_or_default();
        if self.status.observed_generation != Some(self.generation) {
            self.status.repeated = None;
        }
        self.status.observed_generation = Some(self.generation);
        let mut progress = self.follow();
        let failed = |build: &LatestBuild| build.phase == BuildPhase::Failed;
        let waited = self.status.latest_build.as_ref().is_some_and(failed).then(|| self.status.clone());
        self.cancel(&mut progress);
        self.supersede(&mut progress);
        self.hear(progress.as_ref());
        if self.refused().is_some() {
            self.record_refusal();
        } else {
            self.record_source();
            self.start(&mut progress);
        }
        self.forget_blocked(progress.as_ref());
        self.record_revision();
        moving::note_unchecked(self.status.inputs.as_mut(), &self.observed.checks);
        let stand = self.stand(progress.as_ref());
        let source = self.source_stand();
        self.tell_poll_failure(&before, source.as_ref());
        conditions::write(&mut self.status, &before.conditions, &stand, source, self.generation, self.now);
        if let Some(waited) = waited {
            history::close(&mut self.status, &waited, self.now);
        }
        history::trim(&mut self.status, &self.settings);
        budget::fit(&mut self.status);
        let again = self.again(progress.as_ref());
        if self.status != before {
            return Decision {
                next: Next::Write(Box::new(self.status)),
                notes: self.notes,
                again,
                wants: self.wants,
            };
        }
        let actions = self.actions(progress.as_ref());
        let next = if actions.is_empty() { Next::Rest } else { Next::Act(actions) };
        Decision {
            next,
            notes: Vec::new(),
            again,
            wants: self.wants,
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            retries: self.settings.retries,
            now: self.now,
            chance: self.chance,
        }
    }

    pub(super) fn live_build(&self) -> Option<&LatestBuild> {
        self.status
            .latest_build
            .as_ref()
            .filter(|build| matches!(build.phase, BuildPhase::Pending | BuildPhase::Running))
    }

    /// Follows the live build: its Job's UID once it is seen, its facts where they matter at once, its end.
    fn follow(&mut self) -> Option<Progress> {
        let build = self.live_build()?.clone();
        let progress = progress(self.observed, &build, self.platform.config.queue_limit.0, self.now);
        let job = self.observed.jobs.iter().find(|job| job.name == build.job);
        match progress {
            Progress::Ended(verdict) => {
                let terms = self.terms();
                self.collected = collect::collect(&mut self.status, &build, job, *verdict, &self.settings, terms);
                self.notes.append(&mut self.collected.notes);
                None
            }
            Progress::Unborn { ref blocked } => {
                self.note_blocked(blocked.as_ref());
                Some(progress)
            }
            Progress::Waiting { ref blocked, .. } => {
                self.note_blocked(blocked.as_ref());
                self.seen(job.map(|job| job.uid.clone()));
                Some(progress)
            }
            Progress::Running {
                step,
                ref fetched,
                ref steps,
            } => {
                self.seen(job.map(|job| job.uid.clone()));
                let changed = fetched
                    .as_deref()
                    .filter(|facts| !facts.noop && build.plan.is_none() && self.may_be_check(&build));
                let long = step.is_some_and(|(_, since)| self.now.duration_since(since).unsigned_abs() >= LONG_STEP && self.now > since);
                if changed.is_some() || long {
                    self.absorb(fetched.as_deref(), steps);
                }
                Some(progress)
            }
        }
    }

    /// Notes what is in the way, and since when. Nothing in the way at this moment does not end a wait: it may be the next try.
    fn note_blocked(&mut self, blocked: Option<&Hindrance>) {
        if let (Some(build), Some(blocked)) = (self.status.latest_build.as_mut(), blocked) {
            build.blocked = Some(Blocked {
                reason: blocked.refusal.reason.as_str().to_owned(),
                since: Time(blocked.since),
            });
        }
    }

    /// Forgets what was in the way of a build that runs, or is over.
    fn forget_blocked(&mut self, progress: Option<&Progress>) {
        if !matches!(progress, Some(Progress::Unborn { .. } | Progress::Waiting { .. }))
            && let Some(build) = self.status.latest_build.as_mut()
        {
            build.blocked = None;
        }
    }

    fn seen(&mut self, uid: Option<String>) {
        if let Some(build) = self.status.latest_build.as_mut() {
            build.uid = uid.or(build.uid.take());
            build.phase = BuildPhase::Running;
        }
    }

    /// Takes the facts of a running build into the status. They come with another write, or when they change the row.
    fn absorb(&mut self, fetched: Option<&Fetched>, steps: &[robotimage_crds::api::StepStatus]) {
        let Some(build) = self.status.latest_build.as_mut() else { return };
        build.steps = steps.to_vec();
        let Some(fetched) = fetched.filter(|facts| !facts.noop) else {
            return;
        };
        build.plan = Some(fetched.plan.as_str().to_owned());
        collect::note_cache(&mut build.steps, fetched);
        let plan = self
            .observed
            .jobs
            .iter()
            .find(|job| job.name == build.job)
            .and_then(|job| job.plan.as_ref());
        if let Some(revision) = collect::believed(plan, fetched) {
            build.revision = Some(revision.to_string());
            self.status.source = Some(collect::source_status(&revision, fetched));
        }
    }

    /// A build for which nothing is known to have changed but the revision, if that: a look.
    pub(super) fn may_be_check(&self, build: &LatestBuild) -> bool {
        let ready = self
            .observed
            .image
            .status
            .iter()
            .flat_map(|status| &status.conditions)
            .any(|c| c.type_ == READY && c.status == "True");
        ready && self.status.latest_image.is_some() && build.reasons.iter().all(|reason| reason.kind == "SourceChanged")
    }

    /// Records a source that cannot be resolved, while no build runs.
    fn record_source(&mut self) {
        if self.settings.suspended || self.live_build().is_some() {
            return;
        }
        let (Resolution::Failed(failed), Some(answer)) = (&self.resolution, &self.observed.source.answer) else {
            return;
        };
        let key = unresolved_key(&self.observed.image.spec, &self.platform.hash);
        let terms = self.terms();
        if failure::record_source(&mut self.status, &key, self.generation, failed, answer.at, terms) {
            self.notes.push(Note::warning("SourceFailed", failed.to_string()));
        }
    }

    /// Starts the next build when one is wanted and nothing holds it back.
    fn start(&mut self, progress: &mut Option<Progress>) {
        let Resolution::Known { key, revision, .. } = self.resolution.clone() else {
            return;
        };
        if self.settings.suspended || self.live_build().is_some() {
            return;
        }
        let forced = self.wishes.force(&self.status) && self.looked();
        let looks = self.wishes.request(&self.status) && matches!(self.settings.finder, Finder::Fetch { .. });
        let wanted = match failure::standing(&self.status, &key, self.generation) {
            _ if forced || looks => true,
            Some(failed) => self.retry_at(failed).is_some_and(|due| due <= self.now),
            None if self.up_to_date(&key) => {
                self.status.last_failure = None;
                moving::image_is_gone(&self.status, &self.observed.checks)
                    || schedule::next_check(&self.status, &self.settings, self.now).is_some_and(|due| due <= self.now)
            }
            None => true,
        };
        if !wanted {
            return;
        }
        let next = Start {
            image: &self.observed.image,
            settings: &self.settings,
            key: &key,
            revision: revision.as_ref(),
            forced,
            gone: moving::image_is_gone(&self.status, &self.observed.checks),
            now: self.now,
            chance: self.chance,
        };
        // What the build would be, of which nothing is written yet.
        let mut planned = self.status.clone();
        start(&mut planned, &next);
        let reasons = planned.latest_build.map(|build| build.reasons).unwrap_or_default();
        let asked = forced || looping::is_no_loop(&reasons);
        if !asked && looping::stopped(&self.status) {
            return;
        }
        if !asked && looping::full(&self.status, self.now) {
            looping::stop(&mut self.status);
            self.notes.push(Note::warning(
                Reason::LoopDetected.as_str(),
                looping::message(&self.status).to_owned(),
            ));
            return;
        }
        if self.observed.turn == Turn::Later {
            self.wants = Some(Lane::of(&reasons));
            return;
        }
        if forced {
            self.wishes.note_force(&mut self.status);
        }
        if forced || looping::stopped(&self.status) && !reasons.is_empty() {
            self.status.repeated = None;
        }
        self.notes.extend(start(&mut self.status, &next));
        if looks {
            self.wishes.note_request(&mut self.status);
        }
        *progress = Some(Progress::Unborn { blocked: None });
    }

    /// The revision that the operator resolved. A commit that the spec names is only known to exist when fetch has seen it.
    fn record_revision(&mut self) {
        let Resolution::Known {
            revision: Some(revision), ..
        } = &self.resolution
        else {
            return;
        };
        let text = revision.to_string();
        if self.settings.finder == Finder::Operator && self.status.source.as_ref().is_none_or(|source| source.revision != text) {
            self.status.source = Some(SourceStatus {
                revision: text,
                short: revision.short(),
                ..SourceStatus::default()
            });
        }
    }

    /// When a failed request is tried again. Where only build pods see the source, they go on looking: a new revision may be the cure.
    pub(super) fn retry_at(&self, failed: &LastFailure) -> Option<Timestamp> {
        let look = || schedule::next_check(&self.status, &self.settings, self.now).filter(|_| !failure::is_cancel(failed));
        schedule::next_retry(failed, self.settings.retries, self.now).or_else(look)
    }

    pub(super) fn up_to_date(&self, key: &str) -> bool {
        // Where fetch finds the commit, a newer one that failed has the key of the image before it.
        let failed = self
            .status
            .last_failure
            .as_ref()
            .is_some_and(|failure| failure.request_key.as_deref() == Some(key));
        !failed && self.status.latest_image.as_ref().is_some_and(|image| image.request_key == key)
    }
}
