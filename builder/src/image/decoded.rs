//! The bytes of a layer without their compression.
//!
//! Invariant: no more bytes are given than the bound says, however much a few compressed ones stand for.

use std::io::{self, Read};

/// A layer's archive. Fails where it has given too much.
pub(crate) struct Decoded<'a> {
    archive: Box<dyn Read + 'a>,
    left: u64,
}

impl<'a> Decoded<'a> {
    /// Of a layer whatever it is compressed with: runtimes go by its first bytes too, not by its media type. At most `limit`
    /// bytes of the archive are given.
    pub(crate) fn new(mut bytes: impl Read + 'a, limit: u64) -> io::Result<Self> {
        let mut magic = Vec::new();
        (&mut bytes).take(6).read_to_end(&mut magic)?;
        let compression = Compression::of(&magic)?;
        let bytes = io::Cursor::new(magic).chain(bytes);
        let archive: Box<dyn Read + 'a> = match compression {
            Compression::None => Box::new(bytes),
            Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
            Compression::Zstd => Box::new(zstd::stream::read::Decoder::new(bytes)?),
        };
        Ok(Self { archive, left: limit })
    }

    /// Bytes that may still come.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }
}

impl Read for Decoded<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.archive.read(into)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "the image is larger than any that is read"))?;
        Ok(count)
    }
}

/// What a layer is compressed with.
enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes; what docker once took and no OCI runtime takes is named.
    fn of(magic: &[u8]) -> io::Result<Self> {
        let refused = |name| {
            Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("it is compressed with {name}, which images are not"),
            ))
        };
        match magic {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // The second is a frame that readers skip; some writers begin with one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41] => refused("bzip2"),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => refused("xz"),
            _ => Ok(Self::None),
        }
    }
}
