//! What a person asks for by annotation, and what was done about it.
//!
//! Invariant: a wish is noted as handled in the very write that acts on it, so it is neither lost nor done twice. A value is
//! foreign text: it is cut to 64 bytes without control characters, and compared by that alone.

use robotimage_crds::api::{BuildPhase, LatestBuild, RobotImage, RobotImageStatus, annotation};
use robotimage_crds::reason::Reason;

use super::decision::Run;
use super::defaults::Finder;
use super::outcome::Note;
use super::request_key::unresolved_key;
use super::resolution::{Resolution, is_outdated};
use super::verdict::Progress;
use super::{failure, history};
use crate::observe::Answer;
use crate::text;

/// Most bytes of a value.
const VALUE: usize = 64;

/// The wishes that stand in the annotations, handled or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wishes {
    requested: Option<String>,
    reconcile: Option<String>,
    force: Option<String>,
    cancel: Option<String>,
}

impl Wishes {
    /// Reads the annotations. An empty value wishes nothing.
    pub(super) fn of(image: &RobotImage) -> Self {
        let read = |name: &str| {
            let value = image.metadata.annotations.as_ref()?.get(name)?;
            Some(bounded(value)).filter(|value| !value.is_empty())
        };
        Self {
            requested: read(annotation::REQUESTED_AT),
            reconcile: read(annotation::FLUX_REQUESTED_AT),
            force: read(annotation::FORCE_AT),
            cancel: read(annotation::CANCEL),
        }
    }

    /// All wishes for a look at the source, in one word: an answer that carries it came after them.
    pub(super) fn token(&self) -> String {
        [&self.requested, &self.reconcile, &self.force]
            .map(|value| value.as_deref().unwrap_or_default())
            .join("\n")
    }

    /// Whether a look at the source is wished for and not noted as handled.
    pub(super) fn want_look_of(&self, image: &RobotImage) -> bool {
        match &image.status {
            Some(status) => self.request(status) || self.force(status),
            None => {
                *self
                    != Self {
                        cancel: self.cancel.clone(),
                        ..Self::default()
                    }
            }
        }
    }

    /// Whether `requestedAt`, ours or Flux's, is not handled yet.
    pub(super) fn request(&self, status: &RobotImageStatus) -> bool {
        let handled = status.last_handled.as_ref().and_then(|handled| handled.requested_at.as_ref());
        new(self.requested.as_ref(), handled) || new(self.reconcile.as_ref(), status.last_handled_reconcile_at.as_ref())
    }

    /// Whether `forceAt` is not handled yet.
    pub(super) fn force(&self, status: &RobotImageStatus) -> bool {
        let handled = status.last_handled.as_ref().and_then(|handled| handled.force_at.as_ref());
        new(self.force.as_ref(), handled)
    }

    /// Notes `requestedAt` as handled.
    pub(super) fn note_request(&self, status: &mut RobotImageStatus) {
        if self.requested.is_some() {
            status.last_handled.get_or_insert_default().requested_at.clone_from(&self.requested);
        }
        if self.reconcile.is_some() {
            status.last_handled_reconcile_at.clone_from(&self.reconcile);
        }
    }

    /// Notes `forceAt` as handled.
    pub(super) fn note_force(&self, status: &mut RobotImageStatus) {
        status.last_handled.get_or_insert_default().force_at.clone_from(&self.force);
    }

    /// Notes `cancel` as handled; answers its number when it was not, and is one.
    fn take_cancel(&self, status: &mut RobotImageStatus) -> Option<i64> {
        let handled = status.last_handled.as_ref().and_then(|handled| handled.cancel.as_ref());
        if !new(self.cancel.as_ref(), handled) {
            return None;
        }
        status.last_handled.get_or_insert_default().cancel.clone_from(&self.cancel);
        self.cancel.as_ref()?.parse().ok()
    }
}

/// The wishes for a look at the source that stand in the annotations: what an answer must carry to have come after them; and
/// whether one of them is not handled yet.
pub fn look_wish(image: &RobotImage) -> (String, bool) {
    let wishes = Wishes::of(image);
    (wishes.token(), wishes.want_look_of(image))
}

