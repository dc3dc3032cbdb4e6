//! A table of faults on a real cluster, with one judge for what must hold after each of them.
//!
//! The whole of it is long and belongs to `make faults`; the suites play its short part. `ROBOTIMAGE_FAULTS` chooses rows:
//! `all`, or words that the name of a row holds.

mod blow;
mod cast;
mod judge;
#[cfg(test)]
mod judge_tests;
mod row;
mod stage;
mod trace;

use std::time::{Duration, Instant};

use robotimage_tests::apiproxy::{Moment, Write};

pub(crate) use self::judge::ran;
use self::row::{Life, Row, rows};
use self::stage::Stage;
pub(crate) use self::trace::Seen;

/// For whatever is waited for: a build with its retries on a busy machine.
const LIMIT: Duration = Duration::from_mins(6);
/// Builds take seconds, and some faults come too late: such a row is played again.
const TRIES: usize = 3;
/// Points at which the operator dies, spread over all writes of the longest life.
const POINTS: usize = 20;

/// Rows in which the operator dies before and after its writes.
fn deaths(writes: &[Write]) -> Vec<Row> {
    let both = |(number, write): (usize, &Write)| [Moment::Before, Moment::After].map(|moment| Row::dies(number, moment, write.shown()));
    let all: Vec<Row> = writes.iter().enumerate().flat_map(both).collect();
    let count = POINTS.min(all.len());
    (0..count).map(|number| all[number * all.len() / count].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs its short part, make faults all of it"]
async fn a_table_of_faults() {
    let chosen = std::env::var("ROBOTIMAGE_FAULTS").unwrap_or_default();
    let began = Instant::now();
    let mut stage = Stage::start().await.unwrap();
    let is_chosen = |row: &Row| match chosen.as_str() {
        "" => row.short,
        "all" => true,
        words => row.name().contains(words),
    };
    let mut table: Vec<Row> = rows().into_iter().filter(is_chosen).collect();
    let lives: Vec<Life> = table.iter().map(|row| row.life).collect();
    // A new spec begins with the first image, too.
    let first = if lives.contains(&Life::Spec) { Life::Spec } else { Life::First };
    stage.learn(first).await.unwrap();
    if !chosen.is_empty() {
        let writes = stage.learn(Life::Supersede).await.unwrap();
        table.extend(deaths(&writes).into_iter().filter(is_chosen));
    }
    assert!(!table.is_empty(), "no row has {chosen:?} in its name");
    println!(
        "{:>6} s  the bed, and the right images of {} rows",
        began.elapsed().as_secs(),
        table.len()
    );
    let (mut wrong, mut unmet) = (Vec::new(), 0);
    for row in &table {
        for left in (0..TRIES).rev() {
            let outcome = stage.play(row).await.unwrap_or_else(|error| panic!("{}: {error}", row.name()));
            let verdict = match (outcome.wrong.is_empty(), outcome.met) {
                (false, _) => "VIOLATED",
                (true, true) => "holds",
                (true, false) => "not met",
            };
            println!(
                "{:>6.1} s  {} Jobs  {verdict:<8}  {}",
                outcome.took.as_secs_f64(),
                outcome.jobs,
                row.name()
            );
            outcome.wrong.iter().for_each(|what| println!("          {what}"));
            wrong.extend(outcome.wrong.iter().map(|what| format!("{}: {what}", row.name())));
            if outcome.met || !outcome.wrong.is_empty() {
                break;
            }
            unmet += usize::from(left == 0);
        }
    }
    println!(
        "{} faults, {unmet} of them not met, {} violations, {} s",
        table.len(),
        wrong.len(),
        began.elapsed().as_secs()
    );
    stage.stop().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // A busy machine has other writes than the build from which the points were taken.
    assert!(
        unmet * 10 <= table.len(),
        "{unmet} of {} faults never came when they were to come",
        table.len()
    );
}
