//! The figures: a table for people and a list for machines.
//!
//! Invariant: a figure with a goal says whether it is met.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};

/// What a figure must keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// It is shown, not judged.
    None,
}

/// One figure, as `operator.json` has it.
#[derive(Debug, Clone, Serialize, PartialEq)]
pub(super) struct Row {
    /// What was measured.
    pub(super) name: String,
    /// The value.
    pub(super) value: f64,
    /// Its unit.
    pub(super) unit: String,
    /// For people.
    pub(super) goal: Option<String>,
    /// Whether the goal is met; none without a goal.
    pub(super) met: Option<bool>,
}

impl Row {
    /// A figure.
    pub(super) fn new(name: impl Into<String>, value: f64, unit: &str, goal: Goal) -> Self {
        let (goal, met) = match goal {
            Goal::AtMost(most) => (Some(format!("<= {most} {unit}")), Some(value <= most)),
            Goal::AtLeast(least) => (Some(format!(">= {least} {unit}")), Some(value >= least)),
            Goal::None => (None, None),
        };
        let goal = goal.map(|goal| goal.trim_end().to_owned());
        Self {
            name: name.into(),
            value,
            unit: unit.to_owned(),
            goal,
            met,
        }
    }
}

/// Prints the table.
pub(super) fn print(rows: &[Row]) {
    println!("\n{:<78} {:>10} {:<8} {:<14} met", "figure", "value", "", "goal");
    for row in rows {
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        println!(
            "{:<78} {:>10} {:<8} {:<14} {met}",
            row.name,
            rounded(row.value),
            row.unit,
            row.goal.as_deref().unwrap_or_default()
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

/// Writes `NAME.json` below `root`'s `target/bench`; gives its path.
pub(super) fn write(root: &Path, name: &str, rows: &[Row]) -> Result<PathBuf> {
    let folder = root.join("target/bench");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let path = folder.join(format!("{name}.json"));
    let mut text = serde_json::to_string_pretty(rows).map_err(|error| Error::Other(format!("figures: {error}")))?;
    text.push('\n');
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    Ok(path)
}

/// The value below which so many hundredths of a sample lie, by the nearest rank; the sample must not be empty.
pub(super) fn percentile(sample: &mut [f64], hundredths: usize) -> Result<f64> {
    if sample.is_empty() {
        return Err(Error::Other("a percentile of nothing".to_owned()));
    }
    sample.sort_by(f64::total_cmp);
    let rank = (sample.len() * hundredths).div_ceil(100).max(1);
    Ok(sample[rank - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_are_judged_in_both_directions() {
        let met = |value, goal| Row::new("r", value, "s", goal).met;
        assert_eq!(
            (met(1.0, Goal::AtMost(1.0)), met(1.1, Goal::AtMost(1.0))),
            (Some(true), Some(false))
        );
        assert_eq!(
            (met(1.0, Goal::AtLeast(1.0)), met(0.9, Goal::AtLeast(1.0))),
            (Some(true), Some(false))
        );
        assert_eq!(met(f64::NAN, Goal::AtLeast(1.0)), Some(false));
        assert_eq!(met(1.0, Goal::None), None);
    }

    #[test]
    fn percentiles_are_values_of_the_sample() {
        let mut hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        let mut at = |hundredths| percentile(&mut hundred, hundredths).unwrap().to_string();
        assert_eq!([at(50), at(99), at(100)], ["50", "99", "100"]);
        assert_eq!(percentile(&mut [7.0], 50).unwrap().to_string(), "7");
        assert!(percentile(&mut [], 50).is_err());
    }
}
