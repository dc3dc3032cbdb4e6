//! The tar stream, cut into fixed blocks.
//!
//! Invariant: a bounded number of blocks exists. [`Stream`] waits for one to come back before it fills the next, and a
//! block comes back when nobody holds it any more, however its holders ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::codec::BLOCK;
use crate::error::Error;
use crate::header::RECORD;

/// A filled block, shared by its hasher and its compressor.
pub(crate) struct Block {
    bytes: Vec<u8>,
    filled: usize,
    home: Sender<Vec<u8>>,
}

impl Block {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // Nobody at home only means that the stream has ended and needs no more blocks.
        let _ = self.home.send(std::mem::take(&mut self.bytes));
    }
}

/// A block and its place in the stream.
pub(crate) type Numbered = (u64, Arc<Block>);

/// Where the tar stream is written to, by one thread.
pub(crate) struct Stream<'a> {
    current: Vec<u8>,
    filled: usize,
    sent: u64,
    /// Blocks that may still be allocated.
    unborn: usize,
    home: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    to_hash: Sender<Arc<Block>>,
    to_pack: Sender<Numbered>,
    stops: [Option<&'a AtomicBool>; 2],
}

impl<'a> Stream<'a> {
    /// A stream over at most `blocks` blocks. It ends with [`Error::Canceled`] when one of `stops` is raised.
    pub(crate) fn new(blocks: usize, to_hash: Sender<Arc<Block>>, to_pack: Sender<Numbered>, stops: [Option<&'a AtomicBool>; 2]) -> Self {
        Self {
            current: Vec::new(),
            filled: 0,
            sent: 0,
            unborn: blocks,
            home: channel(),
            to_hash,
            to_pack,
            stops,
        }
    }

    /// An error when somebody asked for the end.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let stopped = self.stops.iter().flatten().any(|s| s.load(Ordering::Relaxed));
        if stopped { Err(Error::Canceled) } else { Ok(()) }
    }

    /// Free space at the end of the stream, at least one byte. What is written there counts after [`advance`](Self::advance).
    pub(crate) fn room(&mut self) -> Result<&mut [u8], Error> {
        if self.filled == self.current.len() {
            self.ship()?;
            self.current = self.empty_block()?;
        }
        Ok(&mut self.current[self.filled..])
    }

    pub(crate) fn advance(&mut self, length: usize) {
        self.filled += length;
        debug_assert!(self.filled <= self.current.len());
    }

    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        while !bytes.is_empty() {
            let room = self.room()?;
            let length = room.len().min(bytes.len());
            room[..length].copy_from_slice(&bytes[..length]);
            self.advance(length);
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// Zeros up to the next multiple of 512. Blocks are such multiples, so the place within a block is enough to know.
    pub(crate) fn pad(&mut self) -> Result<(), Error> {
        let missing = self.filled.next_multiple_of(RECORD) - self.filled;
        self.put(&[0; RECORD][..missing])
    }

    /// Writes the end of the archive, two empty records, and sends the last block on its way.
    pub(crate) fn finish(&mut self) -> Result<(), Error> {
        self.put(&[0; 2 * RECORD])?;
        self.ship()
    }

    fn ship(&mut self) -> Result<(), Error> {
        if self.filled == 0 {
            return Ok(());
        }
        let block = Arc::new(Block {
            bytes: std::mem::take(&mut self.current),
            filled: std::mem::take(&mut self.filled),
            home: self.home.0.clone(),
        });
        // The receivers outlive the stream unless their thread panicked, which ends the whole write.
        let hashed = self.to_hash.send(Arc::clone(&block)).is_ok();
        let packed = self.to_pack.send((self.sent, block)).is_ok();
        self.sent += 1;
        if hashed && packed { self.check() } else { Err(Error::Canceled) }
    }

    fn empty_block(&mut self) -> Result<Vec<u8>, Error> {
        if let Ok(block) = self.home.1.try_recv() {
            return Ok(block);
        }
        if self.unborn > 0 {
            self.unborn -= 1;
            // From the zeroed allocator: pages are not touched before they are filled.
            return Ok(vec![0; BLOCK]);
        }
        let block = self.home.1.recv();
        self.check()?;
        Ok(block.expect("invariant: the stream itself holds a sender"))
    }
}
