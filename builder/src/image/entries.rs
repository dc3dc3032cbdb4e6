//! The entries of a tar stream that a stranger wrote, read with bounds.
//!
//! Archive libraries read an extended header whole before they hand out its entry, however large it says it is. Invariant:
//! an archive can make this hold a few extended headers of [`MAX_EXTENSION`] bytes and what a caller reads of an entry, no more.

use std::io::{self, Read};

use tar::{EntryType, Header};

/// Tar counts in records of this many bytes.
const RECORD: usize = 512;
/// Largest extended header: a long name, or PAX records. Go's reader has the same limit, so larger ones run nowhere.
const MAX_EXTENSION: u64 = 1 << 20;
/// Longest path, which is Linux's: an archive with a longer one cannot be unpacked.
const MAX_PATH: usize = 4096;
/// Bytes of all archives of an image together, at most.
pub(crate) const MOST_BYTES: u64 = 128 << 30;
/// Headers of all archives of an image together, at most.
pub(crate) const MOST_HEADERS: u64 = 20_000_000;

/// One file, folder or link.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Components from the root, `/` between them; `.`, `..` and double slashes resolved. Empty for the root.
    pub(crate) path: String,
    /// The path as it was written.
    pub(crate) name: Vec<u8>,
    pub(crate) kind: EntryType,
    /// Where a link leads, as written; empty for what is none.
    pub(crate) target: Vec<u8>,
    /// Whether its owner may execute it.
    pub(crate) executable: bool,
    /// Bytes of its content in the archive.
    pub(crate) size: u64,
    /// Its content is stored with its holes left out.
    pub(crate) sparse: bool,
}

/// Reads one entry after the other.
pub(crate) struct Entries<R> {
    archive: R,
    /// Bytes of the current entry that nobody has read, its padding included.
    rest: u64,
    /// Bytes of its content among them.
    content: u64,
    /// Headers that may still come.
    headers: u64,
    /// The header of zeros that ends an archive has come.
    closed: bool,
}

/// What extended headers say of the next entry.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    size: Option<u64>,
    sparse: bool,
}

impl<R: Read> Entries<R> {
    /// Of an archive with at most so many headers.
    pub(crate) fn new(archive: R, headers: u64) -> Self {
        Self {
            archive,
            rest: 0,
            content: 0,
            headers,
            closed: false,
        }
    }

    /// Headers that may still come.
    pub(crate) fn left(&self) -> u64 {
        self.headers
    }

    /// What follows the archive's last header; `None` when the mark that ends an archive has not come.
    pub(crate) fn rest(self) -> Option<R> {
        self.closed.then_some(self.archive)
    }

