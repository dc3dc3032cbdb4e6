use super::*;

const ROBOT: &str = "tasks:\n  Main:\n    shell: python task.py\nartifactsDir: output\n";

#[test]
fn shapes_of_real_robots() {
    for (name, text) in [
        ("plain", ROBOT.to_owned()),
        ("CRLF and BOM", format!("\u{feff}{}", ROBOT.replace('\n', "\r\n"))),
        ("unknown keys", format!("{ROBOT}sometimes: [1, {{a: b}}]\n")),
        ("duplicate keys", format!("{ROBOT}artifactsDir: out\n")),
        ("blanks in names", ROBOT.replace("Main", "Run all of it")),
        ("number as a name", ROBOT.replace("Main", "5")),
        ("robotTaskName", ROBOT.replace("shell: python task.py", "robotTaskName: My Task")),
        ("command", ROBOT.replace("shell: python task.py", "command: [python, -m, x]")),
        (
            "empty command beside shell",
            ROBOT.replace("python task.py", "python task.py\n    command: []"),
        ),
        (
            "multi-line shell",
            ROBOT.replace("python task.py", "|\n      echo a &&\n      echo b"),
        ),
        ("null lists", format!("{ROBOT}PATH:\npreRunScripts: ~\n")),
    ] {
        let robot = parse(&text, "robot.yaml").unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(robot.tasks().len(), 1, "{name}");
        assert!(!robot.artifacts_dir().is_empty(), "{name}");
    }
    assert_eq!(
        parse(&format!("{ROBOT}artifactsDir: out\n"), "robot.yaml").unwrap().artifacts_dir(),
        "out"
    );
}

#[test]
fn what_rcc_refuses_is_refused_with_its_place() {
    for (text, said) in [
        ("", "robot.yaml: the robot file is empty"),
        ("- a\n", "robot.yaml:1:1: the robot file must be a mapping"),
        ("tasks: {}\nartifactsDir: x\n", "robot.yaml:1:1: tasks must have at least one task"),
        ("artifactsDir: x\n", "robot.yaml: tasks must have at least one task"),
        ("tasks: [a]\n", "robot.yaml:1:8: tasks must be a mapping"),
        ("tasks:\n  Main:\n", "robot.yaml:2:3: task \"Main\" needs exactly one"),
        (
            "tasks:\n  Main: {shell: a, robotTaskName: b}\n",
            "robot.yaml:2:3: task \"Main\" needs exactly one",
        ),
        ("tasks:\n  Main: {shell: [a]}\n", "robot.yaml:2:17: shell must be text"),
        ("tasks:\n  Main: {shell: \"a 'b\"}\n", "a quote that never ends"),
        ("tasks:\n  Main: {shell: a}\n", "artifactsDir is required"),
        (
            "tasks:\n  Main: {shell: a}\nartifactsDir: x\nPATH: .\n",
            "robot.yaml:4:7: PATH must be a list",
        ),
        ("tasks: {\n", "robot.yaml:1:8: not valid YAML"),
    ] {
        let error = parse(text, "robot.yaml").unwrap_err();
        assert!(error.to_string().contains(said), "{text:?}: {error}");
        assert_eq!(error.reason(), robotimage_crds::reason::Reason::RobotYamlInvalid);
    }
}

#[test]
fn knows_its_folder() {
    let robot = parse(&ROBOT.replace("output", "/tmp"), "a/b/robot.yaml").unwrap();
    assert_eq!(robot.folder(), Path::new("a/b"));
    assert_eq!(robot.artifacts_path(), Path::new("a/b/tmp"));
    assert!(parse(ROBOT, "../robot.yaml").is_err());
}
