//! Which revision is meant: from the spec, from the operator's look-ups, from the status, or left to fetch.

use jiff::Timestamp;
use robotimage_crds::api::{RobotImage, RobotImageStatus};
use robotimage_crds::build::Want;

use super::defaults::{Finder, Settings};
use super::moving;
use super::request_key::{request_key, stem};
use crate::observe::{Answer, Checks, Revision, SourceKnowledge};
use crate::source::SourceFailure;

/// What is known of the revision.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Resolution {
    /// Something that can be built.
    Known {
        /// What the plan says.
        want: Want,
        /// Its request key.
        key: String,
        /// The commit, unless fetch finds it out.
        revision: Option<Revision>,
        /// The last look-up failed; this is what was known before.
        poll_failure: Option<SourceFailure>,
    },
    /// The server was asked and there is no revision.
    Failed(SourceFailure),
    /// Nobody has answered yet.
    Unknown,
}

/// What is known of the revision that the spec means.
pub(super) fn resolve(
    image: &RobotImage,
    settings: &Settings,
    knowledge: &SourceKnowledge,
    checks: &Checks,
    platform_hash: &str,
    now: Timestamp,
) -> Resolution {
    let moving = moving::parts(&image.status.clone().unwrap_or_default(), settings, checks, now);
    let known = |want: Want, revision: Option<Revision>, poll_failure| Resolution::Known {
        key: moving.complete(request_key(&image.spec, &want, platform_hash)),
        want,
        revision,
        poll_failure,
    };
    match &settings.finder {
        Finder::Pinned(revision) => known(want_of(revision), Some(revision.clone()), None),
        Finder::Fetch { .. } => known(Want::Reference(settings.reference().cloned()), None, None),
        Finder::Operator => {
            let answer = knowledge
                .answer
                .as_ref()
                .filter(|answer| !is_outdated(image, answer, platform_hash));
            let failure = match answer.map(|answer| &answer.result) {
                Some(Ok(revision)) => return known(want_of(revision), Some(revision.clone()), None),
                Some(Err(failure)) => Some(failure.clone()),
                None => None,
            };
            match (known_revision(image, platform_hash), failure) {
                (Some(revision), failure) => known(want_of(&revision), Some(revision), failure),
                (None, Some(failure)) => Resolution::Failed(failure),
                (None, None) => Resolution::Unknown,
            }
        }
    }
}

/// The revision in the status, when a build or image of exactly this spec was made from it. After a restart, and while the
/// server cannot be asked, it stands for an answer.
pub fn known_revision(image: &RobotImage, platform_hash: &str) -> Option<Revision> {
    let status = image.status.as_ref()?;
    let revision = Revision::parse(&status.source.as_ref()?.revision)?;
    let key = request_key(&image.spec, &want_of(&revision), platform_hash);
    keys(status).any(|known| stem(known) == key).then_some(revision)
}

/// Whether another operator has found another revision since this answer was asked for, and builds it: the answer stands for
/// nothing then. Without this, two that lead at once would undo each other's work until their next polls.
pub(super) fn is_outdated(image: &RobotImage, answer: &Answer, platform_hash: &str) -> bool {
    let (Ok(found), Some(known)) = (&answer.result, known_revision(image, platform_hash)) else {
        return false;
    };
    let build = image.status.as_ref().and_then(|status| status.latest_build.as_ref());
    let since = build.filter(|build| build.revision.as_deref() == Some(&known.to_string()));
    known != *found && since.is_some_and(|build| build.number > answer.build)
}

/// Number of the last build.
pub fn last_build(image: &RobotImage) -> i64 {
    let build = image.status.as_ref().and_then(|status| status.latest_build.as_ref());
    build.map_or(0, |build| build.number)
}

fn keys(status: &RobotImageStatus) -> impl Iterator<Item = &String> {
    let image = status.latest_image.as_ref().map(|image| &image.request_key);
    let build = status.latest_build.as_ref().map(|build| &build.request_key);
    let failure = status.last_failure.as_ref().and_then(|failure| failure.request_key.as_ref());
    [image, build, failure].into_iter().flatten()
}

fn want_of(revision: &Revision) -> Want {
    Want::Commit {
        id: revision.commit.clone(),
        reference: revision.reference.clone(),
    }
}
