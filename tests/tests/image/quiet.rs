//! The image in a network that drops every packet, with a name server that only writes down: it asks nobody anything and
//! is quick.

use std::time::Duration;

use robotimage_tests::blackhole::BlackHole;
use robotimage_tests::runc::Options;

use crate::fixture::{Fixture, Made};

/// Fresh containers of each kind. Limits are for the best of them: a machine that tests does other things too.
const RUNS: usize = 3;
/// How long a person waits for the first line; and most that rcc and the image may add to the robot's own start.
const LIMIT: Duration = Duration::from_secs(2);
/// What the robot says first.
const OWN: &str = "Invoices, robot version";
/// The robot without rcc: what this machine needs for it right now.
const ALONE: [&str; 14] = [
    "/opt/rcc/holotree/dc4d952_5a1fac3_9fcd2534/bin/python",
    "-m",
    "robot",
    "--report",
    "NONE",
    "--log",
    "NONE",
    "--output",
    "NONE",
    "--console",
    "none",
    "--pythonpath",
    ".",
    "tasks.robot",
];

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn it_asks_nobody_anything_and_speaks_within_two_seconds() {
    let fixture = Fixture::alone().await;
    println!(
        "{:<24}{:>16}{:>16}{:>16}{:>16}",
        "median (maximum), s", "first line", "robot's first", "the same alone", "end"
    );
    for (name, made) in [("rcc 19", &fixture.zstd), ("rcc 17", &fixture.old)] {
        for read_only in [false, true] {
            let what = format!("{name}, {} root", if read_only { "read-only" } else { "writable" });
            let [first, own, alone, _] = measure(&fixture, made, read_only, &what);
            assert!(first < LIMIT, "{what}: the first line came after {first:?} at best");
            assert!(
                own < alone + LIMIT,
                "{what}: the robot's first line came after {own:?} at best, without rcc after {alone:?}"
            );
        }
    }
}

/// Runs it some times in one dropping network; gives the best time of the first line, of the robot's own first line, of
/// that without rcc, and of the end.
fn measure(fixture: &Fixture, made: &Made, read_only: bool, what: &str) -> [Duration; 4] {
    let hole = BlackHole::create().expect("a dropping network");
    let mut times: [Vec<Duration>; 4] = Default::default();
    for _ in 0..RUNS {
        let options = Options {
            read_only,
            network: Some(&hole),
            ..Options::default()
        };
        let run = fixture.run(made, options);
        assert_eq!(run.exit_code, 0, "{what}:\n{}", run.text());
        assert!(
            hole.questions().is_empty(),
            "{what}: asked for {:?}\n{}",
            hole.questions(),
            run.text()
        );
        assert_eq!(hole.dropped().expect("a count"), 0, "{what}: sent packets\n{}", run.text());
        let own = run.first(OWN).unwrap_or_else(|| panic!("{what}:\n{}", run.text()));
        let first = run.lines.first().map_or(own, |line| line.at);
        let alone = fixture.run(
            made,
            Options {
                command: Some(&ALONE),
                ..options
            },
        );
        let alone = alone.first(OWN).unwrap_or_else(|| panic!("{what}, without rcc:\n{}", alone.text()));
        for (list, time) in times.iter_mut().zip([first, own, alone, run.took]) {
            list.push(time);
        }
    }
    let shown = times.each_mut().map(|list| {
        list.sort();
        format!("{:.2} ({:.2})", list[RUNS / 2].as_secs_f64(), list[RUNS - 1].as_secs_f64())
    });
    println!("{what:<24}{:>16}{:>16}{:>16}{:>16}", shown[0], shown[1], shown[2], shown[3]);
    // Without this, silence could mean that nobody listens.
    hole.call_home().expect("a call");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(hole.questions(), ["telemetry.example"]);
    assert!(hole.dropped().expect("a count") > 0);
    times.map(|list| list[0])
}
