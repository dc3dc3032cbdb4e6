//! A ConfigMap as the source: it is mounted, each key a file.
//!
//! Invariant: what is written is one state of it, however the cluster changes it meanwhile.

use std::io::Write as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::archive::{Target, Writer};
use super::error::SourceError;
use super::tree::io;
use super::{Checkout, tree_of};

/// The link to the present state, which the kubelet sets at once.
const STATE: &str = "..data";

/// Copies the files of the ConfigMap `name`, mounted at `mounted`. One that is missing is an empty folder there.
pub fn copy(name: &str, mounted: &Path, target: Target<'_>) -> Result<Checkout, SourceError> {
    let state = mounted.join(STATE);
    let state = match std::fs::canonicalize(&state) {
        Ok(state) => state,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(missing(name)),
        Err(source) => return Err(io("read", &state, source)),
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&state).map_err(|source| io("list", &state, source))? {
        names.push(entry.map_err(|source| io("list", &state, source))?.file_name());
    }
    if names.is_empty() {
        return Err(missing(name));
    }
    names.sort();
    let (mut writer, mut hasher) = (Writer::new(target), Sha256::new());
    for name in names {
        let at = state.join(&name);
        let content = std::fs::read(&at).map_err(|source| io("read", &at, source))?;
        let name = name.as_encoded_bytes();
        for part in [name, content.as_slice()] {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        if let Some(mut file) = writer.file(name, false, content.len() as u64)? {
            file.write_all(&content).map_err(|source| io("write", target.into, source))?;
        }
    }
    let written = writer.finish()?;
    Ok(Checkout {
        commit: hex::encode(hasher.finalize()),
        reference: name.to_owned(),
        tree: tree_of(target.into, target.limits)?,
        author: String::new(),
        message: String::new(),
        bytes: written.bytes,
        entries: written.entries,
    })
}

fn missing(name: &str) -> SourceError {
    SourceError::Missing {
        what: format!("ConfigMap {name}"),
        problem: "it does not exist in the namespace of the RobotImage, or has no keys".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::super::tree::Limits;
    use super::*;

    /// A folder as the kubelet makes it.
    fn mounted(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("..2026_03_01");
        std::fs::create_dir(&state).unwrap();
        std::os::unix::fs::symlink("..2026_03_01", folder.path().join(STATE)).unwrap();
        for (name, content) in files {
            std::fs::write(state.join(name), content).unwrap();
            std::os::unix::fs::symlink(format!("{STATE}/{name}"), folder.path().join(name)).unwrap();
        }
        folder
    }

    fn take(mounted: &Path, into: &Path, path: &str) -> Result<Checkout, SourceError> {
        let interrupt = AtomicBool::new(false);
        let limits = Limits { bytes: 100, entries: 3 };
        copy(
            "robot-files",
            mounted,
            Target {
                of: "ConfigMap robot-files",
                path,
                limits,
                into,
                interrupt: &interrupt,
            },
        )
    }

    #[test]
    fn keys_are_files() {
        let into = tempfile::tempdir().unwrap();
        let folder = mounted(&[("robot.yaml", b"tasks: {}\n"), ("data.bin", b"\0\xff")]);
        let found = take(folder.path(), into.path(), "").unwrap();
        assert_eq!((found.reference.as_str(), found.bytes, found.entries), ("robot-files", 12, 2));
        assert_eq!(std::fs::read(into.path().join("data.bin")).unwrap(), b"\0\xff");
        let other = mounted(&[("robot.yaml", b"tasks: {}\n"), ("data.bin", b"\0\xfe")]);
        let into = tempfile::tempdir().unwrap();
        assert_ne!(take(other.path(), into.path(), "").unwrap().commit, found.commit);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let nothing = tempfile::tempdir().unwrap();
        let empty = mounted(&[]);
        let whiteout = mounted(&[(".wh.x", b"")]);
        let large = mounted(&[("a", &[0; 101])]);
        let good = mounted(&[("a", b"")]);
        for (folder, path, reason, said) in [
            (&nothing, "", "SourceNotFound", "ConfigMap robot-files"),
            (&empty, "", "SourceNotFound", "has no keys"),
            (&whiteout, "", "SourceRejected", ".wh.x"),
            (&large, "", "SourceTooLarge", "\"a\""),
            (&good, "sub", "SourcePathNotFound", "it begins with \"a\""),
        ] {
            let into = tempfile::tempdir().unwrap();
            let error = take(folder.path(), into.path(), path).unwrap_err();
            assert_eq!(error.reason().as_str(), reason, "{error}");
            assert!(error.to_string().contains(said), "{error}");
        }
    }
}
