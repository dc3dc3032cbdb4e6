//! `robotimage check`: the same verdicts as a build, without building; for people and for programs.

use robotimage_crds::reason::Reason;
use robotimage_tests::laptop::{Outcome, outcome};

use crate::desk::{CONDA, CONDA_ROBOT, Desk};

fn check(desk: &Desk, robot: &std::path::Path, args: &[&str]) -> Outcome {
    let robot = robot.display().to_string();
    let words: Vec<&str> = ["check", &robot].into_iter().chain(args.iter().copied()).collect();
    outcome(&mut desk.laptop.command(&words)).expect("a command")
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn findings_have_a_place_a_reason_and_advice() {
    let desk = Desk::new().await;
    let good = [("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", "print('hello')\n")];
    let robot = desk.robot("good", &good);
    let said = check(&desk, &robot, &["--json"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{}", said.stdout);
    assert_eq!(said.document()["ok"], true);
    let said = check(&desk, &robot, &[]);
    assert_eq!(said.code, 0, "{}", said.stdout);
    assert!(said.stdout.contains("robot.yaml: good"), "{}", said.stdout);

    let robot = desk.robot("broken", &[("robot.yaml", "tasks: [unclosed\n  x: {")]);
    let said = check(&desk, &robot, &["--json"]);
    let document = said.document();
    assert_eq!(said.code, i32::from(Reason::RobotYamlInvalid.exit_code()));
    assert_eq!(document["ok"], false);
    let finding = &document["findings"][0];
    assert_eq!(
        (&finding["severity"], &finding["reason"], &finding["file"]),
        (&"error".into(), &"RobotYamlInvalid".into(), &"robot.yaml".into())
    );
    assert_eq!((finding["line"].as_u64(), finding["column"].as_u64()), (Some(2), Some(4)));

    // What builds and will surprise at run time is a warning.
    let robot = desk.robot(
        "artifacts",
        &[("robot.yaml", &CONDA_ROBOT.replace("artifactsDir: output", "artifactsDir: ."))],
    );
    std::fs::write(robot.join("conda.yaml"), CONDA).expect("a file");
    let said = check(&desk, &robot, &["--json"]);
    assert_eq!(said.code, 0, "{}", said.stdout);
    let document = said.document();
    let warned = document["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .any(|finding| finding["severity"] == "warning");
    assert!(warned, "{}", said.stdout);
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn nothing_is_changed_by_checking() {
    let desk = Desk::new().await;
    let robot = desk.robot(
        "good",
        &[("robot.yaml", CONDA_ROBOT), ("conda.yaml", CONDA), ("say.py", "print('hello')\n")],
    );
    let before = robotimage_tests::command::read_folder(&robot).expect("files");
    assert_eq!(check(&desk, &robot, &[]).code, 0);
    assert_eq!(robotimage_tests::command::read_folder(&robot).expect("files"), before);
    assert_eq!(crate::desk::names(&desk.laptop.cache()), [""; 0], "it needs no cache");
    let said = check(&desk, std::path::Path::new("/nonexistent"), &["--json"]);
    assert_eq!(said.code, i32::from(Reason::SourceNotFound.exit_code()));
    assert_eq!(said.document()["error"]["reason"], "SourceNotFound");
}
