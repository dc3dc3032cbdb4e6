//! Bad input gives a bounded error that names the entry, never a wrong layer and never a hang.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{CODECS, everything, options};
use robotimage_layer::{Change, Codec, Error, LayerBuilder, ModePolicy, WriteOptions};

type Do = fn(&Path);
type Act = fn(&Path) -> io::Result<()>;
type Declare = for<'b> fn(&'b mut LayerBuilder, &Path) -> &'b mut LayerBuilder;

fn write(builder: LayerBuilder) -> Error {
    common::write(builder, Codec::Zstd, 2).unwrap_err()
}

fn tree_of(root: &Path) -> LayerBuilder {
    let mut builder = LayerBuilder::new();
    builder.tree(root, "app", ModePolicy::Code, everything()).unwrap();
    builder
}

/// A folder in which `victim` is listed, and then made something else before it is opened.
fn swapped(make: fn(&Path), swap: fn(&Path)) -> (PathBuf, Error) {
    let root = tempfile::tempdir().unwrap();
    let victim = root.path().join("victim");
    make(&victim);
    let path = victim.clone();
    let mut builder = LayerBuilder::new();
    let filter = Box::new(move |_: &Path, _| {
        swap(&path);
        true
    });
    builder.tree(root.path(), "app", ModePolicy::Code, filter).unwrap();
    (victim, write(builder))
}

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o600.into()).unwrap();
}

#[test]
fn entries_that_change_after_they_were_listed_are_named() {
    let file: fn(&Path) = |path| fs::write(path, "content").unwrap();
    let directory: fn(&Path) = |path| fs::create_dir(path).unwrap();
    let link: fn(&Path) = |path| symlink("/etc/passwd", path).unwrap();
    let cases: [(&str, Do, Do, Change); 9] = [
        ("file gone", file, |p| fs::remove_file(p).unwrap(), Change::Vanished),
        ("directory gone", directory, |p| fs::remove_dir(p).unwrap(), Change::Vanished),
        ("link gone", link, |p| fs::remove_file(p).unwrap(), Change::Vanished),
        (
            "file to link",
            file,
            |p| {
                fs::remove_file(p).unwrap();
                symlink("/etc/passwd", p).unwrap();
            },
            Change::Replaced,
        ),
        (
            "file to FIFO",
            file,
            |p| {
                fs::remove_file(p).unwrap();
                fifo(p);
            },
            Change::Replaced,
        ),
        (
            "file to directory",
            file,
            |p| {
                fs::remove_file(p).unwrap();
                fs::create_dir(p).unwrap();
            },
            Change::Replaced,
        ),
        (
            "file to socket",
            file,
            |p| {
                fs::remove_file(p).unwrap();
                drop(std::os::unix::net::UnixListener::bind(p).unwrap());
            },
            Change::Replaced,
        ),
        (
            "directory to link",
            directory,
            |p| {
                fs::remove_dir(p).unwrap();
                symlink("/etc", p).unwrap();
            },
            Change::Replaced,
        ),
        (
            "link to file",
            link,
            |p| {
                fs::remove_file(p).unwrap();
                fs::write(p, "content").unwrap();
            },
            Change::Replaced,
        ),
    ];
    for (name, make, swap, expected) in cases {
        match swapped(make, swap) {
            (victim, Error::Changed { path, change }) => {
                assert_eq!((path, change), (victim, expected), "{name}");
            }
            (_, other) => panic!("{name}: {other}"),
        }
    }
}

/// A sink that does something once, when the first bytes arrive.
struct Once<F>(Option<F>);

