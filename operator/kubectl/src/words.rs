//! Times and sizes for people.

use jiff::{SignedDuration, Timestamp};
use robotimage_crds::duration;

/// How long ago, in one or two units as kubectl writes it: `0s`, `59s`, `5m`, `3h`, `4d`.
pub(crate) fn age(since: Timestamp, now: Timestamp) -> String {
    rough(now.duration_since(since).max(SignedDuration::ZERO))
}

/// A time with its distance: `2026-03-01T10:00:00Z (in 4m)`.
pub(crate) fn moment(time: Timestamp, now: Timestamp) -> String {
    format!("{} ({})", whole(time), distance(time, now))
}

/// How far a time is: `in 4m`, `4m ago`, `now`.
pub(crate) fn distance(time: Timestamp, now: Timestamp) -> String {
    let away = time.duration_since(now);
    if away.as_secs() == 0 {
        "now".to_owned()
    } else if away.is_positive() {
        format!("in {}", rough(away))
    } else {
        format!("{} ago", rough(away.abs()))
    }
}

/// Without fractions of a second.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn rough(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => {
            let (minutes, rest) = (seconds / 60, seconds % 60);
            if minutes < 10 && rest > 0 {
                format!("{minutes}m{rest}s")
            } else {
                format!("{minutes}m")
            }
        }
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration as the status writes it.
pub(crate) fn lasted(duration: std::time::Duration) -> String {
    duration::format(duration)
}

/// Bytes: `0 B`, `1.2 kB`, `98.7 MB`, `1.1 GB`.
pub(crate) fn size(bytes: i64) -> String {
    const UNITS: [(i64, &str); 4] = [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    let bytes = bytes.max(0);
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit / (unit / 10)),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn ages_are_short() {
        let cases = [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (7199, "119m"),
            (7200, "2h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (-5, "0s"),
        ];
        for (seconds, text) in cases {
            assert_eq!(age(at(0), at(seconds)), text);
        }
    }

    #[test]
    fn moments_say_how_far_they_are() {
        assert_eq!(moment(at(240), at(0)), "2023-11-14T22:17:20Z (in 4m)");
        assert_eq!(moment(at(-3), at(0)), "2023-11-14T22:13:17Z (3s ago)");
        assert_eq!(distance(at(0), at(0)), "now");
    }

    #[test]
    fn sizes_have_one_digit_after_the_point() {
        for (bytes, text) in [
            (-1, "0 B"),
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (98_765_432, "98.7 MB"),
            (i64::MAX, "9223372.0 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }
}
