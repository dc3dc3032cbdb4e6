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
        reader.layer("application/vnd.oci.image.layer.v1.tar", &layer[..]).unwrap();
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
        reader.layer(media_type, &bytes[..]).unwrap();
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

#[test]
fn broken_layers_are_errors() {
    let mut cut = debian();
    cut.truncate(700);
    assert!(BaseReader::default().layer("tar", &cut[..]).is_err());
    assert!(BaseReader::default().layer("tar+gzip", &debian()[..]).is_err());
}