impl<F: FnOnce()> Write for Once<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(act) = self.0.take() {
            act();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that tells what arrives.
struct Observed<F>(F);

impl<F: FnMut(&[u8])> Write for Observed<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn files_that_change_while_they_are_read_are_named() {
    const LENGTH: u64 = 96 << 20;
    let grow = |path: &Path| fs::File::options().append(true).open(path)?.write_all(b"more");
    let shrink = |path: &Path| fs::File::options().write(true).open(path)?.set_len(LENGTH / 2);
    let touch = |path: &Path| fs::File::options().write(true).open(path)?.write_all(b"other");
    let cases: [(Act, Change); 3] = [(grow, Change::Grew), (shrink, Change::Shrank), (touch, Change::Modified)];
    for (act, expected) in cases {
        let root = tempfile::tempdir().unwrap();
        let victim = root.path().join("large");
        // A hole, so that the test costs no disk; far longer than all blocks that can be in flight.
        fs::File::create(&victim).unwrap().set_len(LENGTH).unwrap();
        let sink = Once(Some(|| act(&victim).unwrap()));
        let error = tree_of(root.path()).write(Codec::Zstd, &options(1), sink).unwrap_err();
        match error {
            Error::Changed { path, change } => assert_eq!((path, change), (victim, expected)),
            other => panic!("{expected:?}: {other}"),
        }
    }
}

#[test]
fn a_file_that_is_replaced_while_it_is_read_is_the_old_one() {
    let root = tempfile::tempdir().unwrap();
    let victim = root.path().join("large");
    fs::write(&victim, common::pattern(40 << 20)).unwrap();
    let expected = common::sha256(&fs::read(&victim).unwrap());
    let (before, after) = (root.path().join("large"), root.path().join("new"));
    let mut bytes = Vec::new();
    let mut replace = Some(|| {
        fs::write(&after, "new").unwrap();
        fs::rename(&after, &before).unwrap();
    });
    let sink = Observed(|piece: &[u8]| {
        if let Some(replace) = replace.take() {
            replace();
        }
        bytes.extend_from_slice(piece);
    });
    tree_of(root.path()).write(Codec::Zstd, &options(1), sink).unwrap();
    let entries = common::entries(&common::decompress(Codec::Zstd, &bytes));
    assert_eq!(common::sha256(&entries[1].content), expected);
}

#[test]
fn a_file_that_is_written_to_all_the_time_never_ends_up_torn() {
    const LENGTH: usize = 256 << 10;
    let root = tempfile::tempdir().unwrap();
    let victim = root.path().join("busy");
    fs::write(&victim, vec![b'a'; LENGTH]).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = fs::File::options().write(true).open(&victim).unwrap();
            for letter in (b'a'..=b'z').cycle() {
                std::os::unix::fs::FileExt::write_all_at(&file, &vec![letter; LENGTH], 0).unwrap();
                if done.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        for _ in 0..20 {
            match common::write(tree_of(root.path()), Codec::Zstd, 1) {
                Err(Error::Changed { path, .. }) => assert_eq!(path, victim),
                Err(other) => panic!("{other}"),
                Ok((_, bytes)) => {
                    let entries = common::entries(&common::decompress(Codec::Zstd, &bytes));
                    let content = &entries[1].content;
                    assert!(content.iter().all(|byte| byte == &content[0]), "a mix of two states");
                }
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn virtual_files_are_not_taken_as_empty() {
    let mut builder = LayerBuilder::new();
    builder.file_from("status", "/proc/self/status", 0o644);
    let error = write(builder);
    assert!(matches!(error, Error::Changed { change: Change::Grew, .. }), "{error}");

    let mut builder = LayerBuilder::new();
    builder.file_from("memory", "/proc/self/mem", 0o644);
    let error = write(builder);
    assert!(matches!(error, Error::Unreadable { action: "read", .. }), "{error}");
    assert!(error.to_string().contains("/proc/self/mem"), "{error}");
}

#[test]
fn whiteout_names_on_disk_are_refused_unless_left_out() {
    for name in [".wh.", ".wh.config", ".wh..wh..opq"] {
        for make in [|p: &Path| fs::write(p, "").unwrap(), |p: &Path| fs::create_dir(p).unwrap()] {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("sub")).unwrap();
            let path = root.path().join("sub").join(name);
            make(&path);
            let error = write(tree_of(root.path()));
            assert!(matches!(&error, Error::WhiteoutName { path: p } if *p == path), "{error}");

            let mut builder = LayerBuilder::new();
            let filter = Box::new(move |p: &Path, _| !p.ends_with(name));
            builder.tree(root.path(), "app", ModePolicy::Code, filter).unwrap();
            assert_eq!(common::listing(builder), ["0775 app/", "0775 app/sub/"]);
        }
    }
}

#[test]
fn two_contributors_for_a_path_are_both_named() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    fs::write(root.path().join("dir/file"), "content").unwrap();
    symlink("file", root.path().join("dir/link")).unwrap();
    let shown = root.path().display().to_string();
    let cases: [(&str, Declare, &[&str]); 12] = [
        (
            "x",
            |b, _| b.file("x", "1", 0o644).file("x", "1", 0o644),
            &["a declared file and a declared file"],
        ),
        (
            "x",
            |b, _| b.file("x", "1", 0o644).dir("x", 0o755),
            &["a declared file and a declared directory"],
        ),
        (
            "x",
            |b, _| b.dir("x", 0o755).symlink("x", "y"),
            &["a declared directory and a declared link to \"y\""],
        ),
        (
            "x",
            |b, _| b.file("x", "1", 0o644).file("x/y", "2", 0o644),
            &["a declared file and a directory"],
        ),
        (
            "x",
            |b, _| b.file("x/y", "2", 0o644).file("x", "1", 0o644),
            &["a declared directory and a declared file"],
        ),
        ("x", |b, _| b.dir("x", 0o755).dir("x", 0o700), &["mode 0755", "mode 0700"]),
        (
            "x",
            |b, _| b.symlink("x", "y").opaque("x"),
            &["a declared link to \"y\" and a declared directory"],
        ),
        (
            "x",
            |b, r| {
                b.tree(r, "x", ModePolicy::Code, everything())
                    .unwrap()
                    .file_from("x", "/etc/hosts", 0o644)
            },
            &["the directory \"ROOT\" and the file \"/etc/hosts\""],
        ),
        (
            "dir/file",
            |b, r| b.file("dir/file", "1", 0o644).tree(r, "/", ModePolicy::Code, everything()).unwrap(),
            &["a declared file and the file", "ROOT/dir/file"],
        ),
        (
            "dir",
            |b, r| b.symlink("dir", "/opt").tree(r, "/", ModePolicy::Code, everything()).unwrap(),
            &["a declared link to \"/opt\" and the directory", "ROOT/dir"],
        ),
        (
            "dir/link",
            |b, r| {
                b.file("dir/link/x", "1", 0o644)
                    .tree(r, "/", ModePolicy::Code, everything())
                    .unwrap()
            },
            &["a declared directory and the link", "ROOT/dir/link"],
        ),
        (
            "dir",
            |b, r| {
                b.tree(r, "/", ModePolicy::Code, everything()).unwrap();
                b.tree(r.join("dir"), "dir", ModePolicy::Environment, everything()).unwrap()
            },
            &["ROOT/dir\" of mode 0755", "ROOT/dir\" of mode 0775"],
        ),
    ];
    for (path, declare, words) in cases {
        let mut builder = LayerBuilder::new();
        declare(&mut builder, root.path());
        let error = match builder.write(Codec::Zstd, &options(1), io::sink()) {
            Ok(layer) => panic!("{words:?}: {layer:?}"),
            Err(error) => error,
        };
        let text = error.to_string();
        assert!(matches!(&error, Error::Conflict { path: p, .. } if p == Path::new(path)), "{text}");
        for word in words {
            assert!(text.contains(&word.replace("ROOT", &shown)), "{word}: {text}");
        }
    }
}

#[test]
fn sources_of_the_wrong_kind_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    fs::write(at("file"), "content").unwrap();
    symlink("dir", at("dirlink")).unwrap();
    symlink("file", at("filelink")).unwrap();
    fifo(&at("fifo"));
    for (name, words) in [
        ("missing", "cannot open"),
        ("file", "is a regular file, not a directory"),
        ("dirlink", "is a symbolic link, not a directory"),
        ("dirlink/", "is a symbolic link, not a directory"),
        ("fifo", "is a socket, FIFO or device, not a directory"),
    ] {
        let mut builder = LayerBuilder::new();
        let error = builder
            .tree(at(name), "app", ModePolicy::Code, everything())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words) && error.contains(name.trim_end_matches('/')), "{error}");
    }
    for (name, words) in [
        ("missing", "cannot open"),
        ("dir", "is a directory, not a regular file"),
        ("filelink", "is a symbolic link, not a regular file"),
        ("fifo", "is a socket, FIFO or device, not a regular file"),
    ] {
        let mut builder = LayerBuilder::new();
        builder.file_from("bin/tool", at(name), 0o755);
        let error = write(builder).to_string();
        assert!(error.contains(words) && error.contains(name), "{error}");
    }
}

