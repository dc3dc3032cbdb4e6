//! Files of the robot that its environment file names: resolve sees these and no other of its files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Specification;
use crate::robot::error::{Error, Role};
use crate::robot::file;
use crate::robot::path;

/// Most files that an environment file may reach, through the folders it names.
const MAX_FILES: usize = 20_000;

/// What an entry of the pip list names on disk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// A file or folder that pip needs.
    Needed(String),
    /// A folder where pip looks for more, if it is there.
    Optional(String),
    /// A file of further requirements: rcc writes its own list elsewhere, so pip cannot find this one.
    Requirements(String),
}

impl Specification {
    /// The regular files that pip entries and post-install commands name, relative to the context and sorted; a folder stands
    /// for all that is below it. `folder` is the robot's, in which rcc runs pip and the commands. Links are not followed.
    pub fn local_files(&self, context: &Path, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let mut found = BTreeSet::new();
        for entry in &self.pip {
            match named(entry) {
                None => {}
                Some(Named::Needed(part)) => {
                    let relative = self.inside(folder, entry, &part)?;
                    if !collect(context, &relative, &mut found)? {
                        return Err(self.wrong(
                            entry,
                            &format!("it names {part:?}, which is not in the source; add the file or correct the entry"),
                        ));
                    }
                }
                Some(Named::Optional(part)) => {
                    let relative = self.inside(folder, entry, &part)?;
                    collect(context, &relative, &mut found)?;
                }
                Some(Named::Requirements(part)) => {
                    let message = format!(
                        "rcc cannot pass {part:?} on to pip, which looks for it beside a list of rcc's own; write its lines into the environment file"
                    );
                    return Err(self.wrong(entry, &message));
                }
            }
        }
        for command in &self.post_install {
            for word in shlex::split(command).unwrap_or_default() {
                for part in [word.as_str(), word.split_once('=').map_or("", |(_, value)| value)] {
                    // A word may be anything; it names a file when there is one.
                    if part.is_empty() || part.contains("://") || part.starts_with('/') {
                        continue;
                    }
                    if let Some(relative) = path::join(folder, part) {
                        collect(context, &relative, &mut found)?;
                    }
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn inside(&self, folder: &Path, entry: &str, part: &str) -> Result<PathBuf, Error> {
        if part.starts_with('/') || part.contains('\\') || part.get(1..2) == Some(":") {
            return Err(self.wrong(
                entry,
                &format!("{part:?} is a path of one machine; put the file into the source and name it by a relative path"),
            ));
        }
        path::join(folder, part).ok_or_else(|| {
            self.wrong(
                entry,
                &format!("{part:?} leads out of the source; choose a folder further up as the context"),
            )
        })
    }

    fn wrong(&self, entry: &str, message: &str) -> Error {
        Error::Invalid {
            role: Role::Environment,
            at: self.place(entry),
            message: message.to_owned(),
        }
    }
}

/// Adds a file, or all files of a folder; false when there is neither.
fn collect(context: &Path, relative: &Path, found: &mut BTreeSet<PathBuf>) -> Result<bool, Error> {
    let unreadable = |path: &Path, source| Error::Unreadable {
        role: Role::Environment,
        file: path.to_path_buf(),
        source,
    };
    match file::resolve(context, relative) {
        Ok(Some(_)) => {}
        Ok(None) => {
            return Err(rejected(
                relative,
                "is a link that leads out of the source; put the file itself there",
            ));
        }
        Err(error) if file::missing(&error) => return Ok(false),
        Err(error) => return Err(unreadable(relative, error)),
    }
    let mut folders = vec![relative.to_path_buf()];
    while let Some(entry) = folders.pop() {
        let path = context.join(&entry);
        let metadata = fs::symlink_metadata(&path).map_err(|error| unreadable(&entry, error))?;
        if metadata.is_file() {
            found.insert(entry);
            if found.len() > MAX_FILES {
                return Err(rejected(relative, "is a folder of more than 20000 files; name a smaller one"));
            }
        } else if metadata.is_dir() {
            for item in fs::read_dir(&path).map_err(|error| unreadable(&entry, error))? {
                let name = item.map_err(|error| unreadable(&entry, error))?.file_name();
                if name != ".git" && name != "__pycache__" {
                    folders.push(entry.join(name));
                }
            }
        }
    }
    Ok(true)
}

fn rejected(file: &Path, problem: &'static str) -> Error {
    Error::Rejected {
        role: Role::Environment,
        file: file.to_path_buf(),
        problem,
    }
}

/// What an entry of the pip list names on disk, by its letters alone.
pub(super) fn named(entry: &str) -> Option<Named> {
    const ARCHIVES: [&str; 5] = [".whl", ".tar.gz", ".zip", ".tar.bz2", ".tgz"];
    let entry = entry
        .split(" ;")
        .next()
        .unwrap_or_default()
        .split(" #")
        .next()
        .unwrap_or_default()
        .trim();
    let option = |names: &[&str]| {
        names.iter().find_map(|name| {
            let rest = entry.strip_prefix(name)?;
            let value = rest.strip_prefix('=').unwrap_or(rest).trim();
            let separated = rest.starts_with([' ', '=', '\t']) || !name.starts_with("--");
            (separated && !value.is_empty() && !value.contains("://")).then(|| value.trim_matches(['"', '\'']).to_owned())
        })
    };
    if let Some(path) = option(&["--editable", "-e"]) {
        return Some(Named::Needed(plain(&path)));
    }
    if let Some(path) = option(&["--requirement", "--constraint", "-r", "-c"]) {
        return Some(Named::Requirements(path));
    }
    if let Some(path) = option(&["--find-links", "-f"]) {
        return Some(Named::Optional(path));
    }
    if entry.starts_with('-') {
        return None;
    }
    let target = entry.split_once(" @ ").map_or(entry, |(_, target)| target.trim());
    let target = target.split_whitespace().next().unwrap_or_default();
    if let Some(path) = target.strip_prefix("file:") {
        return Some(Named::Needed(plain(path.strip_prefix("//").unwrap_or(path))));
    }
    if target.contains("://") {
        return None;
    }
    let path = plain(target);
    let lower = path.to_lowercase();
    let is_path = path.starts_with('.') || path.contains(['/', '\\']) || ARCHIVES.iter().any(|archive| lower.ends_with(archive));
    is_path.then_some(Named::Needed(path))
}

/// A path without the extras behind it: `./package[test]`.
fn plain(path: &str) -> String {
    let without = path.split_once('[').filter(|(_, extras)| extras.ends_with(']'));
    without.map_or(path, |(path, _)| path).to_owned()
}
