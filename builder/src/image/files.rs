//! Single files out of a layer that streams by.
//!
//! Invariant: a layer can make this read a bounded number of bytes and hold one file of the size that the caller allows.

use std::io::{self, Read};

use tar::EntryType;

use super::decoded::Decoded;
use super::entries::{Entries, MOST_BYTES, MOST_HEADERS};

/// Reads a layer, whatever it is compressed with. `wanted` says of a path from the root how large a file is read; `take` is
/// given those files. Links and deletions are not followed.
pub fn layer_files(
    bytes: impl Read,
    wanted: &dyn Fn(&str) -> Option<u64>,
    take: &mut dyn FnMut(&str, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut entries = Entries::new(Decoded::new(bytes, MOST_BYTES)?, MOST_HEADERS);
    while let Some(entry) = entries.next()? {
        let regular = matches!(entry.kind, EntryType::Regular | EntryType::Continuous) && !entry.sparse;
        if let Some(limit) = wanted(&entry.path).filter(|_| regular) {
            let content = entries
                .read(limit)
                .map_err(|error| io::Error::new(error.kind(), format!("/{}: {error}", entry.path)))?;
            take(&entry.path, &content)?;
        }
    }
    // A stream is verified only at its end.
    entries.finish()
}
