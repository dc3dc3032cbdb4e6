//! Random histories: edits, wishes, commits, failures, deletions, restarts, wrong clocks, watches that lag behind, and two
//! leaders that are killed between any two calls. The invariants hold after every call, and when the faults stop, the newest
//! commit comes to be the image.
//!
//! `make simulate` runs many; `ROBOTIMAGE_HISTORIES` says how many and `ROBOTIMAGE_SEED` which. A history that fails is
//! printed with its own seed, cut down to what is needed.

mod event;
mod happening;
mod invariant;
mod leader;
mod mutation;
mod simulation;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use event::{Event, history};
use invariant::{CONVERGES, GENERATION, NO_LOOP, NO_LOSS, NUMBERS, ONE_BUILD, TRUE_READY, Violation};
use mutation::Mutation;
use simulation::Simulation;

/// Histories of the short version.
const FEW: u64 = 400;
/// Steps of cutting a history down.
const CUTS: usize = 3000;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| {
        text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number"))
    })
}

/// The history of this seed, as a tree that can be cut down.
fn drawn(seed: u64) -> impl ValueTree<Value = (bool, Vec<Event>)> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    history()
        .new_tree(&mut TestRunner::new_with_rng(config, rng))
        .expect("nothing is filtered")
}

fn tried((private, events): &(bool, Vec<Event>), mutation: Mutation) -> Result<(), Violation> {
    Simulation::run(*private, events, mutation)
}

/// The shortest history found that violates the same invariant.
fn cut_down(seed: u64, found: Violation) -> ((bool, Vec<Event>), Violation) {
    let mut tree = drawn(seed);
    let mut shortest = (tree.current(), found);
    for _ in 0..CUTS {
        let current = tree.current();
        let further = match tried(&current, Mutation::None) {
            Err(violation) if violation.invariant == shortest.1.invariant => {
                shortest = (current, violation);
                tree.simplify()
            }
            _ => tree.complicate(),
        };
        if !further {
            break;
        }
    }
    shortest
}

#[test]
fn whatever_happens_the_invariants_hold_and_it_converges() {
    let (count, seed) = (number("ROBOTIMAGE_HISTORIES", FEW), number("ROBOTIMAGE_SEED", 1));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed, started) = (AtomicU64::new(0), Mutex::new(None), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count || failed.lock().unwrap().is_some() {
                        return;
                    }
                    let own = seed.wrapping_add(index);
                    let result = std::panic::catch_unwind(|| tried(&drawn(own).current(), Mutation::None));
                    match result {
                        Ok(Ok(())) => {}
                        Ok(Err(violation)) => *failed.lock().unwrap() = Some((own, Some(violation))),
                        Err(_) => *failed.lock().unwrap() = Some((own, None)),
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap() {
        None => println!(
            "{count} histories from seed {seed} in {:.0?}: no invariant was violated",
            started.elapsed()
        ),
        Some((own, None)) => panic!(
            "a panic; ROBOTIMAGE_HISTORIES=1 ROBOTIMAGE_SEED={own} repeats it: {:#?}",
            drawn(own).current()
        ),
        Some((own, Some(violation))) => {
            let ((private, events), violation) = cut_down(own, violation);
            panic!(
                "\"{}\" does not hold; ROBOTIMAGE_HISTORIES=1 ROBOTIMAGE_SEED={own} repeats it.\n{}\nprivate: {private}\n{events:#?}",
                violation.invariant, violation.told
            );
        }
    }
}

/// Histories that once went wrong, as they were cut down.
#[test]
fn what_went_wrong_once_does_not_again() {
    let all = [true; 3];
    // A person takes a Job away before its UID is in the status, and the leader that sees it makes it anew.
    let made_anew = vec![
        Event::Work(0, None),
        Event::Watch(0, all),
        Event::JobTakenAway,
        Event::Work(1, None),
        Event::Work(0, None),
        Event::Succeed(false),
    ];
    // What was in the way was noted by a clock that is behind, and is gone: the other's watch does not know.
    let over = vec![
        Event::Clock(0, -600),
        Event::Work(0, None),
        Event::PodBlocked,
        Event::Work(0, None),
        Event::Watch(1, all),
        Event::Succeed(false),
        Event::Work(1, None),
    ];
    for (private, events) in [(true, made_anew.clone()), (false, made_anew), (false, over)] {
        if let Err(violation) = tried(&(private, events.clone()), Mutation::None) {
            panic!("\"{}\" does not hold: {}\n{events:#?}", violation.invariant, violation.told);
        }
    }
}

/// Each invariant can fail: a bug that it is there for is found within a few histories.
#[test]
fn each_invariant_catches_the_bug_that_it_is_there_for() {
    for (mutation, invariant) in [
        (Mutation::OthersUnseen, ONE_BUILD),
        (Mutation::HistoryForgotten, NO_LOSS),
        (Mutation::SuccessUnseen, NO_LOSS),
        (Mutation::IndexBelieved, NO_LOSS),
        (Mutation::WishDropped, NO_LOSS),
        (Mutation::RequestForgotten, NO_LOOP),
        (Mutation::ReadyWithAnyImage, TRUE_READY),
        (Mutation::GenerationAhead, GENERATION),
        (Mutation::NoRetry, CONVERGES),
        (Mutation::VersionIgnored, NUMBERS),
    ] {
        let mut others = Vec::new();
        let caught = (1..=FEW).find(|seed| match tried(&drawn(*seed).current(), mutation) {
            Err(violation) if violation.invariant == invariant => true,
            Err(violation) => {
                others.push(violation.invariant);
                false
            }
            Ok(()) => false,
        });
        assert!(caught.is_some(), "{mutation:?} is not caught by \"{invariant}\", but by {others:?}");
    }
}
