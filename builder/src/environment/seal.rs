//! What an environment must lose before it is the same wherever and whenever it was resolved.
//!
//! Times, temporary names, the builder's variables and umask go; what packages brought stays as it is. Invariant: doing it
//! twice changes nothing.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::error::Error;

/// Files of rcc that hold times and paths of the build, and that it does not need to run.
const DROPPED: [&str; 2] = ["rcc_plan.log", "rcc_activate.sh"];
/// Variables that a shell or the builder sets, not an activation script.
const BUILDER_VARIABLES: [&str; 8] = ["PWD", "OLDPWD", "SHLVL", "_", "MAMBA_ROOT_PREFIX", "MAMBA_EXE", "PATH", "BASH_ENV"];
/// Largest record of conda that is looked at; each lists the files of one package.
const MAX_RECORD: u64 = 64 << 20;

/// Makes a resolved environment independent of who resolved it, when and how.
pub fn normalise(sealed: &Path) -> Result<(), Error> {
    for name in DROPPED {
        remove(&sealed.join(name))?;
    }
    rewrite(&sealed.join("rcc_activate.json"), activation)?;
    let meta = sealed.join("conda-meta");
    if meta.is_dir() {
        rewrite(&meta.join("history"), |text| Ok(without_credentials(&history(text))))?;
        for entry in fs::read_dir(&meta).map_err(|source| tree("list", &meta, source))? {
            let path = entry.map_err(|source| tree("list", &meta, source))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                rewrite(&path, |text| Ok(without_credentials(text)))?;
            }
        }
    }
    walk(sealed, &mut |path, metadata| {
        let mode = metadata.permissions().mode() & 0o7777;
        let wanted = if metadata.is_dir() || (metadata.is_file() && mode & 0o100 != 0) {
            0o755
        } else if metadata.is_file() {
            0o644
        } else {
            return Ok(());
        };
        if mode != wanted {
            fs::set_permissions(path, fs::Permissions::from_mode(wanted)).map_err(|source| tree("make readable", path, source))?;
        }
        Ok(())
    })
}

/// Calls back for the folder and everything below it, parents first, no link followed. Folders are made readable on the way.
pub(super) fn walk(root: &Path, visit: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<(), Error>) -> Result<(), Error> {
    let mut folders = vec![root.to_path_buf()];
    let metadata = fs::symlink_metadata(root).map_err(|source| tree("read", root, source))?;
    visit(root, &metadata)?;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(|source| tree("list", &folder, source))? {
            let path = entry.map_err(|source| tree("list", &folder, source))?.path();
            let metadata = fs::symlink_metadata(&path).map_err(|source| tree("read", &path, source))?;
            visit(&path, &metadata)?;
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(())
}

pub(super) fn tree(action: &'static str, path: &Path, source: io::Error) -> Error {
    Error::Tree {
        action,
        path: path.to_path_buf(),
        source,
    }
}

/// Removes a file or a whole folder; one that is not there is as good.
pub(super) fn remove(path: &Path) -> Result<(), Error> {
    let done = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| tree("remove", path, source)),
    }
}

/// Replaces a text file's content, if that changes it. A missing file stays missing.
fn rewrite(path: &Path, change: impl Fn(&str) -> Result<String, &'static str>) -> Result<(), Error> {
    let rejected = |problem| Error::Rejected {
        path: PathBuf::from(path),
        problem,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(tree("read", path, error)),
        Ok(metadata) if !metadata.is_file() => return Err(rejected("must be a regular file")),
        Ok(metadata) if metadata.len() > MAX_RECORD => return Err(rejected("is larger than 64 MiB")),
        Ok(_) => {}
    }
    let text = fs::read_to_string(path).map_err(|source| tree("read", path, source))?;
    let changed = change(&text).map_err(rejected)?;
    if changed != text {
        // Removed first: two names may share the file's content in rcc's library.
        fs::remove_file(path)
            .and_then(|()| fs::write(path, changed))
            .map_err(|source| tree("write", path, source))?;
    }
    Ok(())
}

/// rcc_activate.json with what activation scripts set, sorted; the rest would reach the robot.
fn activation(text: &str) -> Result<String, &'static str> {
    let mut variables: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(text).map_err(|_| "is not the JSON of variables that rcc writes")?;
    variables.retain(|name, _| !BUILDER_VARIABLES.contains(&name.as_str()));
    let sorted: std::collections::BTreeMap<_, _> = variables.into_iter().collect();
    Ok(serde_json::to_string_pretty(&sorted).expect("invariant: JSON was read"))
}

