//! The directory at the end of a zip archive.
//!
//! Invariant: it lies directly before its own end, which is the end of the file, and is read whole before anything is
//! believed of it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::super::super::error::SourceError;
use super::super::broken;
use super::unread;

/// Bytes of the end of the directory, and of the comment that may follow it.
const END: usize = 22;
const COMMENT: usize = 0xffff;
/// Bytes of the locator of the large end, and of that end itself.
const LOCATOR: usize = 20;
const LARGE_END: usize = 56;
/// Largest directory that is read, in bytes.
const MAX_DIRECTORY: u64 = 64 << 20;
/// Bytes of a record before its name.
const RECORD: usize = 46;
/// Systems whose records carry Unix modes: Unix and macOS.
const UNIX: [u8; 2] = [3, 19];

/// One entry.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: Vec<u8>,
    pub(super) flags: u16,
    pub(super) method: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    /// Where its local header begins.
    pub(super) offset: u64,
    /// Its mode, where it was packed on a system that has them.
    pub(super) mode: Option<u32>,
}

/// Where the directory is.
struct Place {
    offset: u64,
    size: u64,
    count: u64,
    /// Where it must end.
    end: u64,
}

/// A number of the archive, in its byte order: `bytes` of them at `at`.
pub(super) fn number(from: &[u8], at: usize, bytes: usize) -> u64 {
    from[at..at + bytes]
        .iter()
        .rev()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Reads the directory: its records, and where they begin, before which all entries lie.
pub(super) fn read(archive: &File, length: u64, of: &str, most: u64) -> Result<(Vec<Record>, u64), SourceError> {
    let place = find(archive, length, of)?;
    if place.offset.checked_add(place.size) != Some(place.end) {
        return Err(broken(of, "has other bytes before it or inside of it; pack it anew"));
    }
    let too_large = |what: String| Err(SourceError::TooLarge { what });
    if place.count > most {
        return too_large(format!("{of} has {} entries, and at most {most} are read", place.count));
    }
    if place.size > MAX_DIRECTORY {
        let size = place.size;
        return too_large(format!(
            "{of} has a directory of {size} bytes, and at most {MAX_DIRECTORY} are read"
        ));
    }
    let mut bytes = vec![0; usize::try_from(place.size).unwrap_or_default()];
    archive
        .read_exact_at(&mut bytes, place.offset)
        .map_err(|error| unread(of, &error))?;
    let mut records = Vec::new();
    let mut rest = bytes.as_slice();
    // One more than it says is enough to know that it lies.
    while !rest.is_empty() && records.len() as u64 <= place.count {
        let (record, after) = record(rest).ok_or_else(|| broken(of, "has a damaged directory"))?;
        records.push(record);
        rest = after;
    }
    if records.len() as u64 != place.count {
        return Err(broken(of, "has another number of entries than it says"));
    }
    Ok((records, place.offset))
}

fn find(archive: &File, length: u64, of: &str) -> Result<Place, SourceError> {
    let size = length.min((END + COMMENT) as u64);
    let start = length - size;
    let mut tail = vec![0; usize::try_from(size).unwrap_or_default()];
    archive.read_exact_at(&mut tail, start).map_err(|error| unread(of, &error))?;
    let ends = (0..=tail.len().saturating_sub(END))
        .rev()
        .filter(|at| tail[*at..].starts_with(b"PK\x05\x06"));
    let mut ends = ends.filter(|at| tail.len() - at >= END).peekable();
    if ends.peek().is_none() {
        return Err(broken(of, "is cut off: the directory at its end is missing"));
    }
    let last = ends.find(|at| at + END + usize::try_from(number(&tail, at + 20, 2)).unwrap_or_default() == tail.len());
    let Some(at) = last else {
        return Err(broken(of, "has other bytes after its end; pack it anew"));
    };
    let end = &tail[at..];
    let at = start + at as u64;
    if let Some(place) = large(archive, at, of)? {
        return Ok(place);
    }
    if number(end, 4, 2) != 0 || number(end, 6, 2) != 0 || number(end, 8, 2) != number(end, 10, 2) {
        return Err(broken(of, "is one of several parts; pack it as one"));
    }
    Ok(Place {
        count: number(end, 10, 2),
        size: number(end, 12, 4),
        offset: number(end, 16, 4),
        end: at,
    })
}

/// The end of a large archive, which stands before the small one at `at`.
fn large(archive: &File, at: u64, of: &str) -> Result<Option<Place>, SourceError> {
    let Some(locator_at) = at.checked_sub(LOCATOR as u64) else {
        return Ok(None);
    };
    let mut locator = [0; LOCATOR];
    archive
        .read_exact_at(&mut locator, locator_at)
        .map_err(|error| unread(of, &error))?;
    if !locator.starts_with(b"PK\x06\x07") {
        return Ok(None);
    }
    let damaged = || broken(of, "has a damaged directory");
    let end_at = number(&locator, 8, 8);
    if end_at.checked_add(LARGE_END as u64).is_none_or(|end| end > locator_at) {
        return Err(damaged());
    }
    let mut end = [0; LARGE_END];
    archive.read_exact_at(&mut end, end_at).map_err(|error| unread(of, &error))?;
    let whole = number(&end, 4, 8).checked_add(end_at + 12) == Some(locator_at);
    let one = number(&end, 16, 4) == 0 && number(&end, 20, 4) == 0 && number(&end, 24, 8) == number(&end, 32, 8);
    if !end.starts_with(b"PK\x06\x06") || !whole || !one {
        return Err(damaged());
    }
    Ok(Some(Place {
        count: number(&end, 32, 8),
        size: number(&end, 40, 8),
        offset: number(&end, 48, 8),
        end: end_at,
    }))
}

/// The first record, and what follows it.
fn record(bytes: &[u8]) -> Option<(Record, &[u8])> {
    if bytes.len() < RECORD || !bytes.starts_with(b"PK\x01\x02") {
        return None;
    }
    let length = |at| usize::try_from(number(bytes, at, 2)).ok();
    let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
    let rest = bytes.get(RECORD..)?;
    let (name, rest) = rest.split_at_checked(name)?;
    let (extra, rest) = rest.split_at_checked(extra)?;
    let (_, rest) = rest.split_at_checked(comment)?;
    // Zeros of this system mean that it has no modes, not that nobody may read the file.
    let mode = u32::try_from(number(bytes, 40, 2)).ok().filter(|_| UNIX.contains(&bytes[5]));
    let mut record = Record {
        name: name.to_vec(),
        flags: u16::try_from(number(bytes, 8, 2)).ok()?,
        method: u16::try_from(number(bytes, 10, 2)).ok()?,
        crc: u32::try_from(number(bytes, 16, 4)).ok()?,
        packed: number(bytes, 20, 4),
        size: number(bytes, 24, 4),
        offset: number(bytes, 42, 4),
        mode,
    };
    enlarge(&mut record, extra)?;
    Some((record, rest))
}

/// Takes the numbers that did not fit from the field of large archives.
fn enlarge(record: &mut Record, mut extra: &[u8]) -> Option<()> {
    const FULL: u64 = 0xffff_ffff;
    let mut missing: Vec<&mut u64> = [&mut record.size, &mut record.packed, &mut record.offset]
        .into_iter()
        .filter(|number| **number == FULL)
        .collect();
    if missing.is_empty() {
        return Some(());
    }
    while extra.len() >= 4 {
        let (kind, size) = (number(extra, 0, 2), usize::try_from(number(extra, 2, 2)).ok()?);
        let (field, rest) = extra[4..].split_at_checked(size)?;
        if kind == 1 {
            for (value, bytes) in missing.iter_mut().zip(field.chunks(8)) {
                **value = (bytes.len() == 8).then(|| number(bytes, 0, 8))?;
            }
            return (field.len() / 8 >= missing.len()).then_some(());
        }
        extra = rest;
    }
    None
}
