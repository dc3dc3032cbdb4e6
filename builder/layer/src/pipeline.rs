//! One producer fills blocks, workers compress them, one thread hashes the tar stream, and the caller's thread puts the
//! compressed blocks in order, hashes them and writes them to the sink.
//!
//! Invariant: bytes depend on the blocks alone, and every thread ends when any of them fails: the producer looks at the
//! stop flag at each entry and block, and all others drain their queues until the producer is gone.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ScopedJoinHandle};

use sha2::{Digest, Sha256};

use crate::codec::{Codec, Packer};
use crate::error::Error;
use crate::layer::{Progress, WriteOptions};
use crate::stream::{Block, Numbered, Stream};

/// What the pipeline alone knows about a layer.
pub(crate) struct Output {
    pub(crate) digest: String,
    pub(crate) diff_id: String,
    pub(crate) compressed: u64,
    pub(crate) uncompressed: u64,
}

/// A compressed block: the first `length` bytes of `bytes`. It holds its raw block until it is written, which bounds
/// how far workers may run ahead of the sink.
struct Packed {
    index: u64,
    bytes: Vec<u8>,
    length: usize,
    raw: Arc<Block>,
}

/// Runs `produce` against a stream, and the rest of the pipeline behind it.
pub(crate) fn run<W, T>(
    codec: Codec,
    options: &WriteOptions,
    sink: W,
    produce: impl FnOnce(&mut Stream<'_>) -> Result<T, Error> + Send,
) -> Result<(Output, T), Error>
where
    W: Write,
    T: Send,
{
    let threads = options.threads.get();
    let stop = AtomicBool::new(false);
    let spare = Mutex::new(Vec::new());
    let (to_hash, hash_queue) = channel::<Arc<Block>>();
    let (to_pack, pack_queue) = channel::<Numbered>();
    let pack_queue = Mutex::new(pack_queue);
    let (to_write, write_queue) = channel::<Result<Packed, Error>>();

    thread::scope(|scope| {
        let stop = &stop;
        let producer = scope.spawn(move || {
            let stops = [Some(stop), options.cancel.as_deref()];
            let mut stream = Stream::new(threads + 2, to_hash, to_pack, stops);
            let result = produce(&mut stream).and_then(|value| {
                stream.finish()?;
                Ok(value)
            });
            if result.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            result
        });
        let hasher = scope.spawn(move || {
            let mut hash = Sha256::new();
            for block in hash_queue {
                hash.update(block.bytes());
            }
            digest(hash)
        });
        for _ in 0..threads {
            let to_write = to_write.clone();
            let (pack_queue, spare) = (&pack_queue, &spare);
            scope.spawn(move || pack(codec, options, pack_queue, spare, stop, &to_write));
        }
        drop(to_write);

        let mut writer = Writer {
            sink,
            hash: Sha256::new(),
            progress: Progress {
                uncompressed: 0,
                compressed: 0,
            },
            options,
        };
        let written = writer.drain(write_queue, &spare, stop);
        let produced = join(producer);
        let diff_id = join(hasher);
        // A producer that was stopped only says that it was; the reason is with who stopped it.
        let value = match (written, produced) {
            (Ok(()), Ok(value)) => value,
            (Err(error), Ok(_) | Err(Error::Canceled)) | (_, Err(error)) => return Err(error),
        };
        writer.sink.flush().map_err(Error::Sink)?;
        let output = Output {
            digest: digest(writer.hash),
            diff_id,
            compressed: writer.progress.compressed,
            uncompressed: writer.progress.uncompressed,
        };
        Ok((output, value))
    })
}

/// One worker: compresses blocks until the producer is gone.
fn pack(
    codec: Codec,
    options: &WriteOptions,
    queue: &Mutex<Receiver<Numbered>>,
    spare: &Mutex<Vec<Vec<u8>>>,
    stop: &AtomicBool,
    to_write: &Sender<Result<Packed, Error>>,
) {
    let mut packer = Packer::new(codec);
    loop {
        let next = lock(queue).recv();
        let Ok((index, raw)) = next else { return };
        if stop.load(Ordering::Relaxed) {
            continue;
        }
        let mut bytes = lock(spare).pop().unwrap_or_default();
        let wanted = options.inspect.as_ref().is_none_or(|inspect| inspect(index, raw.bytes()));
        let result = match &mut packer {
            _ if !wanted => Err(Error::Refused),
            Ok(packer) => packer.pack(raw.bytes(), &mut bytes),
            Err(error) => Err(Error::compress(codec, error.to_string())),
        };
        let message = result.map(|length| Packed { index, bytes, length, raw });
        if to_write.send(message).is_err() {
            // The writer is gone only when it panicked; stopping the producer lets the panic surface soon.
            stop.store(true, Ordering::Relaxed);
        }
    }
}

struct Writer<'a, W> {
    sink: W,
    hash: Sha256,
    progress: Progress,
    options: &'a WriteOptions,
}

impl<W: Write> Writer<'_, W> {
    /// Writes what arrives in the order of the stream, until all workers are gone.
    fn drain(&mut self, queue: Receiver<Result<Packed, Error>>, spare: &Mutex<Vec<Vec<u8>>>, stop: &AtomicBool) -> Result<(), Error> {
        let mut early = BTreeMap::new();
        let mut next = 0;
        let mut outcome = Ok(());
        for message in queue {
            if stop.load(Ordering::Relaxed) {
                // Blocks go home unwritten, so that a producer that waits for one wakes up.
                early.clear();
                continue;
            }
            let step = || -> Result<(), Error> {
                let packed = message?;
                early.insert(packed.index, packed);
                while let Some(packed) = early.remove(&next) {
                    self.write(&packed)?;
                    lock(spare).push(packed.bytes);
                    next += 1;
                }
                Ok(())
            };
            if let Err(error) = step() {
                outcome = Err(error);
                stop.store(true, Ordering::Relaxed);
                early.clear();
            }
        }
        outcome
    }

    fn write(&mut self, packed: &Packed) -> Result<(), Error> {
        if let Some(cancel) = &self.options.cancel
            && cancel.load(Ordering::Relaxed)
        {
            return Err(Error::Canceled);
        }
        let bytes = &packed.bytes[..packed.length];
        self.hash.update(bytes);
        self.sink.write_all(bytes).map_err(Error::Sink)?;
        self.progress.compressed += bytes.len() as u64;
        self.progress.uncompressed += packed.raw.bytes().len() as u64;
        if let Some(on_progress) = &self.options.on_progress {
            on_progress(self.progress);
        }
        Ok(())
    }
}

fn digest(hash: Sha256) -> String {
    format!("sha256:{}", hex::encode(hash.finalize()))
}

/// The lock even after a panic of another holder: the panic itself ends the write when its thread is joined.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn join<T>(handle: ScopedJoinHandle<'_, T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
