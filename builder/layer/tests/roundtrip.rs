//! Random trees with odd names come back as they were, from every codec and number of threads.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use robotimage_layer::{LayerBuilder, ModePolicy};

/// One thing to make in a random tree. What cannot be made, because a name is taken or a path too long, is left out.
#[derive(Debug, Clone)]
enum Make {
    Directory,
    File { content: Vec<u8>, executable: bool },
    Symlink { target: Vec<u8> },
    HardLink { of: prop::sample::Index },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Directory,
    File { content: Vec<u8>, mode: u32 },
    Symlink { target: Vec<u8> },
    HardLink { to: Vec<u8> },
}

/// Odd names, without newlines: the `tar` crate cuts extended records at them. `readers.rs` has those.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| match byte {
        0 | b'/' | b'\n' => b'_',
        byte => byte,
    });
    prop_oneof![
        4 => prop::sample::select(vec!["a", "a.b", "a-b", "A", "b", "-x", " ", "ü", "名前", "a\tb", "..."])
            .prop_map(|name| name.as_bytes().to_vec()),
        2 => prop::collection::vec(byte.clone(), 1..20),
        1 => prop::collection::vec(byte, 90..=255),
        1 => (90..=255_usize).prop_map(|length| vec![b'n'; length]),
    ]
    .prop_filter("names that mean something else", |name| {
        name != b"." && name != b".." && !name.starts_with(b".wh.")
    })
}

fn make() -> impl Strategy<Value = Make> {
    prop_oneof![
        3 => Just(Make::Directory),
        4 => (prop::collection::vec(any::<u8>(), 0..1500), any::<bool>())
            .prop_map(|(content, executable)| Make::File { content, executable }),
        1 => prop::collection::vec(11_u8..=255, 1..300).prop_map(|target| Make::Symlink { target }),
        1 => any::<prop::sample::Index>().prop_map(|of| Make::HardLink { of }),
    ]
}

type Plan = Vec<(prop::sample::Index, Vec<u8>, Make)>;

/// Makes the tree and says what must come back, by the components of its paths: their order is that of the layer.
fn build(root: &Path, plan: &Plan) -> BTreeMap<Vec<Vec<u8>>, Found> {
    let full = |parts: &[Vec<u8>]| -> PathBuf {
        parts
            .iter()
            .fold(root.to_path_buf(), |path, part| path.join(OsStr::from_bytes(part)))
    };
    let mut directories = vec![Vec::new()];
    let mut files: Vec<Vec<Vec<u8>>> = Vec::new();
    let mut model = BTreeMap::new();
    for (parent, name, make) in plan {
        let mut parts = parent.get(&directories).clone();
        parts.push(name.clone());
        let path = full(&parts);
        if model.contains_key(&parts) || parts.concat().len() > 2000 {
            continue;
        }
        let found = match make {
            Make::Directory => {
                fs::create_dir(&path).unwrap();
                directories.push(parts.clone());
                Found::Directory
            }
            Make::File { content, executable } => {
                fs::write(&path, content).unwrap();
                let mode = if *executable { 0o755 } else { 0o644 };
                fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                files.push(parts.clone());
                Found::File {
                    content: content.clone(),
                    mode,
                }
            }
            Make::Symlink { target } => {
                symlink(OsStr::from_bytes(target), &path).unwrap();
                Found::Symlink { target: target.clone() }
            }
            Make::HardLink { of } if !files.is_empty() => {
                let of = of.get(&files);
                fs::hard_link(full(of), &path).unwrap();
                // Resolved below, when all names are known: the first in order is the file.
                Found::HardLink { to: of.join(&b'/') }
            }
            Make::HardLink { .. } => continue,
        };
        model.insert(parts, found);
    }
    resolve_hard_links(model)
}

fn resolve_hard_links(model: BTreeMap<Vec<Vec<u8>>, Found>) -> BTreeMap<Vec<Vec<u8>>, Found> {
    let mut contents = BTreeMap::new();
    for (parts, found) in &model {
        if matches!(found, Found::File { .. }) {
            contents.insert(parts.join(&b'/'), found.clone());
        }
    }
    let mut first_names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let mut resolved = BTreeMap::new();
    for (parts, found) in model {
        let name = parts.join(&b'/');
        let file = match &found {
            Found::File { .. } => name.clone(),
            Found::HardLink { to } => to.clone(),
            Found::Directory | Found::Symlink { .. } => {
                resolved.insert(parts, found);
                continue;
            }
        };
        let first = first_names.entry(file.clone()).or_insert_with(|| name.clone());
        let found = if *first == name {
            contents[&file].clone()
        } else {
            Found::HardLink { to: first.clone() }
        };
        resolved.insert(parts, found);
    }
    resolved
}

fn read(stream: &[u8]) -> Vec<(Vec<u8>, Found)> {
    let found = |entry: common::Entry| {
        let mut path = entry.path;
        let found = match entry.kind {
            tar::EntryType::Directory => {
                assert_eq!(path.pop(), Some(b'/'));
                assert_eq!(entry.mode, 0o755);
                Found::Directory
            }
            tar::EntryType::Regular => Found::File {
                content: entry.content,
                mode: entry.mode,
            },
            tar::EntryType::Symlink => Found::Symlink {
                target: entry.target.unwrap(),
            },
            tar::EntryType::Link => Found::HardLink { to: entry.target.unwrap() },
            other => panic!("{other:?}"),
        };
        (path, found)
    };
    common::entries(stream).into_iter().map(found).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn trees_come_back(
        plan in prop::collection::vec((any::<prop::sample::Index>(), name(), make()), 0..40),
        threads in 1_usize..4,
    ) {
        let root = tempfile::tempdir().unwrap();
        let model: Vec<_> = build(root.path(), &plan)
            .into_iter()
            .map(|(parts, found)| (parts.join(&b'/'), found))
            .collect();
        let mut diff_ids = Vec::new();
        for codec in common::CODECS {
            let mut builder = LayerBuilder::new();
            builder.tree(root.path(), "/", ModePolicy::Environment, common::everything()).unwrap();
            let (layer, bytes) = common::write(builder, codec, threads).unwrap();
            let files = model.iter()
                .filter(|(_, found)| matches!(found, Found::File { .. } | Found::HardLink { .. }))
                .count();
            prop_assert_eq!(layer.files, files as u64);
            prop_assert_eq!(&read(&common::decompress(codec, &bytes)), &model);
            diff_ids.push(layer.diff_id);
        }
        prop_assert_eq!(&diff_ids[0], &diff_ids[1]);
    }
}
