//! When to decide again, if nothing happens before.

use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::build::Step;

use super::decision::{LONG_STEP, Run};
use super::looping;
use super::schedule::{self, Look, next_image_look, next_look};
use super::verdict::{Hindrance, Progress};

/// A Job without a pod is asked for its events after this, and again in this rhythm.
const PODLESS: Duration = Duration::from_secs(5);
/// The same of a pod without a started container that does not say itself what it waits for.
const UNSTARTED: Duration = Duration::from_secs(10);
/// A running build is looked at even when no event comes.
const RESYNC: Duration = Duration::from_mins(1);

impl Run<'_> {
    /// When to look again.
    pub(super) fn again(&self, progress: Option<&Progress>) -> Option<Duration> {
        let mut times: Vec<Timestamp> = Vec::new();
        if let Look::At(time) = next_look(
            &self.observed.image,
            &self.settings,
            &self.observed.source,
            &self.platform.hash,
            self.now,
        ) && !self.observed.source.asking
        {
            times.push(time);
        }
        let (image, checks) = (&self.observed.image, &self.observed.checks);
        if !checks.asking {
            times.extend(schedule::digest_looks(image, &self.settings, &self.observed.source, checks));
        }
        if let Look::At(time) = next_image_look(image, &self.settings, &self.observed.source, checks.image.as_ref())
            && !checks.asking_image
        {
            times.push(time);
        }
        times.extend(self.announce().1);
        if self.live_build().is_some() {
            times.push(schedule::later(self.now, RESYNC));
            match progress {
                Some(Progress::Waiting { blocked, podless }) => {
                    times.extend(self.queue_ends(blocked.as_ref()));
                    if *podless {
                        times.push(schedule::later(self.now, PODLESS));
                    } else if blocked.is_none() {
                        times.push(schedule::later(self.now, UNSTARTED));
                    }
                }
                Some(Progress::Unborn { blocked }) => times.extend(self.queue_ends(blocked.as_ref())),
                Some(Progress::Running {
                    step: Some((_, since)), ..
                }) if self.told_step(Step::Fetch, *since).is_none() => {
                    times.push(schedule::later(*since, LONG_STEP));
                }
                _ => {}
            }
        } else if self.wants.is_some() {
            times.push(schedule::later(self.now, RESYNC));
        } else if !self.settings.suspended {
            times.extend(schedule::next_refresh(&self.settings, &self.observed.source, self.now));
            times.extend(match &self.status.last_failure {
                // Nobody would try it: once a second it would be due.
                Some(_) if looping::stopped(&self.status) || self.refused().is_some() => None,
                Some(failed) => self.retry_at(failed),
                None => schedule::next_check(&self.status, &self.settings, self.now),
            });
        }
        let first = times.into_iter().min()?;
        Some(
            first
                .duration_since(self.now)
                .max(jiff::SignedDuration::from_secs(1))
                .unsigned_abs(),
        )
    }

    /// When what is in the way becomes a failure.
    fn queue_ends(&self, blocked: Option<&Hindrance>) -> Option<Timestamp> {
        blocked.map(|blocked| schedule::later(blocked.since, self.platform.config.queue_limit.0))
    }
}