#[test]
fn placements_that_cannot_be_are_reported_by_write() {
    let cases: [(Declare, &str); 7] = [
        (|b, _| b.file("../etc/passwd", "", 0o644), "component . or .."),
        (|b, _| b.dir("/", 0o755), "root of the image"),
        (|b, _| b.opaque(""), "root of the image"),
        (|b, _| b.dir("tmp", 0o17777), "mode is beyond"),
        (|b, _| b.symlink("a", ""), "link target is empty"),
        (|b, _| b.symlink("a", "x\0y"), "NUL"),
        (|b, _| b.file("a/.wh.b", "", 0o644).file("fine", "", 0o644), "reserve for deletions"),
    ];
    for (declare, words) in cases {
        let mut builder = LayerBuilder::new();
        declare(&mut builder, Path::new("/"));
        let error = write(builder).to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    let root = tempfile::tempdir().unwrap();
    let mut builder = LayerBuilder::new();
    let result = builder.tree(root.path(), "a//b", ModePolicy::Code, everything());
    assert!(matches!(result, Err(Error::InvalidPlacement { .. })));
}

#[test]
fn depth_and_length_are_bounded() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("d/".repeat(1000))).unwrap();
    let error = write(tree_of(root.path()));
    assert!(matches!(error, Error::TooDeep { .. }), "{error}");
    assert!(error.to_string().len() < 500, "{error}");

    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("d/".repeat(256))).unwrap();
    let entries = common::written(tree_of(root.path()));
    assert_eq!(entries.len(), 257, "the deepest that is taken");

    let place = vec!["p".repeat(250); 15].join("/");
    for (folder, fits) in [(74, true), (75, false)] {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("d".repeat(folder));
        fs::create_dir(&below).unwrap();
        fs::write(below.join("n".repeat(255)), "content").unwrap();
        let mut builder = LayerBuilder::new();
        builder.tree(root.path(), &place, ModePolicy::Code, everything()).unwrap();
        if fits {
            let last = common::written(builder).pop().unwrap();
            assert_eq!((last.path.len(), last.content.as_slice()), (4095, &b"content"[..]));
        } else {
            let error = write(builder);
            assert!(matches!(error, Error::TooDeep { .. }), "{error}");
        }
    }
}

