//! The same content is the same bytes, on any machine, by any number of threads, for as long as the recipe is the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{CODECS, everything, pattern};
use robotimage_layer::{Codec, LayerBuilder, ModePolicy};

/// The names of a tree of nine blocks, in an order that is neither that of the layer nor its reverse.
fn names() -> Vec<String> {
    (0..120)
        .map(|n| format!("d{}/sub-{}/file.{:03}", n % 3, n % 7, (n * 37) % 120))
        .collect()
}

fn make(root: &Path, names: &[String]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let number: usize = name[name.len() - 3..].parse().unwrap();
        fs::write(path, pattern(number * 5000)).unwrap();
    }
    symlink("d0", root.join("link")).unwrap();
}

fn layer_of(root: &Path, codec: Codec, threads: usize) -> Vec<u8> {
    let mut builder = LayerBuilder::new();
    builder.tree(root, "opt/env", ModePolicy::Environment, everything()).unwrap();
    common::write(builder, codec, threads).unwrap().1
}

#[test]
fn threads_do_not_matter() {
    let root = tempfile::tempdir().unwrap();
    make(root.path(), &names());
    for codec in CODECS {
        let one = layer_of(root.path(), codec, 1);
        for threads in [2, 4, 7] {
            assert!(layer_of(root.path(), codec, threads) == one, "{codec} {threads}");
        }
    }
}

#[test]
fn creation_order_umask_times_and_foreign_bits_do_not_matter() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make(first.path(), &names());

    let mut reversed = names();
    reversed.reverse();
    let before = rustix::process::umask(0o077.into());
    make(second.path(), &reversed);
    rustix::process::umask(before);
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
    for name in &reversed[..50] {
        let path = second.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o4606)).unwrap();
        fs::File::open(&path).unwrap().set_modified(long_ago).unwrap();
    }
    fs::set_permissions(second.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    // Only xattrs the file system supports can be set: where it has none, there is nothing to ignore.
    let _ = rustix::fs::setxattr(
        second.path().join(&reversed[0]),
        "user.origin",
        b"somewhere",
        rustix::fs::XattrFlags::empty(),
    );
    for codec in CODECS {
        assert!(layer_of(first.path(), codec, 2) == layer_of(second.path(), codec, 2), "{codec}");
    }
}

/// A tree with one of everything, from declarations and from a disk.
fn golden_builder(root: &Path) -> LayerBuilder {
    let at = |name: &str| root.join(name);
    let long = format!("{}/{}", "deep-".repeat(30), "name-".repeat(25));
    fs::create_dir_all(at(&long)).unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::write(at("script.py"), "#!/usr/bin/env python3\nprint('hello')\n").unwrap();
    fs::set_permissions(at("script.py"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(at("größe.txt"), "über").unwrap();
    fs::write(at("large.bin"), pattern(9_000_000)).unwrap();
    fs::write(at(&format!("{long}/leaf")), "leaf").unwrap();
    fs::hard_link(at("script.py"), at("z-link")).unwrap();
    symlink("../script.py", at("empty/link")).unwrap();
    let mut builder = LayerBuilder::new();
    builder
        .tree(root, "opt/env", ModePolicy::Environment, everything())
        .unwrap()
        .tree(root, "home/robot/app", ModePolicy::Code, everything())
        .unwrap()
        .opaque("home/robot/app")
        .dir("tmp", 0o1777)
        .file("etc/passwd", "robot:x:1000:0::/home/robot:/bin/sh\n", 0o644)
        .file_from("usr/local/bin/rcc", at("script.py"), 0o755)
        .symlink("etc/link", "/etc/passwd");
    builder
}

/// A digest that changes makes every cached environment and every published layer of our users new. It may only change
/// together with `Codec::recipe` and the recipe version of the images.
#[test]
fn golden_digests_hold() {
    for codec in CODECS {
        let root = tempfile::tempdir().unwrap();
        let (layer, _) = common::write(golden_builder(root.path()), codec, 2).unwrap();
        let actual = format!(
            "recipe {}\ndigest {}\ndiff_id {}\nsize {}\nuncompressed {}\nfiles {}\n",
            codec.recipe(),
            layer.digest,
            layer.diff_id,
            layer.size,
            layer.uncompressed,
            layer.files
        );
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{codec}.txt"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &actual).unwrap();
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            actual, golden,
            "the bytes of {codec} layers changed, which makes every published layer new. If that is meant, change \
             Codec::recipe and run UPDATE_GOLDEN=1 cargo test -p robotimage-layer --test determinism"
        );
    }
}
