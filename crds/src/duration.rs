//! Durations as the API writes them: `90s`, `1h30m`, `500ms`.
//!
//! Invariant: what [`parse`] takes is what the schema's pattern lets in, and [`format()`] writes what [`parse`] reads.

use std::time::Duration;

/// Reads a duration such as `1h30m`; `None` when it is not one or does not fit.
pub fn parse(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let value: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let (unit, length) = if rest.starts_with("ms") {
            (Duration::from_millis(value), 2)
        } else if rest.starts_with('s') {
            (Duration::from_secs(value), 1)
        } else if rest.starts_with('m') {
            (Duration::from_secs(value.checked_mul(60)?), 1)
        } else if rest.starts_with('h') {
            (Duration::from_secs(value.checked_mul(3600)?), 1)
        } else {
            return None;
        };
        total = total.checked_add(unit)?;
        rest = &rest[length..];
    }
    Some(total)
}

/// Writes a duration in whole seconds: `0s`, `59s`, `2m5s`, `1h0m5s` as `1h5s`.
pub fn format(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    for (value, unit) in [(hours, "h"), (minutes, "m"), (rest, "s")] {
        if value > 0 {
            text.push_str(&value.to_string());
            text.push_str(unit);
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_schema_lets_in() {
        for (text, seconds) in [("10s", 10), ("1h30m", 5400), ("5m", 300), ("1m1s", 61), ("24h", 86_400)] {
            assert_eq!(parse(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("500ms"), Some(Duration::from_millis(500)));
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "10",
            "s",
            "1d",
            "-1s",
            "1.5h",
            " 1s",
            "1s ",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn writes_what_it_reads() {
        for seconds in [0, 1, 59, 60, 61, 3599, 3600, 3605, 86_400] {
            let duration = Duration::from_secs(seconds);
            assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}
