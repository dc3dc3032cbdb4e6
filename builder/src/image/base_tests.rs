use std::io::Write as _;

use super::*;

enum Item<'a> {
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
    Folder(&'a str),
}
use Item::{File, Folder, Link};

fn archive(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        match item {
            File(path, content) => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, *content).unwrap();
            }
            Link(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, path, target).unwrap();
            }
            Folder(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                builder.append_data(&mut header, path, &[][..]).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn libc(version: &str) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x03\x00\x3e\x00".to_vec();
    bytes.extend_from_slice(format!("xxGNU C Library (Debian GLIBC {version}-9) stable release version {version}.\nC").as_bytes());
    bytes
}

fn facts(layers: &[Vec<u8>]) -> BaseFacts {
    let mut reader = BaseReader::default();
    for layer in layers {
        reader.layer(&layer[..]).unwrap();
    }
    reader.finish()
}

fn debian() -> Vec<u8> {
    archive(&[
        Folder("./etc"),
        File("./etc/passwd", b"root:x:0:0::/root:/bin/sh\n"),
        File("./etc/os-release", b"NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"),
        Folder("opt"),
        Link("home", "var/home"),
        File("usr/lib/i386-linux-gnu/libc.so.6", b"\x7fELF\x01"),
        File("usr/lib/x86_64-linux-gnu/libc.so.6", &libc("2.36")),
        File("usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", b"x"),
    ])
}

#[test]
fn facts_of_one_layer_in_each_compression() {
    let plain = debian();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for (media_type, bytes) in [
        ("application/vnd.oci.image.layer.v1.tar", plain),
        ("application/vnd.oci.image.layer.v1.tar+gzip", gzip.finish().unwrap()),
        ("application/vnd.docker.image.rootfs.diff.tar.gzip", {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(&debian()).unwrap();
            gzip.finish().unwrap()
        }),
        ("application/vnd.oci.image.layer.v1.tar+zstd", zstd),
    ] {
        let mut reader = BaseReader::default();
        reader.layer(&bytes[..]).unwrap();
        let facts = reader.finish();
        assert_eq!(facts.glibc.as_deref(), Some("2.36"), "{media_type}");
        assert_eq!(facts.os.as_deref(), Some("Debian GNU/Linux 12"));
        assert_eq!(facts.passwd.as_deref(), Some("root:x:0:0::/root:/bin/sh\n"));
        assert!(facts.loader && facts.group.is_none());
        assert_eq!(facts.links, BTreeMap::from([("/home".to_owned(), "var/home".to_owned())]));
    }
}

