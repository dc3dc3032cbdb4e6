//! The plan: what kind of build it is, and what it makes, mounts and sends, layer by layer.
//!
//! Invariant: pure. The kind follows from what is taken over, by one function, wherever it is shown.

use robotimage_crds::build::PlanKind;
use serde::Serialize;

use crate::image::Role;

/// How a build stands before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// The previous image is the one wanted.
    pub same: bool,
    /// There is a previous image of ours.
    pub previous: bool,
    /// Whether the environment is taken over; none for a robot without one.
    pub environment: Option<bool>,
    /// Whether the previous image's code is the wanted one.
    pub code: bool,
}

/// The kind of a build.
pub fn kind(standing: &Standing) -> PlanKind {
    match standing {
        Standing { same: true, .. } => PlanKind::Noop,
        Standing {
            environment: Some(false), ..
        }
        | Standing {
            environment: None,
            previous: false,
            ..
        } => PlanKind::Full,
        Standing { code: true, .. } => PlanKind::RebaseOnly,
        Standing { .. } => PlanKind::CodeOnly,
    }
}

/// What becomes of a layer.
#[derive(Serialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// The repository holds it.
    Reused,
    /// Another repository of the registry holds it; where the registry mounts, nothing is sent.
    Mounted,
    /// Another registry or a folder holds it: it is sent through.
    Copied,
    /// It is made by the build.
    Made,
}

impl Fate {
    /// Its name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reused => "reused",
            Self::Mounted => "mounted",
            Self::Copied => "copied",
            Self::Made => "to be made",
        }
    }
}

/// Layers of one role with one fate.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Part {
    /// What they hold.
    pub role: Role,
    /// What becomes of them.
    pub fate: Fate,
    /// How many there are; 0 when that is not known before they are made.
    pub layers: usize,
    /// Compressed bytes; none when that is not known before they are made.
    pub size: Option<u64>,
    /// Bytes that go to the registry; none when that is not known before.
    pub sends: Option<u64>,
}

/// Sums layers, given from the bottom, by role and fate. A layer without a size is one of an unknown number.
pub fn parts(layers: &[(Role, Fate, Option<u64>)]) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (role, fate, size) in layers {
        let sends = match fate {
            Fate::Reused | Fate::Mounted => Some(0),
            Fate::Copied | Fate::Made => *size,
        };
        let add = |one: Option<u64>, other: Option<u64>| one.zip(other).map(|(one, other)| one + other);
        match parts.last_mut().filter(|part| (part.role, part.fate) == (*role, *fate)) {
            Some(part) => {
                part.layers += usize::from(size.is_some());
                (part.size, part.sends) = (add(part.size, *size), add(part.sends, sends));
            }
            None => parts.push(Part {
                role: *role,
                fate: *fate,
                layers: usize::from(size.is_some()),
                size: *size,
                sends,
            }),
        }
    }
    parts
}

/// Bytes that all parts send: those that are known, and whether there are others.
pub fn sends(parts: &[Part]) -> (u64, bool) {
    let known = parts.iter().filter_map(|part| part.sends).sum();
    (known, parts.iter().any(|part| part.sends.is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let of = |same, previous, environment, code| {
            kind(&Standing {
                same,
                previous,
                environment,
                code,
            })
        };
        let table = [
            ((true, true, Some(true), true), PlanKind::Noop),
            ((true, true, None, false), PlanKind::Noop),
            // The first image: its packages must be installed, or another image's are taken over.
            ((false, false, Some(false), false), PlanKind::Full),
            ((false, false, Some(true), false), PlanKind::CodeOnly),
            ((false, false, None, false), PlanKind::Full),
            ((false, true, Some(false), true), PlanKind::Full),
            ((false, true, Some(true), false), PlanKind::CodeOnly),
            ((false, true, Some(true), true), PlanKind::RebaseOnly),
            ((false, true, None, false), PlanKind::CodeOnly),
            ((false, true, None, true), PlanKind::RebaseOnly),
        ];
        for ((same, previous, environment, code), expected) in table {
            assert_eq!(
                of(same, previous, environment, code),
                expected,
                "{same} {previous} {environment:?} {code}"
            );
        }
    }

    #[test]
    fn parts_are_sums() {
        let layers = [
            (Role::Base, Fate::Mounted, Some(10)),
            (Role::Base, Fate::Mounted, Some(20)),
            (Role::Base, Fate::Copied, Some(5)),
            (Role::Environment, Fate::Made, None),
            (Role::Code, Fate::Made, Some(7)),
        ];
        let parts = parts(&layers);
        let shown: Vec<_> = parts.iter().map(|part| (part.role, part.layers, part.size, part.sends)).collect();
        assert_eq!(
            shown,
            [
                (Role::Base, 2, Some(30), Some(0)),
                (Role::Base, 1, Some(5), Some(5)),
                (Role::Environment, 0, None, None),
                (Role::Code, 1, Some(7), Some(7)),
            ]
        );
        assert_eq!(sends(&parts), (12, true));
    }
}
