//! When an environment is to be solved anew: five fields, in UTC.
//!
//! Minute, hour, day of the month, month, day of the week (0 and 7 are Sunday): each `*`, a number, a range `a-b` (one that
//! ends before it begins goes over the end), any of them with a step `/n`, or several with commas between. As everywhere,
//! with both kinds of day restricted, either is enough.
//!
//! Invariant: what was read as a schedule comes at some time, and no more often than once an hour.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Days in which every date that exists comes up: a 29th of February that has to be a Sunday can be forty years away.
const HORIZON: usize = 40 * 366;
const MINUTES: i32 = 24 * 60;
/// Days of the months, in the longest year.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// A text is no schedule that can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It cannot be read.
    #[error("is no schedule; it takes minute, hour, day of the month, month and day of the week, in UTC, for example 0 3 * * 1")]
    Unreadable,
    /// Its days are not in its months.
    #[error("names no day that there is; one of its months must have such a day")]
    Never,
    /// It comes too often.
    #[error("comes more often than once an hour; its minute must be one number")]
    TooOften,
}

/// A schedule. Bit n of a field says that it holds n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Both kinds of day are restricted.
    either: bool,
}

impl Cron {
    /// Reads five fields.
    ///
    /// # Errors
    /// Says what is wrong with a text that is no schedule, never comes, or comes more often than once an hour.
    pub fn parse(text: &str) -> Result<Self, CronError> {
        let cron = Self::read(text).ok_or(CronError::Unreadable)?;
        if !cron.comes() {
            return Err(CronError::Never);
        }
        // Times of one minute are an hour apart, or more; those of two are not.
        if cron.minutes.count_ones() > 1 {
            return Err(CronError::TooOften);
        }
        Ok(cron)
    }

    fn read(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return None;
        };
        let weekday_bits = field(weekdays, 0, 7, 7)?;
        Some(Self {
            minutes: field(minutes, 0, 59, 60)?,
            hours: field(hours, 0, 23, 24)?,
            days: field(days, 1, 31, 31)?,
            months: field(months, 1, 12, 12)?,
            // Sunday has two numbers.
            weekdays: weekday_bits | ((weekday_bits >> 7) & 1),
            either: !days.starts_with('*') && !weekdays.starts_with('*'),
        })
    }

    /// Whether any date is meant: sooner or later, each is each day of the week.
    fn comes(&self) -> bool {
        let has_day = |(month, length): (i32, u32)| has(self.months, month) && self.days & ((1 << (length + 1)) - 1) != 0;
        self.either || (1..).zip(LENGTHS).any(has_day)
    }

    /// The last time that is not after `now`; none when there was none.
    pub fn last(&self, now: Timestamp) -> Option<Timestamp> {
        let time = now.to_zoned(TimeZone::UTC).datetime();
        let mut date = time.date();
        let mut until = i32::from(time.hour()) * 60 + i32::from(time.minute());
        for _ in 0..HORIZON {
            if self.on(date)
                && let Some(minute) = (0..=until).rev().find(|minute| self.at(*minute))
            {
                return moment(date, minute);
            }
            until = MINUTES - 1;
            date = date.yesterday().ok()?;
        }
        None
    }

    /// The first time after `now`; none when there is none.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        let time = now.to_zoned(TimeZone::UTC).datetime();
        let mut date = time.date();
        let mut from = i32::from(time.hour()) * 60 + i32::from(time.minute()) + 1;
        for _ in 0..HORIZON {
            if self.on(date)
                && let Some(minute) = (from..MINUTES).find(|minute| self.at(*minute))
            {
                return moment(date, minute);
            }
            from = 0;
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn on(&self, date: Date) -> bool {
        let day = has(self.days, i32::from(date.day()));
        let weekday = has(self.weekdays, i32::from(date.weekday().to_sunday_zero_offset()));
        has(self.months, i32::from(date.month())) && if self.either { day || weekday } else { day && weekday }
    }

    fn at(&self, minute: i32) -> bool {
        has(self.hours, minute / 60) && has(self.minutes, minute % 60)
    }
}

