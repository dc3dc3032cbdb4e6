//! One tree in several layers, by filters: together they are the tree, and each is right alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use common::{Entry, written};
use robotimage_layer::{LayerBuilder, ModePolicy};
use tempfile::TempDir;

const PART: [&str; 2] = ["lib/python/numpy", "lib/python/pandas"];

fn environment() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for folder in PART {
        fs::create_dir_all(root.path().join(folder).join("core")).unwrap();
        fs::write(root.path().join(folder).join("core/code.py"), folder).unwrap();
    }
    let at = |name: &str| root.path().join(name);
    fs::write(at("lib/python/six.py"), "six").unwrap();
    fs::create_dir(at("bin")).unwrap();
    fs::write(at("bin/python"), "program").unwrap();
    // Names of one inode in both parts, and two in the same.
    for name in ["lib/python/numpy/shared", "lib/python/numpy/zz", "lib/python/pandas/shared"] {
        fs::hard_link(at("bin/python"), at(name)).unwrap();
    }
    root
}

/// The part with these folders, or the part with all else.
fn part(root: &Path, packages: bool) -> Vec<Entry> {
    let mut builder = LayerBuilder::new();
    let takes = move |path: &Path, folder: bool| {
        let on_the_way = folder && PART.iter().any(|part| Path::new(part).starts_with(path));
        let inside = PART.iter().any(|part| path.starts_with(part));
        if packages { inside || on_the_way } else { !inside }
    };
    let filter = move |path: &Path, folder: bool| {
        let parent = path.parent().unwrap();
        assert!(parent == Path::new("") || takes(parent, true), "{} was entered", parent.display());
        takes(path, folder)
    };
    builder.tree(root, "opt/env", ModePolicy::Environment, Box::new(filter)).unwrap();
    written(builder)
}

#[test]
fn parts_are_the_whole_and_each_is_right_alone() {
    let root = environment();
    let mut whole = LayerBuilder::new();
    whole
        .tree(root.path(), "opt/env", ModePolicy::Environment, common::everything())
        .unwrap();
    let mut expected = BTreeMap::new();
    for mut entry in written(whole) {
        if entry.kind == tar::EntryType::Link {
            entry.content = b"program".to_vec();
        }
        expected.insert(entry.path, (entry.mode, entry.content));
    }

    let [packages, rest] = [true, false].map(|packages| part(root.path(), packages));
    let mut found = BTreeMap::new();
    for entries in [packages, rest] {
        let mut files = BTreeMap::new();
        for entry in entries {
            let content = match &entry.target {
                // Extracted alone, what a link points to is there already.
                Some(target) => BTreeMap::get(&files, target).cloned().expect("a link into another layer"),
                None => entry.content,
            };
            files.insert(entry.path.clone(), content.clone());
            let same = found.insert(entry.path, (entry.mode, content.clone()));
            assert!(
                same.is_none_or(|other| other == (entry.mode, content)),
                "folders are alike in all parts"
            );
        }
    }
    assert_eq!(found, expected);
}

#[test]
fn links_between_parts_are_files_and_links_within_stay() {
    let root = environment();
    let kinds = |entries: Vec<Entry>| -> Vec<(String, bool)> {
        let linked = entries.into_iter().filter(|entry| !entry.path.ends_with(b"/"));
        linked
            .map(|entry| {
                let name = String::from_utf8(entry.path).unwrap();
                (name.trim_start_matches("opt/env/").to_owned(), entry.kind == tar::EntryType::Link)
            })
            .collect()
    };
    let expected = |names: &[(&str, bool)]| names.iter().map(|(name, link)| ((*name).to_owned(), *link)).collect::<Vec<_>>();
    assert_eq!(
        kinds(part(root.path(), true)),
        expected(&[
            ("lib/python/numpy/core/code.py", false),
            ("lib/python/numpy/shared", false),
            ("lib/python/numpy/zz", true),
            ("lib/python/pandas/core/code.py", false),
            ("lib/python/pandas/shared", true),
        ])
    );
    assert_eq!(
        kinds(part(root.path(), false)),
        expected(&[("bin/python", false), ("lib/python/six.py", false)])
    );
}