#[test]
fn upper_layers_delete_and_replace() {
    let upper = |items: &[Item<'_>]| facts(&[debian(), archive(items)]);
    assert_eq!(upper(&[File("etc/.wh.passwd", b"")]).passwd, None);
    assert_eq!(upper(&[File("etc/.wh..wh..opq", b""), File("etc/group", b"g")]).passwd, None);
    let kept = upper(&[File("etc/group", b"g"), File("etc/.wh..wh..opq", b"")]);
    assert_eq!((kept.passwd, kept.group.as_deref()), (None, Some("g")));
    assert_eq!(upper(&[File(".wh.usr", b"")]).glibc, None);
    assert_eq!(
        upper(&[File("usr/lib/x86_64-linux-gnu/libc.so.6", &libc("2.41"))]).glibc.as_deref(),
        Some("2.41")
    );
    assert!(upper(&[Folder("home")]).links.is_empty());
    assert_eq!(upper(&[Link("opt", "var/opt")]).links.len(), 2);
    assert_eq!(upper(&[Link("usr", "elsewhere")]).glibc, None);
    assert_eq!(
        upper(&[File("etc/.wh.passwd", b""), File("etc/passwd", b"new")]).passwd.as_deref(),
        Some("new")
    );
}

/// What replaces a folder or a file in an upper layer hides it, whatever kind it is.
#[test]
fn anything_hides_what_it_replaces() {
    let upper = |items: &[Item<'_>]| facts(&[debian(), archive(items)]);
    assert_eq!(upper(&[File("usr/lib", b"")]).glibc, None, "a file on a folder of the way");
    assert_eq!(upper(&[Link("usr/lib/x86_64-linux-gnu", "../elsewhere")]).glibc, None);
    assert_eq!(upper(&[Link("usr/lib/x86_64-linux-gnu/libc.so.6", "libc-2.so")]).glibc, None);
    assert_eq!(upper(&[Folder("etc/passwd")]).passwd, None);
    assert_eq!(upper(&[Link("etc/os-release", "../usr/lib/os-release")]).os, None);
    assert_eq!(upper(&[File(".wh..wh..opq", b"")]), BaseFacts::default(), "the whole image");
    assert_eq!(
        upper(&[Folder("usr"), Folder("etc"), File("usr/lib/y", b"")]).glibc.as_deref(),
        Some("2.36")
    );
    // Bookkeeping of an old storage driver deletes nothing.
    assert_eq!(
        upper(&[File(".wh..wh.plnk", b""), File("etc/.wh..wh.aufs", b"")]),
        facts(&[debian()])
    );
    // The last of equal names in one archive counts.
    let twice = archive(&[File("etc/passwd", b"a"), Link("etc/passwd", "x"), Link("opt", "x"), Folder("opt")]);
    assert_eq!(facts(&[twice]), BaseFacts::default());
    let once_more = archive(&[Link("etc/passwd", "x"), File("./etc//passwd", b"b")]);
    assert_eq!(facts(&[once_more]).passwd.as_deref(), Some("b"));
}

/// A C library that a program brought along is not the system's.
#[test]
fn the_systems_own_library_counts() {
    let sysroot = File("opt/conda/sysroot/lib64/libc.so.6", &[0; 0]);
    let old = libc("2.17");
    let sysroot = match sysroot {
        File(path, _) => File(path, &old),
        other => other,
    };
    let layer = archive(&[sysroot, File("opt/conda/sysroot/lib64/ld-linux-x86-64.so.2", b"x")]);
    let both = facts(&[layer.clone(), debian()]);
    assert_eq!(both.glibc.as_deref(), Some("2.36"));
    let alone = facts(&[layer]);
    assert_eq!((alone.glibc.as_deref(), alone.loader), (Some("2.17"), false), "better than none");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

/// Runtimes look at the first bytes; so must we, or a base that runs is refused.
#[test]
fn compression_is_told_by_the_bytes() {
    let plain = debian();
    let (first, second) = plain.split_at(700);
    let skipped = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    for (name, layer) in [
        ("gzip members", [gzip(first), gzip(second)].concat()),
        ("zstd frames", [zstd(first), zstd(second)].concat()),
        (
            "zstd with frames to skip",
            [skipped.clone(), zstd(first), skipped.clone(), zstd(second), skipped].concat(),
        ),
        ("plain", plain.clone()),
    ] {
        assert_eq!(facts(&[layer]), facts(&[debian()]), "{name}");
    }
    for (name, layer) in [("bzip2", &b"BZh91AY&SY"[..]), ("xz", b"\xfd7zXZ\0\0\x04")] {
        let error = BaseReader::default().layer(layer).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    for cut in [gzip(&plain), zstd(&plain)] {
        for length in [7, cut.len() / 2, cut.len() - 1] {
            assert!(BaseReader::default().layer(&cut[..length]).is_err(), "{length}");
        }
    }
}

/// A layer of a few kilobytes that would fill memory or take hours.
#[test]
fn bombs_are_bounded() {
    let small = || {
        BaseReader::with_limits(Limits {
            bytes: 1 << 20,
            headers: 100,
            text: 100,
            library: 1 << 20,
            found: 10,
        })
    };
    let zeros = vec![0; 1 << 22];
    for bomb in [gzip(&zeros), zstd::encode_all(&zeros[..], 1).unwrap(), zeros] {
        assert!(small().layer(&bomb[..]).unwrap_err().to_string().contains("larger than any"));
    }
    let mut two = small();
    let half = vec![0; 600 << 10];
    two.layer(&half[..]).unwrap();
    assert!(two.layer(&half[..]).is_err(), "all layers count together");
    let names: Vec<String> = (0..200).map(|number| format!("{number}/ld-linux")).collect();
    let files: Vec<_> = names.iter().map(|name| File(name, b"")).collect();
    assert!(
        small()
            .layer(&archive(&files)[..])
            .unwrap_err()
            .to_string()
            .contains("too many entries")
    );
    let old = libc("2.17");
    let names: Vec<String> = (0..20).map(|number| format!("{number}/libc.so.6")).collect();
    let files: Vec<_> = names.iter().map(|name| File(name, &old)).collect();
    assert!(small().layer(&archive(&files)[..]).unwrap_err().to_string().contains("C libraries"));
    let error = small().layer(&archive(&[File("etc/passwd", &[b'x'; 101])])[..]).unwrap_err();
    assert!(error.to_string().contains("/etc/passwd"), "{error}");
}

#[test]
fn broken_layers_are_errors() {
    let mut cut = debian();
    cut.truncate(700);
    assert!(BaseReader::default().layer(&cut[..]).is_err());
}
