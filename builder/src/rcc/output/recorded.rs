//! Every recorded output of real tools, and what we say of it.
//!
//! The golden table holds what was broken, and reason, owner, retry, place, message and cure of each; `INSTA_UPDATE=always`
//! rewrites it. The table of docs/troubleshooting.md is made from it.

use std::path::Path;

use super::*;
use crate::failure::Failure;
use crate::robot::environment;

/// What was recorded: a head, and the output.
struct Recording {
    name: String,
    /// What was broken.
    fault: String,
    /// rcc's exit status.
    exit: i32,
    /// Name and text of the environment file.
    file: Option<(String, String)>,
    said: String,
}

fn recordings() -> Vec<Recording> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/rcc/fixtures");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let head: Vec<&str> = text.lines().take_while(|line| line.starts_with("# ")).collect();
            let value = |key: &str| head.iter().find_map(|line| line.strip_prefix(&format!("# {key}: ")));
            let yaml: Vec<&str> = head.iter().filter_map(|line| line.strip_prefix("# | ")).collect();
            let yaml = yaml.join("\n") + "\n";
            let said = text.lines().skip(head.len()).collect::<Vec<_>>().join("\n") + "\n";
            let told = |key: &str| value(key).unwrap_or_else(|| panic!("{}: its head has no {key}", path.display()));
            Recording {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                fault: told("fault").to_owned(),
                exit: told("exit").parse().unwrap(),
                file: value("file").map(|name| (name.to_owned(), yaml)),
                said,
            }
        })
        .collect()
}

#[test]
fn there_are_at_least_sixty_real_failures() {
    let all = recordings();
    assert!(all.len() >= 60, "{}", all.len());
    let with_file = all.iter().filter(|recording| recording.file.is_some()).count();
    println!("{} recorded outputs, {with_file} of them with their environment file", all.len());
}

#[test]
fn what_is_said_of_each_is_this() {
    let mut table = String::new();
    for recording in recordings() {
        let verdict = classify(&recording.said, Some(recording.exit));
        let reason = verdict.reason;
        assert!(robotimage_crds::build::Step::Resolve.may_report(reason), "{}", recording.name);
        let at = recording.file.as_ref().and_then(|(name, text)| {
            let specification = environment::parse(name, text).ok()?;
            specification.blame(verdict.subject.as_deref()?)
        });
        let failure = Failure::new(reason, verdict.message);
        let (what, advice) = failure.advice();
        let advice = advice.unwrap_or_else(|| panic!("{}: nobody is told what to do: {what}", recording.name));
        assert!(what.len() < 600 && !what.contains('\n'), "{}: {what}", recording.name);
        let (retry, at) = (
            if reason.retryable() { "tried again" } else { "final" },
            at.map(|at| at.to_string()),
        );
        let place = at.unwrap_or_else(|| "-".to_owned());
        let (owner, code) = (reason.owner().as_str(), reason.exit_code());
        let lines = [
            format!("{}: {}", recording.name, recording.fault),
            format!("  {reason}, {owner}, {retry}, exit code {code}"),
            format!("  {place}"),
            format!("  {what}"),
            format!("  {advice}\n"),
        ];
        table.push_str(&lines.join("\n"));
    }
    insta::assert_snapshot!(table);
}
