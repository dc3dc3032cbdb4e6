//! The decision of one candidate.

use std::time::{Duration, Instant};

/// A record never holds others up for longer, whatever it says.
const LONGEST: Duration = Duration::from_mins(10);

/// The times of an election: `retry` < `renew` < `duration`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a record must stay unchanged before another replica takes over.
    pub duration: Duration,
    /// How long after its last renewal a leader stops. The rest of `duration` is what clocks of different speed may differ by.
    pub renew: Duration,
    /// Time between two renewals, and between two tries after an error.
    pub retry: Duration,
}

/// What the Lease says, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its resourceVersion: changes with each write.
    pub version: String,
    /// Who holds it; empty when it was released.
    pub holder: String,
    /// The `duration` of whoever wrote it, which may be configured otherwise.
    pub duration: Duration,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is no Lease: make it in our name.
    Make,
    /// It is free: put our name into this very version of it.
    Take,
    /// It is ours: renew this very version of it.
    Renew,
    /// It is another's until this moment, unless it changes.
    Wait(Instant),
}

/// One candidate. Every moment is of its own clock.
#[derive(Debug)]
pub struct Election {
    me: String,
    timing: Timing,
    seen: Option<(String, Instant)>,
    until: Option<Instant>,
}

impl Election {
    /// A candidate by a name that no other process has or ever had.
    pub fn new(me: String, timing: Timing) -> Self {
        Self {
            me,
            timing,
            seen: None,
            until: None,
        }
    }

    /// What to do about the record as it was read last, `None` when there is none.
    pub fn step(&mut self, record: Option<&Record>, now: Instant) -> Step {
        let Some(record) = record else {
            // Somebody removed it. Whoever held it a moment ago does not know yet.
            return match &self.seen {
                Some((_, at)) if now < *at + self.timing.duration => Step::Wait(*at + self.timing.duration),
                _ => Step::Make,
            };
        };
        if record.holder == self.me {
            return Step::Renew;
        }
        if record.holder.is_empty() {
            return Step::Take;
        }
        let at = match &self.seen {
            Some((version, at)) if *version == record.version => *at,
            _ => {
                self.seen = Some((record.version.clone(), now));
                now
            }
        };
        let free = at + record.duration.max(self.timing.duration).min(LONGEST);
        if now >= free { Step::Take } else { Step::Wait(free) }
    }

    /// A write in our name, begun at this moment, was answered with success.
    pub fn won(&mut self, began: Instant) {
        self.until = Some(began + self.timing.renew);
    }

    /// The Lease is seen to be another's, or was given back.
    pub fn lost(&mut self) {
        self.until = None;
    }

    /// Until when we lead, if nothing more happens; in the past or `None` when we do not.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Our name.
    pub fn me(&self) -> &str {
        &self.me
    }

    /// The times.
    pub fn timing(&self) -> Timing {
        self.timing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        duration: Duration::from_secs(15),
        renew: Duration::from_secs(10),
        retry: Duration::from_secs(2),
    };

    fn record(version: &str, holder: &str, seconds: u64) -> Record {
        Record {
            version: version.to_owned(),
            holder: holder.to_owned(),
            duration: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn a_record_counts_from_when_we_first_saw_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut me = Election::new("me".to_owned(), TIMING);
        assert_eq!(me.step(None, at(0)), Step::Make);
        assert_eq!(me.step(Some(&record("1", "other", 15)), at(5)), Step::Wait(at(20)));
        assert_eq!(me.step(Some(&record("2", "other", 15)), at(12)), Step::Wait(at(27)));
        assert_eq!(me.step(Some(&record("2", "other", 15)), at(26)), Step::Wait(at(27)));
        assert_eq!(me.step(Some(&record("2", "other", 15)), at(27)), Step::Take);
        assert_eq!(me.step(Some(&record("3", "", 1)), at(27)), Step::Take);
        assert_eq!(me.step(Some(&record("4", "me", 15)), at(28)), Step::Renew);
    }

    #[test]
    fn a_lease_that_somebody_removed_is_not_free_at_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut me = Election::new("me".to_owned(), TIMING);
        me.step(Some(&record("1", "other", 15)), at(0));
        assert_eq!(me.step(None, at(1)), Step::Wait(at(15)));
        assert_eq!(me.step(None, at(15)), Step::Make);
    }

    #[test]
    fn the_longer_of_two_configured_times_counts_and_no_record_holds_up_for_ever() {
        let start = Instant::now();
        let mut me = Election::new("me".to_owned(), TIMING);
        let wait = |me: &mut Election, version: &str, seconds| me.step(Some(&record(version, "other", seconds)), start);
        assert_eq!(wait(&mut me, "1", 60), Step::Wait(start + Duration::from_mins(1)));
        assert_eq!(wait(&mut me, "2", 1), Step::Wait(start + TIMING.duration));
        assert_eq!(wait(&mut me, "3", u64::from(u32::MAX)), Step::Wait(start + LONGEST));
    }

    #[test]
    fn who_wins_leads_from_before_the_write() {
        let start = Instant::now();
        let mut me = Election::new("me".to_owned(), TIMING);
        assert_eq!(me.until(), None);
        me.won(start);
        assert_eq!(me.until(), Some(start + TIMING.renew));
        me.lost();
        assert_eq!(me.until(), None);
    }
}
