//! What packing a directory cannot cost less than, as one JSON object on a line: `primitives DIRECTORY gzip|zstd`.
//!
//! One thread does the parts of the work one after another, each for itself and with reused buffers: list the
//! directories and look at every entry (`walk`), read every file (`read`), then SHA-256 of the tar stream (`hash`),
//! compression of its blocks (`compress`) and SHA-256 of the result (`hash_compressed`). The blocks are those of
//! the layer itself. All are seconds of processor time; `sum` is their sum. Files are read once before, so that none of
//! them waits for a disk, as none does when the tree was just made.

mod usage;

use std::error::Error;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use robotimage_layer::{BLOCK, Codec, LayerBuilder, ModePolicy, Packer, WriteOptions};
use sha2::{Digest, Sha256};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, codec] = arguments.as_slice() else {
        return Err("usage: primitives DIRECTORY gzip|zstd".into());
    };
    let codec: Codec = codec.parse()?;
    let mut buffer = vec![0; BLOCK];
    // The layer itself: brings the files into the page cache, and gives the blocks.
    let layer = layer_of(directory, codec)?;

    let ((), walk) = timed(|| visit(Path::new(directory), &mut |_| Ok(())))?;
    let mut files = Vec::new();
    visit(Path::new(directory), &mut |path| {
        files.push(path);
        Ok(())
    })?;
    let ((), read) = timed(|| files.iter().try_for_each(|path| read_all(path, &mut buffer)))?;

    let mut blocks: Box<dyn Read> = match codec {
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(layer)),
        Codec::Zstd => Box::new(zstd::Decoder::new(layer)?),
    };
    let mut packer = Packer::new(codec)?;
    let (mut packed, mut of_stream, mut of_result) = (Vec::new(), Sha256::new(), Sha256::new());
    let [mut hash, mut compress, mut hash_compressed] = [0.0; 3];
    let (mut uncompressed, mut size) = (0, 0);
    loop {
        let filled = fill(&mut blocks, &mut buffer)?;
        if filled == 0 {
            break;
        }
        let block = &buffer[..filled];
        hash += timed(|| {
            of_stream.update(block);
            Ok(())
        })?
        .1;
        let (length, took) = timed(|| Ok(packer.pack(block, &mut packed)?))?;
        compress += took;
        hash_compressed += timed(|| {
            of_result.update(&packed[..length]);
            Ok(())
        })?
        .1;
        uncompressed += filled;
        size += length;
    }
    println!(
        r#"{{"codec":"{codec}","walk":{walk:.4},"read":{read:.4},"hash":{hash:.4},"compress":{compress:.4},"hash_compressed":{hash_compressed:.4},"sum":{:.4},"peak_kib":{},"files":{},"uncompressed":{uncompressed},"size":{size},"digest":"sha256:{}"}}"#,
        walk + read + hash + compress + hash_compressed,
        usage::peak_kib()?,
        files.len(),
        hex::encode(of_result.finalize()),
    );
    Ok(())
}

fn layer_of(directory: &str, codec: Codec) -> Result<File, Box<dyn Error>> {
    let mut builder = LayerBuilder::new();
    builder.tree(directory, "/", ModePolicy::Environment, Box::new(|_, _| true))?;
    let mut file = tempfile::tempfile()?;
    builder.write(codec, &WriteOptions::default(), &file)?;
    file.rewind()?;
    Ok(file)
}

fn timed<T>(work: impl FnOnce() -> Result<T, Box<dyn Error>>) -> Result<(T, f64), Box<dyn Error>> {
    let begin = usage::cpu();
    let result = work()?;
    Ok((result, usage::cpu() - begin))
}

/// Calls `found` with each regular file below `directory`, in the order of a layer, after a look at every entry.
fn visit(directory: &Path, found: &mut impl FnMut(PathBuf) -> Result<(), Box<dyn Error>>) -> Result<(), Box<dyn Error>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    for name in names {
        let path = directory.join(name);
        let kind = std::fs::symlink_metadata(&path)?.file_type();
        if kind.is_dir() {
            visit(&path, found)?;
        } else if kind.is_file() {
            found(path)?;
        }
    }
    Ok(())
}

fn read_all(path: &Path, buffer: &mut [u8]) -> Result<(), Box<dyn Error>> {
    let mut file = File::open(path)?;
    while file.read(buffer)? > 0 {}
    Ok(())
}

/// Fills `buffer` unless the end comes first, and says how far.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> Result<usize, Box<dyn Error>> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..])? {
            0 => break,
            more => filled += more,
        }
    }
    Ok(filled)
}
