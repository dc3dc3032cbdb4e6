//! A revision, and what the operator's own look-ups have told.

use std::fmt;

use jiff::Timestamp;

use crate::source::SourceFailure;

/// A commit or a hash, and the name by which it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Branch, tag, `HEAD`, or `commit` for one given by its id. Of other sources a tag, or what was hashed: `archive` its bytes,
    /// `etag` and `modified` the server's words for them, `digest` for an artifact given by it, the name of a ConfigMap.
    pub reference: String,
    /// 40 hexadecimal digits of a commit, or 64 of a SHA-256.
    pub commit: String,
}

/// Most bytes of a reference's name in the short form.
const SHORT_REFERENCE: usize = 40;

impl Revision {
    /// Reads what [`fmt::Display`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (reference, id) = text.rsplit_once('@')?;
        let (algorithm, commit) = id.split_once(':')?;
        (is_id(commit) && algorithm == algorithm_of(commit) && !reference.is_empty()).then(|| Self {
            reference: reference.to_owned(),
            commit: commit.to_owned(),
        })
    }

    /// For people: `main@4be1c2d`.
    pub fn short(&self) -> String {
        let commit = self.commit.get(..7).unwrap_or(&self.commit);
        let reference = crate::text::cut(&self.reference, SHORT_REFERENCE);
        format!("{reference}@{commit}")
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}:{}", self.reference, algorithm_of(&self.commit), self.commit)
    }
}

/// Whether it can be the id of a revision: 40 hexadecimal digits, or 64.
pub(crate) fn is_id(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The lengths of the two hashes differ.
fn algorithm_of(id: &str) -> &'static str {
    if id.len() == 64 { "sha256" } else { "sha1" }
}

/// What one look-up said.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// When it came.
    pub at: Timestamp,
    /// Drawn when it came, in 0..1: the jitter of the next one.
    pub chance: f64,
    /// Generation of the spec it was asked for.
    pub generation: i64,
    /// Number of the last build when it was asked for: of a later one it knows nothing. Clocks cannot tell that; they differ.
    pub build: i64,
    /// The wishes for a look-up that stood in the annotations when it was asked.
    pub wish: String,
    /// Failed look-ups in a row, this one included.
    pub failures: u32,
    /// The commit, or why there is none.
    pub result: Result<Revision, SourceFailure>,
}

/// What this process knows of a source. After a restart that is nothing; the status then fills in.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceKnowledge {
    /// When this process saw the resource first.
    pub seen_at: Timestamp,
    /// Drawn then, in 0..1: spreads the first polls of a whole fleet over an interval.
    pub seen_chance: f64,
    /// The last look-up of this very url, reference and Secret.
    pub answer: Option<Answer>,
    /// One is under way.
    pub asking: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_reads_back() {
        let commit = "4be1c2d0aa11bb22cc33dd44ee55ff6677889900";
        for reference in ["main", "feature/a@b", "v1.0", "HEAD"] {
            let revision = Revision {
                reference: reference.to_owned(),
                commit: commit.to_owned(),
            };
            assert_eq!(Revision::parse(&revision.to_string()), Some(revision.clone()));
            assert_eq!(revision.short(), format!("{reference}@4be1c2d"));
            let hashed = Revision {
                commit: "4be1c2d0".repeat(8),
                ..revision
            };
            assert_eq!(hashed.to_string(), format!("{reference}@sha256:{}", hashed.commit));
            assert_eq!(Revision::parse(&hashed.to_string()), Some(hashed));
        }
        for text in [
            "",
            "main",
            "@sha1:4be1c2d0aa11bb22cc33dd44ee55ff6677889900",
            "main@sha1:4be1",
            "main@sha256:4be1c2d0aa11bb22cc33dd44ee55ff6677889900",
            "main@sha1:zzz1c2d0aa11bb22cc33dd44ee55ff6677889900",
        ] {
            assert_eq!(Revision::parse(text), None, "{text}");
        }
    }
}
