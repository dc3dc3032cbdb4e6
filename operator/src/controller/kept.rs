//! A RobotImage as it is kept between two reconciles: as squeezed text, and of one whose build is over only what a look at it
//! needs. As a structure it takes ten times as much.
//!
//! Invariant: a decision on what is kept that is to rest is the decision on the whole; any other decision is made anew on the
//! whole resource, and nothing is ever written from a part of it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use kube::ResourceExt;
use lz4_flex::block::{compress_prepend_size_with_dict, decompress_size_prepended_with_dict};
use robotimage_crds::api::RobotImage;

use crate::decide::thin;
use crate::metrics::Standing;

/// What kubectl keeps for itself: a copy of the resource.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What every resource is like; only its words matter. The texts are squeezed against it and never leave this process.
const LIKE: &[u8] = include_bytes!("kept.json");

/// A kept RobotImage.
#[derive(Debug)]
pub(super) struct Kept {
    uid: Box<str>,
    version: Box<str>,
    /// Changes with whatever must wake the object.
    stir: u64,
    standing: Standing,
    whole: bool,
    text: Box<[u8]>,
}

impl Kept {
    /// Keeps a resource as the API server tells it.
    pub(super) fn of(mut image: RobotImage) -> Self {
        let mut hasher = DefaultHasher::new();
        (&image.metadata.uid, image.metadata.generation, &image.metadata.annotations).hash(&mut hasher);
        let (stir, standing) = (hasher.finish(), Standing::of(&image));
        image.metadata.managed_fields = None;
        if let Some(annotations) = &mut image.metadata.annotations {
            annotations.remove(LAST_APPLIED);
        }
        let whole = !thin(&mut image);
        let text = serde_json::to_vec(&image).expect("invariant: a resource is plain data");
        Self {
            uid: image.uid().unwrap_or_default().into(),
            version: image.resource_version().unwrap_or_default().into(),
            stir,
            standing,
            whole,
            text: compress_prepend_size_with_dict(&text, LIKE).into(),
        }
    }

    /// The resource, and whether nothing of it is missing.
    pub(super) fn open(&self) -> (RobotImage, bool) {
        let text = decompress_size_prepended_with_dict(&self.text, LIKE).expect("invariant: what was squeezed here reads back");
        let image = serde_json::from_slice(&text).expect("invariant: what was written reads back");
        (image, self.whole)
    }

    /// Its UID.
    pub(super) fn uid(&self) -> &str {
        &self.uid
    }

    /// How it stands, for metrics.
    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it must be woken when it was `before`.
    pub(super) fn stirs(&self, before: &Self) -> bool {
        self.stir != before.stir
    }

    /// Whether it is this version of this resource.
    pub(super) fn is_version(&self, image: &RobotImage) -> bool {
        let same = |kept: &str, told: Option<String>| !kept.is_empty() && told.as_deref() == Some(kept);
        same(&self.uid, image.uid()) && same(&self.version, image.resource_version())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use robotimage_crds::api::{BuildPhase, HistoryEntry, LatestBuild, RobotImageStatus};
    use serde_json::json;

    use super::*;

    /// A new one in namespace finance.
    pub(in crate::controller) fn image(name: &str, generation: i64) -> RobotImage {
        serde_json::from_value(json!({
            "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage",
            "metadata": {
                "name": name, "namespace": "finance", "uid": format!("uid-{name}"), "generation": generation,
                "resourceVersion": format!("{generation}1"),
            },
            "spec": {
                "source": {"git": {"url": "https://git.example.com/a.git"}},
                "image": {"repository": "registry.example.com/a"},
            },
        }))
        .unwrap()
    }

    #[test]
    fn a_new_one_is_kept_whole() {
        let told = image("a", 1);
        let (kept, whole) = Kept::of(told.clone()).open();
        assert!(whole);
        assert_eq!(serde_json::to_value(kept).unwrap(), serde_json::to_value(told).unwrap());
    }

    #[test]
    fn every_row_of_the_table_reads_back() {
        let rows = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/rows");
        let mut count = 0;
        for file in std::fs::read_dir(rows).unwrap() {
            let row: serde_json::Value = serde_saphyr::from_str(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap();
            for object in ["before", "after"].iter().filter_map(|side| row.get(side)) {
                let mut told: RobotImage = serde_json::from_value(object.clone()).unwrap();
                let (kept, whole) = Kept::of(told.clone()).open();
                assert_eq!(whole, !thin(&mut told));
                assert_eq!(serde_json::to_value(kept).unwrap(), serde_json::to_value(told).unwrap());
                count += 1;
            }
        }
        assert!(count > 20, "{count}");
    }

    #[test]
    fn one_with_a_past_is_kept_in_part_and_says_so() {
        let mut told = image("a", 1);
        told.annotations_mut().insert(LAST_APPLIED.to_owned(), "x".repeat(5000));
        told.status = Some(RobotImageStatus {
            latest_build: Some(LatestBuild {
                number: 1,
                phase: BuildPhase::Succeeded,
                ..LatestBuild::default()
            }),
            history: vec![HistoryEntry {
                number: 1,
                outcome: "Succeeded".to_owned(),
                duration: Some("3s".to_owned()),
                ..HistoryEntry::default()
            }],
            ..RobotImageStatus::default()
        });
        let kept = Kept::of(told.clone());
        let (opened, whole) = kept.open();
        assert!(!whole && kept.text.len() < 300, "{}", kept.text.len());
        assert_eq!(opened.status.unwrap().history[0].duration, None);
        told.status.as_mut().unwrap().latest_build.as_mut().unwrap().phase = BuildPhase::Running;
        let (opened, whole) = Kept::of(told.clone()).open();
        assert!(whole);
        assert_eq!(opened.status, told.status);
    }
}
