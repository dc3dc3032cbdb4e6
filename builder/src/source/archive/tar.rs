//! Tar archives, plain or compressed with gzip or zstd.

use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::Ordering;

use tar::EntryType;

use super::super::error::SourceError;
use super::super::names::show;
use super::super::tree::interrupted;
use super::broken;
use super::meter::{Input, RATIO};
use super::writer::{Writer, rejected};
use crate::image::decoded::Decoded;
use crate::image::entries::{Entries, Entry};

/// Unpacks an archive to its very end, where checksums stand.
pub(super) fn unpack(archive: &File, of: &str, writer: &mut Writer<'_>) -> Result<(), SourceError> {
    let (most, interrupt) = (writer.most_bytes(), writer.interrupt());
    let mut last = Vec::new();
    let failed = |error: &io::Error, last: &[u8]| failure(error, of, last, most, interrupt.load(Ordering::Relaxed));
    let file = archive.try_clone().and_then(|mut file| {
        io::Seek::rewind(&mut file)?;
        Ok(file)
    });
    let unpacked = file.and_then(|file| Input::new(io::BufReader::new(file), interrupt).unpacked(|input| Decoded::new(input, most)));
    let mut entries = Entries::new(
        unpacked.map_err(|error| failed(&error, &last))?,
        // An entry has up to two extended headers.
        writer.most_entries().saturating_mul(3),
    );
    loop {
        let entry = match entries.next() {
            Ok(Some(entry)) => entry,
            Ok(None) => break,
            Err(error) => return Err(failed(&error, &last)),
        };
        last.clone_from(&entry.name);
        take(&mut entries, &entry, writer)?.map_err(|error| failed(&error, &last))?;
    }
    let mut rest = entries
        .rest()
        .ok_or_else(|| broken(of, &format!("is cut off{}: its end is missing", after(&last))))?;
    if is_zero(&mut rest).map_err(|error| failed(&error, &last))? {
        Ok(())
    } else {
        Err(broken(of, "has other bytes after its end; pack it anew"))
    }
}

/// Writes one entry. The outer error is what the entry is, the inner one what happened when it was read.
fn take(entries: &mut Entries<impl Read>, entry: &Entry, writer: &mut Writer<'_>) -> Result<io::Result<()>, SourceError> {
    let refused = |problem: &str| Err(rejected(&entry.name, problem));
    match entry.kind {
        _ if entry.sparse => refused("a file with its holes left out; pack it without --sparse"),
        EntryType::Directory => writer.folder(&entry.name).map(Ok),
        EntryType::Regular | EntryType::Continuous => {
            let file = writer.file(&entry.name, entry.executable, entry.size)?;
            Ok(file.map_or(Ok(()), |mut file| entries.copy(entry.size, &mut file)))
        }
        EntryType::Symlink => writer.link(&entry.name, &entry.target).map(Ok),
        EntryType::Link => refused("a hard link; pack it with --hard-dereference"),
        EntryType::Char | EntryType::Block => refused("a device; leave it out"),
        EntryType::Fifo => refused("a FIFO; leave it out"),
        _ => refused("an entry of a kind that is not known; pack it anew"),
    }
}

/// What it means that the archive cannot be read on.
fn failure(error: &io::Error, of: &str, last: &[u8], most: u64, stopped: bool) -> SourceError {
    match error.kind() {
        _ if stopped => interrupted(of),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SourceError::Io {
            action: "unpack",
            path: of.into(),
            source: error.kind().into(),
        },
        io::ErrorKind::FileTooLarge => SourceError::TooLarge {
            what: format!(
                "{of} unpacks to more than {most} bytes, or to more than {RATIO} times its own size{}",
                after(last)
            ),
        },
        io::ErrorKind::UnexpectedEof => broken(of, &format!("is cut off{}", after(last))),
        _ => broken(of, &format!("cannot be read{}: {error}", after(last))),
    }
}

fn after(last: &[u8]) -> String {
    if last.is_empty() {
        return String::new();
    }
    format!(" after \"{}\"", show(last))
}

/// Whether nothing but zeros comes until the end, which is read to.
fn is_zero(rest: &mut impl Read) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match rest.read(&mut buffer) {
            Ok(0) => return Ok(true),
            Ok(count) if buffer[..count].iter().any(|byte| *byte != 0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