#[test]
fn entries_nobody_may_read_are_named() {
    let root = tempfile::tempdir().unwrap();
    let secret = root.path().join("secret");
    fs::write(&secret, "content").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o0)).unwrap();
    let result = common::write(tree_of(root.path()), Codec::Gzip, 1);
    if rustix::process::geteuid().is_root() {
        // Root may read everything, and must not be told otherwise.
        assert_eq!(result.unwrap().0.files, 1);
        return;
    }
    match result.unwrap_err() {
        Error::Unreadable {
            path,
            action: "open",
            source,
        } => {
            assert_eq!((path, source.kind()), (secret, io::ErrorKind::PermissionDenied));
        }
        other => panic!("{other}"),
    }
}

/// A sink that takes some bytes and then fails.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.0);
        self.0 -= length;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full"));
        }
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_sink_ends_everything_with_its_own_error() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), common::pattern(40 << 20)).unwrap();
    for codec in CODECS {
        for (room, threads) in [(0, 1), (100, 2), (9 << 20, 4)] {
            let error = tree_of(root.path()).write(codec, &options(threads), Full(room)).unwrap_err();
            assert!(error.is_sink(), "{error}");
            assert_eq!(error.to_string(), "cannot write the layer: the disk is full");
        }
    }
}

#[test]
fn a_raised_flag_ends_everything() {
    let root = tempfile::tempdir().unwrap();
    fs::File::create(root.path().join("huge")).unwrap().set_len(1 << 40).unwrap();
    for threads in [1, 4] {
        let flag = Arc::new(AtomicBool::new(false));
        let raise = Arc::clone(&flag);
        let options = WriteOptions {
            cancel: Some(flag),
            on_progress: Some(Box::new(move |progress| {
                assert_eq!(progress.uncompressed % (4 << 20), 0);
                raise.store(progress.uncompressed >= 16 << 20, Ordering::Relaxed);
            })),
            ..options(threads)
        };
        let error = tree_of(root.path()).write(Codec::Zstd, &options, io::sink()).unwrap_err();
        assert!(error.is_canceled(), "{error}");
    }
}

#[test]
#[should_panic(expected = "the filter itself")]
fn a_panic_of_the_caller_surfaces() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("file"), "content").unwrap();
    let mut builder = LayerBuilder::new();
    let filter = Box::new(|_: &Path, _| panic!("the filter itself"));
    builder.tree(root.path(), "app", ModePolicy::Code, filter).unwrap();
    drop(builder.write(Codec::Zstd, &options(2), io::sink()));
}
