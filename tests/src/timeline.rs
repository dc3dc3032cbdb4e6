//! One line a stage, with the time it took and the time since the start: what a visitor of the demo reads.
//!
//! Invariant: a line is printed when its stage ends, and nothing is printed over; a pipe sees the same as a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Prints stages.
#[derive(Debug)]
pub struct Timeline {
    began: Instant,
    stage: Instant,
    colour: bool,
}

impl Timeline {
    /// Starts now.
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            stage: Instant::now(),
            colour: std::io::stdout().is_terminal(),
        }
    }

    /// Since the start.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// A title between stages.
    pub fn title(&mut self, text: &str) {
        let (bold, plain) = if self.colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
        print(&format!("\n{bold}{text}{plain}"));
        self.stage = Instant::now();
    }

    /// The stage that began with the last line has ended.
    pub fn done(&mut self, text: &str) {
        let took = self.stage.elapsed();
        print(&format!(
            "{:>7.1}s  {:>+7.1}s  {text}",
            self.began.elapsed().as_secs_f64(),
            took.as_secs_f64()
        ));
        self.stage = Instant::now();
    }

    /// Text that belongs to the last stage, indented.
    pub fn quote(&self, text: &str) {
        for line in text.trim_end().lines() {
            print(&format!("                    {line}"));
        }
    }
}

fn print(line: &str) {
    // A closed pipe (`make demo | head`) must not end the demo before it has cleaned up.
    drop(writeln!(std::io::stdout().lock(), "{line}"));
}

/// Bytes for people.
pub fn bytes(count: i64) -> String {
    let count = u64::try_from(count).unwrap_or_default();
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{}.{} kB", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{} MB", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_readable() {
        for (count, text) in [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (25_049_999, "25.0 MB"), (-1, "0 B")] {
            assert_eq!(super::bytes(count), text);
        }
    }
}
