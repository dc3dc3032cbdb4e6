//! Writes layers into memory and reads them back with independent readers.
#![allow(dead_code, reason = "every suite uses its own part of this module")]

use std::io::Read;
use std::num::NonZeroUsize;

use robotimage_layer::{Codec, Error, Filter, Layer, LayerBuilder, WriteOptions};

pub(crate) const CODECS: [Codec; 2] = [Codec::Gzip, Codec::Zstd];

/// One entry as the `tar` crate reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: tar::EntryType,
    pub(crate) mode: u32,
    pub(crate) target: Option<Vec<u8>>,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn everything() -> Filter {
    Box::new(|_, _| true)
}

pub(crate) fn options(threads: usize) -> WriteOptions {
    WriteOptions {
        threads: NonZeroUsize::new(threads).unwrap(),
        ..WriteOptions::default()
    }
}

/// Writes into memory, and checks what the layer says of itself.
pub(crate) fn write(builder: LayerBuilder, codec: Codec, threads: usize) -> Result<(Layer, Vec<u8>), Error> {
    let mut bytes = Vec::new();
    let layer = builder.write(codec, &options(threads), &mut bytes)?;
    assert_eq!(layer.media_type, codec.media_type());
    assert_eq!(layer.size, bytes.len() as u64);
    assert_eq!(layer.digest, sha256(&bytes));
    let stream = decompress(codec, &bytes);
    assert_eq!(layer.uncompressed, stream.len() as u64);
    assert_eq!(layer.diff_id, sha256(&stream));
    Ok((layer, bytes))
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

pub(crate) fn decompress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    match codec {
        Codec::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut stream),
        Codec::Zstd => zstd::Decoder::new(bytes).unwrap().read_to_end(&mut stream),
    }
    .unwrap();
    stream
}

/// Reads a tar stream back, and checks what holds for every entry.
pub(crate) fn entries(stream: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(stream);
    let mut entries = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
        assert_eq!(header.mtime().unwrap(), 315_619_200);
        assert_eq!(header.username_bytes(), Some(&b""[..]));
        assert_eq!(header.groupname_bytes(), Some(&b""[..]));
        let (kind, mode) = (header.entry_type(), header.mode().unwrap());
        let path = entry.path_bytes().into_owned();
        assert!(!path.starts_with(b"/"), "{path:?}");
        let target = entry.link_name_bytes().map(std::borrow::Cow::into_owned);
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        entries.push(Entry {
            path,
            kind,
            mode,
            target,
            content,
        });
    }
    entries
}

/// The entries of what `builder` describes.
pub(crate) fn written(builder: LayerBuilder) -> Vec<Entry> {
    let (_, bytes) = write(builder, Codec::Zstd, 2).unwrap();
    entries(&decompress(Codec::Zstd, &bytes))
}

/// `mode path [-> target]` of each entry, for short comparisons.
pub(crate) fn listing(builder: LayerBuilder) -> Vec<String> {
    let line = |entry: Entry| {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let arrow = match entry.kind {
            tar::EntryType::Link => "=>",
            _ => "->",
        };
        match entry.target {
            Some(target) => format!("{path} {arrow} {}", String::from_utf8_lossy(&target)),
            None => format!("{:04o} {path}", entry.mode),
        }
    };
    written(builder).into_iter().map(line).collect()
}

/// Bytes that compress a little, the same on every machine.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&(state & 0x0f0f_0f0f_ffff_ffff).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
