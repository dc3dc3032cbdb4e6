//! robot.yaml as a model, with rcc's own rules of what is valid.

use std::path::{Path, PathBuf};

use super::error::{Error, Location, Role};
use super::file;
use super::path;
use super::yaml::{self, Node, Value};

/// A robot file that rcc would run.
#[derive(Clone, Debug)]
pub struct Robot {
    pub(super) file: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) tasks: Vec<Task>,
    pub(super) conda_config: Text,
    pub(super) environments: Vec<Text>,
    pub(super) artifacts: Text,
    pub(super) pre_run: Vec<String>,
    pub(super) ignore_files: Vec<String>,
    pub(super) path: Vec<String>,
    pub(super) python_path: Vec<String>,
    pub(super) document: Node,
}

/// A text and where it stands.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_field_names, reason = "a text is a text and its place")]
pub(super) struct Text {
    pub(super) text: String,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// One task.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) name: Text,
    pub(super) shell: String,
}

/// Reads the text of a robot file; `name` is its path relative to the context.
pub fn parse(text: &str, name: &str) -> Result<Robot, Error> {
    let reader = Reader {
        file: name,
        role: Role::Robot,
    };
    let document = reader.document(text)?;
    let file = path::join(Path::new(""), name).ok_or_else(|| Error::Rejected {
        role: Role::Robot,
        file: PathBuf::from(name),
        problem: "leads out of the source; the robot file must be inside the context",
    })?;
    let folder = file.parent().map(Path::to_path_buf).unwrap_or_default();
    let strings = |key| Ok::<_, Error>(reader.texts(&document, key)?.into_iter().map(|text| text.text).collect::<Vec<_>>());
    Ok(Robot {
        tasks: tasks(&reader, &document)?,
        conda_config: reader.text(&document, "condaConfigFile")?,
        environments: reader.texts(&document, "environmentConfigs")?,
        artifacts: {
            let artifacts = reader.text(&document, "artifactsDir")?;
            if artifacts.text.is_empty() {
                return Err(reader.invalid(None, "artifactsDir is required; add the line \"artifactsDir: output\""));
            }
            artifacts
        },
        pre_run: strings("preRunScripts")?,
        ignore_files: strings("ignoreFiles")?,
        path: strings("PATH")?,
        python_path: strings("PYTHONPATH")?,
        file,
        folder,
        document,
    })
}

/// Reads a robot file from disk. `file` is relative to the context.
pub fn load(context: &Path, file: &str) -> Result<Robot, Error> {
    let relative = path::join(Path::new(""), file).ok_or_else(|| Error::Rejected {
        role: Role::Robot,
        file: PathBuf::from(file),
        problem: "leads out of the source; the robot file must be inside the context",
    })?;
    let advice = "name the robot file relative to the source's folder (source.path and robot.file, or the command line's directory and -r)";
    let text = file::read(context, &relative, Role::Robot, advice)?;
    parse(&text, &relative.to_string_lossy())
}

impl Robot {
    /// The robot file, relative to the context.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The folder of the robot file, relative to the context; empty for the context itself. It is the working directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Names of the tasks, in their order.
    pub fn tasks(&self) -> Vec<&str> {
        self.tasks.iter().map(|task| task.name.text.as_str()).collect()
    }

    /// `artifactsDir` as it is written.
    pub fn artifacts_dir(&self) -> &str {
        &self.artifacts.text
    }

    /// The folder of the artifacts, relative to the context, as rcc joins it: an absolute one lands below the robot's folder
    /// too. One that leaves the context is the robot's folder.
    pub fn artifacts_path(&self) -> PathBuf {
        path::join(&self.folder, &self.artifacts.text).unwrap_or_else(|| self.folder.clone())
    }

    /// Entries of `PATH`, as written.
    pub fn paths(&self) -> &[String] {
        &self.path
    }

    /// Entries of `PYTHONPATH`, as written.
    pub fn python_paths(&self) -> &[String] {
        &self.python_path
    }

    /// The texts of the files that `ignoreFiles` names, which must be there.
    pub fn ignored(&self, context: &Path) -> Result<Vec<String>, Error> {
        let text = |name: &String| {
            let relative = path::join(&self.folder, name).ok_or_else(|| Error::Rejected {
                role: Role::Ignore,
                file: PathBuf::from(name),
                problem: "leads out of the source; ignoreFiles names files inside of it",
            })?;
            file::read(context, &relative, Role::Ignore, "add it, or take it out of ignoreFiles")
        };
        self.ignore_files.iter().map(text).collect()
    }

    /// Commands of `preRunScripts`, as written.
    pub fn pre_run_scripts(&self) -> &[String] {
        &self.pre_run
    }
}

