//! What can be wrong with a robot's files, each with the place and the cure.

use std::fmt;
use std::io;
use std::path::PathBuf;

use robotimage_crds::reason::Reason;

use crate::failure::Failure;

/// A place in a file. Lines and columns count from 1; 0 means the whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    /// The file, relative to the context.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// Which of the robot's files is meant; it decides the reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// robot.yaml, and the code beside it.
    Robot,
    /// conda.yaml or package.yaml, and what it names.
    Environment,
    /// A file that robot.yaml's `ignoreFiles` names.
    Ignore,
}

impl Role {
    fn reason(self) -> Reason {
        match self {
            Self::Robot | Self::Ignore => Reason::RobotYamlInvalid,
            Self::Environment => Reason::EnvironmentFileInvalid,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Robot => "robot file",
            Self::Environment => "environment file",
            Self::Ignore => "ignore file",
        })
    }
}

/// Why a robot cannot be built as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not exist.
    #[error("{role} {file:?} does not exist; {advice}")]
    Missing {
        /// Which file.
        role: Role,
        /// Relative to the context.
        file: PathBuf,
        /// The cure.
        advice: String,
    },
    /// The file exists and cannot be read.
    #[error("cannot read {file:?}: {source}")]
    Unreadable {
        /// Which file.
        role: Role,
        /// Relative to the context.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path, or the target of a link on it, is outside the context, or not a regular file.
    #[error("{file:?} {problem}")]
    Rejected {
        /// Which file.
        role: Role,
        /// As written.
        file: PathBuf,
        /// What is wrong, with the cure.
        problem: &'static str,
    },
    /// The content is wrong.
    #[error("{at}: {message}")]
    Invalid {
        /// Which file.
        role: Role,
        /// Where in it.
        at: Location,
        /// What is wrong, with the cure.
        message: String,
    },
    /// A task is asked for that the robot does not have.
    #[error("{file} has no task {wanted:?}; its tasks are {}", quoted(.tasks))]
    TaskUnknown {
        /// The robot file.
        file: String,
        /// What was asked for.
        wanted: String,
        /// What there is.
        tasks: Vec<String>,
    },
    /// Several tasks, and none chosen.
    #[error("{file} has {} tasks and none is chosen; choose one of {} (robot.task in the resource, --task on the command line)", .tasks.len(), quoted(.tasks))]
    TaskOpen {
        /// The robot file.
        file: String,
        /// What there is.
        tasks: Vec<String>,
    },
}

impl Error {
    /// Why a build ends with it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Missing { role, .. } | Self::Unreadable { role, .. } | Self::Rejected { role, .. } | Self::Invalid { role, .. } => {
                role.reason()
            }
            Self::TaskUnknown { .. } | Self::TaskOpen { .. } => Reason::RobotYamlInvalid,
        }
    }

    /// Where it is, as well as that is known.
    pub fn location(&self) -> Location {
        match self {
            Self::Invalid { at, .. } => at.clone(),
            Self::Missing { file, .. } | Self::Unreadable { file, .. } | Self::Rejected { file, .. } => Location {
                file: file.display().to_string(),
                ..Location::default()
            },
            Self::TaskUnknown { file, .. } | Self::TaskOpen { file, .. } => Location {
                file: file.clone(),
                ..Location::default()
            },
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}

/// At most this many tasks are listed in a message.
const LISTED: usize = 12;

fn quoted(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(LISTED)
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > LISTED {
        text = format!("{text} and {} more", names.len() - LISTED);
    }
    text
}
