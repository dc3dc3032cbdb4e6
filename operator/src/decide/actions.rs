//! What is to be done once the status announces it.
//!
//! Invariant: what a build waits for comes first. An image is announced last: whoever cannot be told holds up nobody's build.

use jiff::Timestamp;

use super::decision::Run;
use super::outcome::Action;
use super::resolution::Resolution;
use super::verdict::Progress;
use super::{announce, garbage, moving};
use crate::apply::job::{JobInput, job};

impl Run<'_> {
    /// What the status announces and is not there yet, or there and not wanted.
    pub(super) fn actions(&self, progress: Option<&Progress>) -> Vec<Action> {
        let mut actions = garbage::collect(&self.status, self.observed, self.now);
        if let (Some(Progress::Unborn { .. }), Some(build), Resolution::Known { want, .. }) =
            (progress, self.live_build(), &self.resolution)
            && !garbage::others_live(self.observed, &build.job, self.now)
        {
            let digests = moving::Digests::of(&build.request_key, &self.status, &self.settings, &self.observed.checks);
            let input = JobInput {
                image: &self.observed.image,
                settings: &self.settings,
                platform: self.platform,
                build,
                want,
                base: digests.base.as_deref(),
                rcc: digests.rcc.as_deref(),
                environment: moving::environment(&build.request_key, &self.settings),
                now: self.now,
            };
            actions.push(Action::CreateJob(Box::new(job(&input))));
        }
        actions.extend(self.announce().0);
        actions
    }

    /// What is to be written into the ConfigMap of publishTo, and else when.
    pub(super) fn announce(&self) -> (Option<Action>, Option<Timestamp>) {
        let (image, known) = (self.status.latest_image.as_ref(), self.observed.announced.as_ref());
        announce::announce(&self.settings, image, known, self.now)
    }
}
