//! What is in a base image, read once from its layers as they stream by.
//!
//! Invariant: facts are those of the merged layers: what an upper layer deletes or replaces is not in them. Reading is
//! bounded in bytes, entries and memory whatever an archive holds, and nothing is written anywhere.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};
use tar::EntryType;

use super::decoded::Decoded;
use super::entries::{self, Entries, Entry, resolved};

/// Text files that are kept.
pub(super) const TEXTS: &[&str] = &["etc/passwd", "etc/group", "etc/os-release", "usr/lib/os-release"];
/// Folders of ours whose way must not lead through a link.
pub(super) const FOLDERS: &[&str] = &["opt", "opt/rcc", "home", "home/robot", "usr", "usr/local", "usr/local/bin", "etc"];
/// The loader that programs of this platform name.
pub(super) const LOADER: &str = "ld-linux-x86-64.so.2";
/// Where the system's own libraries are, the place that the loader searches first at the beginning. A C library elsewhere
/// belongs to some program that brought it.
pub(super) const LIBRARIES: &[&str] = &[
    "lib/x86_64-linux-gnu",
    "usr/lib/x86_64-linux-gnu",
    "lib64",
    "usr/lib64",
    "lib",
    "usr/lib",
];

/// What reading a base may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Uncompressed bytes of all layers.
    pub(crate) bytes: u64,
    /// Headers of all layers.
    pub(crate) headers: u64,
    /// Bytes of a text file.
    pub(crate) text: u64,
    /// Bytes of a C library.
    pub(crate) library: u64,
    /// Things that are remembered.
    pub(crate) found: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: entries::MOST_BYTES,
            headers: entries::MOST_HEADERS,
            text: 1 << 20,
            library: 32 << 20,
            found: 1000,
        }
    }
}

/// How the facts of a base are found. Raised when a base's facts would be others by the new way: what was kept before, on
/// disk or in an image, is then not believed.
pub(crate) const FACTS_VERSION: u32 = 2;

/// What is known of a base image.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct BaseFacts {
    /// Version of the GNU C library, for example `2.36`; none in images without one.
    pub glibc: Option<String>,
    /// Whether the loader of glibc is there.
    pub loader: bool,
    /// `/etc/passwd`.
    pub passwd: Option<String>,
    /// `/etc/group`.
    pub group: Option<String>,
    /// `PRETTY_NAME` of its os-release.
    pub os: Option<String>,
    /// Which of the folders that our layers write to are links, and where to.
    pub links: BTreeMap<String, String>,
}

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Text(String),
    Glibc(String),
    Loader,
    Link(String),
    Folder,
}

/// By path: the few things that facts are made of.
type Known = BTreeMap<String, Found>;

/// Takes layers from the bottom up.
#[derive(Debug, Default)]
pub struct BaseReader {
    limits: Limits,
    found: Known,
}

/// One layer's effect, collected before it is applied: its deletions concern the layers below it only.
struct Changes<'a> {
    limits: Limits,
    lower: &'a Known,
    /// Paths that hide what lower layers have at and below them. Only those that hide something are kept.
    gone: Vec<String>,
    /// Folders that hide what lower layers have in them, likewise.
    emptied: Vec<String>,
    found: Known,
}

impl BaseReader {
    /// With other limits.
    #[cfg(any(fuzzing, test))]
    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Reads a layer to its end, whatever it is compressed with: runtimes go by its first bytes too, not by its media type.
    pub fn layer(&mut self, bytes: impl Read) -> io::Result<()> {
        let mut decoded = Decoded::new(bytes, self.limits.bytes)?;
        let mut changes = Changes {
            limits: self.limits,
            lower: &self.found,
            gone: Vec::new(),
            emptied: Vec::new(),
            found: Known::new(),
        };
        let mut entries = Entries::new(&mut decoded, self.limits.headers);
        while let Some(entry) = entries.next()? {
            changes.entry(&entry, &mut entries)?;
        }
        let headers = entries.left();
        // A stream is verified only at its end, and some writers pad their archives.
        entries.finish()?;
        let Changes { gone, emptied, found, .. } = changes;
        for path in &gone {
            self.found.retain(|known, _| known != path && !is_below(known, path));
        }
        for path in &emptied {
            self.found.retain(|known, _| !is_below(known, path));
        }
        self.found.extend(found);
        (self.limits.headers, self.limits.bytes) = (headers, decoded.left());
        Ok(())
    }

