//! The election against a model of the API server: clocks that differ in reading and speed, calls that are late or lost on either
//! way, processes that stand still, end and die. A seed repeats a run.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{Election, Record, Step, Timing};

const TIMING: Timing = Timing {
    duration: Duration::from_secs(15),
    renew: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};
/// Real time advances by this many milliseconds.
const TICK: u64 = 50;
/// Faults end here, real milliseconds.
const CALM: u64 = 180_000;
/// From here on one replica must lead: the slowest clock's `duration`, and two tries of each kind.
const SETTLED: u64 = CALM + 35_000;
const END: u64 = SETTLED + 30_000;

struct Random(u64);

impl Random {
    /// SplitMix64.
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

#[derive(Default)]
struct Server {
    version: u64,
    record: Option<Record>,
}

impl Server {
    /// As the API server does it: only the version that the writer knew is replaced.
    fn put(&mut self, known: Option<&str>, holder: &str, duration: Duration) -> Result<Record, ()> {
        if self.record.as_ref().map(|record| record.version.as_str()) != known {
            return Err(());
        }
        self.version += 1;
        let record = Record {
            version: self.version.to_string(),
            holder: holder.to_owned(),
            duration,
        };
        Ok(self.record.insert(record).clone())
    }
}

#[derive(Clone)]
enum View {
    Unknown,
    Known(Option<Record>),
}

/// `Ok` is what the Lease is now; `Err` a conflict.
type Answer = Result<Option<Record>, ()>;

#[derive(Clone)]
enum What {
    Read,
    /// Of the version that it replaces, if there is one.
    Write(Option<String>),
}

struct Call {
    holder: String,
    what: What,
    began: Instant,
    deadline: Instant,
    /// Real times; `None` when it is lost on that way.
    arrives: Option<u64>,
    answered: Option<u64>,
    answer: Option<Answer>,
}

enum Doing {
    Sleep(Instant),
    Call(Call),
    Follow(Instant, String),
}

struct Replica {
    number: u64,
    lives: u64,
    timing: Timing,
    /// What its clock says at the real time 0, and real thousandths that it counts as one second.
    zero: Instant,
    speed: u64,
    frozen: u64,
    election: Election,
    view: View,
    doing: Doing,
    /// Writes that nobody waits for any more, and that may yet arrive.
    strays: Vec<Call>,
}

impl Replica {
    fn new(number: u64, timing: Timing, random: &mut Random) -> Self {
        let zero = Instant::now() + Duration::from_secs(random.next(1_000_000));
        Self {
            number,
            lives: 0,
            timing,
            zero,
            speed: 850 + random.next(300),
            frozen: 0,
            election: Election::new(format!("{number}-0"), timing),
            view: View::Unknown,
            doing: Doing::Sleep(zero),
            strays: Vec::new(),
        }
    }

    fn clock(&self, real: u64) -> Instant {
        self.zero + Duration::from_micros(real * self.speed)
    }

    fn leads(&self, real: u64) -> bool {
        self.election.until().is_some_and(|until| self.clock(real) < until)
    }

    /// A new process in its place, with a name of its own.
    fn reborn(&mut self, real: u64) {
        self.lives += 1;
        self.election = Election::new(format!("{}-{}", self.number, self.lives), self.timing);
        self.view = View::Unknown;
        let now = self.clock(real);
        let left = std::mem::replace(&mut self.doing, Doing::Sleep(now));
        if let Doing::Call(call) = left {
            self.strays.push(call);
        }
    }

    fn call(&self, what: What, real: u64, random: &mut Random) -> Call {
        let faulty = real < CALM;
        let mut way = |from: u64| {
            let lost = faulty && random.next(100) < 15;
            let slow = if faulty && random.next(100) < 10 {
                random.next(20_000)
            } else {
                random.next(100)
            };
            (!lost).then_some(from + slow)
        };
        let arrives = way(real);
        Call {
            holder: self.election.me().to_owned(),
            what,
            began: self.clock(real),
            deadline: self.clock(real) + self.timing.renew / 2,
            arrives,
            answered: arrives.and_then(&mut way),
            answer: None,
        }
    }

    /// What reaches the server of the call under way, whether or not its sender stands still by now.
    fn serve(&mut self, server: &mut Server, real: u64) {
        let under_way = match &mut self.doing {
            Doing::Call(call) => Some(call),
            Doing::Sleep(_) | Doing::Follow(..) => None,
        };
        for call in self.strays.iter_mut().chain(under_way) {
            if call.answer.is_none() && call.arrives.is_some_and(|at| at <= real) {
                call.answer = Some(match &call.what {
                    What::Read => Ok(server.record.clone()),
                    What::Write(known) => server.put(known.as_deref(), &call.holder, self.timing.duration).map(Some),
                });
            }
        }
        self.strays.retain(|call| call.answer.is_none() && call.arrives.is_some());
    }

