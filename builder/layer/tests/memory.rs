//! Memory is bounded by the number of blocks, not by what a layer holds. Alone in its process, because the high-water
//! mark of memory belongs to the process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;

use std::fs;
use std::io;

use common::{everything, options};
use robotimage_layer::{Codec, LayerBuilder, ModePolicy};

/// The most memory this process ever held, in KiB.
fn high_water_mark() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_large_layer_fits_into_80_mebibytes() {
    let root = tempfile::tempdir().unwrap();
    // Incompressible enough that compressed blocks are large too; linked, so that the disk holds it once.
    fs::write(root.path().join("large"), common::pattern(32 << 20)).unwrap();
    let mut builder = LayerBuilder::new();
    for number in 0..6 {
        builder.file_from(&format!("copy{number}"), root.path().join("large"), 0o644);
    }
    for number in 0..5000 {
        fs::write(root.path().join(format!("small-{number}")), "x").unwrap();
    }
    builder.tree(root.path(), "tree", ModePolicy::Environment, everything()).unwrap();
    let layer = builder.write(Codec::Zstd, &options(2), io::sink()).unwrap();
    assert!(layer.uncompressed > 200 << 20);
    let peak = high_water_mark();
    assert!(peak < 80 << 10, "{peak} KiB");
}
