//! What a layer holds: merging, modes, order, links and what is left out.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::{Arc, Mutex};

use common::{everything, listing, written};
use robotimage_layer::{Codec, Error, LayerBuilder, ModePolicy, WriteOptions};
use tempfile::TempDir;

type Call = for<'b> fn(&'b mut LayerBuilder, &std::path::Path) -> &'b mut LayerBuilder;

fn chmod(path: &std::path::Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A small robot with modes as an editor or an archive leaves them.
fn robot() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("bin")).unwrap();
    fs::create_dir(at("empty")).unwrap();
    for (name, mode) in [
        ("robot.yaml", 0o600),
        ("bin/run.sh", 0o700),
        ("bin/setuid", 0o6755),
        ("bin/group", 0o650),
    ] {
        fs::write(at(name), name).unwrap();
        chmod(&at(name), mode);
    }
    chmod(&at("empty"), 0o1700);
    symlink("../robot.yaml", at("bin/link")).unwrap();
    root
}

#[test]
fn modes_follow_the_policy_and_nothing_else() {
    let robot = robot();
    let mut builder = LayerBuilder::new();
    builder
        .tree(robot.path(), "/home/robot/app", ModePolicy::Code, everything())
        .unwrap()
        .tree(robot.path(), "opt/env", ModePolicy::Environment, everything())
        .unwrap();
    assert_eq!(
        listing(builder),
        [
            "0755 home/",
            "0755 home/robot/",
            "0775 home/robot/app/",
            "0775 home/robot/app/bin/",
            "0664 home/robot/app/bin/group",
            "home/robot/app/bin/link -> ../robot.yaml",
            "0775 home/robot/app/bin/run.sh",
            "0775 home/robot/app/bin/setuid",
            "0775 home/robot/app/empty/",
            "0664 home/robot/app/robot.yaml",
            "0755 opt/",
            "0755 opt/env/",
            "0755 opt/env/bin/",
            "0644 opt/env/bin/group",
            "opt/env/bin/link -> ../robot.yaml",
            "0755 opt/env/bin/run.sh",
            "0755 opt/env/bin/setuid",
            "0755 opt/env/empty/",
            "0644 opt/env/robot.yaml",
        ]
    );
}

#[test]
fn declarations_come_in_one_order_whatever_the_order_of_calls() {
    let tree = robot();
    let calls: [Call; 6] = [
        |b, _| b.file("a/b.txt", "dotted", 0o644),
        |b, _| b.file("a/b/c", "below", 0o600),
        |b, _| b.dir("tmp", 0o1777).opaque("app"),
        |b, _| b.symlink("a/b-link", "../nowhere"),
        |b, tree| b.tree(tree, "app", ModePolicy::Code, everything()).unwrap(),
        |b, tree| b.file_from("app/-first", tree.join("robot.yaml"), 0o444),
    ];
    let expected = [
        "0755 a/",
        "0755 a/b/",
        "0600 a/b/c",
        "a/b-link -> ../nowhere",
        "0644 a/b.txt",
        "0775 app/",
        "0644 app/.wh..wh..opq",
        "0444 app/-first",
        "0775 app/bin/",
        "0664 app/bin/group",
        "app/bin/link -> ../robot.yaml",
        "0775 app/bin/run.sh",
        "0775 app/bin/setuid",
        "0775 app/empty/",
        "0664 app/robot.yaml",
        "1777 tmp/",
    ];
    for rotation in 0..calls.len() {
        let mut builder = LayerBuilder::new();
        for index in 0..calls.len() {
            calls[(index + rotation) % calls.len()](&mut builder, tree.path());
        }
        assert_eq!(listing(builder), expected, "rotation {rotation}");
    }
}

#[test]
fn trees_merge_and_a_declared_mode_wins() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (root, name) in [(&one, "x"), (&two, "y")] {
        fs::create_dir(root.path().join("shared")).unwrap();
        fs::write(root.path().join("shared").join(name), name).unwrap();
    }
    let mut builder = LayerBuilder::new();
    builder
        .tree(two.path(), "opt", ModePolicy::Code, everything())
        .unwrap()
        .tree(one.path(), "opt", ModePolicy::Environment, everything())
        .unwrap()
        .dir("opt", 0o700)
        .dir("opt/shared", 0o1777);
    assert_eq!(
        listing(builder),
        ["0700 opt/", "1777 opt/shared/", "0644 opt/shared/x", "0664 opt/shared/y"]
    );
}

