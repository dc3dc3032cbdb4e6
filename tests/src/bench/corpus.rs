//! What is packed: environments made from the Python index, and trees that are large or have many files.
//!
//! Environments are kept in the cache under a key of all that they are made from; trees are made anew in memory. Invariant:
//! the same inputs give the same files, and no two files of a tree are equal.

use std::fs::{self, File};
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use robotimage_builder::environment::SEALED_PATH;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::process::run;

const SCRIPT: &str = include_str!("../../parts/bench/environment.sh");
/// Files in a folder of a tree.
const FOLDER: u64 = 100;

/// An environment of the Python index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Environment {
    /// About 0.3 GB: robotframework, pandas, selenium and a few more.
    Small,
    /// About 1.4 GB: the same with scipy, pyarrow, OpenCV, playwright, jupyterlab and more.
    Large,
}

impl Environment {
    fn requirements(self) -> (&'static str, &'static str) {
        match self {
            Self::Small => ("environment-small", include_str!("../../parts/bench/small.txt")),
            Self::Large => ("environment-large", include_str!("../../parts/bench/large.txt")),
        }
    }

    /// Its folder, made when it is not there; `cache` is the benchmark's own.
    pub(super) fn get(self, cache: &Cache) -> Result<PathBuf> {
        let (name, requirements) = self.requirements();
        let question = "import sys; print(sys.version, sys.base_prefix)";
        let python = run("version of Python", Command::new("python3").args(["-c", question]))?;
        let inputs = [
            SCRIPT.as_bytes(),
            requirements.as_bytes(),
            python.as_bytes(),
            SEALED_PATH.as_bytes(),
        ];
        let folder = cache.artifact(name, &inputs, "a download of up to 360 MB, and some minutes", |out| {
            let (script, list) = (out.join("make.sh"), out.join("requirements.txt"));
            fs::write(&script, SCRIPT).map_err(Error::io("write", &script))?;
            fs::write(&list, requirements).map_err(Error::io("write", &list))?;
            let mut make = Command::new("bash");
            make.arg(&script).arg(out.join("environment")).arg(&list).arg(SEALED_PATH);
            run("environment from the Python index", &mut make).map(drop)
        })?;
        Ok(folder.join("environment"))
    }
}

/// Makes a tree of `count` small files below `out`, 100 in a folder: from 0.2 to 3.8 kB of text that compresses to about a third.
pub(super) fn many_files(out: &Path, count: u64) -> Result<()> {
    let mut random = Random(count);
    top(out)?;
    let mut text = Vec::new();
    for folder in 0..count.div_ceil(FOLDER) {
        let folder_path = out.join(format!("lib/{:03}/{folder:05}", folder % 101));
        fs::create_dir_all(&folder_path).map_err(Error::io("create", &folder_path))?;
        for number in folder * FOLDER..(folder * FOLDER + FOLDER).min(count) {
            text.clear();
            writeln!(text, "file {number}").map_err(Error::io("fill", out))?;
            random.text(&mut text, number);
            let path = folder_path.join(format!("{number:07}.txt"));
            fs::write(&path, &text).map_err(Error::io("write", &path))?;
        }
    }
    Ok(())
}

/// Copies an environment below `out` until there are about `bytes`, each file of each copy with a few bytes of its own.
pub(super) fn copies(from: &Path, out: &Path, bytes: u64) -> Result<()> {
    top(out)?;
    let mut left = bytes;
    let mut copy = 0_u32;
    while left > 0 {
        copy += 1;
        let before = left;
        let to = out.join(format!("lib/copy{copy:02}"));
        copy_tree(from, &to, copy, &mut left)?;
        if left == before {
            return Err(Error::Other(format!("{} has no bytes to copy", from.display())));
        }
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path, copy: u32, left: &mut u64) -> Result<()> {
    fs::create_dir_all(to).map_err(Error::io("create", to))?;
    let mut entries: Vec<_> = fs::read_dir(from)
        .map_err(Error::io("list", from))?
        .collect::<Result<_, _>>()
        .map_err(Error::io("list", from))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::io("look at", &path))?;
        if *left == 0 {
            break;
        }
        if kind.is_dir() {
            copy_tree(&path, &target, copy, left)?;
        } else if kind.is_file() {
            let mut source = BufReader::with_capacity(1 << 20, File::open(&path).map_err(Error::io("open", &path))?);
            let mut file = File::create(&target).map_err(Error::io("create", &target))?;
            let mut size = std::io::copy(&mut source, &mut file).map_err(Error::io("copy to", &target))?;
            // At the end, where it does no harm to a shared library, which the builder looks into.
            let own = format!("\ncopy {copy}\n");
            file.write_all(own.as_bytes()).map_err(Error::io("write", &target))?;
            size += own.len() as u64;
            *left = left.saturating_sub(size);
        }
    }
    Ok(())
}

