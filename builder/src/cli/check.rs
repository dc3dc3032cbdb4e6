//! `robotimage check`: everything that would end a build, and everything that will surprise at run time.

use robotimage_crds::reason::Reason;
use serde::Serialize;

use super::args::CheckArgs;
use super::build::LIMITS;
use super::output::{failed, print, to_json};
use crate::failure::Failure;
use crate::robot::check::{Finding, Severity, check};
use crate::source::LocalSource;
use crate::steps::prepare;

#[derive(Serialize)]
struct Document<'a> {
    ok: bool,
    findings: &'a [Finding],
}

pub(super) fn run(args: &CheckArgs) -> u8 {
    if !args.dir.is_dir() {
        let message = format!("{} is no folder; give the one with the robot", args.dir.display());
        return failed(&Failure::new(Reason::SourceNotFound, message), args.json);
    }
    let mut findings = check(&args.dir, &args.robot, args.task.as_deref());
    findings.extend(refused(args));
    let error = findings.iter().find(|finding| finding.severity == Severity::Error);
    if args.json {
        let document = Document {
            ok: error.is_none(),
            findings: &findings,
        };
        print(&to_json(&document));
    } else {
        print(&text(&args.robot, &findings));
    }
    error.map_or(0, |finding| finding.reason.unwrap_or(Reason::RobotYamlInvalid).exit_code())
}

/// What a build would refuse of the files around a robot that is good itself: a link out of the folder, too many bytes.
fn refused(args: &CheckArgs) -> Option<Finding> {
    let prepared = prepare::robot(&args.dir, &args.robot, args.task.as_deref()).ok()?;
    let artifacts = prepared.facts.artifacts_to_skip();
    let failure = Failure::from(LocalSource::scan(&args.dir, artifacts.as_deref(), LIMITS).err()?);
    Some(Finding {
        severity: Severity::Error,
        reason: Some(failure.reason),
        file: ".".to_owned(),
        line: 0,
        column: 0,
        message: failure.message,
        advice: String::new(),
    })
}

fn text(robot: &str, findings: &[Finding]) -> String {
    let mut lines = Vec::new();
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let place = match (finding.line, finding.column) {
            (0, _) => finding.file.clone(),
            (line, column) => format!("{}:{line}:{column}", finding.file),
        };
        lines.push(format!("{severity}: {place}: {}", finding.message));
        if !finding.advice.is_empty() {
            lines.push(format!("  {}", finding.advice));
        }
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    lines.push(match (errors, findings.len() - errors) {
        (0, 0) => format!("{robot}: good"),
        (0, warnings) => format!("{robot}: can be built, {warnings} warning(s)"),
        (errors, warnings) => format!("{robot}: cannot be built: {errors} error(s), {warnings} warning(s)"),
    });
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What programs read: a field that goes or changes its name is seen here.
    #[test]
    fn the_json_shape_is_this() {
        let folder = tempfile::tempdir().unwrap();
        let robot = "tasks:\n  Say: {shell: python say.py}\ncondaConfigFile: conda.yaml\nartifactsDir: output\npreRunScript: []\n";
        std::fs::write(folder.path().join("robot.yaml"), robot).unwrap();
        let findings = check(folder.path(), "robot.yaml", None);
        let document = Document {
            ok: false,
            findings: &findings,
        };
        insta::assert_json_snapshot!(document);
    }
}
