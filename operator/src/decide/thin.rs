//! What a decision to rest needs of a resource, for those that are kept by thousands.
//!
//! Invariant: of what is taken away here, no decision reads anything while no build lives, but to write it again as it was.

use robotimage_crds::api::{BuildPhase, HistoryEntry, RobotImage};

use super::history::SUCCEEDED;

/// Takes away what no decision to rest is made from; answers whether there was any. While a build lives nothing is taken: its
/// steps are followed by writes.
pub(crate) fn thin(image: &mut RobotImage) -> bool {
    let Some(status) = image.status.as_mut() else { return false };
    let build = status.latest_build.as_mut();
    let lives = |phase| matches!(phase, BuildPhase::Pending | BuildPhase::Running);
    if build.as_ref().is_some_and(|build| lives(build.phase)) {
        return false;
    }
    let mut taken = build.is_some_and(|build| !std::mem::take(&mut build.steps).is_empty());
    for entry in &mut status.history {
        // Jobs are kept by the numbers, and entries by how many of each outcome there are.
        let left = HistoryEntry {
            number: entry.number,
            outcome: Some(SUCCEEDED)
                .filter(|outcome| *outcome == entry.outcome)
                .unwrap_or_default()
                .to_owned(),
            ..HistoryEntry::default()
        };
        taken |= *entry != left;
        *entry = left;
    }
    if let Some(image) = &mut status.latest_image {
        taken |= !std::mem::take(&mut image.layers).is_empty() | !std::mem::take(&mut image.platforms).is_empty();
    }
    if let Some(source) = &mut status.source {
        taken |= source.tree_hash.take().is_some() | source.author.take().is_some() | source.message.take().is_some();
    }
    if let Some(failure) = &mut status.last_failure {
        taken |= failure.log_tail.take().is_some();
    }
    taken
}

#[cfg(test)]
mod tests {
    use robotimage_crds::api::{LatestBuild, RobotImageSpec, RobotImageStatus};
    use serde_json::json;

    use super::*;

    fn image(phase: BuildPhase) -> RobotImage {
        let spec: RobotImageSpec = serde_json::from_value(json!({
            "source": {"git": {"url": "https://git.example.com/a.git"}},
            "image": {"repository": "registry.example.com/a"},
        }))
        .unwrap();
        let entry = |number, outcome: &str| HistoryEntry {
            number,
            outcome: outcome.to_owned(),
            duration: Some("3s".to_owned()),
            ..HistoryEntry::default()
        };
        let mut image = RobotImage::new("a", spec);
        image.status = Some(RobotImageStatus {
            latest_build: Some(LatestBuild {
                number: 2,
                phase,
                ..LatestBuild::default()
            }),
            history: vec![entry(2, SUCCEEDED), entry(1, "PackageNotFound")],
            ..RobotImageStatus::default()
        });
        image
    }

    #[test]
    fn a_history_keeps_its_numbers_and_successes() {
        let mut thinned = image(BuildPhase::Succeeded);
        assert!(thin(&mut thinned));
        let history = &thinned.status.as_ref().unwrap().history;
        let left: Vec<_> = history.iter().map(|entry| (entry.number, entry.outcome.as_str())).collect();
        assert_eq!(left, [(2, SUCCEEDED), (1, "")]);
        assert!(history.iter().all(|entry| entry.duration.is_none()));
        assert!(!thin(&mut thinned), "nothing is left to be taken");
    }

    #[test]
    fn nothing_is_taken_while_a_build_lives_or_nothing_was_written() {
        for phase in [BuildPhase::Pending, BuildPhase::Running] {
            let mut living = image(phase);
            assert!(!thin(&mut living));
            assert_eq!(living.status, image(phase).status);
        }
        let mut new = image(BuildPhase::Succeeded);
        new.status = None;
        assert!(!thin(&mut new));
    }
}
