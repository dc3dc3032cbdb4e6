//! Which row of the table an object is in, and how its source stands.

use robotimage_crds::api::condition::SOURCE_READY;
use robotimage_crds::api::{LatestBuild, RobotImageStatus};
use robotimage_crds::build::Step;

use jiff::Timestamp;

use super::conditions::{SourceStand, Stand};
use super::decision::{LONG_STEP, Run};
use super::defaults::Finder;
use super::outcome::{Note, NoteKind};
use super::request_key::{differences, stem, unresolved_key};
use super::resolution::Resolution;
use super::verdict::Progress;
use super::{failure, garbage, looping, moving};

impl Run<'_> {
    /// The row of the table.
    pub(super) fn stand(&self, progress: Option<&Progress>) -> Stand {
        if let Some(build) = self.live_build() {
            if build.plan.is_none() && self.may_be_check(build) && self.nothing_but_the_source_differs(build) {
                return Stand::Checking;
            }
            return match progress {
                Some(
                    Progress::Waiting {
                        blocked: Some(blocked), ..
                    }
                    | Progress::Unborn { blocked: Some(blocked) },
                ) => Stand::Blocked(blocked.refusal.clone()),
                Some(Progress::Unborn { .. }) if garbage::others_live(self.observed, &build.job, self.now) => {
                    Stand::Queued("waits until the pod of the build before has ended".to_owned())
                }
                Some(Progress::Running {
                    step: Some((step, since)), ..
                }) => Stand::Building(self.told_step(*step, *since)),
                _ => Stand::Building(None),
            };
        }
        let key = match &self.resolution {
            Resolution::Known { key, .. } => key.clone(),
            Resolution::Failed(_) | Resolution::Unknown => unresolved_key(&self.observed.image.spec, &self.platform.hash),
        };
        let attempt = self
            .status
            .latest_build
            .as_ref()
            .filter(|build| build.request_key == key)
            .map_or(0, |build| build.attempt);
        match failure::standing(&self.status, &key, self.generation) {
            _ if self.settings.suspended && self.up_to_date(&key) => Stand::UpToDate,
            _ if self.settings.suspended => Stand::Suspended,
            _ if self.refused().is_some() => Stand::Failed,
            _ if looping::stopped(&self.status) => Stand::Looping,
            Some(failed) if failure::again(failed, attempt, self.settings.retries) => Stand::Retrying(self.settings.retries + 1),
            Some(_) => Stand::Failed,
            None if self.up_to_date(&key) => Stand::UpToDate,
            None if self.wants.is_some() => Stand::Queued("waits until a build slot is free".to_owned()),
            None => Stand::Resolving,
        }
    }

    /// Whether the image is still the newest one that the spec is known to ask for, but for the source.
    fn nothing_but_the_source_differs(&self, build: &LatestBuild) -> bool {
        let Some(image) = &self.status.latest_image else { return false };
        let differ = match &self.resolution {
            Resolution::Known { key, .. } => differences(&image.request_key, key),
            // Not resolved yet: the source of another generation may be another one altogether.
            _ if build.generation != self.generation => return false,
            _ => differences(
                stem(&image.request_key),
                &unresolved_key(&self.observed.image.spec, &self.platform.hash),
            ),
        };
        differ.iter().all(|difference| difference.kind == "SourceChanged")
    }

    pub(super) fn told_step(&self, step: Step, since: Timestamp) -> Option<Step> {
        (self.now > since && self.now.duration_since(since).unsigned_abs() >= LONG_STEP).then_some(step)
    }

    /// What this decision knows of the source.
    pub(super) fn source_stand(&self) -> Option<SourceStand> {
        if let Some((reason, message)) = &self.collected.source_failed {
            return Some(SourceStand::Failed(*reason, message.clone()));
        }
        if matches!(&self.resolution, Resolution::Known { poll_failure: None, .. }) && !self.settings.suspended {
            let checks = &self.observed.checks;
            if let Some((reason, message)) = moving::standing_failure(&self.settings, checks) {
                return Some(SourceStand::Failed(reason, message));
            }
            let before = self.observed.image.status.iter().flat_map(|status| &status.conditions);
            if moving::failure_stands(&self.settings, checks, before) {
                return None;
            }
        }
        let resolved = |revision: &str| {
            if self.settings.finder == (Finder::Fetch { poll: None }) {
                SourceStand::NotPolled(revision.to_owned())
            } else {
                SourceStand::Resolved(revision.to_owned())
            }
        };
        if self.collected.source_seen {
            return self.status.source.as_ref().map(|source| resolved(&source.short));
        }
        match &self.resolution {
            Resolution::Failed(failed)
            | Resolution::Known {
                poll_failure: Some(failed),
                ..
            } => Some(SourceStand::Failed(failed.reason, failed.message.clone())),
            Resolution::Known {
                revision: Some(revision), ..
            } if self.settings.finder == Finder::Operator && self.observed.source.answer.is_some() => Some(resolved(&revision.short())),
            Resolution::Unknown if !self.settings.suspended && self.status.last_failure.is_none() => Some(SourceStand::Unknown),
            _ => None,
        }
    }

    /// Tells once that polls fail while the image is up to date.
    pub(super) fn tell_poll_failure(&mut self, before: &RobotImageStatus, source: Option<&SourceStand>) {
        let Some(SourceStand::Failed(reason, message)) = source else {
            return;
        };
        let told = self.notes.iter().any(|note| note.kind == NoteKind::Warning)
            || before.conditions.iter().any(|c| c.type_ == SOURCE_READY && c.status == "False");
        if !told {
            self.notes.push(Note::warning("SourceFailed", format!("{reason}: {message}")));
        }
    }
}
