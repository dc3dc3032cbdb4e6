use std::fs;

use super::*;

fn checked(robot: &str, conda: Option<&str>, task: Option<&str>) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("robot.yaml"), robot).unwrap();
    if let Some(conda) = conda {
        fs::write(folder.path().join("conda.yaml"), conda).unwrap();
    }
    check(folder.path(), "robot.yaml", task)
}

const ROBOT: &str = "tasks:\n  Main: {shell: python task.py}\nartifactsDir: output\ncondaConfigFile: conda.yaml\n";
const CONDA: &str = "channels: [conda-forge]\ndependencies: [python=3.11.7, pip=23.2.1, {pip: [rich==13.7.1]}]\n";

#[test]
fn a_good_robot_has_no_findings() {
    assert_eq!(checked(ROBOT, Some(CONDA), None), []);
}

#[test]
fn findings_by_their_words() {
    for (robot, conda, said, severity) in [
        (
            ROBOT.replace("Main: {shell: python task.py}", ""),
            CONDA.to_owned(),
            "at least one task",
            Severity::Error,
        ),
        (
            ROBOT.replace("conda.yaml", "other.yaml"),
            CONDA.to_owned(),
            "\"other.yaml\" does not exist",
            Severity::Error,
        ),
        (ROBOT.to_owned(), "channels: {".to_owned(), "not valid YAML", Severity::Error),
        (
            ROBOT.to_owned(),
            CONDA.replace("rich==13.7.1", "./no.whl"),
            "not in the source",
            Severity::Error,
        ),
        (
            ROBOT.to_owned(),
            CONDA.replace("conda-forge", "https://a:b@c.d/"),
            "a user or password",
            Severity::Error,
        ),
        (
            format!("{ROBOT}extra: 1\n"),
            CONDA.to_owned(),
            "robot.yaml:5:1: \"extra\" is not a key",
            Severity::Warning,
        ),
        (
            format!("{ROBOT}artifactsDir: out\n"),
            CONDA.to_owned(),
            "stands here again",
            Severity::Warning,
        ),
        (
            ROBOT.replace("output", "."),
            CONDA.to_owned(),
            "holds the robot's code",
            Severity::Warning,
        ),
        (ROBOT.replace("output", "/tmp"), CONDA.to_owned(), "is absolute", Severity::Warning),
        (
            ROBOT.replace("python task.py", "a && b"),
            CONDA.to_owned(),
            "operators of a shell",
            Severity::Warning,
        ),
        (
            ROBOT.replace("artifactsDir", "  mAIN: {shell: x}\nartifactsDir"),
            CONDA.to_owned(),
            "in case or blanks only",
            Severity::Warning,
        ),
        (
            format!("{ROBOT}PATH: [missing, 'C:\\x', ../..]\n"),
            CONDA.to_owned(),
            "does not exist",
            Severity::Warning,
        ),
        (
            format!("{ROBOT}preRunScripts: [pip install x]\n"),
            CONDA.to_owned(),
            "sealed environment",
            Severity::Warning,
        ),
        (
            format!("{ROBOT}environmentConfigs: [output/environment_linux_amd64_freeze.yaml]\n"),
            CONDA.to_owned(),
            "freeze file that rcc writes",
            Severity::Warning,
        ),
        (
            ROBOT.to_owned(),
            CONDA.replace("rich==13.7.1", "rich"),
            "leaves the version open",
            Severity::Warning,
        ),
        (
            ROBOT.to_owned(),
            CONDA.replace("pip=23.2.1", "python=3.9"),
            "is left out by rcc",
            Severity::Warning,
        ),
        (
            ROBOT.to_owned(),
            format!("{CONDA}rccPostInstall: [rfbrowser init]\n"),
            "downloads browsers",
            Severity::Warning,
        ),
        (
            ROBOT.to_owned(),
            CONDA.replace("[conda-forge]", "[]"),
            "no channel is named",
            Severity::Warning,
        ),
        (
            ROBOT.to_owned(),
            CONDA.replace("[conda-forge]", "[]").replace("pip=23.2.1", "uv=0.5.1"),
            "uv-native",
            Severity::Warning,
        ),
    ] {
        let task = robot.contains("mAIN").then_some("Main");
        let findings = checked(&robot, Some(&conda), task);
        let found = findings.iter().find(|finding| finding.to_string().contains(said));
        let found = found.unwrap_or_else(|| panic!("{said}: {findings:#?}"));
        assert_eq!(found.severity, severity, "{found}");
        assert_eq!(found.reason.is_some(), severity == Severity::Error);
    }
}

#[test]
fn an_open_choice_of_tasks_and_a_missing_robot() {
    let two = ROBOT.replace("artifactsDir", "  Other: {shell: x}\nartifactsDir");
    assert!(checked(&two, Some(CONDA), None)[0].message.contains("2 tasks"));
    assert_eq!(checked(&two, Some(CONDA), Some("other")), []);
    let folder = tempfile::tempdir().unwrap();
    let findings = check(folder.path(), "robot.yaml", None);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].reason, Some(Reason::RobotYamlInvalid));
    assert!(
        serde_json::to_string(&findings)
            .unwrap()
            .contains("\"reason\":\"RobotYamlInvalid\"")
    );
}

#[test]
fn every_finding_has_a_place_and_advice() {
    for (robot, conda, task, place) in [
        (ROBOT.replace("conda.yaml", "other.yaml"), Some(CONDA), None, ("robot.yaml", 4)),
        (ROBOT.to_owned(), None, None, ("robot.yaml", 4)),
        (ROBOT.to_owned(), Some(CONDA), Some("Other"), ("robot.yaml", 2)),
        (format!("{ROBOT}PYTHONPAT: [.]\n"), Some(CONDA), None, ("robot.yaml", 5)),
        (
            ROBOT.to_owned(),
            Some("channels: [conda-forge]\ndependancies: []\n"),
            None,
            ("conda.yaml", 2),
        ),
        (
            ROBOT.to_owned(),
            Some("channels: [conda-forge]\ndependencies: 3\n"),
            None,
            ("conda.yaml", 2),
        ),
    ] {
        let findings = checked(&robot, conda, task);
        let finding = findings.first().unwrap_or_else(|| panic!("nothing is found:\n{robot}"));
        assert_eq!((finding.file.as_str(), finding.line), place, "{finding:?}");
        assert!(finding.column > 0 && !finding.advice.is_empty(), "{finding:?}");
    }
}

#[test]
fn misspelt_keys_are_told_the_right_ones() {
    let findings = checked(&format!("{ROBOT}prerunscript: []\nentirely: else\n"), Some(CONDA), None);
    let advice: Vec<&str> = findings.iter().map(|finding| finding.advice.as_str()).collect();
    assert_eq!(advice, ["write preRunScripts, if that is meant", "take it out"]);
    assert_eq!(
        (distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")),
        (3, 0, 3)
    );
}
