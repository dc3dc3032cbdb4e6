use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use super::super::local::LocalSource;
use super::super::tree::{Limits, Written};
use super::*;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 1000,
};

fn take(archive: &Path, path: &str, limits: Limits, into: &Path) -> Result<Written, SourceError> {
    let interrupt = AtomicBool::new(false);
    let mut writer = Writer::new(Target {
        of: "https://example.com/robot",
        path,
        limits,
        into,
        interrupt: &interrupt,
    });
    unpack(&File::open(archive).unwrap(), "https://example.com/robot", &mut writer)?;
    writer.finish()
}

/// Runs the generator; its archives by name.
fn made(mode: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/archives/make.py");
    let output = Command::new("python3").arg(script).arg(mode).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder
}

/// Everything below a folder, names only.
fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_tool_makes_the_same_tree() {
    let folder = made("good");
    let tree = |root: &Path| LocalSource::scan(root, None, LIMITS).unwrap().tree;
    let expected = tree(&folder.path().join("robot"));
    let mut count = 0;
    for name in listed(folder.path()).iter().filter(|name| *name != "robot") {
        let into = tempfile::tempdir().unwrap();
        // Archives of the folder itself, and of what is in it.
        let path = if name.contains("folder") { "robot" } else { "" };
        let written = take(&folder.path().join(name), path, LIMITS, into.path()).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Archives made by name hold no entry for the empty folder.
        assert!(written.bytes == 38 && (6..=8).contains(&written.entries), "{name}: {written:?}");
        assert_eq!(tree(into.path()), expected, "{name}");
        count += 1;
    }
    assert!(count >= 12, "{count}");
}

#[test]
fn a_part_of_an_archive() {
    let folder = made("good");
    let archive = folder.path().join("folder.tar.gz");
    let into = tempfile::tempdir().unwrap();
    let written = take(&archive, "robot/lib", LIMITS, into.path()).unwrap();
    assert_eq!((listed(into.path()), written.entries), (vec!["run.sh".to_owned()], 1));
    for (path, said) in [
        ("lib", "it begins with \"robot\""),
        ("robot/robot.yaml", "\"robot/robot.yaml\" is no folder"),
    ] {
        let into = tempfile::tempdir().unwrap();
        let error = take(&archive, path, LIMITS, into.path()).unwrap_err();
        assert_eq!(error.reason().as_str(), "SourcePathNotFound");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn hostile_archives_are_refused_by_name() {
    let folder = made("hostile");
    let table = std::fs::read_to_string(folder.path().join("expected")).unwrap();
    let mut count = 0;
    for line in table.lines() {
        let [archive, reason, said] = line.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let into = tempfile::tempdir().unwrap();
        let inside = into.path().join("context");
        std::fs::create_dir(&inside).unwrap();
        let error = match take(&folder.path().join(archive), "", LIMITS, &inside) {
            Ok(written) => panic!("{archive} was taken: {written:?}"),
            Err(error) => error,
        };
        assert_eq!(error.reason().as_str(), reason, "{archive}: {error}");
        let text = error.to_string();
        assert!(text.contains(said), "{archive}: {text}");
        assert!(!text.chars().any(char::is_control), "{archive}: {text}");
        assert_eq!(listed(into.path()), ["context"], "{archive} wrote outside");
        count += 1;
    }
    assert_eq!(count + 1, listed(folder.path()).len());
}

#[test]
fn what_has_no_place_in_an_image_is_left_out() {
    let folder = made("odd");
    for archive in ["git.tar", "git.zip"] {
        let into = tempfile::tempdir().unwrap();
        let written = take(&folder.path().join(archive), "", LIMITS, into.path()).unwrap();
        assert_eq!((listed(into.path()), written.entries), (vec!["a".to_owned()], 1));
    }
}

#[test]
fn large_ones_end_at_the_limits() {
    let folder = made("large");
    let wide = Limits {
        bytes: 1 << 30,
        entries: 1 << 20,
    };
    for (archive, path, limits, said) in [
        ("bomb.tar.gz", "", wide, "1000 times"),
        ("bomb.tar.zst", "", wide, "1000 times"),
        ("bomb.zip", "", wide, "1000 times"),
        ("bomb.tar.gz", "", LIMITS, "more than 1048576 bytes, passed at \"zeros\""),
        ("bomb.zip", "", LIMITS, "\"zeros\""),
        ("bomb.tar.gz", "elsewhere", LIMITS, "unpacks to more than 4194304 bytes"),
        ("many.tar.gz", "", LIMITS, "more than 1000 files and folders, passed at \"f1000\""),
        ("many.tar.gz", "elsewhere", LIMITS, "more than 4000 entries, passed at \"f4000\""),
        ("many.zip", "", LIMITS, "20000 entries"),
        ("deep.tar.gz", "", LIMITS, "more than 1000 files and folders"),
    ] {
        let into = tempfile::tempdir().unwrap();
        let error = take(&folder.path().join(archive), path, limits, into.path()).unwrap_err();
        assert_eq!(error.reason().as_str(), "SourceTooLarge", "{archive}: {error}");
        assert!(error.to_string().contains(said), "{archive}: {error}");
    }
}

#[test]
fn it_ends_when_it_is_told_to() {
    let folder = made("good");
    let into = tempfile::tempdir().unwrap();
    for archive in ["inside.tar", "deflated.zip"] {
        let interrupt = AtomicBool::new(true);
        let mut writer = Writer::new(Target {
            of: "x",
            path: "",
            limits: LIMITS,
            into: into.path(),
            interrupt: &interrupt,
        });
        let error = unpack(&File::open(folder.path().join(archive)).unwrap(), "x", &mut writer).unwrap_err();
        assert!(error.to_string().contains("interrupted"), "{archive}: {error}");
    }
}