fn tasks(reader: &Reader<'_>, document: &Node) -> Result<Vec<Task>, Error> {
    let mut found: Vec<Task> = Vec::new();
    // rcc decodes a second `tasks:` into the same map: later tasks join, equal names are replaced.
    let mut present = None;
    for (key, value) in document.pairs().iter().filter(|(key, _)| key.text() == Some("tasks")) {
        present = Some(key);
        match &value.value {
            Value::Mapping(_) | Value::Null => {}
            _ => return Err(reader.wrong(value, "tasks", "a mapping from names to tasks")),
        }
        for (name, definition) in value.pairs() {
            let task = task(reader, name, definition)?;
            found.retain(|other| other.name.text != task.name.text);
            found.push(task);
        }
    }
    if found.is_empty() {
        let message = "tasks must have at least one task, such as \"tasks: {Main: {shell: python task.py}}\"";
        return Err(reader.invalid(present, message));
    }
    Ok(found)
}

fn task(reader: &Reader<'_>, name: &Node, definition: &Node) -> Result<Task, Error> {
    let Some(text) = name.text() else {
        return Err(reader.wrong(name, "the name of a task", "text"));
    };
    if !matches!(definition.value, Value::Mapping(_) | Value::Null) {
        return Err(reader.wrong(definition, &format!("task {text:?}"), "a mapping"));
    }
    let shell = reader.text(definition, "shell")?.text;
    let forms = [
        !reader.text(definition, "robotTaskName")?.text.is_empty(),
        !shell.is_empty(),
        !reader.texts(definition, "command")?.is_empty(),
    ];
    if forms.into_iter().filter(|form| *form).count() != 1 {
        let message = format!("task {text:?} needs exactly one of robotTaskName, shell and command");
        return Err(reader.invalid(Some(name), message));
    }
    if shlex::split(&shell).is_none() {
        return Err(reader.invalid(Some(name), format!("the shell of task {text:?} has a quote that never ends")));
    }
    Ok(Task {
        name: Text::of(name, text),
        shell,
    })
}

impl Text {
    pub(super) fn of(node: &Node, text: &str) -> Self {
        Self {
            text: text.to_owned(),
            line: node.line,
            column: node.column,
        }
    }
}

/// Takes values out of a document, and says where they are wrong.
pub(super) struct Reader<'a> {
    pub(super) file: &'a str,
    pub(super) role: Role,
}

impl Reader<'_> {
    /// The document, which must be a mapping.
    pub(super) fn document(&self, text: &str) -> Result<Node, Error> {
        let document = yaml::read(text).map_err(|problem| Error::Invalid {
            role: self.role,
            at: Location {
                file: self.file.to_owned(),
                line: problem.line,
                column: problem.column,
            },
            message: problem.message,
        })?;
        match document.value {
            Value::Mapping(_) => Ok(document),
            Value::Null => Err(self.invalid(None, format!("the {} is empty", self.role))),
            _ => Err(self.wrong(&document, &format!("the {}", self.role), "a mapping")),
        }
    }

    /// A text; empty when it is not there.
    pub(super) fn text(&self, node: &Node, key: &str) -> Result<Text, Error> {
        let Some(value) = node.get(key) else {
            return Ok(Text::default());
        };
        let text = value.text().ok_or_else(|| self.wrong(value, key, "text"))?;
        Ok(Text::of(value, text))
    }

    /// A list of texts; empty when it is not there. One text stands for a list of one, as for rcc.
    pub(super) fn texts(&self, node: &Node, key: &str) -> Result<Vec<Text>, Error> {
        let Some(value) = node.get(key) else {
            return Ok(Vec::new());
        };
        match &value.value {
            Value::Null => Ok(Vec::new()),
            Value::Sequence(items) => items
                .iter()
                .map(|item| {
                    let text = item.text().ok_or_else(|| self.wrong(item, &format!("an entry of {key}"), "text"))?;
                    Ok(Text::of(item, text))
                })
                .collect(),
            _ => Err(self.wrong(value, key, "a list of texts")),
        }
    }

    pub(super) fn wrong(&self, node: &Node, what: &str, wanted: &str) -> Error {
        self.invalid(Some(node), format!("{what} must be {wanted}, and is {}", node.kind()))
    }

    pub(super) fn invalid(&self, node: Option<&Node>, message: impl Into<String>) -> Error {
        Error::Invalid {
            role: self.role,
            at: Location {
                file: self.file.to_owned(),
                line: node.map_or(0, |node| node.line),
                column: node.map_or(0, |node| node.column),
            },
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests;
