//! Progress: alive on a terminal, plain lines in a pipe, nothing but JSON where JSON was asked for.

use std::process::Command;

use robotimage_tests::laptop::outcome;

use crate::desk::{Desk, SHELL_ROBOT};

const PHASES: [&str; 5] = ["validate", "base", "resolve", "assemble", "complete"];

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_pipe_gets_plain_lines_and_a_terminal_a_moving_one() {
    let desk = Desk::new().await;
    let robot = desk.robot("good", &[("robot.yaml", SHELL_ROBOT), ("say.sh", "echo hello\n")]);
    let layout = format!("oci:{}", desk.laptop.home.join("out").display());
    let pipe = desk.laptop.try_build(&robot, &["--output", &layout]).expect("a command");
    assert_eq!(pipe.code, 0, "{}", pipe.stderr);
    assert!(!pipe.stderr.contains(['\x1b', '\r']), "{:?}", pipe.stderr);
    let places: Vec<_> = PHASES
        .iter()
        .map(|phase| pipe.stderr.lines().position(|line| line.starts_with(phase)))
        .collect();
    assert!(
        places.iter().all(Option::is_some) && places.is_sorted(),
        "{places:?}\n{}",
        pipe.stderr
    );
    for word in ["LAYER", "rcc", "total", "Digest: sha256:", "Written: "] {
        assert!(pipe.stdout.contains(word), "{word}: {}", pipe.stdout);
    }

    let json = desk.laptop.try_build(&robot, &["--output", &layout, "--json"]).expect("a command");
    assert_eq!((json.code, json.stderr.as_str()), (0, ""));
    assert_eq!(json.stdout.lines().count(), 1, "{}", json.stdout);
    let digest = json.document()["digest"].as_str().expect("a digest").to_owned();
    assert!(pipe.stdout.contains(&digest), "{digest} {}", pipe.stdout);

    // script(1) gives it a terminal; what it shows is all that is shown.
    let mut build = desk.laptop.build_command(&robot, &["--output", &layout]);
    let words: Vec<String> = std::iter::once(build.get_program())
        .chain(build.get_args())
        .map(|word| format!("'{}'", word.display()))
        .collect();
    let environment: Vec<_> = build
        .get_envs()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    build = Command::new("script");
    build
        .args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"])
        .env_clear()
        .envs(environment)
        .env("TERM", "xterm");
    let terminal = outcome(&mut build).expect("script(1)");
    assert_eq!(terminal.code, 0, "{}", terminal.stdout);
    assert!(terminal.stdout.contains("\r\x1b[2K"), "{:?}", terminal.stdout);
    for phase in PHASES {
        assert!(
            terminal.stdout.contains(&format!("\r\x1b[2K{phase}")),
            "{phase}: {:?}",
            terminal.stdout
        );
    }
    assert!(terminal.stdout.contains(&digest), "{}", terminal.stdout);
    desk.assert_nothing_left("three builds");
}