fn moment(date: Date, minute: i32) -> Option<Timestamp> {
    let hour = i8::try_from(minute / 60).ok()?;
    let time = date.at(hour, i8::try_from(minute % 60).ok()?, 0, 0);
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn has(bits: u64, number: i32) -> bool {
    (bits >> number) & 1 == 1
}

/// The numbers of a field, from `least` to `most`; after `cycle` of them they begin anew.
fn field(text: &str, least: u32, most: u32, cycle: u32) -> Option<u64> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number| digits && (least..=most).contains(number))
    };
    let mut bits = 0;
    for item in text.split(',') {
        let (range, step) = match item.split_once('/') {
            Some((range, step)) => (range, step.parse().ok().filter(|step| (1..=99).contains(step))?),
            None => (item, 1),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (number(from)?, number(to)?),
            // With a step, one number is where it begins.
            None if step > 1 => (number(range)?, most),
            None => (number(range)?, number(range)?),
        };
        let span = if to < from { to + cycle } else { to };
        for value in (from..=span).step_by(step) {
            bits |= 1 << if value > most { value - cycle } else { value };
        }
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn around(text: &str, now: &str) -> (String, String) {
        let (cron, now) = (Cron::read(text).unwrap_or_else(|| panic!("{text}")), now.parse().unwrap());
        let show = |time: Option<Timestamp>| time.map_or_else(|| "never".to_owned(), |time| time.to_string());
        (show(cron.last(now)), show(cron.next(now)))
    }

    #[test]
    fn times() {
        // 2026-03-01 is a Sunday.
        for (text, now, last, next) in [
            ("0 3 * * *", "2026-03-01T10:00:00Z", "2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z"),
            ("0 3 * * *", "2026-03-01T03:00:00Z", "2026-03-01T03:00:00Z", "2026-03-02T03:00:00Z"),
            ("0 3 * * *", "2026-03-01T02:59:59Z", "2026-02-28T03:00:00Z", "2026-03-01T03:00:00Z"),
            (
                "*/15 * * * *",
                "2026-03-01T10:07:31Z",
                "2026-03-01T10:00:00Z",
                "2026-03-01T10:15:00Z",
            ),
            (
                "5/20 * * * *",
                "2026-03-01T10:26:00Z",
                "2026-03-01T10:25:00Z",
                "2026-03-01T10:45:00Z",
            ),
            (
                "30 4 1,15 * *",
                "2026-03-01T00:00:00Z",
                "2026-02-15T04:30:00Z",
                "2026-03-01T04:30:00Z",
            ),
            ("0 0 * * 1", "2026-03-01T10:00:00Z", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
            ("0 0 * * 7", "2026-03-01T10:00:00Z", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"),
            ("0 0 * * 0", "2026-03-01T10:00:00Z", "2026-03-01T00:00:00Z", "2026-03-08T00:00:00Z"),
            // Saturday to Monday, and either kind of day.
            (
                "0 0 * * 6-1",
                "2026-03-03T10:00:00Z",
                "2026-03-02T00:00:00Z",
                "2026-03-07T00:00:00Z",
            ),
            ("0 0 13 * 5", "2026-03-07T00:00:00Z", "2026-03-06T00:00:00Z", "2026-03-13T00:00:00Z"),
            (
                "0 22-1 * * *",
                "2026-03-01T01:30:00Z",
                "2026-03-01T01:00:00Z",
                "2026-03-01T22:00:00Z",
            ),
            ("0 0 29 2 *", "2026-03-01T10:00:00Z", "2024-02-29T00:00:00Z", "2028-02-29T00:00:00Z"),
            (
                "0 0 31 12 *",
                "2026-01-01T00:00:00Z",
                "2025-12-31T00:00:00Z",
                "2026-12-31T00:00:00Z",
            ),
            // From one end of the week over the other, each second day: Sunday is one day, whatever its number.
            (
                "0 0 * * 6-2/2",
                "2026-03-01T10:00:00Z",
                "2026-02-28T00:00:00Z",
                "2026-03-02T00:00:00Z",
            ),
            (
                "0 0 * * 5-2/2",
                "2026-03-01T10:00:00Z",
                "2026-03-01T00:00:00Z",
                "2026-03-03T00:00:00Z",
            ),
            (
                "0 0 * * 7-2",
                "2026-03-03T10:00:00Z",
                "2026-03-03T00:00:00Z",
                "2026-03-08T00:00:00Z",
            ),
            // A 29th of February that is a Sunday.
            (
                "0 0 29 2 */7",
                "2061-03-01T10:00:00Z",
                "2060-02-29T00:00:00Z",
                "2088-02-29T00:00:00Z",
            ),
            (
                "0 0 29 2 */7",
                "2090-03-01T10:00:00Z",
                "2088-02-29T00:00:00Z",
                "2128-02-29T00:00:00Z",
            ),
        ] {
            assert_eq!(around(text, now), (last.to_owned(), next.to_owned()), "{text} at {now}");
        }
    }

    #[test]
    fn what_is_no_schedule() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * 32 * *",
            "* * * 13 *",
            "* * * * 8",
            "*/0 * * * *",
            "a * * * *",
            "1- * * * *",
            "-1 * * * *",
            ", * * * *",
            "1,,2 * * * *",
            "001 * * * *",
            "@daily",
            "*/100 * * * *",
            "+1 * * * *",
        ] {
            assert_eq!(Cron::parse(text), Err(CronError::Unreadable), "{text}");
        }
    }

    #[test]
    fn what_never_comes_or_too_often() {
        for (text, error) in [
            ("0 0 30 2 *", Some(CronError::Never)),
            ("0 0 31 2,4,6,9,11 *", Some(CronError::Never)),
            ("0 0 30 2 */2", Some(CronError::Never)),
            ("0 0 30 2 1", None),
            ("0 0 29 2 *", None),
            ("0 0 31 2-3 *", None),
            ("*/30 0 * * *", Some(CronError::TooOften)),
            ("0,59 0 1 1 *", Some(CronError::TooOften)),
            ("59 * * * *", None),
            ("*/60 * * * *", None),
        ] {
            assert_eq!(Cron::parse(text).err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn last_and_next_are_neighbours(
            minute in 0_u8..60, hour in 0_u8..24, day in prop::option::of(1_u8..29), weekday in prop::option::of(0_u8..8),
            step in 1_u8..30, seconds in 1_600_000_000_i64..2_000_000_000,
        ) {
            let star = |value: Option<u8>| value.map_or_else(|| "*".to_owned(), |value| value.to_string());
            let text = format!("{minute}/{step} {hour} {} * {}", star(day), star(weekday));
            let (cron, now) = (Cron::read(&text).unwrap(), Timestamp::from_second(seconds).unwrap());
            let (last, next) = (cron.last(now).unwrap(), cron.next(now).unwrap());
            prop_assert!(last <= now && now < next, "{text}");
            prop_assert_eq!(cron.last(next), Some(next));
            prop_assert_eq!(cron.next(last), Some(next));
        }

        #[test]
        fn no_text_is_too_much(text in ".{0,60}", seconds in 0_i64..4_000_000_000) {
            if let Some(cron) = Cron::read(&text) {
                let now = Timestamp::from_second(seconds).unwrap();
                let _ = (cron.last(now), cron.next(now));
            }
        }

        #[test]
        fn whatever_is_taken_comes_and_an_hour_apart_at_least(
            text in "[0-9*/,-]{1,4} [0-9*/,-]{1,4} [0-9*/,-]{1,5} [0-9*/,-]{1,4} [0-9*/,-]{1,4}", seconds in 0_i64..4_000_000_000,
        ) {
            let now = Timestamp::from_second(seconds).unwrap();
            match Cron::parse(&text) {
                Ok(cron) => {
                    let (last, next) = (cron.last(now).unwrap(), cron.next(now).unwrap());
                    prop_assert!(next.duration_since(last).as_secs() >= 3600, "{text}");
                }
                Err(CronError::Never) => prop_assert_eq!(Cron::read(&text).unwrap().next(now), None, "{}", text),
                Err(_) => {}
            }
        }
    }
}
