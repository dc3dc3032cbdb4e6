//! Patterns as rcc reads them in the files of robot.yaml's `ignoreFiles`.
//!
//! They are not git's: each line is compared with the bare name of an entry, at any depth and in any order; `!`, `/` at the
//! beginning and `**` mean nothing; `/` at the end matches folders. `hololib.zip` is never left out.

use super::Matcher;

/// A file that rcc packs whatever the patterns say.
const FORCED: &[u8] = b"hololib.zip";

/// The lines of all files.
#[derive(Debug, Default)]
pub(in crate::source) struct RccPatterns(Vec<Line>);

/// One pattern.
#[derive(Debug)]
struct Line {
    text: String,
    /// `None` when it is malformed, which matches nothing but itself.
    pieces: Option<Vec<Piece>>,
}

impl RccPatterns {
    /// Adds the lines of one file.
    pub(in crate::source) fn add(&mut self, text: &str) {
        let lines = text.split('\n').map(str::trim);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.0.extend(lines.map(|line| Line {
            text: line.to_owned(),
            pieces: parse(line),
        }));
    }
}

impl Matcher for RccPatterns {
    fn is_ignored(&self, _: &[u8], name: &[u8], folder: bool) -> bool {
        if name == FORCED && !folder {
            return false;
        }
        // Go compares broken UTF-8 by replacement characters; such names match no written pattern here.
        let Ok(name) = std::str::from_utf8(name) else { return false };
        let letters: Vec<char> = name.chars().collect();
        let with_slash: Vec<char> = name.chars().chain(['/']).collect();
        self.0.iter().any(|line| {
            let matches = |name: &[char]| line.pieces.as_deref().is_some_and(|pieces| matches(pieces, name));
            line.text == name || matches(&letters) || folder && matches(&with_slash)
        })
    }
}

/// One piece of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Piece {
    /// Any characters but `/`.
    Star,
    /// One character but `/`.
    One,
    /// This one.
    Char(char),
    /// One in one of the ranges, or, negated, in none.
    Class(bool, Vec<(char, char)>),
}

/// Whether the pattern matches the whole name.
fn matches(pieces: &[Piece], name: &[char]) -> bool {
    // Where to go on when what follows the last star does not fit: one character later.
    let (mut piece, mut at, mut again) = (0, 0, None);
    loop {
        match pieces.get(piece) {
            Some(Piece::Star) => {
                piece += 1;
                again = Some((piece, at));
                continue;
            }
            Some(one) if at < name.len() && fits(one, name[at]) => {
                (piece, at) = (piece + 1, at + 1);
                continue;
            }
            None if at == name.len() => return true,
            _ => {}
        }
        match again {
            Some((after, from)) if from < name.len() && name[from] != '/' => {
                (piece, at) = (after, from + 1);
                again = Some((after, at));
            }
            _ => return false,
        }
    }
}

fn fits(piece: &Piece, c: char) -> bool {
    match piece {
        Piece::Star => false,
        Piece::One => c != '/',
        Piece::Char(own) => *own == c,
        Piece::Class(negated, ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
    }
}

/// The pieces of a pattern; `None` for a malformed one.
fn parse(pattern: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        pieces.push(match c {
            '*' => Piece::Star,
            '?' => Piece::One,
            '\\' => Piece::Char(rest.next()?),
            '[' => {
                let negated = rest.next_if_eq(&'^').is_some();
                let mut ranges = Vec::new();
                loop {
                    if !ranges.is_empty() && rest.next_if_eq(&']').is_some() {
                        break;
                    }
                    let low = bound(&mut rest)?;
                    let high = if rest.next_if_eq(&'-').is_some() { bound(&mut rest)? } else { low };
                    ranges.push((low, high));
                }
                Piece::Class(negated, ranges)
            }
            c => Piece::Char(c),
        });
    }
    Some(pieces)
}

/// One end of a range.
fn bound(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<char> {
    match rest.next()? {
        '-' | ']' => None,
        '\\' => rest.next(),
        c => Some(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_rcc_does() {
        for (pattern, name, folder, ignored) in [
            ("*.pyc", "a.pyc", false, true),
            ("*.pyc", "a.pyc", true, true),
            ("logs", "logs", false, true),
            ("logs/", "logs", true, true),
            ("logs/", "logs", false, false),
            ("logs/*", "logs", true, true),
            ("/build", "build", true, false),
            ("a/b", "b", false, false),
            ("**/b", "b", false, false),
            ("!keep", "keep", false, false),
            ("!keep", "!keep", false, true),
            ("[ab]?", "bx", false, true),
            ("[^ab]", "c", false, true),
            ("[a-c]x", "bx", false, true),
            ("[", "[", false, true),
            ("[", "x", false, false),
            ("[]", "x", false, false),
            ("\\*", "*", false, true),
            ("\\*", "x", false, false),
            ("*a*b", "xaxab", false, true),
            ("*", "hololib.zip", false, false),
            ("*", "other.zip", false, true),
        ] {
            let mut patterns = RccPatterns::default();
            patterns.add(&format!("# a comment\n\n  {pattern}  \r\n"));
            assert_eq!(
                patterns.is_ignored(b"", name.as_bytes(), folder),
                ignored,
                "{pattern} {name} {folder}"
            );
        }
    }

    #[test]
    fn many_stars_end() {
        let pattern = parse(&("*a".repeat(2000) + "b")).unwrap();
        assert!(!matches(&pattern, &['a'; 255]));
    }
}
