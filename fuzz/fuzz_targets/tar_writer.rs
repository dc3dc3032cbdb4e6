//! The tar writer: a tree made of the input is written, and read back equal.

#![no_main]

#[path = "../../builder/layer/tests/random_tree/mod.rs"]
mod random_tree;

use std::io::Read;
use std::num::NonZeroUsize;

use random_tree::{Expected, What, build};
use robotimage_layer::{Codec, WriteOptions};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // A tree on a disk would wear it out.
    let folder = tempfile::Builder::new().prefix("robotimage-fuzz").tempdir_in("/dev/shm").expect("a tmpfs");
    let (builder, expected) = build(folder.path(), data, false);
    let options = WriteOptions {
        threads: NonZeroUsize::MIN,
        ..WriteOptions::default()
    };
    let mut bytes = Vec::new();
    let layer = builder.write(Codec::Zstd, &options, &mut bytes).expect("a tree without faults is written");
    assert_eq!(layer.size, bytes.len() as u64);
    let mut stream = Vec::new();
    zstd::Decoder::new(bytes.as_slice()).expect("a decoder").read_to_end(&mut stream).expect("zstd");
    assert_eq!(layer.uncompressed, stream.len() as u64);
    assert_eq!(read(&stream), expected);
    let named = expected.iter().filter(|entry| matches!(entry.what, What::File(_) | What::HardLink(_))).count();
    assert!(layer.files <= named as u64);
});

fn read(stream: &[u8]) -> Vec<Expected> {
    let mut found = Vec::new();
    for entry in tar::Archive::new(stream).entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let header = entry.header();
        assert_eq!((header.uid().ok(), header.gid().ok(), header.mtime().ok()), (Some(0), Some(0), Some(315_619_200)));
        let (kind, mode) = (header.entry_type(), header.mode().expect("a mode"));
        let mut path = entry.path_bytes().into_owned();
        let target = entry.link_name_bytes().map(|target| target.into_owned());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("its content");
        let what = match kind {
            tar::EntryType::Directory => {
                assert_eq!(path.pop(), Some(b'/'));
                What::Directory
            }
            tar::EntryType::Regular => What::File(content),
            tar::EntryType::Symlink => What::Symlink(target.expect("a target")),
            tar::EntryType::Link => What::HardLink(target.expect("a target")),
            other => panic!("{other:?}"),
        };
        found.push(Expected { path, what, mode });
    }
    found
}
