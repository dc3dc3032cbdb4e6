//! One entry of a dependency list: name, operator, version.

/// An entry as rcc takes it apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dependency {
    /// The entry, trimmed.
    pub(super) original: String,
    pub(super) name: String,
    qualifier: String,
    versions: String,
}

impl Dependency {
    /// `None` for what rcc cannot read: an entry that begins with an operator, or is empty, or has several lines.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let original = text.trim();
        let operator = |letter: char| matches!(letter, '<' | '=' | '~' | '!' | '>');
        let end = original.find(|letter| operator(letter) || letter == ' ').unwrap_or(original.len());
        let (name, rest) = original.split_at(end);
        let rest = rest.trim_start();
        if name.is_empty() || rest.contains('\n') {
            return None;
        }
        // The version needs one letter at least, which may be an operator's.
        let last = rest.char_indices().next_back().map_or(0, |(at, _)| at);
        let split = rest[..last].find(|letter| !operator(letter)).unwrap_or(last);
        let (qualifier, versions) = rest.split_at(split);
        Some(Self {
            name: name.to_owned(),
            qualifier: qualifier.to_owned(),
            versions: versions.trim_start().to_owned(),
            original: original.to_owned(),
        })
    }

    /// Options (`--index-url ...`) never merge.
    pub(super) fn same_name(&self, other: &Self) -> bool {
        !self.name.starts_with('-') && self.name == other.name
    }

    fn is_exact(&self) -> bool {
        !self.qualifier.is_empty() || !self.versions.is_empty()
    }

    /// Which of two entries of one name rcc keeps; `None` when it does not decide.
    pub(super) fn choose(first: &Self, second: &Self) -> Option<Self> {
        match (first.is_exact(), second.is_exact()) {
            (true, false) => Some(first.clone()),
            (false, true) => Some(second.clone()),
            _ if first.qualifier == second.qualifier && first.versions == second.versions => Some(first.clone()),
            _ => None,
        }
    }

    /// package.yaml writes `a=1` where pip wants `a==1`.
    pub(super) fn pin_for_pip(&mut self) {
        if self.qualifier == "=" {
            self.original = format!("{}=={}", self.name, self.versions);
            "==".clone_into(&mut self.qualifier);
        }
    }

    /// Whether the version is fixed. Options, paths and URLs count as fixed: what they name is said elsewhere.
    pub(super) fn is_pinned(&self, pip: bool) -> bool {
        if self.name.starts_with('-') || self.original.contains('/') || self.original.contains(" @ ") {
            return true;
        }
        let exact = if pip {
            matches!(self.qualifier.as_str(), "==" | "===")
        } else {
            matches!(self.qualifier.as_str(), "=" | "==")
        };
        exact && !self.versions.contains(['*', '<', '>', ',', '|', '!', '~'])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_entries_apart_as_rcc_does() {
        for (text, parts) in [
            ("python=3.11.7", Some(("python", "=", "3.11.7"))),
            (" pip == 23.2.1 ", Some(("pip", "==", "23.2.1"))),
            ("rich", Some(("rich", "", ""))),
            ("rich[extra]>=1,<2", Some(("rich[extra]", ">=", "1,<2"))),
            ("x ~= 1.4", Some(("x", "~=", "1.4"))),
            ("x=", Some(("x", "", "="))),
            ("x==", Some(("x", "=", "="))),
            (
                "--index-url https://pypi.example.com",
                Some(("--index-url", "", "https://pypi.example.com")),
            ),
            ("x @ https://example.com/x.whl", Some(("x", "", "@ https://example.com/x.whl"))),
            ("=1", None),
            ("~x", None),
            ("!x", None),
            ("", None),
            ("  ", None),
        ] {
            let found = Dependency::parse(text);
            let found = found
                .as_ref()
                .map(|found| (found.name.as_str(), found.qualifier.as_str(), found.versions.as_str()));
            assert_eq!(found, parts, "{text:?}");
        }
    }

    #[test]
    fn knows_what_floats() {
        for (text, pip, pinned) in [
            ("python=3.11.7", false, true),
            ("python", false, false),
            ("python>=3.9", false, false),
            ("rich==13.*", true, false),
            ("rich==13.7.1", true, true),
            ("rich=13.7.1", true, false),
            ("./libs/x.whl", true, true),
            ("--find-links ./x", true, true),
        ] {
            assert_eq!(Dependency::parse(text).unwrap().is_pinned(pip), pinned, "{text}");
        }
    }
}
