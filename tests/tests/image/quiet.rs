//! The image in a network that drops every packet, with a name server that only writes down: it asks nobody anything and
//! is quick.

use std::time::Duration;

use robotimage_tests::blackhole::BlackHole;
use robotimage_tests::runc::Options;

use crate::fixture::{Fixture, Made};

/// Fresh containers of each kind. The limit is for the best of them: the machine of a test does other things too.
const RUNS: usize = 5;
/// How long a person waits for the first line.
const LIMIT: Duration = Duration::from_secs(2);

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn it_asks_nobody_anything_and_speaks_within_two_seconds() {
    let fixture = Fixture::get().await;
    println!(
        "{:<24}{:>16}{:>16}{:>16}",
        "median (maximum), s", "first line", "robot's first", "end"
    );
    for (name, made) in [("rcc 19", &fixture.zstd), ("rcc 17", &fixture.old)] {
        for read_only in [false, true] {
            let what = format!("{name}, {} root", if read_only { "read-only" } else { "writable" });
            let best = measure(&fixture, made, read_only, &what);
            assert!(best < LIMIT, "{what}: the robot's first line came after {best:?} at best");
        }
    }
}

/// Runs it some times in one dropping network; gives the best time of the robot's own first line.
fn measure(fixture: &Fixture, made: &Made, read_only: bool, what: &str) -> Duration {
    let hole = BlackHole::create().expect("a dropping network");
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..RUNS {
        let run = fixture.run(
            made,
            Options {
                read_only,
                network: Some(&hole),
                ..Options::default()
            },
        );
        assert_eq!(run.exit_code, 0, "{what}:\n{}", run.text());
        assert!(
            hole.questions().is_empty(),
            "{what}: asked for {:?}\n{}",
            hole.questions(),
            run.text()
        );
        assert_eq!(hole.dropped().expect("a count"), 0, "{what}: sent packets\n{}", run.text());
        let own = run
            .first("Invoices, robot version")
            .unwrap_or_else(|| panic!("{what}:\n{}", run.text()));
        let first = run.lines.first().map_or(own, |line| line.at);
        for (list, time) in times.iter_mut().zip([first, own, run.took]) {
            list.push(time);
        }
    }
    let shown = times.each_mut().map(|list| {
        list.sort();
        format!("{:.2} ({:.2})", list[RUNS / 2].as_secs_f64(), list[RUNS - 1].as_secs_f64())
    });
    println!("{what:<24}{:>16}{:>16}{:>16}", shown[0], shown[1], shown[2]);
    // Without this, silence could mean that nobody listens.
    hole.call_home().expect("a call");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(hole.questions(), ["telemetry.example"]);
    assert!(hole.dropped().expect("a count") > 0);
    times[1][0]
}
