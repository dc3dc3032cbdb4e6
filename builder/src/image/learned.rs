//! What a build learned about inputs that a digest names, kept in the image for the next build: what the base holds, which
//! rcc a binary is, and rcc's hash of an environment file.
//!
//! A change of code alone then reads neither the base's layers nor rcc's, and starts no rcc.
//!
//! Invariant: everything here follows from the digests beside it, which are inputs of the build key, so that equal builds
//! give equal images. What cannot be read, or is about other digests, is as good as nothing.

use serde::{Deserialize, Serialize};

use super::base::FACTS_VERSION;
use super::oci::{Manifest, to_bytes};
use super::{BaseFacts, Recipe};

/// Annotation of the manifest.
pub const ANNOTATION: &str = "robotimage.dev/learned";
/// Longest text of the annotation, in bytes: a base with a passwd of thousands of lines is read anew each time.
const MAX_BYTES: usize = 32 << 10;

/// What was learned.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    base: OfBase,
    rcc: OfRcc,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    environment: Option<OfEnvironment>,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct OfBase {
    digest: String,
    /// [`FACTS_VERSION`] of the builder that found them.
    version: u32,
    facts: BaseFacts,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct OfRcc {
    digest: String,
    version: String,
}

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct OfEnvironment {
    file: String,
    blueprint: String,
}

impl Learned {
    /// What the making of an image learned.
    pub fn of(recipe: &Recipe) -> Self {
        Self {
            base: OfBase {
                digest: recipe.base.digest.clone(),
                version: FACTS_VERSION,
                facts: recipe.base.facts.clone(),
            },
            rcc: OfRcc {
                digest: recipe.rcc.clone(),
                version: recipe.rcc_version.clone(),
            },
            environment: recipe.environment.as_ref().map(|environment| OfEnvironment {
                file: environment.file_digest.clone(),
                blueprint: environment.blueprint.clone(),
            }),
        }
    }

    /// The annotation's text; none when it would be too long.
    pub fn text(&self) -> Option<String> {
        let text = String::from_utf8(to_bytes(self)).ok()?;
        (text.len() <= MAX_BYTES).then_some(text)
    }

    /// What a manifest carries.
    pub fn read(manifest: &Manifest) -> Option<Self> {
        let text = manifest.annotations.get(ANNOTATION).filter(|text| text.len() <= MAX_BYTES)?;
        serde_json::from_str(text).ok()
    }

    /// What the base with this digest holds, unless it was found by an older way.
    pub fn base(&self, digest: &str) -> Option<&BaseFacts> {
        (self.base.digest == digest && self.base.version == FACTS_VERSION).then_some(&self.base.facts)
    }

    /// The digest of rcc's binary, and what it says of its version.
    pub fn rcc(&self) -> (&str, &str) {
        (&self.rcc.digest, &self.rcc.version)
    }

    /// The hash that the rcc with this digest gives an environment file.
    pub fn blueprint(&self, rcc: &str, file: &str) -> Option<&str> {
        let environment = self.environment.as_ref()?;
        (self.rcc.digest == rcc && environment.file == file).then_some(environment.blueprint.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(version: u32) -> Learned {
        let text = serde_json::json!({
            "base": {"digest": "sha256:a", "version": version, "facts": BaseFacts::default()},
            "rcc": {"digest": "r", "version": "v19.0.2"},
            "environment": {"file": "f", "blueprint": "b"},
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn only_what_is_about_the_same_digests_is_believed() {
        let now = learned(FACTS_VERSION);
        assert_eq!(now.base("sha256:a"), Some(&BaseFacts::default()));
        assert_eq!((now.base("sha256:b"), now.blueprint("r", "f")), (None, Some("b")));
        assert_eq!((now.blueprint("other", "f"), now.blueprint("r", "other")), (None, None));
        assert_eq!(learned(FACTS_VERSION - 1).base("sha256:a"), None, "found by an older way");
    }
}
