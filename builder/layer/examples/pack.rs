//! Packs a directory and says what it cost, as one JSON object on a line:
//! `pack DIRECTORY gzip|zstd [THREADS [FILE]]`. Without a file, the bytes go nowhere.
//!
//! `cpu` and `wall` are seconds of the write alone, `cpu` over all threads; `peak_kib` is that of the process.

mod usage;

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
    let (begin, cpu) = (Instant::now(), usage::cpu());
    let layer = builder.write(codec, &options, sink)?;
    let (wall, cpu) = (begin.elapsed(), usage::cpu() - cpu);
    println!(
        r#"{{"codec":"{codec}","threads":{},"wall":{:.4},"cpu":{:.4},"peak_kib":{},"files":{},"uncompressed":{},"size":{},"digest":"{}","diff_id":"{}"}}"#,
        options.threads,
        wall.as_secs_f64(),
        cpu,
        usage::peak_kib()?,
        layer.files,
        layer.uncompressed,
        layer.size,
        layer.digest,
        layer.diff_id,
    );
    Ok(())
}
