//! Packs a directory and says what came out: `pack DIRECTORY gzip|zstd [THREADS [FILE]]`. Without a file, the bytes go nowhere.

use std::error::Error;
use std::io::Write;
use std::time::Instant;

use robotimage_layer::{Codec, LayerBuilder, ModePolicy, WriteOptions};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, codec, rest @ ..] = arguments.as_slice() else {
        return Err("usage: pack DIRECTORY gzip|zstd [THREADS [FILE]]".into());
    };
    let codec: Codec = codec.parse()?;
    let mut options = WriteOptions::default();
    if let Some(threads) = rest.first() {
        options.threads = threads.parse()?;
    }
    let mut builder = LayerBuilder::new();
    builder.tree(directory, "/", ModePolicy::Environment, Box::new(|_, _| true))?;
    let sink: Box<dyn Write + Send> = match rest.get(1) {
        Some(path) => Box::new(std::fs::File::create(path)?),
        None => Box::new(std::io::sink()),
    };
    let begin = Instant::now();
    let layer = builder.write(codec, &options, sink)?;
    println!("{layer:#?}\n{:.2?} by {} threads", begin.elapsed(), options.threads);
    Ok(())
}
