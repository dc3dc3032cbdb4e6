//! What the operator wrote, by the API server's own word.

use std::collections::BTreeMap;

use crate::audit::Entry;

/// Successful writes of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Writes {
    /// By verb and resource: `patch robotimages/status`.
    pub(super) kinds: BTreeMap<String, usize>,
}

impl Writes {
    /// Those of a user in a namespace; in all of them when that is empty.
    pub(super) fn of(entries: &[Entry], user: &str, namespace: &str) -> Self {
        let mut kinds = BTreeMap::new();
        let written = entries.iter().filter(|entry| {
            entry.user == user && entry.is_write() && entry.is_success() && (namespace.is_empty() || entry.namespace == namespace)
        });
        for entry in written {
            *kinds.entry(format!("{} {}", entry.verb, entry.resource)).or_default() += 1;
        }
        Self { kinds }
    }

    /// All of them but events, and the events.
    pub(super) fn split(&self) -> (usize, usize) {
        let count = |events: bool| {
            let of = |(kind, _): &(&String, &usize)| kind.ends_with(" events") == events;
            self.kinds.iter().filter(of).map(|(_, count)| count).sum()
        };
        (count(false), count(true))
    }

    /// `patch robotimages/status 3.00, create jobs 1.00` for each of so many builds.
    pub(super) fn per(&self, builds: usize) -> String {
        #[expect(clippy::cast_precision_loss, reason = "counts of writes are far below 2^52")]
        let each = |(kind, count): (&String, &usize)| format!("{kind} {:.2}", *count as f64 / builds.max(1) as f64);
        self.kinds.iter().map(each).collect::<Vec<_>>().join(", ")
    }
}

/// Requests of a user that the API server refused, conflicts included, by verb, resource and status.
pub(super) fn refused(entries: &[Entry], user: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.user == user && entry.code >= 400) {
        *kinds
            .entry(format!("{} {} {}", entry.verb, entry.resource, entry.code))
            .or_default() += 1;
    }
    kinds
}

/// Reads of a user.
pub(super) fn reads(entries: &[Entry], user: &str) -> usize {
    let read = |entry: &&Entry| entry.user == user && matches!(entry.verb.as_str(), "get" | "list");
    entries.iter().filter(read).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str, verb: &str, resource: &str, code: u16) -> Entry {
        Entry {
            user: user.to_owned(),
            agent: String::new(),
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            namespace: "a".to_owned(),
            name: "x".to_owned(),
            code,
            received: jiff::Timestamp::UNIX_EPOCH,
            completed: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn writes_are_counted_by_who_made_them_and_what_came_of_it() {
        let entries = [
            entry("operator", "patch", "robotimages/status", 200),
            entry("operator", "patch", "robotimages/status", 409),
            entry("operator", "create", "events", 201),
            entry("operator", "get", "robotimages", 200),
            entry("mock", "patch", "jobs/status", 200),
        ];
        let writes = Writes::of(&entries, "operator", "a");
        assert_eq!(writes.split(), (1, 1));
        assert_eq!(writes.per(2), "create events 0.50, patch robotimages/status 0.50");
        assert_eq!(Writes::of(&entries, "operator", "b").split(), (0, 0));
        assert_eq!(
            refused(&entries, "operator").into_iter().collect::<Vec<_>>(),
            [("patch robotimages/status 409".to_owned(), 1)]
        );
        assert_eq!(reads(&entries, "operator"), 1);
    }
}
