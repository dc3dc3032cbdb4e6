//! A text of headings, fields and tables, wrapped to the width of the terminal.

use crate::screen::{Screen, Tone};
use crate::table::{self, Cell, Column};

/// Width of the column with the names of fields.
const LABEL: usize = 13;
/// Indent of everything below a heading.
const INDENT: usize = 2;

/// A text that grows.
#[derive(Clone, Debug)]
pub(crate) struct Paper {
    screen: Screen,
    text: String,
}

impl Paper {
    /// An empty one.
    pub(crate) fn new(screen: Screen) -> Self {
        Self {
            screen,
            text: String::new(),
        }
    }

    /// A heading, with an empty line before it unless it is the first.
    pub(crate) fn heading(&mut self, text: &str) -> &mut Self {
        self.title(text, Tone::Plain, "")
    }

    /// A heading with a word beside it.
    pub(crate) fn title(&mut self, text: &str, tone: Tone, beside: &str) -> &mut Self {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
        self.text.push_str(&self.screen.paint(Tone::Strong, text));
        if !beside.is_empty() {
            self.text.push_str("  ");
            self.text.push_str(&self.screen.paint(tone, beside));
        }
        self.text.push('\n');
        self
    }

    /// A field; nothing when it is empty.
    pub(crate) fn field(&mut self, label: &str, text: &str) -> &mut Self {
        self.toned(label, Tone::Plain, text)
    }

    /// A field in a tone.
    pub(crate) fn toned(&mut self, label: &str, tone: Tone, text: &str) -> &mut Self {
        if text.is_empty() {
            return self;
        }
        // Where two columns would leave too little for the text, it goes below its name.
        let beside = self.screen.width.is_none_or(|width| width >= 60);
        let indent = if beside { INDENT + LABEL } else { INDENT + 2 };
        let lines = self.wrapped(text, indent);
        let name = self.screen.paint(Tone::Quiet, label);
        let padding = " ".repeat(LABEL.saturating_sub(label.chars().count()).max(1));
        for (number, line) in lines.iter().enumerate() {
            let line = self.screen.paint(tone, line);
            let start = match (number, beside) {
                (0, true) => format!("{}{name}{padding}", " ".repeat(INDENT)),
                (0, false) => format!("{}{name}\n{}", " ".repeat(INDENT), " ".repeat(indent)),
                _ => " ".repeat(indent),
            };
            self.text.extend([&start, &line, "\n"]);
        }
        self
    }

    /// A paragraph below a heading.
    pub(crate) fn line(&mut self, text: &str) -> &mut Self {
        for line in self.wrapped(text, INDENT) {
            self.text.extend([" ".repeat(INDENT).as_str(), &line, "\n"]);
        }
        self
    }

    /// Lines of somebody else's output, each with a bar, none wrapped.
    pub(crate) fn quoted(&mut self, text: &str) -> &mut Self {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let bar = self.screen.paint(Tone::Quiet, "|");
            self.text.extend([" ".repeat(INDENT).as_str(), &bar, " ", line.trim_end(), "\n"]);
        }
        self
    }

    /// A table.
    pub(crate) fn table(&mut self, columns: &[Column], rows: &[Vec<Cell>]) -> &mut Self {
        self.text.push_str(&table::render(columns, rows, INDENT, self.screen));
        self
    }

    /// What was written.
    pub(crate) fn into_text(self) -> String {
        self.text
    }

    fn wrapped(&self, text: &str, indent: usize) -> Vec<String> {
        match self.screen.width {
            Some(width) => wrap(text, width.saturating_sub(indent).max(1)),
            None => vec![text.to_owned()],
        }
    }
}

/// Lines of at most `width` characters. A word that is longer, such as a digest, stays whole: it is there to be copied.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("invariant: there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_never_broken() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("sha256:0123456789 x", 8), ["sha256:0123456789", "x"]);
        assert_eq!(wrap("", 8), [""]);
    }

    #[test]
    fn a_narrow_terminal_has_fields_below_their_names() {
        let drawn = |width| {
            let mut paper = Paper::new(Screen { colour: false, width });
            paper
                .heading("Image")
                .field("deploy", "one two three four five six")
                .field("tags", "");
            paper.into_text()
        };
        assert_eq!(drawn(None), "Image\n  deploy       one two three four five six\n");
        assert_eq!(drawn(Some(30)), "Image\n  deploy\n    one two three four five\n    six\n");
    }
}
