//! Zip archives.
//!
//! The directory at the end says what is there; every local header must say the same, so that no two readers can see two
//! different archives. Invariant: no byte of the file belongs to two entries, and an entry has exactly the bytes and the
//! checksum that the directory says.

mod directory;

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use self::directory::{Record, number};
use super::super::error::SourceError;
use super::super::names::{MAX_PATH, show};
use super::super::tree::interrupted;
use super::broken;
use super::meter::{FREE, RATIO};
use super::writer::{Writer, rejected};

/// Bytes of a local header before its name.
const LOCAL: usize = 30;
/// Flags of an encrypted entry: plain, strong, and a masked header.
const ENCRYPTED: u16 = 1 | 1 << 6 | 1 << 13;
const STORED: u16 = 0;
const DEFLATED: u16 = 8;

/// What the file type of an entry's mode says.
enum Kind {
    Folder,
    File,
    Link,
}

/// Unpacks an archive.
pub(super) fn unpack(archive: &File, of: &str, writer: &mut Writer<'_>) -> Result<(), SourceError> {
    let length = archive.metadata().map_err(|error| unread(of, &error))?.len();
    let (records, end) = directory::read(archive, length, of, writer.most_entries())?;
    apart(&records, end, of)?;
    let mut given: u64 = 0;
    for record in &records {
        given = given.saturating_add(record.size);
        if given > writer.most_bytes() || given > FREE && given / RATIO > length {
            return Err(SourceError::TooLarge {
                what: format!(
                    "{of} unpacks to more than {} bytes, or to more than {RATIO} times its own size, at \"{}\"",
                    writer.most_bytes(),
                    show(&record.name)
                ),
            });
        }
        let content = Content::open(archive, record, end, of, writer.interrupt())?;
        take(record, content, of, writer)?;
    }
    Ok(())
}

/// No two entries share a byte: a few kilobytes could stand for all of memory otherwise.
fn apart(records: &[Record], end: u64, of: &str) -> Result<(), SourceError> {
    let mut ranges: Vec<_> = records
        .iter()
        .map(|record| {
            (
                record.offset,
                record
                    .offset
                    .saturating_add((LOCAL + record.name.len()) as u64)
                    .saturating_add(record.packed),
            )
        })
        .collect();
    ranges.sort_unstable();
    let overlap = ranges.windows(2).any(|pair| pair[0].1 > pair[1].0);
    if overlap || ranges.last().is_some_and(|last| last.1 > end) {
        return Err(broken(of, "has entries that overlap; pack it anew"));
    }
    Ok(())
}

fn take(record: &Record, content: Content<'_>, of: &str, writer: &mut Writer<'_>) -> Result<(), SourceError> {
    let refused = |problem: &str| Err(rejected(&record.name, problem));
    if record.name.contains(&b'\\') {
        return refused("a name with a backslash; pack it with / between folders");
    }
    match kind(record) {
        Ok(Kind::Folder) if record.size > 0 => refused("a folder with content; pack it anew"),
        Ok(Kind::Folder) => writer.folder(&record.name),
        Ok(Kind::File) => {
            let executable = record.mode.is_some_and(|mode| mode & 0o100 != 0);
            match writer.file(&record.name, executable, record.size)? {
                Some(mut file) => content.copy(&mut file, of),
                None => Ok(()),
            }
        }
        Ok(Kind::Link) if record.size > MAX_PATH as u64 => refused("a link whose target is no path; remove it"),
        Ok(Kind::Link) => {
            let mut target = Vec::new();
            content.copy(&mut target, of)?;
            writer.link(&record.name, &target)
        }
        Err(problem) => refused(problem),
    }
}

fn kind(record: &Record) -> Result<Kind, &'static str> {
    if record.name.ends_with(b"/") {
        return Ok(Kind::Folder);
    }
    match record.mode.unwrap_or_default() & 0o170_000 {
        0 | 0o100_000 => Ok(Kind::File),
        0o040_000 => Ok(Kind::Folder),
        0o120_000 => Ok(Kind::Link),
        0o010_000 => Err("a FIFO; leave it out"),
        0o020_000 | 0o060_000 => Err("a device; leave it out"),
        _ => Err("an entry of a kind that is not known; pack it anew"),
    }
}

