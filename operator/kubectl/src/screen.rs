//! What the other side of standard output can show: colours and a width on a terminal, neither in a pipe.
//!
//! Invariant: foreign text reaches a terminal only through [`clean`] or [`clean_lines`]: a log line or a commit's message
//! cannot move the cursor, change colours or turn the direction of writing.

use std::io::IsTerminal as _;

/// Narrowest width that is drawn for.
const NARROWEST: usize = 30;

/// How something stands, as a colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it comes.
    #[default]
    Plain,
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// Somebody has to look.
    Bad,
    /// Of less weight.
    Quiet,
    /// A heading.
    Strong,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Busy => Some("36"),
            Self::Bad => Some("31"),
            Self::Quiet => Some("2"),
            Self::Strong => Some("1"),
        }
    }
}

/// Where output goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    /// Whether colours are wanted.
    pub(crate) colour: bool,
    /// Columns of the terminal; `None` in a pipe, where nothing is cut.
    pub(crate) width: Option<usize>,
}

impl Screen {
    /// Standard output.
    pub(crate) fn stdout() -> Self {
        let stream = std::io::stdout();
        Self {
            colour: stream.is_terminal() && colours(),
            width: stream
                .is_terminal()
                .then(|| rustix::termios::tcgetwinsize(&stream).ok())
                .flatten()
                .map(|size| usize::from(size.ws_col))
                .filter(|columns| *columns > 0)
                .map(|columns| columns.max(NARROWEST)),
        }
    }

    /// Standard error: the same, without a width, since its lines are short and may wrap.
    pub(crate) fn stderr() -> Self {
        Self {
            colour: std::io::stderr().is_terminal() && colours(),
            width: None,
        }
    }

    /// The text in the colour of a tone.
    pub(crate) fn paint(self, tone: Tone, text: &str) -> String {
        match tone.code().filter(|_| self.colour && !text.is_empty()) {
            Some(code) => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            None => text.to_owned(),
        }
    }
}

/// https://no-color.org: any value that is not empty.
fn colours() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    !refused && !dumb
}

/// Foreign text as one line: escape sequences are dropped, other control characters become spaces.
pub(crate) fn clean(text: &str) -> String {
    filtered(text, false)
}

/// The same for text of several lines, which keeps its line ends.
pub(crate) fn clean_lines(text: &str) -> String {
    filtered(text, true)
}

fn filtered(text: &str, lines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => skip_sequence(&mut chars),
            '\n' if lines => out.push(c),
            // Marks that turn the direction of writing.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            '\r' if lines => {}
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// What follows an escape character: a control sequence up to its last letter, or a string up to its end.
fn skip_sequence(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match chars.peek() {
        Some('[') => {
            chars.next();
            while let Some(c) = chars.peek().copied() {
                if !(' '..='~').contains(&c) {
                    return;
                }
                chars.next();
                if ('@'..='~').contains(&c) {
                    return;
                }
            }
        }
        Some(']') => {
            for c in chars.by_ref() {
                if c == '\u{7}' || c == '\\' {
                    return;
                }
            }
        }
        Some(c) if c.is_ascii() && !c.is_control() => {
            chars.next();
        }
        _ => {}
    }
}

/// The first `columns` characters, the last of them an ellipsis when something is cut.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.chars().count() <= columns {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(columns.saturating_sub(1)).collect();
    out.push('…');
    out
}

/// The same with the ellipsis in the middle: the ends of names tell them apart.
pub(crate) fn cut_middle(text: &str, columns: usize) -> String {
    let length = text.chars().count();
    if length <= columns {
        return text.to_owned();
    }
    let kept = columns.saturating_sub(1);
    let (head, tail) = (kept.div_ceil(2), kept / 2);
    let start: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - tail).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_a_terminal() {
        assert_eq!(clean("a\u{1b}[31mred\u{1b}[0m b"), "ared b");
        assert_eq!(clean("title\u{1b}]0;owned\u{7}!"), "title!");
        assert_eq!(clean("back\u{8}space\u{9b}31m"), "back space 31m");
        assert_eq!(clean("one\ntwo\r\n"), "one two  ");
        assert_eq!(clean_lines("one\r\ntwo\u{1b}[2J\n"), "one\ntwo\n");
        assert_eq!(clean("ab\u{202e}cd"), "abcd");
        assert_eq!(clean("cut\u{1b}"), "cut");
        assert_eq!(clean("cut\u{1b}["), "cut");
        assert_eq!(clean("größe ⇒ 1"), "größe ⇒ 1");
    }

    #[test]
    fn cut_text_says_so() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdef", 4), "abc…");
        assert_eq!(cut_middle("abcdefgh", 5), "ab…gh");
        assert_eq!(cut_middle("größenwahn", 4), "gr…n");
        assert_eq!(cut("abc", 0), "…");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let colourful = Screen { colour: true, width: None };
        assert_eq!(colourful.paint(Tone::Bad, "x"), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(colourful.paint(Tone::Plain, "x"), "x");
        assert_eq!(Screen::default().paint(Tone::Bad, "x"), "x");
    }
}
