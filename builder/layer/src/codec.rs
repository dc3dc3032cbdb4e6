//! The two compressions of a layer, and the compressor that a worker owns.
//!
//! Invariant: one block of the tar stream becomes one complete gzip member or zstd frame, whatever was compressed before
//! it, so that blocks can be compressed in any order by any number of workers. RFC 1952 and RFC 8878 both define the
//! concatenation of members or frames as the concatenation of their contents.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// The length in bytes of a block of the tar stream: 4 MiB.
///
/// Measured on an environment of 1.4 GB: larger blocks gain less than 0.3 % of size and cost memory, smaller ones lose 3 %.
pub const BLOCK: usize = 4 << 20;

/// The level of both compressors. At level 1 zstd is smaller and twice as fast as gzip; higher levels are bound by the
/// processor on any network faster than 1 Gbit/s.
const LEVEL: i32 = 1;

/// The compression of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Gzip by libdeflate level 1, in independent members of 4 MiB. Every tool reads it.
    Gzip,
    /// Zstandard level 1, in independent frames of 4 MiB. Smaller, and several times faster to unpack.
    Zstd,
}

impl Codec {
    /// The OCI media type of a layer with this compression.
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }

    /// Everything beside the content that the bytes of a layer depend on, for use in cache keys.
    ///
    /// It changes whenever the bytes may change: a golden test over a fixed tree holds it to that.
    pub const fn recipe(self) -> &'static str {
        match self {
            Self::Gzip => "tar1+gzip:libdeflate-1.26:level1:block4194304",
            Self::Zstd => "tar1+zstd:libzstd-1.5.7:level1:block4194304",
        }
    }

    /// The name that configuration files use: `gzip` or `zstd`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a compression is neither `gzip` nor `zstd`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("compression {0:?} is not known; use gzip or zstd")]
pub struct UnknownCodec(String);

impl FromStr for Codec {
    type Err = UnknownCodec;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            other => Err(UnknownCodec(other.chars().take(64).collect())),
        }
    }
}

/// The compressor of one worker. It keeps its tables between blocks; no block sees another's content.
pub struct Packer(Compressor);

impl fmt::Debug for Packer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let codec = match self.0 {
            Compressor::Gzip(_) => Codec::Gzip,
            Compressor::Zstd(_) => Codec::Zstd,
        };
        f.debug_tuple("Packer").field(&codec).finish()
    }
}

enum Compressor {
    Gzip(libdeflater::Compressor),
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Packer {
    /// A compressor of blocks of any size; those of layers have [`BLOCK`] bytes, but the last.
    pub fn new(codec: Codec) -> Result<Self, Error> {
        match codec {
            Codec::Gzip => {
                let level = libdeflater::CompressionLvl::new(LEVEL).map_err(|error| Error::compress(codec, format!("{error:?}")))?;
                Ok(Self(Compressor::Gzip(libdeflater::Compressor::new(level))))
            }
            Codec::Zstd => {
                let compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|error| Error::compress(codec, error.to_string()))?;
                Ok(Self(Compressor::Zstd(compressor)))
            }
        }
    }

    /// Compresses `block` into the front of `out` and says how many bytes it took. `out` grows to the worst case once
    /// and is meant to be reused at that length: its tail is stale.
    pub fn pack(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<usize, Error> {
        let bound = match &mut self.0 {
            Compressor::Gzip(compressor) => compressor.gzip_compress_bound(block.len()),
            Compressor::Zstd(_) => zstd::compress_bound(block.len()),
        };
        if out.len() < bound {
            *out = vec![0; bound];
        }
        match &mut self.0 {
            Compressor::Gzip(compressor) => compressor
                .gzip_compress(block, out)
                .map_err(|error| Error::compress(Codec::Gzip, error.to_string())),
            Compressor::Zstd(compressor) => compressor
                .compress_to_buffer(block, out.as_mut_slice())
                .map_err(|error| Error::compress(Codec::Zstd, error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for codec in [Codec::Gzip, Codec::Zstd] {
            assert_eq!(codec.as_str().parse(), Ok(codec));
            assert!(codec.media_type().ends_with(codec.as_str()));
            assert!(codec.recipe().contains(&codec.to_string()));
        }
        let error = "lzma".parse::<Codec>().unwrap_err();
        assert_eq!(error.to_string(), "compression \"lzma\" is not known; use gzip or zstd");
    }

    #[test]
    fn a_block_packs_the_same_whatever_came_before() {
        let noise: Vec<u8> = (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let text = b"the same words again and again, ".repeat(20_000);
        for codec in [Codec::Gzip, Codec::Zstd] {
            let pack = |packer: &mut Packer, block: &[u8]| {
                let mut out = Vec::new();
                let length = packer.pack(block, &mut out).unwrap();
                out.truncate(length);
                out
            };
            let fresh = pack(&mut Packer::new(codec).unwrap(), &text);
            let mut used = Packer::new(codec).unwrap();
            pack(&mut used, &noise);
            pack(&mut used, &text[7..]);
            assert_eq!(pack(&mut used, &text), fresh, "{codec}");
            assert!(fresh.len() < text.len() / 10, "{codec}");
        }
    }
}