/// The packed bytes of one entry, whose headers agree.
struct Content<'a> {
    record: &'a Record,
    packed: Section<'a>,
}

impl<'a> Content<'a> {
    /// Finds the bytes behind the local header.
    fn open(file: &'a File, record: &'a Record, end: u64, of: &str, interrupt: &'a AtomicBool) -> Result<Self, SourceError> {
        if interrupt.load(Ordering::Relaxed) {
            return Err(interrupted(of));
        }
        if record.flags & ENCRYPTED != 0 {
            return Err(rejected(&record.name, "an encrypted file; pack it without a password"));
        }
        if !matches!(record.method, STORED | DEFLATED) {
            let problem = format!("a file packed by method {}; only stored and deflated ones are read", record.method);
            return Err(rejected(&record.name, &problem));
        }
        let differs = || rejected(&record.name, "a file whose two headers say different things; pack it anew");
        let mut header = [0; LOCAL];
        file.read_exact_at(&mut header, record.offset).map_err(|error| unread(of, &error))?;
        let name_length = number(&header, 26, 2);
        if header[..4] != *b"PK\x03\x04" || name_length != record.name.len() as u64 {
            return Err(differs());
        }
        let mut name = vec![0; record.name.len()];
        file.read_exact_at(&mut name, record.offset + LOCAL as u64)
            .map_err(|error| unread(of, &error))?;
        let same = number(&header, 8, 2) == u64::from(record.method) && number(&header, 6, 2) & u64::from(ENCRYPTED) == 0;
        if !same || name != record.name {
            return Err(differs());
        }
        let at = record.offset + LOCAL as u64 + name_length + number(&header, 28, 2);
        if at.saturating_add(record.packed) > end {
            return Err(differs());
        }
        let packed = Section {
            file,
            at,
            left: record.packed,
            interrupt,
        };
        Ok(Self { record, packed })
    }

    /// Writes the whole content and checks it.
    fn copy(self, into: &mut impl Write, of: &str) -> Result<(), SourceError> {
        let (record, interrupt) = (self.record, self.packed.interrupt);
        let failed = |error: &io::Error| match error.kind() {
            _ if interrupt.load(Ordering::Relaxed) => interrupted(of),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SourceError::Io {
                action: "unpack",
                path: of.into(),
                source: error.kind().into(),
            },
            _ => broken(of, &format!("cannot be read at \"{}\": {error}", show(&record.name))),
        };
        let mut packed = io::BufReader::with_capacity(64 * 1024, self.packed);
        let (size, crc) = match record.method {
            STORED => copy(&mut packed, record.size, into),
            _ => copy(&mut DeflateDecoder::new(&mut packed), record.size, into),
        }
        .map_err(|error| failed(&error))?;
        let rest = packed.read(&mut [0]).map_err(|error| failed(&error))?;
        if size != record.size || rest > 0 {
            let problem = format!("says that \"{}\" has {} bytes, which is not true", show(&record.name), record.size);
            return Err(broken(of, &problem));
        }
        if crc != record.crc {
            return Err(broken(
                of,
                &format!("is damaged: the checksum of \"{}\" is wrong", show(&record.name)),
            ));
        }
        Ok(())
    }
}

/// Copies at most one byte more than there should be; tells how many there were, and their checksum.
fn copy(from: &mut impl Read, size: u64, into: &mut impl Write) -> io::Result<(u64, u32)> {
    let mut crc = Crc::new();
    let mut copied = 0;
    let mut buffer = vec![0; 64 * 1024];
    let mut from = from.take(size.saturating_add(1));
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((copied, crc.sum())),
            Ok(count) => {
                crc.update(&buffer[..count]);
                into.write_all(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// A part of a file.
struct Section<'a> {
    file: &'a File,
    at: u64,
    left: u64,
    interrupt: &'a AtomicBool,
}

impl Read for Section<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(io::Error::other("the work was told to end"));
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        let count = self.file.read_at(&mut into[..most], self.at)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

fn unread(of: &str, error: &io::Error) -> SourceError {
    broken(of, &format!("cannot be read: {error}"))
}
