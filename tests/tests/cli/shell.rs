//! Completion scripts and manual pages, as shells and readers of pages take them.

use std::process::Command;

use robotimage_tests::laptop::outcome;
use robotimage_tests::process::run;

use crate::desk::{Desk, names};

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_real_bash_completes() {
    let desk = Desk::new().await;
    let said = outcome(&mut desk.laptop.command(&["completions", "bash"])).expect("a command");
    assert_eq!(said.code, 0, "{}", said.stderr);
    let path = desk.laptop.home.join("completion.bash");
    std::fs::write(&path, &said.stdout).expect("a file");
    let ask = |words: &str, number: usize| {
        let script = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD={number}; _robotimage robotimage \"${{COMP_WORDS[{number}]}}\" x; echo \"${{COMPREPLY[@]}}\"",
            path.display()
        );
        run("bash", Command::new("bash").args(["--norc", "-c", &script])).expect("an answer")
    };
    assert_eq!(ask("robotimage ins", 1).trim(), "inspect");
    assert!(ask("robotimage inspect --pa", 2).contains("--packages"));
    assert!(ask("robotimage dockerfile --rcc", 2).contains("--rcc-url"));
    assert_eq!(ask("robotimage publ", 1).trim(), "", "the steps of a pod are not for people");
    for shell in ["zsh", "fish", "powershell"] {
        let said = outcome(&mut desk.laptop.command(&["completions", shell])).expect("a command");
        assert!(said.code == 0 && said.stdout.contains("dockerfile"), "{shell}: {}", said.stderr);
    }
    let wrong = outcome(&mut desk.laptop.command(&["completions", "tcsh"])).expect("a command");
    assert_eq!(wrong.code, 2, "{}", wrong.stderr);
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn manual_pages_are_written() {
    let desk = Desk::new().await;
    let folder = desk.laptop.home.join("man1");
    let said = outcome(&mut desk.laptop.command(&["man", &folder.display().to_string()])).expect("a command");
    assert_eq!(said.code, 0, "{}", said.stderr);
    assert_eq!(names(&folder).len(), said.stdout.lines().count());
    for name in ["robotimage.1", "robotimage-build.1", "robotimage-inspect.1"] {
        let page = std::fs::read_to_string(folder.join(name)).expect(name);
        assert!(page.contains(".TH ") && page.contains(".SH SYNOPSIS"), "{name}:\n{page}");
    }
    let file = desk.laptop.home.join("file");
    std::fs::write(&file, "x").expect("a file");
    let refused = outcome(&mut desk.laptop.command(&["man", &file.display().to_string()])).expect("a command");
    assert!(refused.code != 0 && refused.stderr.contains("cannot make"), "{}", refused.stderr);
}