    /// The next entry; the content of the one before is skipped. `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = extension
                .size
                .take_if(|_| !is_extension(kind))
                .map_or_else(|| header.entry_size().map_err(|_| broken("the size in a header is no number")), Ok)?;
            self.content = size;
            self.rest = size
                .checked_next_multiple_of(RECORD as u64)
                .ok_or_else(|| broken("an entry's size overflows"))?;
            match kind {
                EntryType::XGlobalHeader => {}
                EntryType::GNULongName => extension.path = Some(self.name()?),
                EntryType::GNULongLink => extension.target = Some(self.name()?),
                EntryType::XHeader => {
                    let records = self.extension()?;
                    extension.add(&records)?;
                }
                _ => return self.entry(&header, extension).map(Some),
            }
        }
    }

    /// The whole content of the current entry, which must not be larger than `limit` bytes.
    pub(crate) fn read(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.copy(limit, &mut content)?;
        Ok(content)
    }

    /// Writes the whole content of the current entry, which must not be larger than `limit` bytes.
    pub(crate) fn copy(&mut self, limit: u64, into: &mut impl io::Write) -> io::Result<()> {
        if self.content > limit {
            return Err(broken(&format!("it has {} bytes, and at most {limit} are read", self.content)));
        }
        let read = io::copy(&mut (&mut self.archive).take(self.content), into)?;
        if read < self.content {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest -= read;
        self.content = 0;
        Ok(())
    }

    /// Reads on to the end of the stream: what follows an archive is padding.
    pub(super) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.archive, &mut io::sink()).map(|_| ())
    }

    fn skip(&mut self) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.archive).take(self.rest), &mut io::sink())?;
        if skipped < self.rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.rest = 0;
        Ok(())
    }

    /// The next header with a right checksum; `None` at a header of zeros and at the end of the stream.
    fn header(&mut self) -> io::Result<Option<Header>> {
        self.headers = self.headers.checked_sub(1).ok_or_else(|| broken("it has too many entries"))?;
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut filled = 0;
        while filled < RECORD {
            match self.archive.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if bytes.iter().all(|byte| *byte == 0) {
            self.closed = true;
            return Ok(None);
        }
        let sum = |byte: u8, at: usize| u32::from(if (148..156).contains(&at) { b' ' } else { byte });
        let sum: u32 = bytes.iter().enumerate().map(|(at, byte)| sum(*byte, at)).sum();
        if header.cksum().ok() != Some(sum) {
            return Err(broken("it is no archive, or a damaged one: the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn extension(&mut self) -> io::Result<Vec<u8>> {
        if self.content > MAX_EXTENSION {
            return Err(broken(&format!(
                "an extended header has {} bytes, and at most {MAX_EXTENSION} are read",
                self.content
            )));
        }
        self.read(MAX_EXTENSION)
    }

    /// A long name, which ends at a NUL.
    fn name(&mut self) -> io::Result<Vec<u8>> {
        let mut name = self.extension()?;
        name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
        Ok(name)
    }

    fn entry(&mut self, header: &Header, extension: Extension) -> io::Result<Entry> {
        let mut kind = header.entry_type();
        let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let target = extension
            .target
            .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        if path.len().max(target.as_ref().map_or(0, Vec::len)) > MAX_PATH {
            return Err(broken(&format!(
                "it has a path of more than {MAX_PATH} bytes, which no system can unpack"
            )));
        }
        // Archives older than POSIX tell folders by their names only.
        if kind == EntryType::Regular && path.ends_with(b"/") {
            kind = EntryType::Directory;
        }
        if kind == EntryType::GNUSparse {
            self.skip_sparse_map(header)?;
        }
        if !holds_content(kind) {
            // Some writers say the size of a link's target here. No content follows.
            (self.rest, self.content) = (0, 0);
        }
        Ok(Entry {
            path: resolved(&path),
            name: path,
            kind,
            target: target.unwrap_or_default(),
            executable: header.mode().is_ok_and(|mode| mode & 0o100 != 0),
            size: self.content,
            sparse: extension.sparse || kind == EntryType::GNUSparse,
        })
    }

    /// The map of an old sparse file goes on in records after its header, which its size does not count.
    fn skip_sparse_map(&mut self, header: &Header) -> io::Result<()> {
        let mut more = header.as_gnu().is_some_and(tar::GnuHeader::is_extended);
        let mut record = [0; RECORD];
        while more {
            self.headers = self.headers.checked_sub(1).ok_or_else(|| broken("it has too many entries"))?;
            self.archive.read_exact(&mut record)?;
            more = record[504] == 1;
        }
        Ok(())
    }
}

impl Extension {
    /// Takes PAX records: `length key=value` and a newline, the length counting all of it.
    fn add(&mut self, mut records: &[u8]) -> io::Result<()> {
        let wrong = || broken("an extended header is damaged");
        while !records.is_empty() {
            let space = records.iter().take(20).position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length: usize = std::str::from_utf8(&records[..space])
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(wrong)?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err(wrong());
            }
            let record = &records[space + 1..length - 1];
            records = &records[length..];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let value = &record[equals + 1..];
            match &record[..equals] {
                b"path" if !self.sparse => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"size" => {
                    let size = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    self.size = Some(size.ok_or_else(wrong)?);
                }
                // The name of a sparse file; `path` is then one for readers that do not know of them.
                b"GNU.sparse.name" => (self.path, self.sparse) = (Some(value.to_vec()), true),
                key if key.starts_with(b"GNU.sparse.") => self.sparse = true,
                _ => {}
            }
        }
        Ok(())
    }
}

fn is_extension(kind: EntryType) -> bool {
    matches!(
        kind,
        EntryType::XGlobalHeader | EntryType::XHeader | EntryType::GNULongName | EntryType::GNULongLink
    )
}

fn holds_content(kind: EntryType) -> bool {
    !matches!(
        kind,
        EntryType::Link | EntryType::Symlink | EntryType::Directory | EntryType::Char | EntryType::Block | EntryType::Fifo
    )
}

/// A path as container runtimes read it: from the root, which `..` does not leave.
pub(super) fn resolved(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn broken(problem: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, problem.to_owned())
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
