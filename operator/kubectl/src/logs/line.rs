//! One line of a step's log, for people and for machines.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use robotimage_crds::build::Step;
use serde_json::{Map, Value};

use crate::screen::{Screen, Tone, clean, clean_lines};

/// Width of the column with the step.
const STEP: usize = 8;
/// Fields that every line has and nobody reads.
const QUIET: [&str; 5] = ["timestamp", "level", "target", "message", "step"];

/// A line as the node kept it: its time, which the node puts before it, and the step's own text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// When it was written; `None` for a later piece of a line that is too long.
    pub(super) at: Option<Timestamp>,
    /// What the step wrote.
    pub(super) text: String,
}

impl Line {
    /// Reads a line with its time before it.
    pub(super) fn of(line: &str) -> Self {
        match line.split_once(' ').map(|(time, rest)| (time.parse::<Timestamp>(), rest)) {
            Some((Ok(at), rest)) => Self {
                at: Some(at),
                text: rest.to_owned(),
            },
            _ => Self {
                at: None,
                text: line.to_owned(),
            },
        }
    }

    /// For people: step, time, message and fields; no step where only one is shown.
    pub(super) fn painted(&self, step: Option<Step>, screen: Screen) -> String {
        let mut start = String::new();
        if let Some(step) = step {
            start.push_str(&screen.paint(Tone::Busy, &format!("{:STEP$}", step.as_str())));
        }
        if let Some(at) = self.at {
            let time = at.to_zoned(TimeZone::UTC).strftime("%H:%M:%S ").to_string();
            start.push_str(&screen.paint(Tone::Quiet, &time));
        }
        match serde_json::from_str::<Map<String, Value>>(&self.text) {
            Ok(fields) if fields.get("level").is_some_and(Value::is_string) => event(&fields, &start, screen),
            _ => format!("{start}{}\n", clean(&self.text)),
        }
    }
}

/// An event of our own steps: the message, what belongs to it, and texts of several lines below it.
fn event(fields: &Map<String, Value>, start: &str, screen: Screen) -> String {
    let level = fields.get("level").and_then(Value::as_str).unwrap_or_default();
    let tone = match level {
        "ERROR" => Tone::Bad,
        "WARN" => Tone::Strong,
        "DEBUG" | "TRACE" => Tone::Quiet,
        _ => Tone::Plain,
    };
    let mut message = clean(&plain(fields.get("message").unwrap_or(&Value::Null)));
    if !matches!(level, "INFO") {
        message = format!("{}: {message}", level.to_lowercase());
    }
    let mut out = format!("{start}{}", screen.paint(tone, &message));
    let mut below = String::new();
    for (name, value) in fields.iter().filter(|(name, _)| !QUIET.contains(&name.as_str())) {
        let text = plain(value);
        if text.contains('\n') {
            for line in clean_lines(&text).lines() {
                let bar = screen.paint(Tone::Quiet, "|");
                below.extend([start, &bar, " ", line, "\n"]);
            }
        } else {
            out.push_str(&screen.paint(Tone::Quiet, &format!(" {}=", clean(name))));
            out.push_str(&clean(&text));
        }
    }
    format!("{out}\n{below}")
}

/// A value as a person would write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Screen = Screen {
        colour: false,
        width: None,
    };

    fn painted(line: &str) -> String {
        Line::of(line).painted(Some(Step::Fetch), PIPE)
    }

    #[test]
    fn our_own_events_are_told_as_sentences() {
        assert_eq!(
            painted(
                r#"2026-03-01T10:00:05.123456789Z {"timestamp":"x","level":"INFO","message":"base","digest":"sha256:1","glibc":"2.36","target":"t"}"#
            ),
            "fetch   10:00:05 base digest=sha256:1 glibc=2.36\n"
        );
        assert_eq!(
            painted(r#"2026-03-01T10:00:05Z {"level":"ERROR","message":"no plan","step":"fetch","seconds":1.5}"#),
            "fetch   10:00:05 error: no plan seconds=1.5\n"
        );
        assert_eq!(
            painted(r#"2026-03-01T10:00:05Z {"level":"INFO","message":"the last","tail":"a\nb\u001b[2J"}"#),
            "fetch   10:00:05 the last\nfetch   10:00:05 | a\nfetch   10:00:05 | b\n"
        );
    }

    #[test]
    fn what_is_no_event_is_passed_on() {
        assert_eq!(
            painted("2026-03-01T10:00:05Z plain \u{1b}[31mtext"),
            "fetch   10:00:05 plain text\n"
        );
        assert_eq!(painted("no time"), "fetch   no time\n");
        assert_eq!(painted(r#"2026-03-01T10:00:05Z {"a":1}"#), "fetch   10:00:05 {\"a\":1}\n");
        assert_eq!(Line::of("").painted(None, PIPE), "\n");
    }

    #[test]
    fn a_terminal_gets_colours() {
        let screen = Screen { colour: true, width: None };
        insta::assert_snapshot!(
            Line::of(r#"2026-03-01T10:00:05Z {"level":"WARN","message":"slow","of":3}"#)
                .painted(Some(Step::Publish), screen)
                .replace('\u{1b}', "^"),
            @"^[36mpublish ^[0m^[2m10:00:05 ^[0m^[1mwarn: slow^[0m^[2m of=^[0m3"
        );
    }
}
