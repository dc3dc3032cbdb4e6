//! A person at a laptop: robots in folders, and a look at what a command left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use robotimage_crds::reason::Reason;
use robotimage_tests::Bed;
use robotimage_tests::laptop::{Laptop, Outcome, Program};
use tempfile::TempDir;

/// A robot of one task that needs no environment.
pub(crate) const SHELL_ROBOT: &str = "tasks:\n  Say:\n    shell: sh say.sh\nartifactsDir: output\n";
/// A robot with an environment of its own.
pub(crate) const CONDA_ROBOT: &str = "tasks:\n  Say:\n    shell: python say.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\n";
/// The beginning of an environment that the bed's channel can solve.
pub(crate) const CONDA: &str = "channels: [conda-forge]\ndependencies:\n  - python=3.11.7\n  - pip=23.2.1\n";

/// One laptop, gone with the value.
pub(crate) struct Desk {
    pub(crate) bed: Arc<Bed>,
    pub(crate) laptop: Laptop,
    folder: TempDir,
}

impl Desk {
    pub(crate) async fn new() -> Self {
        let bed = Bed::shared().await.expect("a test bed");
        let program = Program::get(bed.cache()).await.expect("the program");
        let folder = tempfile::tempdir().expect("a folder");
        let mut laptop = Laptop::new(&bed, &program, &folder.path().join("home")).expect("a home");
        // So that what lands there is seen.
        let temporary = laptop.home.join("tmp");
        fs::create_dir(&temporary).expect("a folder");
        laptop.env.push(("TMPDIR".to_owned(), temporary.display().to_string()));
        Self { bed, laptop, folder }
    }

    /// Writes a robot's files; gives its folder.
    pub(crate) fn robot(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let robot = self.folder.path().join("robots").join(name);
        fs::create_dir_all(&robot).expect("a folder");
        for (file, text) in files {
            fs::write(robot.join(file), text).expect("a file");
        }
        robot
    }

    /// Builds in text mode, which must fail with `reason` and say each of `words`, and must leave nothing.
    pub(crate) fn refuse(&self, robot: &Path, args: &[&str], reason: Reason, words: &[&str]) -> Outcome {
        let outcome = self.laptop.try_build(robot, args).expect("a command");
        let what = format!("{} {args:?}:\n{}{}", robot.display(), outcome.stdout, outcome.stderr);
        assert_eq!(outcome.code, i32::from(reason.exit_code()), "{what}");
        let last = format!("reason {reason}, exit code {}", reason.exit_code());
        let wanted = words.iter().copied().chain(["error: ", last.as_str()]);
        for word in wanted {
            assert!(outcome.stderr.contains(word), "{word:?} is not said by {what}");
        }
        assert_eq!(outcome.stdout, "", "{what}");
        self.assert_nothing_left(&what);
        outcome
    }

    /// The same in JSON.
    pub(crate) fn refuse_in_json(&self, robot: &Path, args: &[&str], reason: Reason) {
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let outcome = self.laptop.try_build(robot, &args).expect("a command");
        let what = format!("{} {args:?}:\n{}{}", robot.display(), outcome.stdout, outcome.stderr);
        let error = &outcome.document()["error"];
        assert_eq!(outcome.code, i32::from(reason.exit_code()), "{what}");
        assert_eq!(error["reason"], reason.as_str(), "{what}");
        assert_eq!(error["owner"], reason.owner().as_str(), "{what}");
        assert_eq!(error["retryable"], reason.retryable(), "{what}");
        assert_eq!(outcome.stderr, "", "{what}");
    }

    /// No scratch, no process and no mount; the caches for bases and environments stay on purpose.
    pub(crate) fn assert_nothing_left(&self, what: &str) {
        for folder in [self.laptop.cache(), self.laptop.home.join("tmp")] {
            let left: Vec<String> = names(&folder)
                .into_iter()
                .filter(|name| !matches!(name.as_str(), "bases" | "builds"))
                .collect();
            assert!(left.is_empty(), "left in {}: {left:?} after {what}", folder.display());
        }
        let home = self.laptop.home.display().to_string();
        let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
        assert!(!mounts.contains(&home), "mounts are left after {what}");
        assert_eq!(processes(&home), [""; 0], "processes are left after {what}");
    }
}

/// The names in a folder.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder)
        .map(|entries| entries.flatten().collect::<Vec<_>>())
        .unwrap_or_default();
    entries
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Command lines of living processes that work for this home: it is in their arguments or their environment.
pub(crate) fn processes(home: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let numbers = names(Path::new("/proc"))
        .into_iter()
        .filter(|name| *name != own && name.bytes().all(|byte| byte.is_ascii_digit()));
    numbers
        .filter_map(|pid| {
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).ok();
            let command = String::from_utf8_lossy(&read("cmdline")?).replace('\0', " ");
            let environment = String::from_utf8_lossy(&read("environ")?).into_owned();
            // A zombie has neither any more.
            (command.contains(home) || environment.contains(home)).then_some(command)
        })
        .collect()
}