    /// The facts of all layers together.
    pub fn finish(self) -> BaseFacts {
        let text = |path: &str| match self.found.get(path) {
            Some(Found::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let glibc = self.found.iter().filter_map(|(path, found)| match found {
            Found::Glibc(version) => Some((place(path), version)),
            _ => None,
        });
        let links = self.found.iter().filter_map(|(path, found)| match found {
            Found::Link(target) => Some((format!("/{path}"), target.clone())),
            _ => None,
        });
        BaseFacts {
            glibc: glibc.min_by_key(|(place, _)| *place).map(|(_, version)| version.clone()),
            loader: self.found.values().any(|found| *found == Found::Loader),
            passwd: text("etc/passwd"),
            group: text("etc/group"),
            os: text("etc/os-release")
                .or_else(|| text("usr/lib/os-release"))
                .and_then(|text| pretty_name(&text)),
            links: links.collect(),
        }
    }
}

fn is_below(path: &str, folder: &str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

/// Whether something is known below a folder.
fn any_below(known: &Known, folder: &str) -> bool {
    if folder.is_empty() {
        return !known.is_empty();
    }
    let from = format!("{folder}/");
    known.range(from.clone()..).next().is_some_and(|(path, _)| path.starts_with(&from))
}

/// Rank of a library's folder; the largest one for a place where the system does not look.
fn place(path: &str) -> usize {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    LIBRARIES.iter().position(|known| *known == folder).unwrap_or(LIBRARIES.len())
}

impl Changes<'_> {
    fn entry<R: Read>(&mut self, entry: &Entry, archive: &mut Entries<R>) -> io::Result<()> {
        let path = entry.path.as_str();
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == ".wh..wh..opq" {
            if any_below(self.lower, folder) {
                self.emptied.push(folder.to_owned());
            }
            return Ok(());
        }
        if let Some(name) = name.strip_prefix(".wh.") {
            // What else begins so is bookkeeping of a file system that docker once used.
            if !name.starts_with(".wh.") {
                self.hide(resolved(format!("{folder}/{name}").as_bytes()));
            }
            return Ok(());
        }
        if entry.kind == EntryType::Directory {
            // A folder that meets a folder leaves it; anything else is replaced by it.
            if self.lower.get(path).is_some_and(|found| *found != Found::Folder) {
                self.gone.push(path.to_owned());
            }
            self.found.remove(path);
            if FOLDERS.contains(&path) {
                self.found.insert(path.to_owned(), Found::Folder);
            }
            return Ok(());
        }
        let found = self.look(path, name, entry, archive)?;
        // What is not a folder replaces whatever was there, and everything that was in it.
        self.hide(path.to_owned());
        self.found.remove(path);
        if any_below(&self.found, path) {
            self.found.retain(|known, _| !is_below(known, path));
        }
        if let Some(found) = found {
            if self.found.len() >= self.limits.found {
                return Err(io::Error::other("it has more C libraries than any system"));
            }
            self.found.insert(path.to_owned(), found);
        }
        Ok(())
    }

    /// Hides what lower layers have at and below a path.
    fn hide(&mut self, path: String) {
        if self.lower.contains_key(&path) || any_below(self.lower, &path) {
            self.gone.push(path);
        }
    }

    fn look<R: Read>(&self, path: &str, name: &str, entry: &Entry, archive: &mut Entries<R>) -> io::Result<Option<Found>> {
        if name == LOADER {
            return Ok((place(path) < LIBRARIES.len()).then_some(Found::Loader));
        }
        if entry.kind == EntryType::Symlink {
            return Ok(FOLDERS
                .contains(&path)
                .then(|| Found::Link(String::from_utf8_lossy(&entry.target).into_owned())));
        }
        if entry.kind == EntryType::Link {
            return Ok(self.found.get(&resolved(&entry.target)).cloned());
        }
        if !matches!(entry.kind, EntryType::Regular | EntryType::Continuous) || entry.sparse {
            return Ok(None);
        }
        if TEXTS.contains(&path) {
            let text = archive
                .read(self.limits.text)
                .map_err(|error| io::Error::new(error.kind(), format!("/{path}: {error}")))?;
            return Ok(Some(Found::Text(String::from_utf8_lossy(&text).into_owned())));
        }
        let old_name = name.starts_with("libc-2.") && has_ending(name, "so");
        if (name == "libc.so.6" || old_name) && entry.size <= self.limits.library {
            let library = archive.read(self.limits.library)?;
            return Ok(glibc_version(&library).map(Found::Glibc));
        }
        Ok(None)
    }
}

fn has_ending(name: &str, ending: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, last)| last == ending)
}

/// The version in the banner of a 64-bit x86 C library.
fn glibc_version(library: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"GNU C Library ";
    const VERSION: &[u8] = b"version ";
    // ELF, 64 bits, machine 62 (x86-64): a base may hold libraries of other platforms too.
    if library.get(..5) != Some(b"\x7fELF\x02") || library.get(18..20) != Some(&[62, 0]) {
        return None;
    }
    let start = find(library, BANNER)?;
    let banner = &library[start..library.len().min(start + 200)];
    let digits = &banner[find(banner, VERSION)? + VERSION.len()..];
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'.').count();
    let version = String::from_utf8_lossy(&digits[..length]).trim_end_matches('.').to_owned();
    (!version.is_empty()).then_some(version)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

fn pretty_name(text: &str) -> Option<String> {
    let value = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(
        value
            .trim_matches(['"', '\''])
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect(),
    )
}

#[cfg(test)]
#[path = "base_tests.rs"]
mod tests;
