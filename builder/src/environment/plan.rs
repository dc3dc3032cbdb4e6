//! What rcc's plan tells that the environment itself does not: which packages were built here from source.

use std::path::Path;

use rustix::fs::FileType;

use super::error::Error;
use super::seal::tree;
use super::tree::Folder;

/// Largest plan or record that is read.
const MAX_BYTES: u64 = 64 << 20;

/// Packages that were built from source and hold shared libraries: these differ at every build.
pub(super) fn not_reproducible(sealed: &Path) -> Result<Vec<String>, Error> {
    let unreadable = |path: &Path, source| tree("read", path, source);
    let root = Folder::open(sealed).map_err(|source| unreadable(sealed, source))?;
    let plan = root
        .read("rcc_plan.log", MAX_BYTES)
        .map_err(|source| unreadable(&sealed.join("rcc_plan.log"), source))?;
    let built = built(&String::from_utf8_lossy(&plan.unwrap_or_default()));
    let mut found = Vec::new();
    if built.is_empty() {
        return Ok(found);
    }
    let Some(lib) = root.folder("lib").map_err(|source| unreadable(sealed, source))? else {
        return Ok(found);
    };
    for python in lib.entries().map_err(|source| unreadable(lib.path(), source))? {
        let python = lib.folder(&python.name).map_err(|source| unreadable(lib.path(), source))?;
        let Some(site) = python
            .and_then(|python| python.folder("site-packages").transpose())
            .transpose()
            .map_err(|source| unreadable(lib.path(), source))?
        else {
            continue;
        };
        for entry in site.entries().map_err(|source| unreadable(site.path(), source))? {
            let name = entry.name.to_string_lossy().into_owned();
            let Some(package) = name
                .strip_suffix(".dist-info")
                .and_then(|name| name.split_once('-'))
                .map(|(package, _)| normal(package))
            else {
                continue;
            };
            if entry.kind != FileType::Directory || !built.contains(&package) {
                continue;
            }
            let Some(info) = site.folder(&entry.name).map_err(|source| unreadable(site.path(), source))? else {
                continue;
            };
            let record = info
                .read("RECORD", MAX_BYTES)
                .map_err(|source| unreadable(info.path(), source))?
                .unwrap_or_default();
            let record = String::from_utf8_lossy(&record).into_owned();
            if record.lines().any(|line| {
                line.split(',')
                    .next()
                    .is_some_and(|file| Path::new(file).extension().is_some_and(|extension| extension == "so"))
            }) {
                found.push(package);
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Names after pip's `Building wheels for collected packages: a, b` and setup.py's older line.
fn built(plan: &str) -> Vec<String> {
    let mut names = Vec::new();
    for line in plan.lines() {
        let line = line.trim();
        if let Some(list) = line.strip_prefix("Building wheels for collected packages: ") {
            names.extend(list.split(", ").map(normal));
        } else if let Some(name) = line.strip_prefix("Running setup.py install for ") {
            names.extend(name.split([':', ' ']).next().map(normal));
        }
    }
    names
}

fn normal(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', '.'], "-")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn only_what_was_built_here_and_holds_libraries() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(not_reproducible(folder.path()).unwrap(), [] as [&str; 0]);
        write(
            "rcc_plan.log",
            "Building wheels for collected packages: Native_Thing, pure\nRunning setup.py install for old: started\n",
        );
        write(
            "lib/python3.11/site-packages/native_thing-1.0.dist-info/RECORD",
            "native_thing/_c.cpython-311-x86_64-linux-gnu.so,sha256=x,1\n",
        );
        write("lib/python3.11/site-packages/pure-1.0.dist-info/RECORD", "pure/__init__.py,,\n");
        write("lib/python3.11/site-packages/wheel_native-1.0.dist-info/RECORD", "x.so,,\n");
        assert_eq!(not_reproducible(folder.path()).unwrap(), ["native-thing"]);
    }
}
