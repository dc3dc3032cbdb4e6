//! What a build has to do, in one word for people.

use serde::{Deserialize, Serialize};

/// The plans, from the least to the most.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PlanKind {
    /// The previous image is the one wanted: nothing is made and nothing is sent.
    Noop,
    /// Environment and code are those of the previous image; base, rcc's layer or configuration are swapped around them.
    RebaseOnly,
    /// The code is made, the environment is taken over.
    CodeOnly,
    /// Everything that is not there by chance is made.
    #[default]
    Full,
}

impl PlanKind {
    /// Its name in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Noop => "Noop",
            Self::RebaseOnly => "RebaseOnly",
            Self::CodeOnly => "CodeOnly",
            Self::Full => "Full",
        }
    }
}

impl std::fmt::Display for PlanKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