    fn work(&mut self, server: &Server, real: u64, random: &mut Random) {
        let now = self.clock(real);
        match &mut self.doing {
            Doing::Sleep(until) if now < *until => return,
            Doing::Follow(until, version) => {
                let changed = server.record.as_ref().map(|record| &record.version) != Some(version);
                // An event comes a little later, and some never do.
                if now < *until && !(changed && random.next(4) == 0) {
                    return;
                }
                self.view = View::Unknown;
            }
            Doing::Call(call) => {
                let in_time = now < call.deadline;
                let answer = call
                    .answer
                    .clone()
                    .filter(|_| in_time && call.answered.is_some_and(|at| at <= real));
                if answer.is_none() && in_time {
                    return;
                }
                let (wrote, began) = (matches!(call.what, What::Write(_)), call.began);
                if let Some(Ok(seen)) = answer {
                    self.view = View::Known(seen);
                    if wrote {
                        self.election.won(began);
                        self.doing = Doing::Sleep(now + self.timing.retry);
                        return;
                    }
                } else {
                    self.view = View::Unknown;
                    let left = std::mem::replace(&mut self.doing, Doing::Sleep(now + self.timing.retry));
                    if let Doing::Call(call) = left {
                        self.strays.push(call);
                    }
                    return;
                }
            }
            Doing::Sleep(_) => {}
        }
        let View::Known(record) = self.view.clone() else {
            self.doing = Doing::Call(self.call(What::Read, real, random));
            return;
        };
        self.doing = match self.election.step(record.as_ref(), now) {
            Step::Wait(until) => {
                self.election.lost();
                Doing::Follow(until, record.map(|record| record.version).unwrap_or_default())
            }
            Step::Make | Step::Take | Step::Renew => {
                let known = record.map(|record| record.version);
                Doing::Call(self.call(What::Write(known), real, random))
            }
        };
    }
}

/// What went wrong first, if anything.
fn run(seed: u64, timing: Timing) -> Result<(), String> {
    let mut random = Random(seed);
    let mut server = Server::default();
    let mut replicas: Vec<Replica> = (0..3).map(|number| Replica::new(number, timing, &mut random)).collect();
    for real in (0..END).step_by(usize::try_from(TICK).unwrap()) {
        for replica in &mut replicas {
            if real < CALM {
                match random.next(4000) {
                    0..8 => replica.frozen = (real + random.next(40_000)).min(CALM),
                    8..12 => replica.reborn(real),
                    12..16 => {
                        // SIGTERM: it stops to lead, then gives the Lease back; the word may be lost.
                        if random.next(3) > 0
                            && let Some(record) = server.record.clone().filter(|record| record.holder == replica.election.me())
                        {
                            server.put(Some(&record.version), "", Duration::from_secs(1)).unwrap();
                        }
                        replica.reborn(real);
                    }
                    _ => {}
                }
            }
            replica.serve(&mut server, real);
            if replica.frozen <= real {
                replica.work(&server, real, &mut random);
            }
        }
        let leaders: Vec<u64> = replicas
            .iter()
            .filter(|replica| replica.leads(real))
            .map(|replica| replica.number)
            .collect();
        if leaders.len() > 1 {
            return Err(format!("{leaders:?} lead at {real} ms"));
        }
        if real > SETTLED && leaders.is_empty() {
            return Err(format!("nobody leads at {real} ms"));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn one_leads_and_never_two(seed: u64) {
        prop_assert_eq!(run(seed, TIMING), Ok(()));
    }
}

/// The first complaint of a hundred runs.
fn complaint(timing: Timing) -> String {
    (0..100).find_map(|seed| run(seed, timing).err()).unwrap_or_default()
}

#[test]
fn the_model_finds_an_election_that_is_wrong() {
    // A leader that goes on for as long as others wait for it: clocks of different speed make two.
    let long = Timing {
        renew: TIMING.duration,
        ..TIMING
    };
    assert!(complaint(long).contains("lead at"), "{}", complaint(long));
    // One that tries again only when its time is over.
    let lazy = Timing {
        retry: Duration::from_secs(30),
        ..TIMING
    };
    assert!(complaint(lazy).contains("nobody leads"), "{}", complaint(lazy));
}
