//! The folder that an archive's entries become.
//!
//! Invariant: a name is checked before anything of it is made; two entries never meet at one name, nor at two that differ in
//! case only; files are created and never opened; links are made last, so that nothing is ever written through one.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sha2::{Digest as _, Sha256};

use super::super::error::SourceError;
use super::super::names::{MAX_DEPTH, MAX_PATH, refuse_link, refuse_name, show};
use super::super::tree::{Limits, Written, interrupted, io};

/// What may be read of an archive for each byte and each entry that may be written: `source.path` may be a part of it.
const SLACK: u64 = 4;
/// Names at the top of the archive that a message lists.
const TOPS: usize = 5;

/// Where a source goes, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// What messages call the source: its address without user and query.
    pub of: &'a str,
    /// Folder of it that is the context; empty for all of it.
    pub path: &'a str,
    /// How much may be written.
    pub limits: Limits,
    /// Existing empty folder that gets the context.
    pub into: &'a Path,
    /// Raised to end the work.
    pub interrupt: &'a AtomicBool,
}

/// Writes entries, one after the other.
pub(in crate::source) struct Writer<'a> {
    target: Target<'a>,
    /// The folders of `target.path`.
    prefix: Vec<&'a str>,
    /// What stands at each name of the context, by the hash of the name in small letters.
    seen: HashMap<[u8; 16], Seen>,
    links: Vec<(PathBuf, Vec<u8>)>,
    written: Written,
    read: u64,
    /// Something of the context was there.
    found: bool,
    tops: BTreeSet<String>,
}

#[derive(Clone, Copy)]
struct Seen {
    exact: [u8; 16],
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
}

/// A name inside the context.
struct Place {
    at: PathBuf,
    depth: usize,
}

impl<'a> Writer<'a> {
    /// A writer into an empty folder.
    pub(in crate::source) fn new(target: Target<'a>) -> Self {
        Self {
            target,
            prefix: target.path.split('/').filter(|part| !part.is_empty() && *part != ".").collect(),
            seen: HashMap::new(),
            links: Vec::new(),
            written: Written::default(),
            read: 0,
            found: false,
            tops: BTreeSet::new(),
        }
    }

    /// Entries that may be read of the archive, whether they are written or not.
    pub(super) fn most_entries(&self) -> u64 {
        self.target.limits.entries.saturating_mul(SLACK)
    }

    /// Bytes that may be read of the unpacked archive, whether they are written or not.
    pub(super) fn most_bytes(&self) -> u64 {
        self.target.limits.bytes.saturating_mul(SLACK)
    }

