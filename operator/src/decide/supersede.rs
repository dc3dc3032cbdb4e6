//! Whether a live build is given up for what is wanted by now.

use robotimage_crds::api::{BuildPhase, LatestBuild, Supersede};
use robotimage_crds::reason::Reason;

use super::decision::Run;
use super::history;
use super::outcome::Note;
use super::resolution::Resolution;
use super::verdict::Progress;

impl Run<'_> {
    /// Gives the live build up when something else is wanted by now, as far as `spec.build.supersede` says so.
    pub(super) fn supersede(&mut self, progress: &mut Option<Progress>) {
        let Some(build) = self.live_build().cloned() else { return };
        let other = matches!(&self.resolution, Resolution::Known { key, .. } if *key != build.request_key);
        // What has no Job yet can only be given up: its Job would be made from the spec and revision of now.
        let given_up = match progress {
            Some(Progress::Unborn { .. }) => self.settings.suspended || other,
            _ if self.settings.suspended => false,
            Some(Progress::Waiting { .. }) => other && self.settings.supersede != Supersede::Queue,
            _ => other && self.settings.supersede == Supersede::CancelRunning,
        };
        if !given_up {
            return;
        }
        *progress = None;
        let build = LatestBuild {
            phase: BuildPhase::Canceled,
            duration: Some(history::elapsed(build.started_at.as_ref(), self.now)),
            ..build
        };
        if other {
            history::add(&mut self.status, &build, Reason::Superseded.as_str(), None, self.now);
            self.notes.push(Note::normal(
                "BuildSuperseded",
                format!("build {} is given up for a newer one", build.number),
            ));
        }
        self.status.latest_build = Some(build);
    }
}