#[test]
fn names_of_one_inode_are_links_only_where_they_share_a_mode() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("z")).unwrap();
    fs::write(at("z/original"), "content").unwrap();
    fs::hard_link(at("z/original"), at("b")).unwrap();
    fs::hard_link(at("z/original"), at("left-out")).unwrap();
    let mut builder = LayerBuilder::new();
    for (place, policy) in [
        ("first", ModePolicy::Environment),
        ("second", ModePolicy::Environment),
        ("third", ModePolicy::Code),
    ] {
        let filter = Box::new(|path: &std::path::Path, _| path.as_os_str() != "left-out");
        builder.tree(root.path(), place, policy, filter).unwrap();
    }
    builder.file_from("zz", at("b"), 0o644);
    assert_eq!(
        listing(builder),
        [
            "0755 first/",
            "0644 first/b",
            "0755 first/z/",
            "first/z/original => first/b",
            "0755 second/",
            "second/b => first/b",
            "0755 second/z/",
            "second/z/original => first/b",
            "0775 third/",
            "0664 third/b",
            "0775 third/z/",
            "third/z/original => third/b",
            "0644 zz",
        ]
    );
}

#[test]
fn filters_see_relative_paths_and_prune_directories() {
    let tree = robot();
    let mut builder = LayerBuilder::new();
    let filter = Box::new(|path: &std::path::Path, is_dir: bool| {
        assert!(
            path.as_os_str() == "bin" || !path.starts_with("bin"),
            "entered a directory that was refused"
        );
        assert_eq!(is_dir, path.as_os_str() == "bin" || path.as_os_str() == "empty");
        path.as_os_str() != "bin"
    });
    builder.tree(tree.path(), "/", ModePolicy::Environment, filter).unwrap();
    assert_eq!(listing(builder), ["0755 empty/", "0644 robot.yaml"]);
}

#[test]
fn what_a_layer_cannot_hold_is_left_out_and_named() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    for number in 0..30 {
        let path = at(&format!("pipe{number:02}"));
        rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
    }
    fs::write(at("file"), "content").unwrap();
    let mut builder = LayerBuilder::new();
    builder.tree(root.path(), "app", ModePolicy::Code, everything()).unwrap();
    let (layer, _) = common::write(builder, robotimage_layer::Codec::Gzip, 1).unwrap();
    assert_eq!((layer.files, layer.skipped.count), (1, 31));
    assert_eq!(layer.skipped.first.len(), robotimage_layer::Skipped::NAMED);
    assert!(layer.skipped.first.iter().all(|path| path.starts_with(root.path())));
}

#[test]
fn an_empty_layer_is_an_empty_archive() {
    for codec in common::CODECS {
        let (layer, bytes) = common::write(LayerBuilder::new(), codec, 3).unwrap();
        assert_eq!((layer.uncompressed, layer.files), (1024, 0));
        assert!(common::entries(&common::decompress(codec, &bytes)).is_empty());
    }
}

#[test]
fn contents_around_record_and_block_boundaries_survive() {
    const BLOCK: usize = 4 << 20;
    let root = tempfile::tempdir().unwrap();
    let lengths = [0, 1, 511, 512, 513, BLOCK - 1024, BLOCK - 512, BLOCK, BLOCK + 1, 3 * BLOCK];
    let mut builder = LayerBuilder::new();
    for (index, length) in lengths.into_iter().enumerate() {
        let path = root.path().join(format!("disk{index}"));
        fs::write(&path, common::pattern(length)).unwrap();
        builder.file(&format!("declared{index}"), common::pattern(length), 0o644);
    }
    builder.tree(root.path(), "/", ModePolicy::Environment, everything()).unwrap();
    let entries = written(builder);
    assert_eq!(entries.len(), 2 * lengths.len());
    for (entry, length) in entries.iter().zip(lengths.into_iter().chain(lengths)) {
        assert!(entry.content == common::pattern(length), "{:?}", entry.path);
    }
}

#[test]
fn an_inspector_sees_the_whole_stream_and_may_refuse_it() {
    let layer = || {
        let mut builder = LayerBuilder::new();
        builder.file("large", common::pattern(9 << 20), 0o644);
        builder
    };
    let blocks: Arc<Mutex<BTreeMap<u64, Vec<u8>>>> = Arc::default();
    let seen = Arc::clone(&blocks);
    let options = WriteOptions {
        inspect: Some(Box::new(move |number, block| {
            seen.lock().unwrap().insert(number, block.to_vec()).is_none()
        })),
        ..common::options(3)
    };
    let mut bytes = Vec::new();
    layer().write(Codec::Zstd, &options, &mut bytes).unwrap();
    let seen: Vec<u8> = blocks.lock().unwrap().values().flatten().copied().collect();
    assert!(seen == common::decompress(Codec::Zstd, &bytes));
    assert_eq!(blocks.lock().unwrap().len(), 3);

    let options = WriteOptions {
        inspect: Some(Box::new(|number, _| number != 1)),
        ..common::options(3)
    };
    let error = layer().write(Codec::Gzip, &options, std::io::sink()).unwrap_err();
    assert!(matches!(error, Error::Refused), "{error}");
}
