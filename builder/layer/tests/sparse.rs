//! Holes are zeros like any others in the layer, and cost nothing to read. Alone in its process, because the count of
//! bytes that were read belongs to the process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use common::{everything, options};
use robotimage_layer::{Codec, Layer, LayerBuilder, ModePolicy};

/// Bytes of a file and where they are.
type Islands<'a> = &'a [(u64, &'a [u8])];

/// A file of this length with bytes at these places only.
fn sparse(path: &Path, length: u64, islands: Islands<'_>) {
    let file = fs::File::create(path).unwrap();
    file.set_len(length).unwrap();
    for (at, bytes) in islands {
        file.write_all_at(bytes, *at).unwrap();
    }
    let held = file.metadata().unwrap().blocks() * 512;
    assert!(held < length / 2, "the file system of the temporary folder keeps no holes");
}

fn layer_of(root: &Path, sink: impl io::Write + Send) -> Layer {
    let mut builder = LayerBuilder::new();
    builder.tree(root, "/", ModePolicy::Environment, everything()).unwrap();
    builder.write(Codec::Zstd, &options(2), sink).unwrap()
}

/// Bytes that this process got from `read` and its like.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap();
    line.parse().unwrap()
}

fn small_files_with_and_without_holes_are_the_same() {
    let data = common::pattern(300_000);
    let page = &data[..4096];
    let cases: [(u64, Islands<'_>); 6] = [
        (20 << 20, &[]),
        ((20 << 20) + 1, &[(0, page)]),
        (20 << 20, &[((20 << 20) - 4096, page)]),
        ((20 << 20) + 777, &[(5_000_000, &data), (9 << 20, b"x"), ((20 << 20) + 776, b"z")]),
        (30 << 20, &[(4096, page), (12288, page), (4 << 20, page), (8 << 20, &data)]),
        ((4 << 20) + 1, &[(4 << 20, b"z")]),
    ];
    for (length, islands) in cases {
        let (holes, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        sparse(&holes.path().join("file"), length, islands);
        fs::write(full.path().join("file"), fs::read(holes.path().join("file")).unwrap()).unwrap();
        let [with, without] = [&holes, &full].map(|root| layer_of(root.path(), io::sink()));
        assert_eq!(with, without, "{length} {:?}", islands.iter().map(|(at, _)| at).collect::<Vec<_>>());
    }
}

fn a_file_of_more_than_eight_gibibytes_is_whole() {
    const LENGTH: u64 = (8 << 30) + 4321;
    const MIDDLE: u64 = (5 << 30) + 1234;
    let root = tempfile::tempdir().unwrap();
    sparse(
        &root.path().join("huge"),
        LENGTH,
        &[(0, b"begin"), (MIDDLE, b"middle"), (LENGTH - 3, b"end")],
    );
    let mut packed = Vec::new();
    let before = bytes_read();
    let layer = layer_of(root.path(), &mut packed);
    assert!(bytes_read() - before < 1 << 20, "holes were read");
    // An extended header of two records, the header, the content and the end of the archive.
    assert_eq!(layer.uncompressed, 3 * 512 + LENGTH.next_multiple_of(512) + 1024);

    let mut archive = tar::Archive::new(zstd::Decoder::new(packed.as_slice()).unwrap());
    let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!((entry.path().unwrap().to_str(), entry.size()), (Some("huge"), LENGTH));
    let (mut piece, zeros, mut at, mut found) = (vec![0; 4 << 20], vec![0; 4 << 20], 0, Vec::new());
    loop {
        let length = entry.read(&mut piece).unwrap();
        if length == 0 {
            break;
        }
        if piece[..length] != zeros[..length] {
            let bytes = piece[..length].iter().enumerate().filter(|(_, byte)| **byte != 0);
            found.extend(bytes.map(|(offset, byte)| (at + offset as u64, *byte)));
        }
        at += length as u64;
    }
    let expected = [(0, &b"begin"[..]), (MIDDLE, b"middle"), (LENGTH - 3, b"end")]
        .into_iter()
        .flat_map(|(start, text)| text.iter().enumerate().map(move |(offset, byte)| (start + offset as u64, *byte)));
    assert_eq!((at, found), (LENGTH, expected.collect()));
}

#[test]
fn holes_are_zeros() {
    small_files_with_and_without_holes_are_the_same();
    a_file_of_more_than_eight_gibibytes_is_whole();
}
