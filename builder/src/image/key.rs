//! The build key: everything that the bytes of an image depend on, hashed.

use std::collections::BTreeMap;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The closed list of inputs. A field more or less changes every key, so it comes with a new `recipe` value.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct BuildKeyInputs<'a> {
    /// Git's hash of the context's tree.
    pub tree: &'a str,
    /// The robot file, relative to the context.
    pub robot_file: &'a str,
    /// The task that the image runs, when one was chosen.
    pub task: Option<&'a str>,
    /// Key of the environment; none for a robot without one.
    pub environment: Option<&'a str>,
    /// rcc's hash of the environment, under which the image's catalog is found.
    pub blueprint: Option<&'a str>,
    /// The base's name in the label.
    pub base_name: Option<&'a str>,
    /// Digest of the base's platform manifest.
    pub base: &'a str,
    /// Digest of rcc's binary.
    pub rcc: &'a str,
    /// Digest of the launcher's binary.
    pub launcher: &'a str,
    /// `user:group`.
    pub user: &'a str,
    /// Labels of the resource, rendered.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations of the resource, rendered.
    pub annotations: &'a BTreeMap<String, String>,
    /// For example `linux/amd64`.
    pub platform: &'a str,
    /// Codec, level and block of our layers.
    pub codec: &'a str,
    /// Recipe version of the layers.
    pub compatibility: u32,
}

impl BuildKeyInputs<'_> {
    /// 64 hexadecimal digits.
    pub fn key(&self) -> String {
        derive("robotimage-build-v1", self)
    }
}

/// SHA-256 over a domain and a plain value, 64 hexadecimal digits.
pub fn derive<T: Serialize>(domain: &str, inputs: &T) -> String {
    let mut hasher = Sha256::new();
    hasher.update(domain.as_bytes());
    hasher.update([0]);
    hasher.update(super::oci::to_bytes(inputs));
    hex::encode(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_counts_and_nothing_else() {
        let (labels, more) = (BTreeMap::new(), BTreeMap::from([("a".to_owned(), "b".to_owned())]));
        let one = BuildKeyInputs {
            tree: "t",
            robot_file: "robot.yaml",
            task: None,
            environment: Some("e"),
            blueprint: Some("b"),
            base_name: None,
            base: "sha256:b",
            rcc: "sha256:r",
            launcher: "sha256:l",
            user: "1000:0",
            labels: &labels,
            annotations: &labels,
            platform: "linux/amd64",
            codec: "c",
            compatibility: 1,
        };
        // A golden value: changing it makes every published image be built again.
        assert_eq!(one.key(), "3226deb22965f18e93e67a08b5a981d4029c22cfb651f1ffae556daeb333a364");
        let changed = [
            BuildKeyInputs { tree: "u", ..one.clone() },
            BuildKeyInputs {
                robot_file: "u",
                ..one.clone()
            },
            BuildKeyInputs {
                task: Some(""),
                ..one.clone()
            },
            BuildKeyInputs {
                environment: None,
                ..one.clone()
            },
            BuildKeyInputs {
                blueprint: None,
                ..one.clone()
            },
            BuildKeyInputs {
                base_name: Some("u"),
                ..one.clone()
            },
            BuildKeyInputs { base: "u", ..one.clone() },
            BuildKeyInputs { rcc: "u", ..one.clone() },
            BuildKeyInputs {
                launcher: "u",
                ..one.clone()
            },
            BuildKeyInputs { user: "u", ..one.clone() },
            BuildKeyInputs {
                labels: &more,
                ..one.clone()
            },
            BuildKeyInputs {
                annotations: &more,
                ..one.clone()
            },
            BuildKeyInputs {
                platform: "u",
                ..one.clone()
            },
            BuildKeyInputs { codec: "u", ..one.clone() },
            BuildKeyInputs {
                compatibility: 2,
                ..one.clone()
            },
        ];
        let keys: std::collections::BTreeSet<_> = changed.iter().chain([&one]).map(BuildKeyInputs::key).collect();
        assert_eq!(keys.len(), changed.len() + 1);
        assert_eq!(one.key(), one.clone().key());
    }
}
