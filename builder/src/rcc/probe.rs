//! Which rcc a binary is, and its own hash of an environment file.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::child::{Child, Ended, Limits};
use super::error::Error;
use super::settings::{Settings, environment};

/// How long `rcc version` and `rcc holotree hash` may take; they take a fraction of a second.
const TIMEOUT: Duration = Duration::from_mins(1);

/// A binary that answered as rcc does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rcc {
    /// Where it is.
    pub path: PathBuf,
    /// What it calls itself: `v19.0.2`.
    pub version: String,
    /// SHA-256 of the file, 64 hexadecimal digits.
    pub sha256: String,
}

impl Rcc {
    /// Asks the binary for its version. `scratch` is an existing folder that becomes its home. Nothing else is written, except
    /// that any rcc started by root makes an empty /opt/robocorp/ht.
    pub fn probe(path: &Path, scratch: &Path) -> Result<Self, Error> {
        // It runs in other folders than ours.
        let path = path.canonicalize().map_err(|source| Error::Io {
            action: "find",
            path: path.to_path_buf(),
            source,
        })?;
        let sha256 = digest(&path)?;
        let ended = call(&path, scratch, vec!["version".into()])?;
        let answer = String::from_utf8_lossy(&ended.stdout);
        // Version 17 says it on standard error.
        let said = answer
            .lines()
            .chain(ended.stderr.lines())
            .map(str::trim)
            .find(|line| is_version(line));
        match said {
            Some(version) if ended.status.success() => Ok(Self {
                path,
                version: version.to_owned(),
                sha256,
            }),
            _ => Err(Error::NotRcc {
                path,
                problem: match ended.stopped {
                    Some(_) => "no answer to `version` within a minute".to_owned(),
                    None => format!("`version` ended with {}", ended.status),
                },
            }),
        }
    }

    /// rcc's own hash of an environment file, 16 hexadecimal digits. The file's name decides its format.
    pub fn blueprint(&self, scratch: &Path, environment_file: &Path) -> Result<String, Error> {
        let file = absolute(environment_file)?;
        let arguments = vec!["holotree".into(), "hash".into(), file.into()];
        let ended = call(&self.path, scratch, arguments)?;
        let said = format!("{}\n{}", String::from_utf8_lossy(&ended.stdout), ended.stderr);
        if let Some(hash) = said.lines().find_map(blueprint_of) {
            return Ok(hash.to_owned());
        }
        if ended.stopped.is_some() || !said.contains("yaml") {
            return Err(Error::NotRcc {
                path: self.path.clone(),
                problem: format!("`holotree hash` ended with {}: {}", ended.status, last_line(&said)),
            });
        }
        Err(Error::EnvironmentFile {
            file: environment_file.to_path_buf(),
            said: last_line(&said),
        })
    }
}

fn call(program: &Path, scratch: &Path, arguments: Vec<OsString>) -> Result<Ended, Error> {
    let scratch = &absolute(scratch)?;
    Settings::default().write(scratch)?;
    let child = Child {
        program,
        arguments,
        environment: environment(scratch, scratch, scratch),
        folder: scratch,
    };
    let limits = Limits {
        deadline: Instant::now() + TIMEOUT,
        cancel: None,
    };
    child.run(&limits, &|_| {}).map_err(|source| Error::Io {
        action: "run",
        path: program.to_path_buf(),
        source,
    })
}

/// Without following links: the name of the file is a part of its meaning.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(|source| Error::Io {
        action: "find",
        path: path.to_path_buf(),
        source,
    })
}

fn is_version(line: &str) -> bool {
    line.len() <= 40
        && line.strip_prefix('v').is_some_and(|rest| {
            rest.starts_with(|letter: char| letter.is_ascii_digit()) && rest.split('.').count() >= 3 && !rest.contains(' ')
        })
}

/// `Blueprint hash for [conda.yaml] is 873a70b30de4a4c9.`
fn blueprint_of(line: &str) -> Option<&str> {
    let (_, hash) = line.trim().strip_prefix("Blueprint hash for ")?.rsplit_once(" is ")?;
    let hash = hash.trim_end_matches('.');
    (hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(hash)
}

fn last_line(said: &str) -> String {
    let line = said
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !line.starts_with("[rcc]"));
    line.unwrap_or("it said nothing").chars().take(300).collect()
}

fn digest(path: &Path) -> Result<String, Error> {
    let unreadable = |source| Error::Io {
        action: "read",
        path: path.to_path_buf(),
        source,
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => return Ok(hex::encode(hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// A program that is not rcc, for answers that no rcc gives.
    fn mock(script: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        (folder, path)
    }

    #[test]
    fn what_is_not_rcc_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        for (script, said) in [("echo hello", "does not answer as rcc does"), ("exit 7", "exit status: 7")] {
            let (_keep, path) = mock(script);
            let error = Rcc::probe(&path, scratch.path()).unwrap_err();
            assert!(error.to_string().contains(said), "{error}");
        }
        assert!(matches!(
            Rcc::probe(Path::new("/nonexistent"), scratch.path()),
            Err(Error::Io { .. })
        ));
        let (_keep, path) = mock("echo v1.2.3");
        assert_eq!(Rcc::probe(&path, scratch.path()).unwrap().version, "v1.2.3");
    }

    #[test]
    fn reads_the_answer_of_hash() {
        assert_eq!(
            blueprint_of("Blueprint hash for [a is b.yaml] is 873a70b30de4a4c9."),
            Some("873a70b30de4a4c9")
        );
        for line in ["", "Blueprint hash for [x] is unknown.", "hash is 873a70b30de4a4c9"] {
            assert_eq!(blueprint_of(line), None);
        }
    }
}
