//! What `robotimage check` says about a robot: everything that would end a build, and everything that will surprise at run time.

use std::fmt;
use std::path::Path;

use robotimage_crds::reason::Reason;
use serde::Serialize;

use super::environment::{self, Specification};
use super::error::{Error, Location};
use super::model::{Robot, load};
use super::yaml::{self, Node};
use super::{file, path};
use crate::failure::Failure;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The build would end with it.
    Error,
    /// The build works; the image may not do what its author expects.
    Warning,
}

/// One thing to know about a robot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The reason a build would end with; only for errors.
    #[serde(serialize_with = "reason", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The file, relative to the context.
    pub file: String,
    /// Line from 1, or 0 for the whole file.
    pub line: usize,
    /// Column from 1, or 0 for the whole file.
    pub column: usize,
    /// What is the matter.
    pub message: String,
    /// What to do; empty where the message says it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

#[expect(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn reason<S: serde::Serializer>(reason: &Option<Reason>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(reason.map_or("", Reason::as_str))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Location {
            file: self.file.clone(),
            line: self.line,
            column: self.column,
        };
        write!(f, "{at}: {}", self.message)?;
        if !self.advice.is_empty() {
            write!(f, "; {}", self.advice)?;
        }
        Ok(())
    }
}

/// Checks the robot `file` of the folder `context`, and that `task` can be chosen. Errors come first.
pub fn check(context: &Path, file: &str, task: Option<&str>) -> Vec<Finding> {
    let mut findings = Findings(Vec::new());
    match load(context, file) {
        Err(error) => findings.error(&error),
        Ok(robot) => {
            if let Err(error) = robot.select_task(task) {
                findings.error_at(&error, robot.document.get("tasks"));
            }
            findings.robot(context, &robot);
            findings.environment(context, &robot);
        }
    }
    findings.0.sort_by_key(|finding| finding.severity);
    findings.0
}

struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, error: &Error) {
        let at = error.location();
        let text = error.to_string();
        let failure = Failure::new(error.reason(), text.strip_prefix(&format!("{at}: ")).unwrap_or(&text));
        let (message, advice) = failure.advice();
        let general = if at.line > 0 { "correct this line" } else { "correct this file" };
        self.0.push(Finding {
            severity: Severity::Error,
            reason: Some(failure.reason),
            message: message.to_owned(),
            file: at.file,
            line: at.line,
            column: at.column,
            advice: advice.unwrap_or(general).to_owned(),
        });
    }

    /// The same for an error of the whole file whose cause has a place in it.
    fn error_at(&mut self, error: &Error, place: Option<&Node>) {
        self.error(error);
        if let (Some(finding), Some(place)) = (self.0.last_mut(), place.filter(|_| error.location().line == 0)) {
            (finding.line, finding.column) = (place.line, place.column);
        }
    }

    /// An environment file that is not there or may not be read: the place is the one where the robot names it.
    fn error_of_reference(&mut self, error: &Error, robot: &Robot) {
        let keys = ["environmentConfigs", "condaConfigFile"];
        let place = keys.iter().find_map(|key| robot.document.get(key));
        self.error_at(error, place);
        if let (Some(finding), Some(_), Error::Missing { .. } | Error::Rejected { .. }) = (self.0.last_mut(), place, error) {
            finding.file = robot.file.to_string_lossy().into_owned();
        }
    }

    fn warn(&mut self, file: &str, place: Option<&Node>, message: impl Into<String>, advice: &str) {
        self.0.push(Finding {
            severity: Severity::Warning,
            reason: None,
            file: file.to_owned(),
            line: place.map_or(0, |node| node.line),
            column: place.map_or(0, |node| node.column),
            message: message.into(),
            advice: advice.to_owned(),
        });
    }

    fn robot(&mut self, context: &Path, robot: &Robot) {
        const KNOWN: [&str; 9] = [
            "tasks",
            "devTasks",
            "condaConfigFile",
            "environmentConfigs",
            "preRunScripts",
            "ignoreFiles",
            "artifactsDir",
            "PATH",
            "PYTHONPATH",
        ];
        let name = robot.file.to_string_lossy().into_owned();
        let mut seen: Vec<&str> = Vec::new();
        for (key, _) in robot.document.pairs() {
            let Some(text) = key.text() else { continue };
            if !KNOWN.contains(&text) {
                self.unknown_key(&name, key, text, &KNOWN);
            } else if seen.contains(&text) {
                self.warn(
                    &name,
                    Some(key),
                    format!("{text:?} stands here again"),
                    "keep one: rcc takes the last",
                );
            }
            seen.push(text);
        }
        for (at, task) in robot.tasks.iter().enumerate() {
            let same = |other: &&super::model::Task| other.name.text.trim().to_lowercase() == task.name.text.trim().to_lowercase();
            if robot.tasks[..at].iter().any(|other| same(&other)) {
                let message = format!("task {:?} differs from another one in case or blanks only", task.name.text);
                self.warn(&name, None, message, "rename one: rcc may take either");
            }
            let shell = ["&&", "||", "|", ">", "<", ";", "$("];
            if shlex::split(&task.shell).is_some_and(|words| words.iter().any(|word| shell.contains(&word.as_str()))) {
                let message = format!("task {:?} uses operators of a shell, and rcc runs no shell", task.name.text);
                self.warn(&name, None, message, "write bash -c '...' around it");
            }
        }
        for (key, entries) in [("PATH", &robot.path), ("PYTHONPATH", &robot.python_path)] {
            for entry in entries {
                let place = robot.document.get(key);
                match path::join(&robot.folder, entry) {
                    None => self.warn(
                        &name,
                        place,
                        format!("{key} entry {entry:?} leads out of the source"),
                        "it is not in the image",
                    ),
                    Some(_) if entry.contains('\\') || entry.get(1..2) == Some(":") => {
                        self.warn(
                            &name,
                            place,
                            format!("{key} entry {entry:?} is a Windows path"),
                            "it is not in the image",
                        );
                    }
                    Some(folder) if !context.join(&folder).exists() => {
                        self.warn(
                            &name,
                            place,
                            format!("{key} entry {entry:?} does not exist"),
                            "remove it, or add the folder",
                        );
                    }
                    Some(_) => {}
                }
            }
        }
        self.artifacts(&name, robot);
        for script in &robot.pre_run {
            if script.contains("pip install") || script.contains("uv pip") {
                let place = robot.document.get("preRunScripts");
                let message = format!("preRunScripts {script:?} installs packages at run time, which a sealed environment refuses");
                self.warn(&name, place, message, "list the packages in the environment file");
            }
        }
        if file::is_file(context, &robot.folder.join("hololib.zip")).unwrap_or(false) {
            self.warn(
                &name,
                None,
                "hololib.zip lies beside the robot file",
                "it is left out of the image, which has its environment sealed in",
            );
        }
    }

    fn unknown_key(&mut self, file: &str, key: &Node, text: &str, known: &[&str]) {
        let plain = |text: &str| text.to_lowercase().replace(['-', '_'], "");
        let meant = known
            .iter()
            .find(|known| distance(&plain(known), &plain(text)) <= 2)
            .map_or_else(|| "take it out".to_owned(), |known| format!("write {known}, if that is meant"));
        self.warn(
            file,
            Some(key),
            format!("{text:?} is not a key that rcc knows, and is ignored"),
            &meant,
        );
    }

    fn artifacts(&mut self, name: &str, robot: &Robot) {
        let place = robot.document.get("artifactsDir");
        let artifacts = robot.artifacts_path();
        if robot.folder.starts_with(&artifacts) {
            let message = format!("artifactsDir {:?} is or holds the robot's code", robot.artifacts_dir());
            self.warn(
                name,
                place,
                message,
                "on a read-only root file system it cannot be written; use a folder of its own, such as output",
            );
        }
        if robot.artifacts_dir().starts_with('/') {
            let message = format!(
                "artifactsDir {:?} is absolute, and rcc puts it below the robot's folder",
                robot.artifacts_dir()
            );
            self.warn(name, place, message, "write it relative");
        }
        let freeze = artifacts.join("environment_linux_amd64_freeze.yaml");
        let listed = robot
            .environments
            .iter()
            .any(|entry| path::join(&robot.folder, &entry.text).is_some_and(|entry| entry == freeze));
        if listed {
            let message = "environmentConfigs names the freeze file that rcc writes at each run, so that a second run would choose another environment";
            let place = robot.document.get("environmentConfigs");
            self.warn(name, place, message, "keep the frozen file outside artifactsDir");
        }
    }

    fn environment(&mut self, context: &Path, robot: &Robot) {
        let chosen = match robot.environment_file(context) {
            Ok(Some(chosen)) => chosen,
            Ok(None) => return,
            Err(error) => return self.error_of_reference(&error, robot),
        };
        let name = chosen.relative.to_string_lossy().into_owned();
        let specification = match environment::parse(&name, &chosen.text) {
            Ok(specification) => specification,
            Err(error) => return self.error(&error),
        };
        if let Err(error) = specification.local_files(context, robot.folder()) {
            self.error(&error);
        }
        self.keys(&name, &chosen.text);
        self.specification(&name, &specification);
    }

    /// Keys of the environment file that rcc does not read: a list under a misspelt one is silently empty.
    fn keys(&mut self, name: &str, text: &str) {
        const CONDA: [&str; 5] = ["name", "channels", "prefix", "dependencies", "rccPostInstall"];
        const PACKAGE: [&str; 12] = [
            "name",
            "description",
            "version",
            "documentation",
            "dependencies",
            "dev-dependencies",
            "dev-tasks",
            "post-install",
            "packaging",
            "pythonpath",
            "external-endpoints",
            "spec-version",
        ];
        let base = name.rsplit('/').next().unwrap_or(name);
        let known: &[&str] = if base.eq_ignore_ascii_case("package.yaml") {
            &PACKAGE
        } else {
            &CONDA
        };
        // It was read before, so it can be read again.
        let Ok(document) = yaml::read(text) else { return };
        for (key, _) in document.pairs() {
            if let Some(text) = key.text().filter(|text| !known.contains(text)) {
                self.unknown_key(name, key, text, known);
            }
        }
    }

    fn specification(&mut self, name: &str, specification: &Specification) {
        let at = |at: Location, message: String, advice: &str| Finding {
            severity: Severity::Warning,
            reason: None,
            file: at.file,
            line: at.line,
            column: at.column,
            message,
            advice: advice.to_owned(),
        };
        for entry in specification.dropped() {
            self.0
                .push(at(entry.at.clone(), format!("{:?} is left out by rcc", entry.entry), &entry.why));
        }
        for entry in specification.floating() {
            let message = format!("{entry:?} leaves the version open");
            self.0.push(at(
                specification.place(entry),
                message,
                "pin it (python=3.11.7, rich==13.7.1), or another day gives another image",
            ));
        }
        for command in specification.post_install() {
            let browsers = ["playwright install", "rfbrowser init", "rfbrowser-init"];
            if browsers.iter().any(|browser| command.contains(browser)) {
                let message = format!("{command:?} downloads browsers outside the environment");
                self.0.push(at(
                    specification.place(command),
                    message,
                    "the image holds what lies inside the environment: set PLAYWRIGHT_BROWSERS_PATH=0 in the command's script",
                ));
            }
        }
        if specification.is_uv_native() {
            let message = "no channels, python and uv make a uv-native environment, which rcc 17 and 19 do not know";
            self.warn(name, None, message, "use an rcc of line 18 from 18.17 on, or name a channel");
        } else if specification.channels().is_empty() && !specification.conda().is_empty() {
            self.warn(
                name,
                None,
                "no channel is named, so that no package can be found",
                "add channels: [conda-forge]",
            );
        }
    }
}

/// How many letters must be added, taken out or changed to make one word the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut corner = row[0];
        row[0] = line + 1;
        for column in 0..other.len() {
            let changed = corner + usize::from(letter != other[column]);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests;
