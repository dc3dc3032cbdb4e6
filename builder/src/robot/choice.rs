//! Which environment file rcc takes on linux_amd64. It chooses anew at every start, so the choice must be the same here.

use std::path::{Path, PathBuf};

use super::error::{Error, Role};
use super::file;
use super::model::{Robot, Text};
use super::path;

/// rcc's name of the only platform that images are made for.
const PLATFORM: &str = "linux_amd64";

/// The environment file that rcc chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvironmentFile {
    /// Relative to the context. Its name matters: `package.yaml` has a format of its own.
    pub relative: PathBuf,
    /// Its content.
    pub text: String,
}

impl Robot {
    /// The environment file that rcc chooses, or `None` for a shell robot without one.
    ///
    /// It is the first of `environmentConfigs` that suits the platform and exists, else `condaConfigFile`, which must exist.
    pub fn environment_file(&self, context: &Path) -> Result<Option<EnvironmentFile>, Error> {
        let mut chosen = None;
        for entry in self.environments.iter().filter(|entry| suits(&entry.text)) {
            let relative = self.inside(entry)?;
            let there = file::is_file(context, &relative).map_err(|source| Error::Unreadable {
                role: Role::Environment,
                file: relative.clone(),
                source,
            })?;
            if there {
                chosen = Some(relative);
                break;
            }
        }
        let relative = match chosen {
            Some(relative) => relative,
            None if self.conda_config.text.is_empty() => return Ok(None),
            None => self.inside(&self.conda_config)?,
        };
        let advice = format!(
            "add the file, which {} names, or correct condaConfigFile and environmentConfigs",
            self.file.display()
        );
        let text = file::read(context, &relative, Role::Environment, &advice)?;
        Ok(Some(EnvironmentFile { relative, text }))
    }

    fn inside(&self, entry: &Text) -> Result<PathBuf, Error> {
        path::join(&self.folder, &entry.text).ok_or_else(|| Error::Rejected {
            role: Role::Robot,
            file: PathBuf::from(&entry.text),
            problem: "is an environment file outside the source; choose a folder further up as the context (source.path) and name the robot file below it",
        })
    }
}

/// Whether rcc considers a name of `environmentConfigs` on this platform.
pub(super) fn suits(name: &str) -> bool {
    let frozen = name.matches('_').count() > 2 || name.to_lowercase().contains("freeze");
    if frozen && !name.contains(PLATFORM) {
        return false;
    }
    first_word(name, &["amd64", "arm64"]).is_none_or(|word| word == "amd64")
        && first_word(name, &["windows", "darwin", "linux"]).is_none_or(|word| word == "linux")
}

