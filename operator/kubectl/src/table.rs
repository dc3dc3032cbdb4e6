//! Tables that fit: where the terminal is too narrow, columns of lower rank go first, then long cells are cut.
//!
//! Invariant: without a width (in a pipe) every column and every character is there.

use crate::screen::{Screen, Tone, cut, cut_middle};

/// Spaces between two columns.
const GAP: usize = 2;
/// Characters that a cell is to keep: before it has fewer, a column goes.
const GOOD: usize = 16;
/// Fewest characters that a cut cell keeps.
const LEAST: usize = 8;

/// What a column gives up when space is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Give {
    /// Nothing.
    Nothing,
    /// The ends of its cells.
    End,
    /// The middles of its cells.
    Middle,
}

/// A column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    /// 0 stays always; otherwise the highest goes first.
    rank: u8,
    give: Give,
    right: bool,
}

impl Column {
    /// A column that stays, with cells that are never cut.
    pub(crate) const fn new(title: &'static str) -> Self {
        Self {
            title,
            rank: 0,
            give: Give::Nothing,
            right: false,
        }
    }

    /// Goes when space is short, before those of lower rank.
    pub(crate) const fn rank(mut self, rank: u8) -> Self {
        self.rank = rank;
        self
    }

    /// Its cells may be cut.
    pub(crate) const fn give(mut self, give: Give) -> Self {
        self.give = give;
        self
    }

    /// Its cells stand at the right.
    pub(crate) const fn right(mut self) -> Self {
        self.right = true;
        self
    }
}

/// A cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(crate) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(Tone::Plain, text)
    }
}

/// Draws a table, each line indented by `indent` spaces and ended by a line end.
pub(crate) fn render(columns: &[Column], rows: &[Vec<Cell>], indent: usize, screen: Screen) -> String {
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().filter_map(|row| row.get(index)).map(|cell| cell.text.chars().count());
            cells.chain([column.title.len()]).max().unwrap_or_default()
        })
        .collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    if let Some(width) = screen.width {
        let empty = |index: &usize| rows.iter().all(|row| row.get(*index).is_none_or(|cell| cell.text.is_empty()));
        shown.retain(|index| columns[*index].rank == 0 || !empty(index));
        fit(columns, &mut widths, &mut shown, width.saturating_sub(indent));
    }
    let mut out = String::new();
    let titles: Vec<Cell> = columns.iter().map(|column| Cell::toned(Tone::Strong, column.title)).collect();
    for row in std::iter::once(&titles).chain(rows) {
        out.push_str(&line(columns, &widths, &shown, row, indent, screen));
        out.push('\n');
    }
    out
}

fn fit(columns: &[Column], widths: &mut [usize], shown: &mut Vec<usize>, width: usize) {
    let kept = |index: usize, widths: &[usize], kept: usize| match columns[index].give {
        Give::Nothing => widths[index],
        Give::End | Give::Middle => widths[index].min(kept.max(columns[index].title.len())),
    };
    let gaps = |shown: &[usize]| GAP * shown.len().saturating_sub(1);
    while shown.iter().map(|index| kept(*index, widths, GOOD)).sum::<usize>() + gaps(shown) > width {
        let Some(place) = (0..shown.len())
            .filter(|place| columns[shown[*place]].rank > 0)
            .max_by_key(|place| columns[shown[*place]].rank)
        else {
            break;
        };
        shown.remove(place);
    }
    while shown.iter().map(|index| widths[*index]).sum::<usize>() + gaps(shown) > width {
        let Some(widest) = shown
            .iter()
            .copied()
            .filter(|index| widths[*index] > kept(*index, widths, LEAST))
            .max_by_key(|index| widths[*index])
        else {
            return;
        };
        widths[widest] -= 1;
    }
}

fn line(columns: &[Column], widths: &[usize], shown: &[usize], row: &[Cell], indent: usize, screen: Screen) -> String {
    let mut out = " ".repeat(indent);
    for (place, index) in shown.iter().copied().enumerate() {
        let cell = row.get(index).cloned().unwrap_or_default();
        let text = match columns[index].give {
            Give::Middle => cut_middle(&cell.text, widths[index]),
            Give::End => cut(&cell.text, widths[index]),
            Give::Nothing => cell.text,
        };
        let padding = " ".repeat(widths[index].saturating_sub(text.chars().count()));
        let painted = screen.paint(cell.tone, &text);
        let last = place + 1 == shown.len();
        match (columns[index].right, last) {
            (true, _) => out.extend([padding, painted]),
            (false, true) => out.push_str(&painted),
            (false, false) => out.extend([painted, padding]),
        }
        if !last {
            out.push_str(&" ".repeat(GAP));
        }
    }
    // An empty last cell leaves no spaces behind.
    out.truncate(out.trim_end().len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::new("NAME").give(Give::Middle),
        Column::new("STATUS").give(Give::End),
        Column::new("SIZE").right().rank(2),
        Column::new("AGE").rank(1),
    ];

    fn rows() -> Vec<Vec<Cell>> {
        vec![
            vec![
                "invoice-reader".into(),
                Cell::toned(Tone::Good, "Ready"),
                "98.7 MB".into(),
                "3d".into(),
            ],
            vec!["x".into(), "Failed: EnvironmentUnsolvable".into(), "0 B".into(), "".into()],
        ]
    }

    fn drawn(width: Option<usize>) -> String {
        render(&COLUMNS, &rows(), 0, Screen { colour: false, width })
    }

    #[test]
    fn in_a_pipe_everything_is_there() {
        assert_eq!(
            drawn(None),
            "NAME            STATUS                            SIZE  AGE\n\
             invoice-reader  Ready                          98.7 MB  3d\n\
             x               Failed: EnvironmentUnsolvable      0 B\n"
        );
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        for width in 24..80 {
            let text = drawn(Some(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        }
        assert_eq!(
            drawn(Some(46)),
            "NAME            STATUS               SIZE  AGE\n\
             invoice-reader  Ready             98.7 MB  3d\n\
             x               Failed: Environ…      0 B\n"
        );
        assert_eq!(
            drawn(Some(40)),
            "NAME            STATUS               AGE\n\
             invoice-reader  Ready                3d\n\
             x               Failed: Environmen…\n"
        );
        assert_eq!(
            drawn(Some(24)),
            "NAME         STATUS\ninvoi…eader  Ready\nx            Failed: En…\n"
        );
    }

    #[test]
    fn colours_do_not_count_as_width() {
        let screen = Screen { colour: true, width: None };
        let text = render(&COLUMNS[..2], &rows()[..1], 2, screen);
        assert_eq!(
            text,
            "  \u{1b}[1mNAME\u{1b}[0m            \u{1b}[1mSTATUS\u{1b}[0m\n  invoice-reader  \u{1b}[32mReady\u{1b}[0m\n"
        );
    }
}
