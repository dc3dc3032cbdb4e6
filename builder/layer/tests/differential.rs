//! Random trees, read back by three readers that users have: GNU tar, Python's tarfile and Go's archive/tar.
//!
//! `TREES=n` sets how many (`make fuzz` runs many), `SEED=n` where they begin; a failure names the seed of its tree.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod common;
mod random_tree;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use random_tree::{Expected, What, build};

/// Trees that one process of each reader gets.
const BATCH: u64 = 200;
/// The time of every entry.
const MTIME: i64 = 315_619_200;

/// Python's `-c` would do, but the programs are files so that people can run them on an archive of theirs.
fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/readers").join(name)
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| {
        text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number"))
    })
}

/// Bytes of a seed, up to 3000.
fn bytes_of(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let length = usize::try_from(next() % 3000).unwrap();
    std::iter::repeat_with(next).flat_map(u64::to_le_bytes).take(length).collect()
}

struct Case {
    seed: u64,
    archive: PathBuf,
    expected: Vec<Expected>,
}

fn make(folder: &Path, seed: u64) -> Case {
    let root = folder.join("tree");
    fs::create_dir(&root).unwrap();
    let (builder, expected) = build(&root, &bytes_of(seed), true);
    let codec = common::CODECS[usize::try_from(seed % 2).unwrap()];
    let (_, bytes) =
        common::write(builder, codec, 1 + usize::try_from(seed % 3).unwrap()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    fs::remove_dir_all(&root).unwrap();
    let archive = folder.join(format!("{seed}.tar"));
    fs::write(&archive, common::decompress(codec, &bytes)).unwrap();
    Case { seed, archive, expected }
}

/// The records of `fuzz/readers` for one archive.
fn records(expected: &[Expected]) -> Vec<u8> {
    let mut records = Vec::new();
    for entry in expected {
        let (kind, slash, target, size, digest) = match &entry.what {
            What::Directory => ('5', "/", &[][..], 0, String::new()),
            What::File(content) => {
                let digest = common::sha256(content);
                ('0', "", &[][..], content.len(), digest.strip_prefix("sha256:").unwrap().to_owned())
            }
            What::Symlink(target) => ('2', "", target.as_slice(), 0, String::new()),
            What::HardLink(target) => ('1', "", target.as_slice(), 0, String::new()),
        };
        records.extend_from_slice(format!("{kind}|{:04o}|", entry.mode).as_bytes());
        records.extend_from_slice(&entry.path);
        records.extend_from_slice(format!("{slash}|").as_bytes());
        records.extend_from_slice(target);
        records.extend_from_slice(format!("|{size}|{digest}\0").as_bytes());
    }
    records.push(0);
    records
}

fn compare(reader: &str, mut command: Command, cases: &[Case]) {
    command.args(cases.iter().map(|case| &case.archive));
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{reader} is a prerequisite of this suite: {error}"));
    let mut rest = output.stdout.as_slice();
    for case in cases {
        let records = records(&case.expected);
        let Some(next) = rest.strip_prefix(records.as_slice()) else {
            panic!(
                "{reader} reads another tree of seed {}: {}\nwanted {}\ngot {}",
                case.seed,
                String::from_utf8_lossy(&output.stderr),
                String::from_utf8_lossy(&records),
                String::from_utf8_lossy(&rest[..rest.len().min(2 * records.len())]),
            );
        };
        rest = next;
    }
    assert!(
        output.status.success() && rest.is_empty(),
        "{reader}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// GNU tar extracts, and what lies on disk is compared.
fn compare_extracted(folder: &Path, cases: &[Case]) {
    let target = folder.join("extracted");
    for case in cases {
        fs::create_dir(&target).unwrap();
        let output = Command::new("tar")
            .args(["--warning=all", "-xpf"])
            .arg(&case.archive)
            .arg("-C")
            .arg(&target)
            .output()
            .expect("GNU tar is a prerequisite of this suite");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "seed {}: {said}", case.seed);
        let mut found = BTreeMap::new();
        walk(&target, &target, &mut found);
        let mut wanted: BTreeMap<_, _> = case
            .expected
            .iter()
            .map(|entry| (entry.path.clone(), (entry.what.clone(), entry.mode)))
            .collect();
        let contents = wanted.clone();
        for (what, _) in wanted.values_mut() {
            if let What::HardLink(first) = what {
                // On disk all names are alike.
                *what = contents[first].0.clone();
            }
        }
        assert!(
            found == wanted,
            "GNU tar extracts another tree of seed {}\nwanted {wanted:?}\ngot {found:?}",
            case.seed
        );
        for entry in &case.expected {
            if let What::HardLink(first) = &entry.what {
                let inode = |path: &[u8]| fs::symlink_metadata(target.join(std::ffi::OsStr::from_bytes(path))).unwrap().ino();
                assert_eq!(inode(first), inode(&entry.path), "seed {}", case.seed);
            }
        }
        fs::remove_dir_all(&target).unwrap();
    }
}

fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<Vec<u8>, (What, u32)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        let (what, mode) = if metadata.is_symlink() {
            (What::Symlink(fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec()), 0o777)
        } else if metadata.is_dir() {
            walk(root, &path, found);
            (What::Directory, metadata.mode() & 0o7777)
        } else {
            (What::File(fs::read(&path).unwrap()), metadata.mode() & 0o7777)
        };
        assert_eq!(metadata.mtime(), MTIME, "{}", path.display());
        found.insert(name, (what, mode));
    }
}

#[test]
#[ignore = "needs Go, python3 and GNU tar"]
fn every_reader_reads_what_was_written() {
    let (first, trees) = (number("SEED", 1), number("TREES", 200));
    let folder = tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap();
    let go = folder.path().join("readers");
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(&go)
        .arg(program("readers.go"))
        .output()
        .expect("Go is a prerequisite of this suite");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let (mut entries, mut done) = (0, 0);
    for start in (first..first + trees).step_by(usize::try_from(BATCH).unwrap()) {
        let cases: Vec<Case> = (start..(start + BATCH).min(first + trees))
            .map(|seed| make(folder.path(), seed))
            .collect();
        compare("Go's archive/tar", Command::new(&go), &cases);
        let mut python = Command::new("python3");
        python.arg("-I").arg(program("readers.py"));
        compare("Python's tarfile", python, &cases);
        compare_extracted(folder.path(), &cases);
        for case in cases {
            entries += case.expected.len();
            done += 1;
            fs::remove_file(&case.archive).unwrap();
        }
    }
    println!("{done} trees with {entries} entries, read alike by Go, Python and GNU tar");
}
