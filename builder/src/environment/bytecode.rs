//! Bytecode in the sealed environment: Python starts several times faster, and writes nothing at run time.
//!
//! Invariant: every `.pyc` below `__pycache__` of the library is of the unchecked-hash kind, which Python neither compares with
//! its source nor rewrites.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::seal::{remove, tree, walk};
use crate::rcc::{Child, Ended, Limits};

/// Flags of a `.pyc` whose source is never looked at.
const UNCHECKED_HASH: [u8; 4] = [1, 0, 0, 0];

/// The library folders of the environment's Pythons: `lib/python3.11`, with their minor versions.
pub(super) fn libraries(sealed: &Path) -> Result<Vec<(PathBuf, u32)>, Error> {
    let lib = sealed.join("lib");
    let mut found = Vec::new();
    let entries = match fs::read_dir(&lib) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(tree("list", &lib, error)),
    };
    for entry in entries {
        let entry = entry.map_err(|source| tree("list", &lib, source))?;
        let name = entry.file_name();
        let minor = name.to_str().and_then(|name| name.strip_prefix("python3.")?.parse().ok());
        let kind = entry.file_type().map_err(|source| tree("read", &entry.path(), source))?;
        if let (Some(minor), true) = (minor, kind.is_dir()) {
            found.push((entry.path(), minor));
        }
    }
    found.sort();
    Ok(found)
}

/// Removes what bytecode there is, so that only ours is left, or none.
pub(super) fn clear(library: &Path) -> Result<(), Error> {
    let mut caches = Vec::new();
    walk(library, &mut |path, metadata| {
        if metadata.is_dir() && path.file_name().is_some_and(|name| name == "__pycache__") {
            caches.push(path.to_path_buf());
        }
        Ok(())
    })?;
    caches.iter().try_for_each(|cache| remove(cache))
}

/// Compiles a library with the environment's own Python, in one process and one order.
pub(super) fn compile(sealed: &Path, library: &Path, minor: u32, temp: &Path, limits: &Limits<'_>) -> Result<Ended, Error> {
    let python = sealed.join(format!("bin/python3.{minor}"));
    // Without -B the modules that compileall itself imports would be written with time stamps; without a fixed seed the order
    // of frozen sets would be random. -S and -s: no code of packages runs.
    let arguments = [
        "-B",
        "-S",
        "-s",
        "-m",
        "compileall",
        "-q",
        "-q",
        "-f",
        "-j",
        "1",
        "-r",
        "100",
        "--invalidation-mode",
        "unchecked-hash",
    ];
    let child = Child {
        program: &python,
        arguments: arguments.iter().map(Into::into).chain([library.into()]).collect(),
        environment: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("LANG".into(), "C.UTF-8".into()),
            ("HOME".into(), temp.into()),
            ("TMPDIR".into(), temp.into()),
            ("PYTHONHASHSEED".into(), "0".into()),
            ("PYTHONDONTWRITEBYTECODE".into(), "1".into()),
            ("PYTHONNOUSERSITE".into(), "1".into()),
        ],
        folder: sealed,
    };
    child.run(limits, &|_| {}).map_err(|source| tree("run", &python, source))
}

/// That every compiled module is of the kind that is never rewritten; returns how many there are.
pub(super) fn verify(library: &Path) -> Result<usize, Error> {
    let mut count = 0;
    walk(library, &mut |path, metadata| {
        let cached = path.parent().and_then(Path::file_name).is_some_and(|name| name == "__pycache__");
        if !metadata.is_file() || !cached || path.extension().is_none_or(|extension| extension != "pyc") {
            return Ok(());
        }
        let mut head = [0; 8];
        File::open(path)
            .and_then(|mut file| file.read_exact(&mut head))
            .map_err(|source| tree("read", path, source))?;
        if head[4..] != UNCHECKED_HASH {
            return Err(Error::Rejected {
                path: path.to_path_buf(),
                problem: "is bytecode that Python would check and rewrite; this is a bug of robotimage, build with environment.bytecode: false",
            });
        }
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_libraries_and_clears_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(libraries(folder.path()).unwrap(), []);
        let library = folder.path().join("lib/python3.11");
        fs::create_dir_all(library.join("a/__pycache__")).unwrap();
        fs::write(
            library.join("a/__pycache__/m.cpython-311.pyc"),
            b"\xa7\x0d\x0d\x0a\x01\x00\x00\x00rest",
        )
        .unwrap();
        fs::write(folder.path().join("lib/python3.12"), "a file").unwrap();
        assert_eq!(libraries(folder.path()).unwrap(), [(library.clone(), 11)]);
        assert_eq!(verify(&library).unwrap(), 1);
        for flags in [0_u8, 3] {
            fs::write(library.join("a/__pycache__/n.pyc"), [0xa7, 0x0d, 0x0d, 0x0a, flags, 0, 0, 0, 1]).unwrap();
            assert!(verify(&library).is_err());
        }
        clear(&library).unwrap();
        assert!(!library.join("a/__pycache__").exists());
        assert_eq!(verify(&library).unwrap(), 0);
    }
}
