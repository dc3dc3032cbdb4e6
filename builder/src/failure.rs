//! What every error of the engine becomes at its edge: a reason with owner, retry and exit code, and a message for a person.

use robotimage_crds::reason::Reason;

/// A build that ended without an image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// From the closed list of crate `crds`.
    pub reason: Reason,
    /// What failed, where, and what to do.
    pub message: String,
    /// Last lines of a child's output, secrets already replaced.
    pub tail: Option<String>,
    /// Seconds that the other side asked us to wait.
    pub retry_after: Option<u64>,
}

impl Failure {
    /// A failure with no child's output.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            tail: None,
            retry_after: None,
        }
    }

    /// The same failure with the last lines of a child's output.
    #[must_use]
    pub fn with_tail(mut self, tail: impl Into<String>) -> Self {
        let tail = tail.into();
        self.tail = (!tail.is_empty()).then_some(tail);
        self
    }

    /// File, line and column that the message begins with, where it is about a place in a file of the robot.
    pub fn place(&self) -> Option<(&str, usize, usize)> {
        let (place, _) = self.message.split_once(": ")?;
        let (rest, column) = place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        let place = (file, line.parse().ok()?, column.parse().ok()?);
        (!file.is_empty() && !file.contains(char::is_whitespace) && !file.contains("://")).then_some(place)
    }

    /// What is wrong, and what to do: messages put the cure after the last semicolon, beginning with a word.
    pub fn advice(&self) -> (&str, Option<&str>) {
        let is_word = |text: &str| {
            text.split(' ')
                .next()
                .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
        };
        match self.message.rsplit_once("; ") {
            Some((what, advice)) if is_word(advice) => (what, Some(advice)),
            _ => (&self.message, None),
        }
    }

    /// A file or folder of our own that cannot be used. A full disk is the one cause that has a reason of its own.
    pub fn io(action: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let reason = match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Reason::StorageExceeded,
            _ => Reason::InternalError,
        };
        Self::new(reason, format!("cannot {action} {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> Failure {
        Failure::new(Reason::PackageNotFound, message)
    }

    #[test]
    fn advice_follows_the_last_semicolon() {
        assert_eq!(of("a: b; c; do d").advice(), ("a: b; c", Some("do d")));
        assert_eq!(of("a").advice(), ("a", None));
        let quoted = "command \"x; sys.exit(3)\" failed";
        assert_eq!(of(quoted).advice(), (quoted, None));
    }

    #[test]
    fn places_are_told_from_other_words() {
        assert_eq!(of("conda.yaml:7:5: no such package").place(), Some(("conda.yaml", 7, 5)));
        for message in ["robot.yaml: no tasks", "https://r:80:1: x", "a b:1:2: x", ":1:2: x", "a:1: x"] {
            assert_eq!(of(message).place(), None, "{message}");
        }
    }
}
