//! Bad inputs, each run for real: reason, exit code, words, and nothing left.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use robotimage_crds::reason::Reason;
use robotimage_tests::laptop::outcome;

use crate::desk::{CONDA, CONDA_ROBOT, Desk, SHELL_ROBOT};

const TWO_TASKS: &str = "tasks:\n  One:\n    shell: sh a.sh\n  Two:\n    shell: sh b.sh\nartifactsDir: output\n";

/// A robot that cannot be built, and what must be said of it.
struct Case {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
    args: &'static [&'static str],
    reason: Reason,
    /// What is wrong, where, and what to do.
    words: &'static [&'static str],
}

const ROBOTS: [Case; 8] = [
    Case {
        name: "no-robot-yaml",
        files: &[("readme.md", "nothing to run")],
        args: &[],
        reason: Reason::RobotYamlInvalid,
        words: &["robot.yaml", "does not exist", "-r"],
    },
    Case {
        name: "no-yaml",
        files: &[("robot.yaml", "tasks: [unclosed\n  x: {")],
        args: &[],
        reason: Reason::RobotYamlInvalid,
        words: &["robot.yaml:2:4", "not valid YAML"],
    },
    Case {
        name: "no-tasks",
        files: &[("robot.yaml", "artifactsDir: output\n")],
        args: &[],
        reason: Reason::RobotYamlInvalid,
        words: &["robot.yaml", "at least one task", "such as"],
    },
    Case {
        name: "two-tasks",
        files: &[("robot.yaml", TWO_TASKS)],
        args: &[],
        reason: Reason::RobotYamlInvalid,
        words: &["2 tasks", "\"One\", \"Two\"", "--task"],
    },
    Case {
        name: "no-such-task",
        files: &[("robot.yaml", TWO_TASKS)],
        args: &["--task", "Three"],
        reason: Reason::RobotYamlInvalid,
        words: &["Three", "One", "Two"],
    },
    Case {
        name: "file-outside",
        files: &[(
            "robot.yaml",
            "tasks:\n  Say:\n    shell: sh say.sh\ncondaConfigFile: ../../../../etc/conda.yaml\nartifactsDir: output\n",
        )],
        args: &[],
        reason: Reason::RobotYamlInvalid,
        words: &["../../../../etc/conda.yaml", "outside", "context"],
    },
    Case {
        name: "no-environment-file",
        files: &[("robot.yaml", CONDA_ROBOT)],
        args: &[],
        reason: Reason::EnvironmentFileInvalid,
        words: &["conda.yaml"],
    },
    Case {
        name: "environment-no-yaml",
        files: &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", "channels: [conda-forge\n")],
        args: &[],
        reason: Reason::EnvironmentFileInvalid,
        words: &["conda.yaml"],
    },
];

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_bad_robot_is_told_what_is_wrong_with_it() {
    let desk = Desk::new().await;
    for case in &ROBOTS {
        let robot = desk.robot(case.name, case.files);
        let output = format!("oci:{}", desk.laptop.home.join("out").display());
        let args: Vec<&str> = case.args.iter().copied().chain(["--output", &output]).collect();
        desk.refuse(&robot, &args, case.reason, case.words);
        desk.refuse_in_json(&robot, &args, case.reason);
        assert!(!desk.laptop.home.join("out").exists(), "{}", case.name);
    }
    println!("{} robots refused", ROBOTS.len());
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_link_that_leaves_the_folder_is_not_packed() {
    let desk = Desk::new().await;
    let robot = desk.robot("link", &[("robot.yaml", SHELL_ROBOT)]);
    symlink("../../../../../../../etc/passwd", robot.join("stolen")).expect("a link");
    desk.refuse(
        &robot,
        &[],
        Reason::SourceRejected,
        &["stolen", "leads out of", "copy what it points to"],
    );
    let said = outcome(&mut desk.laptop.command(&["check", &robot.display().to_string(), "--json"])).expect("a command");
    assert_eq!(said.code, i32::from(Reason::SourceRejected.exit_code()), "{}", said.stdout);
    assert_eq!(said.document()["findings"][0]["reason"], "SourceRejected", "{}", said.stdout);
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn what_the_machine_lacks_is_named() {
    let desk = Desk::new().await;
    let robot = desk.robot("good", &[("robot.yaml", SHELL_ROBOT), ("say.sh", "echo hello\n")]);
    let none = desk.bed.book().public.reference("base/none:1");
    desk.refuse(
        &robot,
        &["--base-image", &none],
        Reason::BaseNotFound,
        &[&none, "check its spelling"],
    );
    desk.refuse(
        &robot,
        &["--base-image", "no-such-host.invalid/base:1"],
        Reason::RegistryUnavailable,
        &["no-such-host.invalid"],
    );
    desk.refuse(
        &robot,
        &["--rcc-exec", "/nonexistent/rcc"],
        Reason::RccUnavailable,
        &["/nonexistent/rcc", "--rcc-exec"],
    );
    desk.refuse(
        &robot,
        &["--rcc-exec", "/bin/true"],
        Reason::RccUnavailable,
        &["does not answer as rcc does"],
    );
    desk.refuse(
        Path::new("/nonexistent/robot"),
        &[],
        Reason::SourceNotFound,
        &["/nonexistent/robot", "is no folder"],
    );

    // Without the flag, the one in PATH; and there is none there.
    let path = desk.laptop.home.join("bin");
    fs::create_dir(&path).expect("a folder");
    let mut command = desk.laptop.command(&["build", &robot.display().to_string()]);
    let outcome = outcome(command.env("PATH", &path)).expect("a command");
    assert_eq!(outcome.code, i32::from(Reason::RccUnavailable.exit_code()), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("no rcc in PATH") && outcome.stderr.contains("--rcc-exec"),
        "{}",
        outcome.stderr
    );

    for (args, words) in [
        (&["--frobnicate"] as &[&str], "--frobnicate"),
        (&["--push"], "--tag"),
        (&["--compression", "lzma"], "zstd"),
        (&["--output", "folder"], "oci:DIR"),
    ] {
        let outcome = desk.laptop.try_build(&robot, args).expect("a command");
        assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(words), "{args:?}: {}", outcome.stderr);
        desk.assert_nothing_left(&outcome.stderr);
    }
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn packages_that_cannot_be_had_are_named() {
    let desk = Desk::new().await;
    let cases = [
        (
            "conda",
            "  - no-such-conda-package=1.0\n",
            Reason::PackageNotFound,
            ["no-such-conda-package", "channels"],
        ),
        (
            "pip",
            "  - pip:\n      - robotimage-no-such-package==1.0\n",
            Reason::PackageNotFound,
            ["robotimage-no-such-package", "package index"],
        ),
        (
            "post-install",
            "rccPostInstall:\n  - python -c \"import sys; print('the script says no'); sys.exit(3)\"\n",
            Reason::PostInstallFailed,
            ["rccPostInstall", "the script says no"],
        ),
    ];
    for (name, more, reason, words) in cases {
        let robot = desk.robot(
            name,
            &[
                ("robot.yaml", CONDA_ROBOT),
                ("conda.yaml", &format!("{CONDA}{more}")),
                ("say.py", "print('hello')\n"),
            ],
        );
        let outcome = desk.refuse(&robot, &[], reason, &words);
        assert!(outcome.stderr.contains("the last lines of its output"), "{}", outcome.stderr);
        println!("{name}: {reason} in {:.1} s", outcome.took.as_secs_f64());
    }
    // The index is down: not the robot's fault, and trying again can help.
    let settings = desk.laptop.settings().join("settings.yaml");
    fs::write(&settings, r#"{"endpoints": {"conda": "http://127.0.0.1:1/"}}"#).expect("settings");
    let robot = desk.robot(
        "down",
        &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", "print('hello')\n")],
    );
    let outcome = desk.refuse(&robot, &[], Reason::IndexUnreachable, &["127.0.0.1:1"]);
    println!("channel down: IndexUnreachable in {:.1} s", outcome.took.as_secs_f64());
}
