//! Archives that strangers packed, as a source: tar, plain or compressed with gzip or zstd, and zip.
//!
//! What an archive is, its first bytes say, not its name. Invariant: whatever its bytes are, nothing is written but regular
//! files, folders and links that stay inside the context, each name once; and the work ends at the limits, at the bound on
//! what few bytes may stand for, or when it is told to.

mod meter;
mod tar;
#[cfg(test)]
mod tests;
mod writer;
mod zip;

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::error::SourceError;
pub use writer::Target;
pub(super) use writer::Writer;

/// What the first bytes say.
enum Format {
    /// A tar archive, compressed or not.
    Tar,
    /// A zip archive.
    Zip,
}

/// Unpacks an archive. `of` is what messages call it.
pub(super) fn unpack(archive: &File, of: &str, writer: &mut Writer<'_>) -> Result<(), SourceError> {
    match format(archive).map_err(|problem| broken(of, &problem))? {
        Format::Tar => tar::unpack(archive, of, writer),
        Format::Zip => zip::unpack(archive, of, writer),
    }
}

fn format(archive: &File) -> Result<Format, String> {
    let mut first = [0; 512];
    let mut length = 0;
    while length < first.len() {
        match archive.read_at(&mut first[length..], length as u64) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(format!("cannot be read: {error}")),
        }
    }
    match &first[..length] {
        [] => Err("is empty".to_owned()),
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Format::Zip),
        [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Format::Tar),
        [b'B', b'Z', b'h', ..] => Err("is compressed with bzip2; pack it as tar.gz, tar.zst or zip".to_owned()),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("is compressed with xz; pack it as tar.gz, tar.zst or zip".to_owned()),
        whole if whole.len() == first.len() && is_header(whole) => Ok(Format::Tar),
        text if text.trim_ascii_start().starts_with(b"<") => {
            Err("is a web page and no archive; check the address, and whether it asks for credentials".to_owned())
        }
        _ => Err("is no archive; tar, tar.gz, tar.zst and zip are read".to_owned()),
    }
}

/// Whether a record may begin a tar archive: its checksum is right, or it is the end of an empty one.
fn is_header(record: &[u8]) -> bool {
    let sum = |(at, byte): (usize, &u8)| u32::from(if (148..156).contains(&at) { b' ' } else { *byte });
    let sum: u32 = record.iter().enumerate().map(sum).sum();
    let field = std::str::from_utf8(&record[148..156]).unwrap_or_default();
    let said = u32::from_str_radix(field.trim_matches([' ', '\0']), 8);
    said == Ok(sum) || record.iter().all(|byte| *byte == 0)
}

fn broken(of: &str, problem: &str) -> SourceError {
    SourceError::Archive {
        of: of.to_owned(),
        problem: problem.to_owned(),
    }
}
