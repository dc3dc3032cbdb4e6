//! gzip without compression: the same bytes from every version of every library, because there is nothing to choose.

use flate2::Crc;

/// Largest stored block of the format.
const BLOCK: usize = 0xffff;

/// The content in a gzip frame of stored blocks. The layer around it compresses.
pub(super) fn stored(content: &[u8]) -> Vec<u8> {
    // Magic, deflate, no flags, no time, no hint, system unknown.
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    let mut chunks = content.chunks(BLOCK).peekable();
    loop {
        let chunk = chunks.next().unwrap_or_default();
        let last = chunks.peek().is_none();
        let length = u16::try_from(chunk.len()).expect("invariant: a block of at most 65535 bytes");
        out.push(u8::from(last));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(chunk);
        if last {
            break;
        }
    }
    let mut crc = Crc::new();
    crc.update(content);
    out.extend(crc.sum().to_le_bytes());
    out.extend(crc.amount().to_le_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn reads_back() {
        for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK] {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(stored(&content).as_slice())
                .read_to_end(&mut read)
                .unwrap();
            assert_eq!(read, content);
        }
        assert_eq!(hex::encode(stored(b"a")), "1f8b08000000000000ff010100feff6143beb7e801000000");
    }
}
