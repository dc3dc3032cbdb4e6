//! How much comes out of an archive for how little.
//!
//! Invariant: once [`FREE`] bytes have come, never more than [`RATIO`] for each byte that went in.

use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes that may come out of however few: sources are often empty tables and logs.
pub(super) const FREE: u64 = 16 << 20;
/// Bytes for each one of the archive, at most. What deflate can do at its best.
pub(super) const RATIO: u64 = 1000;

/// The archive's side: counts, and ends when it is told to.
pub(super) struct Input<'a, R> {
    inner: R,
    taken: Rc<Cell<u64>>,
    interrupt: &'a AtomicBool,
}

/// The unpacked side.
pub(super) struct Output<R> {
    inner: R,
    given: u64,
    taken: Rc<Cell<u64>>,
}

impl<'a, R: Read> Input<'a, R> {
    pub(super) fn new(inner: R, interrupt: &'a AtomicBool) -> Self {
        Self {
            inner,
            taken: Rc::default(),
            interrupt,
        }
    }

    /// Its other side: what `unpack` makes of it.
    pub(super) fn unpacked<T: Read>(self, unpack: impl FnOnce(Self) -> io::Result<T>) -> io::Result<Output<T>> {
        let taken = Rc::clone(&self.taken);
        let inner = unpack(self)?;
        Ok(Output { inner, given: 0, taken })
    }
}

impl<R: Read> Read for Input<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(io::Error::other("the work was told to end"));
        }
        let count = self.inner.read(into)?;
        self.taken.set(self.taken.get() + count as u64);
        Ok(count)
    }
}

impl<R: Read> Read for Output<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.given += count as u64;
        if self.given > FREE && self.given / RATIO > self.taken.get() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(count)
    }
}
