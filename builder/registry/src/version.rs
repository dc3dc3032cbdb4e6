//! Tags that are versions: which of them is the highest that is wanted.

use std::fmt;

use semver::{Version, VersionReq};

/// Which versions are wanted: `1.4.*`, `^1.2`, `~1.2.3`, `>=1.0 <2`; comparisons are divided by blanks or commas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requirement(VersionReq);

/// The text says of no version whether it is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" names no versions: {problem}; write for example ^1.2, 1.4.* or >=1.0 <2")]
pub struct RequirementError {
    /// As written, printable.
    text: String,
    /// What is wrong.
    problem: String,
}

impl Requirement {
    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, RequirementError> {
        let mut comparisons = String::new();
        for word in text.split_whitespace() {
            // A comparison may stand apart from its version.
            let open = comparisons.ends_with(['<', '>', '=', '~', '^', ',']);
            if !comparisons.is_empty() && !open && !word.starts_with(',') {
                comparisons.push(',');
            }
            comparisons.push_str(word);
        }
        VersionReq::parse(&comparisons).map(Self).map_err(|error| RequirementError {
            text: text.chars().filter(|c| !c.is_control()).take(100).collect(),
            problem: error.to_string(),
        })
    }

    /// The tag with the highest version that is wanted, with or without a `v` before it. Versions with a prerelease are wanted
    /// only where the requirement names one. A tag that is no version of three numbers counts for nothing.
    pub fn highest<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        tags.into_iter()
            .filter_map(|tag| Some((Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()?, tag)))
            .filter(|(version, _)| self.0.matches(version))
            .max()
            .map(|(_, tag)| tag)
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_that_is_wanted() {
        let tags = [
            "v1.0.0",
            "v1.10.0",
            "v1.9.9",
            "2.0.0",
            "v2.1.0-rc.1",
            "latest",
            "v3",
            "1.2",
            "v1.4.7",
            "release-9.0.0",
            "",
        ];
        for (wanted, found) in [
            ("*", Some("2.0.0")),
            ("^1", Some("v1.10.0")),
            ("1.4.*", Some("v1.4.7")),
            ("~1.9.0", Some("v1.9.9")),
            (">=1.0 <1.9", Some("v1.4.7")),
            (">= 1.0, < 1.9", Some("v1.4.7")),
            ("<2", Some("v1.10.0")),
            (">=2.1.0-0", Some("v2.1.0-rc.1")),
            (">2", None),
        ] {
            assert_eq!(Requirement::parse(wanted).unwrap().highest(tags), found, "{wanted}");
        }
    }

    #[test]
    fn what_names_no_versions_is_refused() {
        for text in ["", "latest", ">=", "1.0 ||2.0", "1..2", "\u{1b}[31m"] {
            let error = Requirement::parse(text).unwrap_err().to_string();
            assert!(
                error.contains("names no versions") && !error.chars().any(char::is_control),
                "{error}"
            );
        }
    }
}
