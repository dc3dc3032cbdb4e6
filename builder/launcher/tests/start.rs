//! rcc is started as if the launcher were not there, and its end is passed on; what cannot be started is named.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::path::Path;

use common::{Image, eventually};
use nix::sys::signal::Signal;

#[test]
fn exit_codes_and_deaths_are_passed_on() {
    for (arguments, code) in [
        (["exit", "0"], 0),
        (["exit", "10"], 10),
        (["exit", "255"], 255),
        (["die", "KILL"], 137),
        (["die", "TERM"], 143),
    ] {
        let end = Image::mock().start(&arguments).end();
        assert_eq!((end.code, end.complained.as_str()), (Some(code), ""), "{arguments:?}");
    }
}

#[test]
fn rcc_gets_its_name_arguments_environment_and_a_clean_slate_of_signals() {
    let image = Image::with(Path::new("/bin/cat"));
    let end = image.start(&["/proc/self/cmdline"]).end();
    assert_eq!(end.said, "rcc\0/proc/self/cmdline\0");

    let end = image.start(&["/proc/self/status"]).end();
    for name in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
        let line = end.said.lines().find_map(|line| line.strip_prefix(name));
        let mask = line.unwrap().trim_start_matches(':').trim();
        // Without the two that libc keeps for itself and leaves ignored in whatever it starts.
        let mask = u64::from_str_radix(mask, 16).unwrap() & !(0b11 << 31);
        assert_eq!(mask, 0, "{name} {mask:x}");
    }

    let mut command = image.command(&["/proc/self/environ"]);
    let output = command.env_clear().env("ROBOT", "one").output().unwrap();
    assert_eq!(output.stdout, b"ROBOT=one\0");
}

#[test]
fn it_is_found_beside_the_file_and_not_beside_a_link_to_it() {
    let image = Image::with(Path::new("/bin/cat"));
    let elsewhere = tempfile::tempdir().unwrap();
    let link = elsewhere.path().join("rcc");
    std::os::unix::fs::symlink(image.path("rcc"), &link).unwrap();
    let output = std::process::Command::new(link).arg("/proc/self/cmdline").output().unwrap();
    assert_eq!(output.stdout, b"rcc\0/proc/self/cmdline\0");
}

#[test]
fn what_cannot_be_started_is_named() {
    let image = Image::empty();
    let path = image.path("rcc-real").display().to_string();
    let end = image.start(&["run"]).end();
    assert_eq!(end.code, Some(127), "{end:?}");
    assert!(
        end.complained
            .starts_with(&format!("robotimage-launcher: cannot run {path}: No such file")),
        "{}",
        end.complained
    );

    fs::create_dir(image.path("rcc-real")).unwrap();
    let end = image.start(&["run"]).end();
    assert_eq!(end.code, Some(126), "{end:?}");
    assert!(
        end.complained
            .starts_with(&format!("robotimage-launcher: cannot run {path}: Permission denied")),
        "{}",
        end.complained
    );
    assert_eq!(end.complained.lines().count(), 1, "{}", end.complained);
}

#[test]
fn orphans_are_reaped_while_the_task_runs() {
    let image = Image::mock();
    let script = "(sleep 0.4 & echo $!); trap 'exit 0' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = image.start(&["task", script]);
    let orphan = run.line();
    run.ready();
    let stat = format!("/proc/{orphan}/stat");
    let parent = format!(" S {} ", run.pid());
    eventually("the orphan is a child of the launcher", || {
        fs::read_to_string(&stat).unwrap().contains(&parent)
    });
    eventually("the orphan leaves no zombie", || !Path::new(&stat).exists());
    run.send(Signal::SIGTERM);
    assert_eq!(run.end().code, Some(0));
}

#[test]
fn who_made_it_deaf_is_told() {
    let ignoring = "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])";
    let image = Image::mock();
    let output = std::process::Command::new("python3")
        .args(["-c", ignoring])
        .arg(image.path("rcc"))
        .args(["exit", "0"])
        .output()
        .expect("python3 is a prerequisite of this suite");
    assert_eq!(output.status.code(), Some(126));
    assert!(String::from_utf8_lossy(&output.stderr).contains("SIGCHLD is ignored"));
}
