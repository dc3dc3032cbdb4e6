//! Ctrl-C and the end by a supervisor, in the middle of the longest phase: quick, with its own exit code, nothing left.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Stdio;
use std::time::{Duration, Instant};

use robotimage_crds::reason::Reason;

use crate::desk::{CONDA, CONDA_ROBOT, Desk, processes};

/// How long a person waits after Ctrl-C.
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_interrupted_build_leaves_nothing() {
    let desk = Desk::new().await;
    let robot = desk.robot(
        "good",
        &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", "print('hello')\n")],
    );
    let output = format!("oci:{}", desk.laptop.home.join("out").display());
    // A terminal signals the whole group; a supervisor the process alone. Each a little later in the work of rcc.
    for (signal, group, later) in [("INT", true, 0), ("INT", false, 1500), ("TERM", false, 3000)] {
        let mut command = desk.laptop.build_command(&robot, &["--output", &output]);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("a command");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut said = String::new();
        while !said.contains("resolve") {
            assert!(
                lines.read_line(&mut said).expect("a line") > 0,
                "it ended before it resolved:\n{said}"
            );
        }
        let home = desk.laptop.home.display().to_string();
        let begun = Instant::now();
        // rcc is at work when the process that entered the namespace has children.
        while processes(&home).len() < 2 {
            assert!(begun.elapsed() < Duration::from_mins(1), "rcc was never started:\n{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(later));
        let target = format!("{}{}", if group { "-" } else { "" }, child.id());
        let told = Instant::now();
        robotimage_tests::process::run("kill", std::process::Command::new("kill").args(["-s", signal, "--", &target])).expect("kill");
        let status = child.wait().expect("an end");
        let took = told.elapsed();
        lines.read_to_string(&mut said).expect("the rest");
        let what = format!("SIG{signal} to {target}: {status} after {took:?}:\n{said}");
        println!(
            "SIG{signal} to {}: {status} after {:.2} s",
            if group { "the group" } else { "the process" },
            took.as_secs_f64()
        );
        assert_eq!(
            status.code(),
            Some(i32::from(Reason::Canceled.exit_code())),
            "{what} {:?}",
            status.signal()
        );
        assert!(said.contains("interrupted") && said.contains("reason Canceled"), "{what}");
        assert!(took < PATIENCE, "{what}");
        let end = Instant::now() + Duration::from_secs(2);
        while !processes(&home).is_empty() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        desk.assert_nothing_left(&what);
        assert!(!desk.laptop.home.join("out").exists(), "{what}");
    }
    // What was interrupted does not stand in the way of the next one.
    let built = desk.laptop.build(&robot, &["--output", &output]).expect("a build");
    assert_eq!(built.document["environmentCached"], false);
    desk.assert_nothing_left("a build after interrupts");
}

/// A server that takes connections and never says a word.
fn silent_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in listener.incoming().flatten() {
            held.push(stream);
        }
    });
    address
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_command_that_waits_for_a_server_ends_at_once_and_leaves_nothing() {
    let desk = Desk::new().await;
    let robot = desk.robot(
        "good",
        &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", "print('hello')\n")],
    );
    let robot = robot.display().to_string();
    let address = silent_server();
    let (image, url, zeros) = (format!("{address}/a:1"), format!("http://{address}/rcc"), "0".repeat(64));
    let output = desk.laptop.home.join("Dockerfile").display().to_string();
    let commands: [&[&str]; 4] = [
        &["inspect", &image, "--packages"],
        &["dockerfile", &robot, "--base-image", &image, "--output", &output],
        &["build", &robot, "--rcc-url", &url, "--rcc-sha256", &zeros],
        &["plan", &robot, "--tag", &image, "--rcc-url", &url, "--rcc-sha256", &zeros],
    ];
    for words in commands {
        for signal in ["INT", "TERM"] {
            let mut child = desk
                .laptop
                .command(words)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("a command");
            // Long enough to have come to the server; if not, the signal comes earlier, which must be as good.
            std::thread::sleep(Duration::from_millis(700));
            let told = Instant::now();
            robotimage_tests::process::run(
                "kill",
                std::process::Command::new("kill").args(["-s", signal, &child.id().to_string()]),
            )
            .expect("kill");
            let status = child.wait().expect("an end");
            let took = told.elapsed();
            let what = format!("SIG{signal} to {words:?}: {status} after {took:?}");
            println!("SIG{signal} to {}: {status} after {:.2} s", words[0], took.as_secs_f64());
            assert_eq!(status.code(), Some(i32::from(Reason::Canceled.exit_code())), "{what}");
            assert!(took < PATIENCE, "{what}");
            desk.assert_nothing_left(&what);
            assert!(!std::path::Path::new(&output).exists(), "{what}");
        }
    }
}
