//! The figures: a table for people and a list for machines.
//!
//! Invariant: a figure with a goal says whether it is met, one that could not be measured says why and is never met, and
//! `builder.json` is written only by a run of everything.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::stats::Sample;
use crate::error::{Error, Result};

/// What a figure must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// The ratio to the peer is at most this.
    Ratio(f64),
    /// The value itself is at most this.
    AtMost(f64),
    /// The value lies between these.
    Between(f64, f64),
    /// It is shown, not judged.
    None,
}

/// One figure, as `builder.json` has it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Row {
    /// What was measured.
    pub(super) name: String,
    /// Ours; none when it could not be measured.
    pub(super) value: Option<f64>,
    /// Of both values.
    pub(super) unit: String,
    /// What it is compared with, and how that was made; when there is no value, why.
    pub(super) peer: Option<String>,
    /// The peer's value.
    pub(super) peer_value: Option<f64>,
    /// Ours divided by the peer's.
    pub(super) ratio: Option<f64>,
    /// For people.
    pub(super) goal: Option<String>,
    /// Whether the goal is met; none without a goal.
    pub(super) met: Option<bool>,
}

impl Row {
    /// A figure of its own.
    pub(super) fn alone(name: impl Into<String>, value: f64, unit: &str, goal: Goal) -> Self {
        let mut row = Self {
            name: name.into(),
            value: Some(value),
            unit: unit.to_owned(),
            peer: None,
            peer_value: None,
            ratio: None,
            goal: None,
            met: None,
        };
        row.judge(goal);
        row
    }

    /// A figure beside a peer's.
    pub(super) fn beside(name: impl Into<String>, value: f64, unit: &str, peer: (&str, f64), goal: Goal) -> Self {
        let mut row = Self::alone(name, value, unit, Goal::None);
        row.peer = Some(peer.0.to_owned());
        row.peer_value = Some(peer.1);
        row.ratio = Some(value / peer.1);
        row.judge(goal);
        row
    }

    /// A figure, or a peer of it, that could not be had.
    pub(super) fn not_run(name: impl Into<String>, why: &str, goal: Goal) -> Self {
        let mut row = Self::alone(name, f64::NAN, "", goal);
        row.value = None;
        let why: Vec<&str> = why.split_whitespace().collect();
        row.peer = Some(format!("not run: {}", why.join(" ")));
        row
    }

    fn judge(&mut self, goal: Goal) {
        let value = self.value.unwrap_or(f64::NAN);
        // Whatever is compared with a NaN is false: what was not measured meets nothing.
        let (text, met) = match goal {
            Goal::None => return,
            Goal::Ratio(most) => (format!("<= {most}x"), self.ratio.is_some_and(|ratio| ratio <= most)),
            Goal::AtMost(most) => (format!("<= {most} {}", self.unit), value <= most),
            Goal::Between(least, most) => (format!("{least} to {most}"), (least..=most).contains(&value)),
        };
        self.goal = Some(text.trim_end().to_owned());
        self.met = Some(met);
    }
}

/// Prints the table.
pub(super) fn print(rows: &[Row]) {
    println!(
        "\n{:<74} {:>9} {:<6} {:>9} {:>7}  {:<14} {:<4} peer",
        "figure", "ours", "", "peer", "ratio", "goal", "met"
    );
    for row in rows {
        let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), rounded);
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}x"));
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        println!(
            "{:<74} {:>9} {:<6} {:>9} {ratio:>7}  {:<14} {met:<4} {}",
            row.name,
            number(row.value),
            row.unit,
            row.peer_value.map_or_else(String::new, rounded),
            row.goal.as_deref().unwrap_or_default(),
            row.peer.as_deref().unwrap_or_default(),
        );
    }
}

/// Four digits that matter.
fn rounded(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// `median (smallest to largest, n = count)`.
pub(super) fn shown(sample: &Sample) -> String {
    format!(
        "{} ({} to {}, n = {})",
        rounded(sample.median()),
        rounded(sample.min()),
        rounded(sample.max()),
        sample.count()
    )
}

/// Writes `NAME.json` below `root`'s `target/bench`, wherever cargo builds; gives its path.
pub(super) fn write(root: &Path, name: &str, rows: &[Row]) -> Result<PathBuf> {
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let path = folder.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(rows).map_err(|error| Error::Other(format!("figures: {error}")))?;
    text.push('\n');
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged() {
        let ratio = |ours, goal| Row::beside("r", ours, "s", ("peer", 10.0), Goal::Ratio(goal)).met;
        assert_eq!((ratio(3.0, 0.33), ratio(3.4, 0.33)), (Some(true), Some(false)));
        let alone = |value, goal| Row::alone("r", value, "MB", goal).met;
        assert_eq!(
            (alone(100.0, Goal::AtMost(100.0)), alone(100.1, Goal::AtMost(100.0))),
            (Some(true), Some(false))
        );
        assert_eq!(
            (alone(0.95, Goal::Between(0.9, 1.1)), alone(0.89, Goal::Between(0.9, 1.1))),
            (Some(true), Some(false))
        );
        assert_eq!(alone(1.0, Goal::None), None);
    }

    #[test]
    fn what_was_not_measured_meets_nothing() {
        for goal in [Goal::Ratio(1.0), Goal::AtMost(1.0), Goal::Between(0.0, 1.0)] {
            let row = Row::not_run("r", "no such program", goal);
            assert_eq!((row.value, row.met), (None, Some(false)));
            assert_eq!(row.peer.as_deref(), Some("not run: no such program"));
        }
        // A number that is no number would be no JSON either.
        let text = serde_json::to_value(Row::not_run("r", "why", Goal::Ratio(1.0))).unwrap();
        assert!(text["value"].is_null() && text["ratio"].is_null());
    }

    #[test]
    fn the_list_has_the_promised_fields() {
        let folder = tempfile::tempdir().unwrap();
        let rows = [Row::beside("cold", 3.0, "s", ("crane", 12.0), Goal::Ratio(0.33))];
        let path = write(folder.path(), "builder", &rows).unwrap();
        assert_eq!(path, folder.path().join("target/bench/builder.json"));
        let list: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let expected = serde_json::json!([{
            "name": "cold", "value": 3.0, "unit": "s", "peer": "crane", "peer_value": 12.0, "ratio": 0.25,
            "goal": "<= 0.33x", "met": true,
        }]);
        assert_eq!(list, expected);
    }
}
