//! Which packages an environment holds, by static reading alone: nothing of it is executed, no link is followed.

use std::io;
use std::path::Path;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::tree::Folder;

/// Largest record of a conda package: it lists every file.
pub(crate) const MAX_CONDA_RECORD: u64 = 64 << 20;
/// Largest METADATA of a Python package: its description is in it.
pub(crate) const MAX_METADATA: u64 = 16 << 20;

/// Who installed a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PackageKind {
    /// micromamba.
    Conda,
    /// pip or uv.
    Pip,
}

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name as it writes it.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Who installed it.
    pub kind: PackageKind,
}

#[derive(Deserialize)]
struct CondaRecord {
    name: String,
    version: String,
}

/// The packages of a sealed environment, sorted by name. One that conda installed is not listed again as Python's.
pub fn inventory(sealed: &Path) -> Result<Vec<Package>, Error> {
    let root = Folder::open(sealed).map_err(|source| unreadable(sealed, source))?;
    let (mut of_conda, mut of_pip) = (Vec::new(), Vec::new());
    if let Some(meta) = open(&root, "conda-meta")? {
        conda(&meta, &mut of_conda)?;
    }
    if let Some(lib) = open(&root, "lib")? {
        for entry in list(&lib)? {
            let name = entry.name.to_string_lossy().into_owned();
            if !name.starts_with("python3.") || entry.kind != FileType::Directory {
                continue;
            }
            let Some(python) = open(&lib, &name)? else { continue };
            if let Some(site) = open(&python, "site-packages")? {
                pip(&site, &mut of_pip)?;
            }
        }
    }
    Ok(merged(of_conda, of_pip))
}

fn conda(meta: &Folder, packages: &mut Vec<Package>) -> Result<(), Error> {
    for entry in list(meta)? {
        let name = entry.name.to_string_lossy().into_owned();
        if Path::new(&name).extension().is_none_or(|extension| extension != "json") || entry.kind != FileType::RegularFile {
            continue;
        }
        let path = meta.path().join(&name);
        let Some(bytes) = meta
            .read(&entry.name, MAX_CONDA_RECORD)
            .map_err(|source| unreadable(&path, source))?
        else {
            continue;
        };
        packages.push(conda_package(&bytes).map_err(|error| unreadable(&path, error))?);
    }
    Ok(())
}

fn pip(site: &Folder, packages: &mut Vec<Package>) -> Result<(), Error> {
    for entry in list(site)? {
        let name = entry.name.to_string_lossy().into_owned();
        if !name.ends_with(".dist-info") || entry.kind != FileType::Directory {
            continue;
        }
        let Some(info) = open(site, &name)? else { continue };
        let path = info.path().join("METADATA");
        let Some(bytes) = info.read("METADATA", MAX_METADATA).map_err(|source| unreadable(&path, source))? else {
            continue;
        };
        packages.push(pip_package(&bytes).map_err(|error| unreadable(&path, error))?);
    }
    Ok(())
}

/// The package that a record of conda-meta tells of.
pub(crate) fn conda_package(record: &[u8]) -> io::Result<Package> {
    let record: CondaRecord = serde_json::from_slice(record)?;
    Ok(package(&record.name, &record.version, PackageKind::Conda))
}

/// The package that a METADATA file tells of.
pub(crate) fn pip_package(metadata: &[u8]) -> io::Result<Package> {
    let text = String::from_utf8_lossy(metadata);
    let header = |key: &str| {
        let lines = text.lines().take_while(|line| !line.is_empty());
        lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case(key))
            .map(|(_, value)| value.trim().to_owned())
    };
    match (header("Name"), header("Version")) {
        (Some(name), Some(version)) => Ok(package(&name, &version, PackageKind::Pip)),
        _ => Err(io::Error::other("it has no Name or no Version")),
    }
}

/// The packages of both kinds as one list: sorted, each once, and what conda installed not again as Python's.
pub(crate) fn merged(conda: Vec<Package>, pip: Vec<Package>) -> Vec<Package> {
    let known: Vec<String> = conda.iter().map(|package| normal(&package.name)).collect();
    let mut packages = conda;
    packages.extend(pip.into_iter().filter(|package| !known.contains(&normal(&package.name))));
    packages.sort();
    packages.dedup();
    packages
}

/// Names and versions are shown: control characters and excess length go.
fn package(name: &str, version: &str, kind: PackageKind) -> Package {
    let clean = |text: &str| text.chars().filter(|letter| !letter.is_control()).take(200).collect();
    Package {
        name: clean(name),
        version: clean(version),
        kind,
    }
}

/// The form in which Python package names are compared.
fn normal(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

fn open(folder: &Folder, name: &str) -> Result<Option<Folder>, Error> {
    folder.folder(name).map_err(|source| unreadable(&folder.path().join(name), source))
}

fn list(folder: &Folder) -> Result<Vec<super::tree::Entry>, Error> {
    folder.entries().map_err(|source| unreadable(folder.path(), source))
}

fn unreadable(path: &Path, source: io::Error) -> Error {
    Error::Tree {
        action: "read",
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn lists_both_kinds_once() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "conda-meta/python-3.11.7-0.json",
            r#"{"name":"python","version":"3.11.7","files":["a"]}"#,
        );
        write("conda-meta/pip-23.json", r#"{"name":"pip","version":"23.2.1"}"#);
        write("conda-meta/history", "x");
        write(
            "lib/python3.11/site-packages/pip-23.2.1.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: pip\nVersion: 23.2.1\n",
        );
        write(
            "lib/python3.11/site-packages/rich-13.7.1.dist-info/METADATA",
            "Name: rich\r\nVersion: 13.7.1\r\n\r\nVersion: 5\n",
        );
        write("lib/python3.11/site-packages/empty.dist-info/RECORD", "");
        let found = inventory(folder.path()).unwrap();
        assert_eq!(
            found,
            [
                package("pip", "23.2.1", PackageKind::Conda),
                package("python", "3.11.7", PackageKind::Conda),
                package("rich", "13.7.1", PackageKind::Pip),
            ]
        );
        write("conda-meta/bad.json", "{");
        assert!(inventory(folder.path()).unwrap_err().to_string().contains("bad.json"));
    }

    #[test]
    fn links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join("conda-meta")).unwrap();
        fs::write(outside.path().join("conda-meta/x.json"), r#"{"name":"secret","version":"1"}"#).unwrap();
        symlink(outside.path().join("conda-meta"), folder.path().join("conda-meta")).unwrap();
        symlink(outside.path(), folder.path().join("lib")).unwrap();
        assert_eq!(inventory(folder.path()).unwrap(), []);
        symlink(outside.path(), folder.path().join("sealed")).unwrap();
        assert!(inventory(&folder.path().join("sealed")).is_err());
    }
}