/// The first of the words in the name, found without regard to case and returned as written.
fn first_word<'a>(name: &'a str, words: &[&str]) -> Option<&'a str> {
    let lower = name.to_ascii_lowercase();
    words
        .iter()
        .filter_map(|word| lower.find(word).map(|at| (at, word.len())))
        .min()
        .map(|(at, length)| &name[at..at + length])
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::robot::load;

    #[test]
    fn names_that_suit() {
        for (name, fits) in [
            ("conda.yaml", true),
            ("conda_linux.yaml", true),
            ("conda_windows.yaml", false),
            ("conda_Linux.yaml", false),
            ("environment_linux_amd64_freeze.yaml", true),
            ("environment_windows_amd64_freeze.yaml", false),
            ("environment_linux_arm64_freeze.yaml", false),
            ("environment_freeze.yaml", false),
            ("a_b_c_d.yaml", false),
            ("a_b_c_linux_amd64.yaml", true),
            ("my_AMD64_env.yaml", false),
            ("darwin-linux.yaml", false),
            ("linux-darwin.yaml", true),
            ("Freeze.yaml", false),
        ] {
            assert_eq!(suits(name), fits, "{name}");
        }
    }

    fn choose(keys: &str, files: &[&str], robot: &str) -> Result<Option<PathBuf>, Error> {
        let folder = tempfile::tempdir().unwrap();
        for file in files.iter().chain([&robot]) {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("tasks: {{Main: {{shell: x}}}}\nartifactsDir: output\n{keys}\n")).unwrap();
        }
        let robot = load(folder.path(), robot)?;
        Ok(robot.environment_file(folder.path())?.map(|file| file.relative))
    }

    #[test]
    fn chooses_as_rcc_does() {
        let both = "condaConfigFile: conda.yaml\nenvironmentConfigs: [env_linux_amd64_freeze.yaml, env_windows.yaml, env.yaml]";
        for (keys, files, robot, chosen) in [
            ("", &[][..], "robot.yaml", None),
            ("environmentConfigs: [missing.yaml]", &[], "robot.yaml", None),
            (
                both,
                &["conda.yaml", "env.yaml", "env_windows.yaml"],
                "robot.yaml",
                Some("env.yaml"),
            ),
            (
                both,
                &["conda.yaml", "env_linux_amd64_freeze.yaml", "env.yaml"],
                "robot.yaml",
                Some("env_linux_amd64_freeze.yaml"),
            ),
            (both, &["conda.yaml"], "robot.yaml", Some("conda.yaml")),
            (
                "condaConfigFile: ../conda.yaml",
                &["conda.yaml"],
                "bot/robot.yaml",
                Some("conda.yaml"),
            ),
            (
                "condaConfigFile: ./conf/package.yaml",
                &["bot/conf/package.yaml"],
                "bot/robot.yaml",
                Some("bot/conf/package.yaml"),
            ),
        ] {
            assert_eq!(choose(keys, files, robot).unwrap(), chosen.map(PathBuf::from), "{keys}");
        }
    }

    #[test]
    fn a_missing_or_foreign_file_is_an_error() {
        let error = choose("condaConfigFile: conda.yaml", &[], "robot.yaml").unwrap_err();
        assert_eq!(error.reason(), robotimage_crds::reason::Reason::EnvironmentFileInvalid);
        assert!(error.to_string().contains("\"conda.yaml\" does not exist"), "{error}");
        let error = choose("condaConfigFile: ../conda.yaml", &[], "robot.yaml").unwrap_err();
        assert_eq!(error.reason(), robotimage_crds::reason::Reason::RobotYamlInvalid);
        assert!(error.to_string().contains("outside the source"), "{error}");
    }

    #[test]
    fn links_stay_inside() {
        let folder = tempfile::tempdir().unwrap();
        let context = folder.path().join("context");
        fs::create_dir_all(context.join("sub")).unwrap();
        fs::write(folder.path().join("secret.yaml"), "channels: []\n").unwrap();
        fs::write(context.join("real.yaml"), "channels: []\n").unwrap();
        fs::write(
            context.join("robot.yaml"),
            "tasks: {Main: {shell: x}}\nartifactsDir: output\ncondaConfigFile: conda.yaml\n",
        )
        .unwrap();
        let robot = load(&context, "robot.yaml").unwrap();
        symlink("real.yaml", context.join("conda.yaml")).unwrap();
        assert!(robot.environment_file(&context).unwrap().is_some());
        for target in ["../secret.yaml", "/etc/passwd"] {
            fs::remove_file(context.join("conda.yaml")).unwrap();
            symlink(target, context.join("conda.yaml")).unwrap();
            let error = robot.environment_file(&context).unwrap_err();
            assert!(error.to_string().contains("leads out of the source"), "{error}");
        }
        fs::remove_file(context.join("conda.yaml")).unwrap();
        fs::write(
            context.join("conda.yaml"),
            vec![b'#'; (file::MAX_FILE_BYTES + 1).try_into().unwrap()],
        )
        .unwrap();
        assert!(
            robot
                .environment_file(&context)
                .unwrap_err()
                .to_string()
                .contains("larger than 1 MiB")
        );
        fs::write(context.join("conda.yaml"), [0xff, 0xfe]).unwrap();
        assert!(robot.environment_file(&context).unwrap_err().to_string().contains("not UTF-8"));
        fs::remove_file(context.join("conda.yaml")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            context.join("conda.yaml"),
            rustix::fs::FileType::Fifo,
            0o644.into(),
            0,
        )
        .unwrap();
        assert!(
            robot
                .environment_file(&context)
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
    }
}
