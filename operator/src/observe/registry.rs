//! What registries have told the operator about the images that a resource names.

use jiff::Timestamp;

use crate::registry::LookupFailure;

/// What is known of the digest behind one reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// When the last answer came.
    pub at: Timestamp,
    /// Failed look-ups in a row, that one included.
    pub failures: u32,
    /// The digest of the platform's manifest, by the last answer that had one.
    pub digest: Option<String>,
    /// Why the last answer had none.
    pub failure: Option<LookupFailure>,
}

/// What is known of the images that one resource depends on. After a restart that is nothing; the status then fills in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Of its base.
    pub base: Option<Check>,
    /// Of the image with its rcc.
    pub rcc: Option<Check>,
    /// A look-up is under way.
    pub asking: bool,
    /// Of its published image.
    pub image: Option<ImageCheck>,
    /// A look-up of it is under way.
    pub asking_image: bool,
}

/// Whether a published image is still there, by look-ups since its last build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageCheck {
    /// When the last answer came.
    pub at: Timestamp,
    /// Number of the last build when it was asked for: what was learned before a build says nothing after it.
    pub build: i64,
    /// Answers in a row that there is no such image.
    pub gone: u32,
    /// Whether it was seen since that build.
    pub seen: bool,
    /// Whether the registry shows it to nobody without credentials, once it has said so or not.
    pub refused: Option<bool>,
}

impl ImageCheck {
    /// What is known after another answer.
    pub fn after(before: Option<&Self>, build: i64, answer: &Result<(), LookupFailure>, at: Timestamp) -> Self {
        // Whether anybody may look does not change with a build; a registry that does not answer says nothing of it.
        let refused = match answer {
            Ok(()) | Err(LookupFailure::Missing { .. }) => Some(false),
            Err(LookupFailure::Refused { .. }) => Some(true),
            Err(LookupFailure::Failed { .. }) => before.and_then(|before| before.refused),
        };
        let before = before.filter(|before| before.build == build);
        let gone = match answer {
            Err(LookupFailure::Missing { .. }) => before.map_or(0, |before| before.gone) + 1,
            Ok(()) | Err(_) => 0,
        };
        Self {
            at,
            build,
            gone,
            seen: answer.is_ok() || before.is_some_and(|before| before.seen),
            refused,
        }
    }
}
