//! What rcc's FixRobot would do to the robot's files at its start, so that the image has it done already: a user who does not
//! own the files cannot.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{Error, Role};
use super::file;
use super::model::Robot;
use super::path;

/// Extensions of files that rcc never makes executable.
const PASSIVE: [&str; 15] = [
    "svg", "bmp", "png", "gif", "jpg", "jpeg", "md", "txt", "htm", "html", "csv", "yml", "yaml", "json", "robot",
];

/// One file that rcc would change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fix {
    /// The file, relative to the context.
    pub relative: PathBuf,
    /// Whether its carriage returns go.
    pub strip_cr: bool,
    /// Whether it becomes executable (0755).
    pub executable: bool,
}

/// The files directly in the robot's `PATH` folders that rcc would change, sorted. A folder that does not exist or is outside the
/// context has none.
pub fn executables(context: &Path, robot: &Robot) -> Result<Vec<Fix>, Error> {
    let mut fixes = Vec::new();
    for entry in robot.paths() {
        let Some(folder) = path::join(robot.folder(), entry) else {
            continue;
        };
        let unreadable = |source| Error::Unreadable {
            role: Role::Robot,
            file: folder.clone(),
            source,
        };
        let real = match file::resolve(context, &folder) {
            Ok(Some(real)) => real,
            Ok(None) => continue,
            Err(error) if file::missing(&error) => continue,
            Err(error) => return Err(unreadable(error)),
        };
        if !real.is_dir() {
            continue;
        }
        let root = context.canonicalize().map_err(unreadable)?;
        for item in fs::read_dir(&real).map_err(unreadable)? {
            let item = item.map_err(unreadable)?;
            // The names decide, the target of a link is what is changed.
            let Some((strip_cr, executable)) = effect(Path::new(&item.file_name())) else {
                continue;
            };
            let target = match item.path().canonicalize() {
                Ok(target) => target,
                Err(error) if file::missing(&error) => continue,
                Err(error) => return Err(unreadable(error)),
            };
            if let Ok(relative) = target.strip_prefix(&root)
                && target.is_file()
            {
                fixes.push(Fix {
                    relative: relative.to_path_buf(),
                    strip_cr,
                    executable,
                });
            }
        }
    }
    fixes.sort();
    fixes.dedup();
    Ok(fixes)
}

/// What rcc does to a file of this name: (strip carriage returns, make executable).
fn effect(name: &Path) -> Option<(bool, bool)> {
    let name = name.to_string_lossy();
    // Go's filepath.Ext: from the last dot, even when it is the first letter.
    let extension = name
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_lowercase())
        .unwrap_or_default();
    let strip_cr = extension == "sh";
    let executable = !name.starts_with('.') && !PASSIVE.contains(&extension.as_str());
    (strip_cr || executable).then_some((strip_cr, executable))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::robot::parse;

    #[test]
    fn finds_what_rcc_would_change() {
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join("context");
        fs::create_dir_all(context.join("bin/deeper")).unwrap();
        for name in [
            "bin/tool",
            "bin/run.sh",
            "bin/notes.MD",
            "bin/.hidden",
            "bin/.x.sh",
            "bin/deeper/no",
            "task.py",
            "elsewhere",
        ] {
            fs::write(context.join(name), "x\r\n").unwrap();
        }
        fs::write(folder.path().join("outside"), "x").unwrap();
        symlink("../../outside", context.join("bin/out")).unwrap();
        symlink("../elsewhere", context.join("bin/in")).unwrap();
        symlink("nowhere", context.join("bin/dangling")).unwrap();
        let text = "tasks: {Main: {shell: x}}\nartifactsDir: output\nPATH: [bin, ./bin, missing, ../.., C:\\tools]\n";
        let robot = parse(text, "robot.yaml").unwrap();
        let fix = |relative: &str, strip_cr, executable| Fix {
            relative: PathBuf::from(relative),
            strip_cr,
            executable,
        };
        assert_eq!(
            executables(&context, &robot).unwrap(),
            [
                fix("bin/.x.sh", true, false),
                fix("bin/run.sh", true, true),
                fix("bin/tool", false, true),
                fix("elsewhere", false, true),
            ]
        );
    }
}
