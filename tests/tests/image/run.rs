//! The image under runc: both roots, its own user and any other, without a network.

use std::path::Path;

use robotimage_tests::runc::{Finished, Options};

use crate::fixture::{Fixture, Made};

/// A UID that no system has an entry for.
const STRANGER: u32 = 1_234_567_890;

/// What the invoice robot says and does wherever it may write.
fn assert_good(run: &Finished, uid: u32, what: &str) {
    let text = run.text();
    assert_eq!(run.exit_code, 0, "{what}:\n{text}");
    assert!(
        text.contains(&format!("due: 435 EUR, python 3.11.7, user {uid}")),
        "{what}:\n{text}"
    );
    for word in ["micromamba", "Installing", "building", "Traceback", "panic"] {
        assert!(!text.contains(word), "{what}: it says {word:?}:\n{text}");
    }
}

fn on_both_roots(fixture: &Fixture, made: &Made, user: Option<(u32, u32)>, what: &str) {
    let uid = user.map_or(1000, |(uid, _)| uid);
    let writable = fixture.start(
        made,
        Options {
            user,
            ..Options::default()
        },
    );
    let (run, wrote) = writable
        .finish(|upper| {
            let has = |path: &str| upper.join(path).exists();
            let report = std::fs::read_to_string(upper.join("home/robot/app/output/report.json")).unwrap_or_default();
            (
                report,
                has("home/robot/app/.last-run"),
                has("home/robot/.last-run"),
                sealed_was_touched(upper),
            )
        })
        .expect("a container");
    assert_good(&run, uid, what);
    assert_eq!(wrote.0, r#"{"version": 1, "due": 435}"#, "{what}: artifacts");
    assert_eq!(
        (wrote.1, wrote.2),
        (true, true),
        "{what}: working directory and HOME are writable:\n{}",
        run.text()
    );
    assert!(!wrote.3, "{what}: nothing is written below the sealed path");
    assert!(!run.text().contains("not kept in"), "{what}:\n{}", run.text());

    let read_only = fixture.run(
        made,
        Options {
            user,
            read_only: true,
            ..Options::default()
        },
    );
    assert_good(&read_only, uid, &format!("{what}, read-only root"));
    let text = read_only.text();
    assert!(
        text.contains("not kept in /home/robot/app: Read-only file system"),
        "{what}: the root is read-only:\n{text}"
    );
}

fn sealed_was_touched(upper: &Path) -> bool {
    upper.join("opt/rcc").exists()
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn it_runs_on_both_roots_as_its_own_user_and_as_any_other() {
    let fixture = Fixture::get().await;
    for (name, made) in [("zstd", &fixture.zstd), ("gzip", &fixture.gzip)] {
        on_both_roots(&fixture, made, None, &format!("{name} as 1000"));
        on_both_roots(&fixture, made, Some((STRANGER, 0)), &format!("{name} as a stranger"));
    }
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn it_runs_with_rcc_17_on_both_roots() {
    let fixture = Fixture::get().await;
    on_both_roots(&fixture, &fixture.old, None, "rcc 17 as 1000");
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn root_itself_leaves_the_sealed_environment_alone() {
    let fixture = Fixture::get().await;
    for (name, made) in [("rcc 19", &fixture.zstd), ("rcc 17", &fixture.old)] {
        let container = fixture.start(
            made,
            Options {
                user: Some((0, 0)),
                ..Options::default()
            },
        );
        let (run, touched) = container.finish(sealed_was_touched).expect("a container");
        assert_good(&run, 0, name);
        assert!(!touched, "{name}: a run as root wrote below the sealed path");
    }
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn rcc_finds_its_environment_instead_of_building_it() {
    let fixture = Fixture::get().await;
    for (name, made) in [("rcc 19", &fixture.zstd), ("rcc 17", &fixture.old)] {
        // The same entrypoint, asked which interpreter the environment has.
        let command = [
            "/usr/local/bin/rcc",
            "task",
            "script",
            "--robot",
            "/home/robot/app/robot.yaml",
            "--silent",
            "--",
        ];
        let python = ["python", "-c", "import sys; print('prefix', sys.prefix)"];
        let command = [&command[..], &python].concat();
        let run = fixture.run(
            made,
            Options {
                command: Some(&command),
                ..Options::default()
            },
        );
        assert_eq!(run.exit_code, 0, "{name}:\n{}", run.text());
        assert!(
            run.text().contains("prefix /opt/rcc/holotree/dc4d952_5a1fac3_9fcd2534"),
            "{name}:\n{}",
            run.text()
        );
    }
}