/// The file that an environment of rcc has at its top.
fn top(out: &Path) -> Result<()> {
    fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let path = out.join("identity.yaml");
    fs::write(&path, "channels: []\n").map_err(Error::io("write", &path))
}

/// A small generator of numbers, the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // SplitMix64: a counter, mixed.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Words of a small vocabulary with numbers between.
    fn text(&mut self, out: &mut Vec<u8>, number: u64) {
        const WORDS: [&str; 16] = [
            "import", "return", "def", "self", "value", "for", "in", "class", "None", "True", "index", "name", "result", "error", "path",
            "data",
        ];
        let length = 200 + usize::try_from((self.next() ^ number) % 3_600).unwrap_or(0);
        while out.len() < length {
            let bits = self.next();
            for shift in [0, 4, 8, 12, 16, 20] {
                let index = usize::try_from((bits >> shift) & 15).unwrap_or(0);
                out.extend_from_slice(WORDS[index].as_bytes());
                out.push(b' ');
            }
            out.extend_from_slice(format!("{:x}\n", bits >> 40).as_bytes());
        }
    }
}

/// What a tree holds: regular files and their bytes.
pub(super) fn size(folder: &Path) -> Result<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let metadata = entry.metadata().map_err(Error::io("look at", entry.path()))?;
        if metadata.is_dir() {
            let inner = size(&entry.path())?;
            files += inner.0;
            bytes += inner.1;
        } else if metadata.is_file() {
            files += 1;
            bytes += metadata.len();
        }
    }
    Ok((files, bytes))
}

/// Reads every file below a folder once, so that all tools find it in the page cache.
pub(super) fn warm(folder: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            let kind = entry.file_type().map_err(Error::io("look at", entry.path()))?;
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_file() {
                let mut file = File::open(entry.path()).map_err(Error::io("open", entry.path()))?;
                while file.read(&mut buffer).map_err(Error::io("read", entry.path()))? > 0 {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_tree_has_the_files_asked_for_and_is_the_same_again() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        many_files(one.path(), 250).unwrap();
        many_files(two.path(), 250).unwrap();
        let (files, bytes) = size(one.path()).unwrap();
        assert_eq!(files, 251, "one more at the top");
        assert_eq!(size(two.path()).unwrap(), (files, bytes));
        assert!((250 * 200..250 * 4_000).contains(&bytes), "{bytes}");
        let read = |folder: &Path| {
            (0..100)
                .map(|number| fs::read(folder.join(format!("lib/000/00000/{number:07}.txt"))).unwrap())
                .collect::<BTreeSet<_>>()
        };
        assert_eq!(read(one.path()).len(), 100, "all differ");
        assert_eq!(read(one.path()), read(two.path()));
        warm(one.path()).unwrap();
    }

    #[test]
    fn copies_reach_the_size_and_differ() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(from.path().join("sub")).unwrap();
        fs::write(from.path().join("sub/a"), [7; 1000]).unwrap();
        copies(from.path(), to.path(), 2500).unwrap();
        let (files, bytes) = size(to.path()).unwrap();
        assert_eq!(files, 4);
        assert!(bytes >= 2500, "{bytes}");
        let copy = |number| fs::read(to.path().join(format!("lib/copy{number:02}/sub/a"))).unwrap();
        assert_ne!(copy(1), copy(2));
        assert!(
            copies(tempfile::tempdir().unwrap().path(), to.path(), 1).is_err(),
            "nothing comes of nothing"
        );
    }
}