fn new(wish: Option<&String>, handled: Option<&String>) -> bool {
    wish.is_some() && wish != handled
}

fn bounded(value: &str) -> String {
    // Cut first: an annotation may be 256 KiB long.
    let value: String = text::cut(value, VALUE)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text::cut(value.trim(), VALUE).to_owned()
}

impl Run<'_> {
    /// Ends the live build, or the retries, of the number that a person names.
    pub(super) fn cancel(&mut self, progress: &mut Option<Progress>) {
        let Some(number) = self.wishes.take_cancel(&mut self.status) else {
            return;
        };
        let Some(build) = self.status.latest_build.clone().filter(|build| build.number == number) else {
            return;
        };
        let live = self.live_build().is_some();
        if !live && !self.retrying(&build) {
            return;
        }
        *progress = None;
        let message = format!(
            "build {number} was canceled; a new revision, an edit or {} builds again",
            annotation::REQUESTED_AT
        );
        self.status.last_failure = Some(failure::of_cancel(&build.request_key, self.generation, &message, self.now));
        self.notes.push(Note::normal("BuildCanceled", message));
        let duration = Some(history::elapsed(build.started_at.as_ref(), self.now));
        let build = LatestBuild {
            phase: BuildPhase::Canceled,
            duration: if live { duration } else { build.duration.clone() },
            ..build
        };
        history::add(&mut self.status, &build, Reason::Canceled.as_str(), None, self.now);
        self.status.latest_build = Some(build);
    }

    /// Whether this failed build is going to be tried again soon, under its own number.
    fn retrying(&self, build: &LatestBuild) -> bool {
        build.phase == BuildPhase::Failed
            && failure::standing(&self.status, &build.request_key, build.generation)
                .is_some_and(|failed| failure::again(failed, build.attempt, self.settings.retries))
    }

    /// Acts on `requestedAt` once the source was looked at after it: what failed is tried again now.
    pub(super) fn hear(&mut self, progress: Option<&Progress>) {
        if self.settings.suspended || !self.wishes.request(&self.status) || !self.looked() {
            return;
        }
        self.forgive();
        self.status.repeated = None;
        // Where only build pods look, a build whose fetch is still to come is the look; else the next one is, when it starts.
        let to_come = matches!(progress, Some(Progress::Unborn { .. } | Progress::Waiting { .. }));
        if to_come || !matches!(self.settings.finder, Finder::Fetch { .. }) {
            self.wishes.note_request(&mut self.status);
        }
    }

    /// Whether the operator's look-up, if it makes one, came after all wishes for it and stands.
    pub(super) fn looked(&self) -> bool {
        let stands = |answer: &&Answer| !is_outdated(&self.observed.image, answer, &self.platform.hash);
        let answer = self.observed.source.answer.as_ref().filter(stands);
        self.settings.finder != Finder::Operator || answer.is_some_and(|answer| answer.wish == self.wishes.token())
    }

    /// A failure that stands is due again, as if it had been the first.
    fn forgive(&mut self) {
        let (key, due) = match &self.resolution {
            Resolution::Known { key, .. } => (key.clone(), self.now),
            // The answer that came after the wish is the new try.
            Resolution::Failed(_) | Resolution::Unknown => {
                let at = self.observed.source.answer.as_ref().map_or(self.now, |answer| answer.at);
                (unresolved_key(&self.observed.image.spec, &self.platform.hash), at)
            }
        };
        failure::forgive(&mut self.status, &key, self.generation, due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_value_is_bounded_and_compared_by_what_is_left() {
        assert_eq!(bounded("2026-03-01T10:00:00Z"), "2026-03-01T10:00:00Z");
        assert_eq!(bounded("\u{1b}[31m\n\0x\u{7f}"), "[31m  x");
        assert_eq!(bounded(&"ä".repeat(1 << 17)), "ä".repeat(32));
        assert_eq!(bounded(&format!("a{}", "ä".repeat(100))).len(), 63);
        assert_eq!((bounded(" \t\n"), bounded("")), (String::new(), String::new()));
    }
}
