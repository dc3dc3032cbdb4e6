//! What is in a base image, read once from its layers as they stream by.
//!
//! Invariant: facts are those of the merged layers: what an upper layer deletes or replaces is not in them. Reading is
//! bounded in bytes and entries, and nothing is written anywhere.

use std::collections::BTreeMap;
use std::io::{self, Read};

use serde::{Deserialize, Serialize};

/// Most uncompressed bytes of one layer.
const MAX_BYTES: u64 = 32 << 30;
/// Most entries of one layer.
const MAX_ENTRIES: u64 = 4_000_000;
/// Largest text file that is kept.
const MAX_TEXT: u64 = 1 << 20;
/// Largest C library that is searched.
const MAX_LIBC: u64 = 32 << 20;

/// Text files that are kept.
const TEXTS: &[&str] = &["etc/passwd", "etc/group", "etc/os-release", "usr/lib/os-release"];
/// Folders of ours whose way must not lead through a link.
const FOLDERS: &[&str] = &["opt", "opt/rcc", "home", "home/robot", "usr", "usr/local", "usr/local/bin", "etc"];
/// The loader that programs of this platform name.
const LOADER: &str = "ld-linux-x86-64.so.2";

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

/// Takes layers from the bottom up.
#[derive(Debug, Default)]
pub struct BaseReader {
    found: BTreeMap<String, Found>,
}

/// One layer's effect, collected before it is applied: its deletions concern the layers below it only.
#[derive(Default)]
struct Changes {
    /// Paths that hide everything at and below them.
    gone: Vec<String>,
    /// Folders whose lower content is hidden.
    emptied: Vec<String>,
    found: BTreeMap<String, Found>,
}

impl BaseReader {
    /// Reads a layer of this media type to its end.
    pub fn layer(&mut self, media_type: &str, bytes: impl Read) -> io::Result<()> {
        let changes = if media_type.ends_with("gzip") {
            read(flate2::read::MultiGzDecoder::new(bytes))?
        } else if media_type.ends_with("zstd") {
            read(zstd::stream::read::Decoder::new(bytes)?)?
        } else {
            read(bytes)?
        };
        for path in &changes.gone {
            self.found.retain(|known, _| known != path && !is_below(known, path));
        }
        for path in &changes.emptied {
            self.found.retain(|known, _| !is_below(known, path));
        }
        self.found.extend(changes.found);
        Ok(())
    }

    /// The facts of all layers together.
    pub fn finish(self) -> BaseFacts {
        let text = |path: &str| match self.found.get(path) {
            Some(Found::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let glibc = self.found.values().find_map(|found| match found {
            Found::Glibc(version) => Some(version.clone()),
            _ => None,
        });
        let links = self.found.iter().filter_map(|(path, found)| match found {
            Found::Link(target) if FOLDERS.contains(&path.as_str()) => Some((format!("/{path}"), target.clone())),
            _ => None,
        });
        BaseFacts {
            glibc,
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
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn read(bytes: impl Read) -> io::Result<Changes> {
    let mut changes = Changes::default();
    let mut bytes = bytes.take(MAX_BYTES);
    let mut archive = tar::Archive::new(&mut bytes);
    for (number, entry) in (1..).zip(archive.entries()?) {
        if number > MAX_ENTRIES {
            return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
        }
        let mut entry = entry?;
        let path = String::from_utf8_lossy(&entry.path_bytes())
            .trim_start_matches("./")
            .trim_matches('/')
            .to_owned();
        changes.entry(&path, &mut entry)?;
    }
    // A stream is verified only at its end, and some writers pad their archives beyond it.
    io::copy(&mut bytes, &mut io::sink())?;
    if bytes.limit() == 0 {
        return Err(io::Error::other(format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(changes)
}

impl Changes {
    fn entry<R: Read>(&mut self, path: &str, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == ".wh..wh..opq" {
            self.emptied.push(folder.to_owned());
            return Ok(());
        }
        if let Some(name) = name.strip_prefix(".wh.") {
            self.gone.push(if folder.is_empty() {
                name.to_owned()
            } else {
                format!("{folder}/{name}")
            });
            return Ok(());
        }
        let kind = entry.header().entry_type();
        if kind.is_dir() {
            if FOLDERS.contains(&path) {
                self.found.insert(path.to_owned(), Found::Folder);
            }
            return Ok(());
        }
        let found = self.look(path, name, kind, entry)?;
        // What is not a folder hides a folder of lower layers and everything in it.
        if found.is_some() || FOLDERS.contains(&path) {
            self.gone.push(path.to_owned());
        }
        if let Some(found) = found {
            self.found.insert(path.to_owned(), found);
        }
        Ok(())
    }

    fn look<R: Read>(&self, path: &str, name: &str, kind: tar::EntryType, entry: &mut tar::Entry<'_, R>) -> io::Result<Option<Found>> {
        let target = entry.link_name_bytes().map(|target| String::from_utf8_lossy(&target).into_owned());
        if name == LOADER {
            return Ok(Some(Found::Loader));
        }
        if kind.is_symlink() {
            return Ok(FOLDERS.contains(&path).then(|| Found::Link(target.unwrap_or_default())));
        }
        if kind.is_hard_link() {
            let same = target
                .as_deref()
                .map(|target| target.trim_start_matches("./").trim_start_matches('/'));
            return Ok(same.and_then(|same| self.found.get(same)).cloned());
        }
        if !kind.is_file() {
            return Ok(None);
        }
        if TEXTS.contains(&path) {
            let mut text = Vec::new();
            entry.take(MAX_TEXT).read_to_end(&mut text)?;
            return Ok(Some(Found::Text(String::from_utf8_lossy(&text).into_owned())));
        }
        let old_name = name.starts_with("libc-2.") && has_ending(name, "so");
        if (name == "libc.so.6" || old_name) && entry.size() <= MAX_LIBC {
            let mut library = Vec::new();
            entry.read_to_end(&mut library)?;
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
