//! Which bytes of an upload are sent, and which the registry holds.
//!
//! Invariant: pure; what is not understood is nothing, never a guess.

use reqwest::header::{HeaderValue, RANGE};

use crate::answer::Answer;

/// `first-last` of what is sent.
pub(crate) fn content(offset: u64, size: u64) -> HeaderValue {
    let text = format!("{offset}-{}", size.saturating_sub(1));
    HeaderValue::from_str(&text).expect("invariant: digits are a valid header")
}

/// How many bytes a session holds, from `Range: 0-<last>` with or without a unit. `0-0` is the answer of most
/// registries for an empty session, so it counts as none: one byte sent twice is refused and restarts the session.
pub(crate) fn received(answer: &Answer) -> Option<u64> {
    parse_received(answer.header(RANGE)?)
}

pub(crate) fn parse_received(text: &str) -> Option<u64> {
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    let last: u64 = text.strip_prefix("0-")?.trim().parse().ok()?;
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let table = [
            ("0-0", Some(0)),
            ("0-1", Some(2)),
            ("bytes=0-1023", Some(1024)),
            ("0-18446744073709551615", None),
            ("5-9", None),
            ("0--1", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_received(text), expected, "{text}");
        }
        assert_eq!(content(5, 10), "5-9");
    }
}
