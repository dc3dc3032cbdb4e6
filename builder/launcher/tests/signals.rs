//! Signals reach the task, whose clean-up runs, and rcc's exit code comes out.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{Image, Run, told};
use nix::sys::signal::Signal;

/// A task that says which signals it gets, and fails at the first of the second kind.
fn task(going_on: &str, ending: &str) -> String {
    format!(
        "trap 'echo got {going_on}' {going_on}; trap 'sleep 0.1; echo cleaned up after {ending}; exit 3' {ending}; \
         echo ready; while :; do sleep 0.02; done"
    )
}

#[test]
fn signals_reach_the_task_and_its_clean_up_runs() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR2] {
        let name = signal.as_str().trim_start_matches("SIG");
        let image = Image::mock();
        let mut run = image.start(&["task", &task("USR1", name)]);
        run.ready();
        run.send(signal);
        assert_eq!(run.line(), format!("cleaned up after {name}"));
        let end = run.end();
        // rcc says 10 when its task failed; that it could means that it was not killed.
        assert_eq!((end.code, end.complained.as_str()), (Some(10), ""), "{name}");
    }
}

#[test]
fn every_repetition_is_passed_on() {
    let image = Image::mock();
    let mut run = image.start(&["task", &task("TERM", "USR1")]);
    run.ready();
    for _ in 0..3 {
        run.send(Signal::SIGTERM);
        assert_eq!(run.line(), "got TERM");
    }
    run.send(Signal::SIGUSR1);
    assert_eq!(run.line(), "cleaned up after USR1");
    assert_eq!(run.end().code, Some(10));
}

#[test]
fn a_task_that_starts_just_after_the_signal_still_gets_it() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let image = Image::mock();
        let go = image.path("go");
        let arguments = ["late", go.to_str().unwrap(), "exec sleep 2"];
        let mut run = image.start(&arguments);
        run.ready();
        run.send(signal);
        thread::sleep(Duration::from_millis(60));
        fs::write(&go, "").unwrap();
        let end = run.end();
        // Ended by the task, not by the death of rcc, which would be 128 and the number.
        assert_eq!((end.code, end.said.as_str()), (Some(10), ""), "{signal}");
        assert!(end.after < Duration::from_millis(1500), "{:?}", end.after);
    }
}

#[test]
fn without_a_task_the_signal_is_for_rcc() {
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let image = Image::mock();
        let mut run = image.start(&["idle"]);
        run.ready();
        run.send(signal);
        let end = run.end();
        assert_eq!((end.code, end.signal), (Some(code), None), "{signal}");
        assert!(end.after > Duration::from_millis(150), "{:?}", end.after);
        assert!(end.after < Duration::from_secs(3), "{:?}", end.after);
    }
}

#[test]
fn a_signal_for_tasks_alone_does_not_kill_rcc() {
    let image = Image::mock();
    let mut run = image.start(&["idle"]);
    run.ready();
    run.send(Signal::SIGUSR1);
    thread::sleep(Duration::from_millis(400));
    run.send(Signal::SIGTERM);
    let end = run.end();
    assert_eq!(end.code, Some(143));
    assert_eq!(
        end.complained,
        "robotimage-launcher: SIGUSR1 was not passed on: the task is not running\n"
    );
}

#[test]
fn a_task_that_outlives_rcc_may_finish_its_clean_up() {
    let image = Image::mock();
    let stopping = image.path("stopping");
    let file = stopping.to_str().unwrap();
    let script = format!("trap 'touch {file}; sleep 1; echo cleaned up; exit 0' TERM; echo ready; while :; do sleep 0.02; done");
    let mut run = image.start(&["abandon", file, &script]);
    run.ready();
    run.send(Signal::SIGTERM);
    let end = run.end();
    assert_eq!((end.code, end.said.as_str()), (Some(5), "cleaned up\n"));
    assert!(end.after > Duration::from_millis(900), "ended before its task: {:?}", end.after);
}

#[test]
fn a_task_that_never_ends_holds_nothing_up_for_long() {
    let image = Image::mock();
    let stopping = image.path("stopping");
    let file = stopping.to_str().unwrap();
    // Deaf for seven seconds, so that nothing is left of it when the test is over.
    let script = format!("trap 'touch {file}' TERM; echo ready; n=0; while [ $n -lt 130 ]; do sleep 0.05; n=$((n+1)); done");
    let mut run = image.start(&["abandon", file, &script]);
    run.ready();
    run.send(Signal::SIGTERM);
    let end = run.end();
    assert_eq!(end.code, Some(5));
    assert!(end.complained.contains("still run 5 seconds after rcc"), "{}", end.complained);
    assert!((4900..7500).contains(&end.after.as_millis()), "{:?}", end.after);
}

#[test]
fn when_rcc_ends_by_itself_nothing_is_waited_for() {
    let image = Image::mock();
    let ended = image.path("ended");
    fs::write(&ended, "").unwrap();
    let run = image.start(&["abandon", ended.to_str().unwrap(), "sleep 2"]);
    let end = run.end();
    assert_eq!(end.code, Some(5));
    assert!(end.after < Duration::from_secs(1), "{:?}", end.after);
}

/// A pid namespace of its own, where this machine allows one: there, the kernel drops what PID 1 does not handle.
#[test]
fn it_works_as_pid_1() {
    let unshare = ["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let allowed = Command::new("unshare")
        .args(unshare)
        .arg("true")
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !allowed {
        eprintln!("not run: this machine does not allow pid namespaces");
        return;
    }
    let image = Image::mock();
    let script = format!("echo pid $(cut -d' ' -f4 /proc/$PPID/stat); {}", task("USR1", "TERM"));
    let mut command = told();
    command.arg("unshare").args(unshare).arg(image.path("rcc")).args(["task", &script]);
    let mut run = Run::of(&mut command);
    assert_eq!(run.line(), "pid 1");
    run.ready();
    let children = format!("/proc/{0}/task/{0}/children", run.pid());
    let inside = fs::read_to_string(children).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(inside), Signal::SIGTERM).unwrap();
    assert_eq!(run.line(), "cleaned up after TERM");
    assert_eq!(run.end().code, Some(10));
}

/// The terminal tells the whole group of a key, so the launcher must not tell the task again.
#[test]
fn a_key_is_not_passed_on_twice() {
    let image = Image::mock();
    let script = "n=0; trap 'n=$((n+1))' INT; echo ready; while [ $n = 0 ]; do sleep 0.02; done; \
                  sleep 0.3; sleep 0.3; echo interrupts: $n; exit 3";
    let output = told()
        .arg("python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mock_terminal.py"))
        .arg(image.path("rcc"))
        .args(["task", script])
        .output()
        .expect("python3 is a prerequisite of this suite");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("interrupts: 1") && said.contains("code 10"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
