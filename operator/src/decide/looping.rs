//! The loop guard: builds that make the image that is there already, again and again, and that nobody has asked for, are stopped.
//!
//! Invariant: a look for a new revision, or after another configuration of the platform, that finds nothing to do is no build
//! here: an administrator at work must not stop a fleet. But a configuration that comes back, and back again, is two operators
//! that undo each other's work: then a build that goes back counts, whatever it found. What a person changes (the generation,
//! a commit, `requestedAt`, `forceAt`) is built whatever was before and ends a stop; nothing else does.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use robotimage_crds::api::{ChangeReason, LatestBuild, LoopStatus, RobotImageStatus};

use super::schedule::later;

/// Most such builds within [`WINDOW`].
const MOST: u32 = 5;
const WINDOW: Duration = Duration::from_hours(1);

const AGAIN: &str = "5 builds within an hour made the image again that was there, and nobody had asked for them; \
    a commit, an edit, robotimage.dev/requestedAt or robotimage.dev/forceAt builds again";
const TO_AND_FRO: &str = "5 builds within an hour went back to a configuration of the platform that had just been left: do two operators \
    serve this resource? A commit, an edit, robotimage.dev/requestedAt or robotimage.dev/forceAt builds again";

/// Reason of a build for another configuration of the platform.
const PLATFORM_CHANGED: &str = "PlatformChanged";

/// For conditions and the event.
pub(super) fn message(status: &RobotImageStatus) -> &'static str {
    let platform = status.repeated.as_ref().and_then(|repeated| repeated.platform.as_ref());
    if platform.is_some() { TO_AND_FRO } else { AGAIN }
}

/// What ended well: the build, the key that it had, and what the image before had.
pub(super) struct Ended<'a> {
    pub(super) build: &'a LatestBuild,
    pub(super) build_key: &'a str,
    /// Build key of the image that was there.
    pub(super) before: Option<&'a str>,
    /// It found nothing to do.
    pub(super) noop: bool,
}

/// Counts a build that ended well.
pub(super) fn count(status: &mut RobotImageStatus, ended: &Ended<'_>, now: Timestamp) {
    let reasons = &ended.build.reasons;
    let known = status.repeated.take().filter(|repeated| within(repeated, now));
    let moved = reasons.iter().find(|reason| reason.kind == PLATFORM_CHANGED);
    let left = moved.and_then(|reason| reason.from.clone());
    let back = moved.is_some_and(|reason| {
        let before = known.as_ref().and_then(|known| known.platform.as_ref());
        before.is_some() && before == reason.to.as_ref()
    });
    let same = ended.before == Some(ended.build_key);
    let look = ended.noop
        && reasons
            .iter()
            .all(|reason| matches!(reason.kind.as_str(), "SourceChanged" | PLATFORM_CHANGED));
    let counts = back || same && !look && !is_no_loop(reasons);
    // Another image is another story, unless two make one each.
    let known = known.filter(|_| same || back);
    let platform = left.or_else(|| known.as_ref()?.platform.clone()).filter(|_| back || !counts);
    if !counts && known.is_none() && platform.is_none() {
        return;
    }
    let (count, since) = known.map_or((0, Time(now)), |known| (known.count, known.since));
    status.repeated = Some(LoopStatus {
        build_key: ended.build_key.to_owned(),
        count: count.saturating_add(u32::from(counts)).min(MOST),
        since,
        platform,
    });
}

/// Whether a build for these reasons is none of a loop whatever was built before: somebody has committed, or a build pod only looks.
pub(super) fn is_no_loop(reasons: &[ChangeReason]) -> bool {
    reasons.is_empty() || reasons.iter().any(|reason| reason.kind == "SourceChanged")
}

/// Whether one more build is one too many.
pub(super) fn full(status: &RobotImageStatus, now: Timestamp) -> bool {
    status
        .repeated
        .as_ref()
        .is_some_and(|repeated| repeated.count >= MOST && within(repeated, now))
}

/// Notes that one more was wanted.
pub(super) fn stop(status: &mut RobotImageStatus) {
    if let Some(repeated) = status.repeated.as_mut() {
        repeated.count = MOST + 1;
    }
}

/// Whether no more builds are made.
pub(super) fn stopped(status: &RobotImageStatus) -> bool {
    status.repeated.as_ref().is_some_and(|repeated| repeated.count > MOST)
}

fn within(repeated: &LoopStatus, now: Timestamp) -> bool {
    now < later(repeated.since.0, WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(reasons: &[(&str, &str, &str)]) -> LatestBuild {
        let reason = |(kind, from, to): &(&str, &str, &str)| ChangeReason {
            kind: (*kind).to_owned(),
            from: Some((*from).to_owned()),
            to: Some((*to).to_owned()),
        };
        LatestBuild {
            reasons: reasons.iter().map(reason).collect(),
            ..LatestBuild::default()
        }
    }

    #[test]
    fn two_that_make_an_image_each_are_counted_though_no_image_is_that_before() {
        let now = Timestamp::UNIX_EPOCH;
        let mut status = RobotImageStatus::default();
        let mut counts = Vec::new();
        for turn in 0..8 {
            let (from, to, key, before) = if turn % 2 == 0 {
                ("a", "b", "2", "1")
            } else {
                ("b", "a", "1", "2")
            };
            let ended = Ended {
                build: &built(&[(PLATFORM_CHANGED, from, to)]),
                build_key: key,
                before: Some(before),
                noop: false,
            };
            count(&mut status, &ended, now);
            counts.push(status.repeated.as_ref().map_or(0, |repeated| repeated.count));
        }
        assert_eq!(counts, [0, 1, 2, 3, 4, 5, 5, 5]);
        assert_eq!((full(&status, now), message(&status)), (true, TO_AND_FRO));
    }

    #[test]
    fn what_counts() {
        // Reasons, build key, that of the image before, whether it found nothing to do, and the count.
        type Case<'a> = (&'a [(&'a str, &'a str, &'a str)], &'a str, Option<&'a str>, bool, u32);
        let cases: [Case<'_>; 9] = [
            (&[("Initial", "", "")], "1", None, false, 0),
            (&[("ConfigChanged", "", "")], "2", Some("1"), false, 0),
            (&[("BaseChanged", "", "")], "2", Some("1"), false, 0),
            (&[("SourceChanged", "", "")], "1", Some("1"), false, 0),
            (&[], "1", Some("1"), false, 0),
            (&[(PLATFORM_CHANGED, "a", "b")], "1", Some("1"), true, 0),
            (&[(PLATFORM_CHANGED, "a", "b")], "1", Some("1"), false, 1),
            (&[("ConfigChanged", "", "")], "1", Some("1"), true, 1),
            (&[("ImageMissing", "", "")], "1", Some("1"), false, 1),
        ];
        for (reasons, key, before, noop, wanted) in cases {
            let mut status = RobotImageStatus::default();
            let ended = Ended {
                build: &built(reasons),
                build_key: key,
                before,
                noop,
            };
            count(&mut status, &ended, Timestamp::UNIX_EPOCH);
            let counted = status.repeated.as_ref().map_or(0, |repeated| repeated.count);
            assert_eq!(counted, wanted, "{reasons:?} {key} {before:?} {noop}");
        }
    }
}
