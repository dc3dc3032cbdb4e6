//! Patterns as git reads them in a .gitignore.

use gix::bstr::ByteSlice as _;
use gix::glob::Pattern;
use gix::glob::pattern::Case;
use gix::glob::wildmatch::Mode;

use super::super::error::SourceError;
use super::Matcher;

/// Most `**` of a pattern. Each doubles the ways that a matcher tries, and more.
const MOST_WILD: usize = 3;

/// The lines of one file, the later ones deciding.
#[derive(Debug)]
pub(in crate::source) struct GitPatterns(Vec<Pattern>);

impl GitPatterns {
    /// Reads lines. One that would take for ever is refused.
    pub(in crate::source) fn parse(text: &str) -> Result<Self, SourceError> {
        let mut patterns = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            if line.matches("**").count() > MOST_WILD {
                return Err(SourceError::Ignore {
                    line: number + 1,
                    problem: format!("has more than {MOST_WILD} times **"),
                });
            }
            patterns.extend(Pattern::from_bytes(trimmed(line).as_bytes()));
        }
        Ok(Self(patterns))
    }
}

/// A line without the blanks at its end, unless a backslash keeps them.
fn trimmed(line: &str) -> &str {
    let bare = line.trim_end_matches(' ');
    let escapes = bare.bytes().rev().take_while(|byte| *byte == b'\\').count();
    if escapes % 2 == 1 && bare.len() < line.len() {
        &line[..=bare.len()]
    } else {
        bare
    }
}

impl Matcher for GitPatterns {
    fn is_ignored(&self, path: &[u8], name: &[u8], folder: bool) -> bool {
        let start = path.len() - name.len();
        let matches = |pattern: &&Pattern| {
            pattern.matches_repo_relative_path(
                path.as_bstr(),
                (start > 0).then_some(start),
                Some(folder),
                Case::Sensitive,
                Mode::NO_MATCH_SLASH_LITERAL,
            )
        };
        self.0.iter().rev().find(matches).is_some_and(|pattern| !pattern.is_negative())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What git itself says of the same patterns.
    #[test]
    fn as_git_does() {
        let names = [
            "a",
            "b.pyc",
            "logs/",
            "logs/x",
            "sub/",
            "sub/logs",
            "build/",
            "sub/build/",
            "keep.log",
            "other.log",
            "doc/",
            "doc/a.txt",
            "doc/sub/",
            "doc/sub/a.txt",
            "#x",
            "!y",
            "t ",
            "t",
            "[x]",
            "x",
            "Ä",
        ];
        for patterns in [
            "*.pyc\nlogs/\n",
            "/build\n*.log\n!keep.log\n",
            "doc/*.txt\n",
            "doc/**/*.txt\n# a comment\n\n",
            "**/logs\n",
            "\\#x\n\\!y\n",
            "t\\ \n",
            "t \n",
            "[x]\n",
            "\\[x\\]\n",
            "*\n!*/\n!doc/**\n",
            "?\r\n",
            "Ä\n",
        ] {
            let folder = tempfile::tempdir().unwrap();
            let git = |arguments: &[&str]| {
                let output = Command::new("git")
                    .args(["-c", "core.excludesFile=/dev/null", "-c", "core.quotePath=false"])
                    .args(arguments)
                    .current_dir(folder.path())
                    .output()
                    .unwrap();
                String::from_utf8(output.stdout).unwrap()
            };
            git(&["init", "--quiet"]);
            for name in names {
                let at = folder.path().join(name);
                if name.ends_with('/') {
                    std::fs::create_dir_all(at).unwrap();
                } else {
                    std::fs::write(at, "").unwrap();
                }
            }
            std::fs::write(folder.path().join(".gitignore"), patterns).unwrap();
            let ours = GitPatterns::parse(patterns).unwrap();
            for name in names {
                let bare = name.trim_end_matches('/');
                let above = bare.rsplit_once('/').map(|(above, _)| format!("{above}/"));
                let expected = !git(&["check-ignore", "--no-index", "--", bare]).is_empty();
                let last = bare.rsplit('/').next().unwrap();
                let mut found = ours.is_ignored(bare.as_bytes(), last.as_bytes(), name.ends_with('/'));
                // What is below an ignored folder is never come to.
                if let Some(above) = above.map(|above| above.trim_end_matches('/').to_owned()) {
                    found |= ours.is_ignored(above.as_bytes(), above.rsplit('/').next().unwrap().as_bytes(), true);
                }
                assert_eq!(found, expected, "{name:?} by {patterns:?}");
            }
        }
    }

    /// Patterns are strangers' too: a matcher that tries every way would not come back from these.
    #[test]
    fn many_stars_end() {
        let deep = format!("{}a", "a/".repeat(127));
        let long = "a".repeat(255);
        for (pattern, path) in [
            ("*a".repeat(2000) + "b", &long),
            ("**/a/".repeat(MOST_WILD) + "b", &deep),
            ("**/*a*/".repeat(MOST_WILD) + "*b", &deep),
            ("a*/".repeat(127) + "*b", &deep),
        ] {
            let name = path.rsplit('/').next().unwrap();
            let patterns = GitPatterns::parse(&pattern).unwrap();
            assert!(!patterns.is_ignored(path.as_bytes(), name.as_bytes(), false), "{pattern}");
        }
        let wild = "**/a/".repeat(MOST_WILD + 1);
        let error = GitPatterns::parse(&format!("*.md\n# {wild}\n{wild}b\n")).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error}");
    }
}