    /// Raised to end the work.
    pub(super) fn interrupt(&self) -> &'a AtomicBool {
        self.target.interrupt
    }

    /// Makes a folder. One that is there already is left as it is.
    pub(super) fn folder(&mut self, name: &[u8]) -> Result<(), SourceError> {
        self.place(name, Kind::Folder).map(drop)
    }

    /// Makes a file of so many bytes, which the caller writes; `None` when it is no part of the context.
    pub(in crate::source) fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<Option<File>, SourceError> {
        let Some(Place { at, .. }) = self.place(name, Kind::File)? else {
            return Ok(None);
        };
        self.written.bytes = self.written.bytes.saturating_add(size);
        if self.written.bytes > self.target.limits.bytes {
            return Err(SourceError::TooLarge {
                what: format!("more than {} bytes, passed at \"{}\"", self.target.limits.bytes, show(name)),
            });
        }
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(if executable { 0o750 } else { 0o640 })
            .open(&at)
            .map(Some)
            .map_err(|source| io("write", &at, source))
    }

    /// Notes a link, made at the end.
    pub(super) fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), SourceError> {
        let Some(Place { at, depth }) = self.place(name, Kind::Link)? else {
            return Ok(());
        };
        if let Some(problem) = refuse_link(target, depth) {
            return Err(rejected(name, problem));
        }
        self.links.push((at, target.to_vec()));
        Ok(())
    }

    /// Makes the links and tells what was written.
    pub(in crate::source) fn finish(self) -> Result<Written, SourceError> {
        if !self.found && !self.prefix.is_empty() {
            let tops: Vec<_> = self.tops.iter().map(|name| format!("\"{name}\"")).collect();
            return Err(self.missing(if tops.is_empty() {
                "it is empty".to_owned()
            } else {
                format!("it begins with {}", tops.join(", "))
            }));
        }
        for (at, target) in &self.links {
            std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), at).map_err(|source| io("write", at, source))?;
        }
        Ok(self.written)
    }

    fn missing(&self, problem: String) -> SourceError {
        SourceError::FolderNotFound {
            path: self.target.path.to_owned(),
            of: self.target.of.to_owned(),
            problem,
        }
    }

    /// Checks a name, makes the folders before it, and tells where it is; `None` for what is no part of the context.
    fn place(&mut self, name: &[u8], kind: Kind) -> Result<Option<Place>, SourceError> {
        if self.target.interrupt.load(Ordering::Relaxed) {
            return Err(interrupted(self.target.of));
        }
        self.read += 1;
        if self.read > self.most_entries() {
            return Err(SourceError::TooLarge {
                what: format!("more than {} entries, passed at \"{}\"", self.most_entries(), show(name)),
            });
        }
        let Some(parts) = parts(name)? else { return Ok(None) };
        let Some(first) = parts.first() else {
            return match kind {
                Kind::Folder => Ok(None),
                Kind::File | Kind::Link => Err(rejected(name, "a name that is no file name; rename it")),
            };
        };
        if self.tops.len() < TOPS {
            self.tops.insert(show(first.as_bytes()));
        }
        let above = self.prefix.len().min(parts.len());
        if parts[..above] != self.prefix[..above] {
            return Ok(None);
        }
        if parts.len() <= self.prefix.len() {
            if kind != Kind::Folder {
                return Err(self.missing(format!("\"{}\" is no folder", show(name))));
            }
            self.found |= parts.len() == self.prefix.len();
            return Ok(None);
        }
        self.found = true;
        self.below(name, &parts[above..], kind).map(Some)
    }

    /// The place of a name of the context.
    fn below(&mut self, name: &[u8], parts: &[&str], kind: Kind) -> Result<Place, SourceError> {
        let depth = parts.len() - 1;
        if parts.iter().map(|part| part.len() + 1).sum::<usize>() > MAX_PATH {
            return Err(rejected(name, "a path longer than 3500 bytes; shorten it"));
        }
        if depth > MAX_DEPTH {
            return Err(rejected(name, "a folder below 128 others; make the tree flatter"));
        }
        let mut at = self.target.into.to_owned();
        let (mut exact, mut folded) = (Sha256::new(), Sha256::new());
        for (index, part) in parts.iter().enumerate() {
            at.push(part);
            for (hash, text) in [(&mut exact, (*part).to_owned()), (&mut folded, part.to_lowercase())] {
                hash.update(text);
                hash.update([0]);
            }
            let here = if index == depth { kind } else { Kind::Folder };
            let fresh = self.claim(name, short(&exact), short(&folded), here)?;
            if fresh && here == Kind::Folder {
                std::fs::create_dir(&at).map_err(|source| io("make", &at, source))?;
            }
        }
        Ok(Place { at, depth })
    }

    /// Takes a name for an entry of this kind; false when it is a folder that is there already.
    fn claim(&mut self, name: &[u8], exact: [u8; 16], folded: [u8; 16], kind: Kind) -> Result<bool, SourceError> {
        if let Some(seen) = self.seen.get(&folded) {
            return match (seen.exact == exact, seen.kind, kind) {
                (true, Kind::Folder, Kind::Folder) => Ok(false),
                (true, Kind::Folder, _) | (true, _, Kind::Folder) => Err(rejected(
                    name,
                    "a name that stands for a folder and for something else; rename one of them",
                )),
                (true, _, _) => Err(rejected(name, "a name that it has twice; pack it anew")),
                (false, _, _) => Err(rejected(
                    name,
                    "a name that differs from another one only in capital letters; rename one of them",
                )),
            };
        }
        self.written.entries += 1;
        if self.written.entries > self.target.limits.entries {
            return Err(SourceError::TooLarge {
                what: format!(
                    "more than {} files and folders, passed at \"{}\"",
                    self.target.limits.entries,
                    show(name)
                ),
            });
        }
        self.seen.insert(folded, Seen { exact, kind });
        Ok(true)
    }
}

/// The folders of a name and the name itself, checked; `None` for what belongs to a git repository and is left out, as it is
/// of a folder on this machine.
fn parts(name: &[u8]) -> Result<Option<Vec<&str>>, SourceError> {
    let text = std::str::from_utf8(name).map_err(|_| rejected(name, "a name that is not UTF-8; rename it"))?;
    if text.starts_with('/') {
        return Err(rejected(name, "an absolute name; pack it with names below the folder"));
    }
    let parts: Vec<_> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    for part in &parts {
        if *part == ".." {
            return Err(rejected(name, "a name that leads out of the archive; pack it anew"));
        }
        if *part == ".git" {
            return Ok(None);
        }
        if let Some(problem) = refuse_name(part.as_bytes()) {
            return Err(rejected(name, problem));
        }
    }
    Ok(Some(parts))
}

fn short(hash: &Sha256) -> [u8; 16] {
    let digest = hash.clone().finalize();
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}

/// An entry that is never let in.
pub(super) fn rejected(name: &[u8], problem: &str) -> SourceError {
    SourceError::Rejected {
        path: show(name),
        problem: problem.to_owned(),
    }
}
