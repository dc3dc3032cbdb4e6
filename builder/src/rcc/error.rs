//! Why the rcc binary is of no use, or said no.

use std::io;
use std::path::PathBuf;

use robotimage_crds::reason::Reason;

use crate::failure::Failure;

/// Why a call of rcc gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary or its scratch folder cannot be used.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It did not answer as rcc does.
    #[error("{path:?} does not answer as rcc does ({problem}); name the rcc binary for Linux x86-64, version 17 to 19")]
    NotRcc {
        /// The binary.
        path: PathBuf,
        /// What it did.
        problem: String,
    },
    /// rcc refused the environment file.
    #[error("rcc cannot read the environment file {file:?}: {said}")]
    EnvironmentFile {
        /// The file.
        file: PathBuf,
        /// What rcc said.
        said: String,
    },
    /// The platform's settings cannot be read.
    #[error("the platform's {file} is not valid: {problem}")]
    Settings {
        /// Which of its files.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Error {
    /// Why a build ends with it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Io { .. } | Self::NotRcc { .. } | Self::Settings { .. } => Reason::RccUnavailable,
            Self::EnvironmentFile { .. } => Reason::EnvironmentFileInvalid,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error.reason(), error.to_string())
    }
}