/// conda-meta/history without the lines that hold the time and the command.
fn history(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("==>") && !line.starts_with("# cmd:"));
    lines.map(|line| format!("{line}\n")).collect::<Vec<_>>().concat()
}

/// The text with `scheme://user:password@host` cut to `scheme://host`, and conda's `/t/TOKEN/` to `/`.
fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after
            .find(|letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '<' | '>' | '\\'))
            .unwrap_or(after.len());
        let (address, remainder) = after.split_at(end);
        let host_end = address.find('/').unwrap_or(address.len());
        let host = address[..host_end].rsplit_once('@').map_or(&address[..host_end], |(_, host)| host);
        out.push_str(host);
        let path = &address[host_end..];
        match path.split_once("/t/") {
            Some((head, tail)) if tail.contains('/') => {
                out.push_str(head);
                out.push_str(&tail[tail.find('/').unwrap_or(0)..]);
            }
            _ => out.push_str(path),
        }
        rest = remainder;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn sealed() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str, mode: u32| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        write("rcc_plan.log", "times", 0o600);
        write("rcc_activate.sh", "times", 0o755);
        write(
            "rcc_activate.json",
            r#"{"_":"/x/rcc","PWD":"/x","SHLVL":"1","MAMBA_ROOT_PREFIX":"/opt/rcc","JAVA_HOME":"/opt/rcc/x"}"#,
            0o640,
        );
        write(
            "conda-meta/history",
            "==> 2026-11-23 06:12:42 <==\n# cmd: micromamba create\n# conda version: 3.8.0\n+https://u:p@c.example.com/linux-64::python\n",
            0o644,
        );
        write(
            "conda-meta/x.json",
            "{\"url\": \"https://c.example.com/t/abc-def/ch/x.conda\", \"mail\": \"a@b\"}",
            0o644,
        );
        write("bin/tool", "x", 0o4710);
        write("lib/data", "x", 0o600);
        symlink("/etc/passwd", folder.path().join("lib/link")).unwrap();
        folder
    }

    #[test]
    fn drops_what_differs_and_keeps_what_packages_brought() {
        let folder = sealed();
        normalise(folder.path()).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let mode = |name: &str| fs::symlink_metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o7777;
        assert!(!folder.path().join("rcc_plan.log").exists() && !folder.path().join("rcc_activate.sh").exists());
        assert_eq!(read("rcc_activate.json"), "{\n  \"JAVA_HOME\": \"/opt/rcc/x\"\n}");
        assert_eq!(
            read("conda-meta/history"),
            "# conda version: 3.8.0\n+https://c.example.com/linux-64::python\n"
        );
        assert_eq!(
            read("conda-meta/x.json"),
            "{\"url\": \"https://c.example.com/ch/x.conda\", \"mail\": \"a@b\"}"
        );
        assert_eq!((mode("bin/tool"), mode("lib/data"), mode("lib")), (0o755, 0o644, 0o755));
        assert_eq!(fs::read_link(folder.path().join("lib/link")).unwrap(), Path::new("/etc/passwd"));
    }

    #[test]
    fn twice_is_once() {
        let folder = sealed();
        let state = || {
            let mut state = Vec::new();
            walk(folder.path(), &mut |path, metadata| {
                let text = if metadata.is_file() {
                    fs::read_to_string(path).unwrap()
                } else {
                    String::new()
                };
                state.push((path.to_path_buf(), metadata.permissions().mode(), text));
                Ok(())
            })
            .unwrap();
            state.sort();
            state
        };
        normalise(folder.path()).unwrap();
        let once = state();
        normalise(folder.path()).unwrap();
        assert_eq!(state(), once);
    }

    #[test]
    fn hostile_records_are_refused() {
        let folder = sealed();
        fs::remove_file(folder.path().join("rcc_activate.json")).unwrap();
        symlink("/etc/passwd", folder.path().join("rcc_activate.json")).unwrap();
        assert!(normalise(folder.path()).unwrap_err().to_string().contains("must be a regular file"));
        fs::remove_file(folder.path().join("rcc_activate.json")).unwrap();
        fs::write(folder.path().join("rcc_activate.json"), "[]").unwrap();
        assert!(normalise(folder.path()).unwrap_err().to_string().contains("not the JSON"));
    }

    #[test]
    fn credentials_go_from_addresses_only() {
        for (text, clean) in [
            ("https://u:p@h/x", "https://h/x"),
            ("https://h/t/tok/ch", "https://h/ch"),
            ("a@b https://h/x@1", "a@b https://h/x@1"),
            ("\"https://u@h\", \"https://h/t/last\"", "\"https://h\", \"https://h/t/last\""),
            ("no address", "no address"),
        ] {
            assert_eq!(without_credentials(text), clean);
        }
    }
}
