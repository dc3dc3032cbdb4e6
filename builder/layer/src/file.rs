//! Regular files on a disk, while others may still be writing to them.
//!
//! Invariant: a file whose bytes may not be one consistent state is an error: it is read only after its time of change is
//! so far back that another write would move it, and that time is looked at again afterwards. Holes are zeros, as for
//! any reader, but are not read from the disk.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FileType, Mode, SeekFrom, Stat};
use rustix::io::Errno;

use crate::disk::{Directory, FILE, changed, unreadable, wrong_kind};
use crate::error::{Change, Error};

/// How a file was found.
enum Place<'d> {
    Listed(&'d Directory, &'d CStr),
    Declared(PathBuf),
}

impl Place<'_> {
    fn path(&self) -> PathBuf {
        match self {
            Self::Listed(directory, name) => directory.join(name),
            Self::Declared(path) => path.clone(),
        }
    }
}

/// A stretch of a sparse file: up to this offset, there is nothing or there are bytes.
#[derive(Clone, Copy)]
enum Stretch {
    Hole(u64),
    Data(u64),
}

/// An open regular file and what it was when it was opened.
pub(crate) struct File<'d> {
    handle: OwnedFd,
    place: Place<'d>,
    stat: Stat,
    /// How many bytes were read.
    at: u64,
    /// The stretch being read, in a file that may have holes.
    stretch: Option<Stretch>,
}

/// Two writes closer to each other may leave the same time of change: kernels take it from a clock that ticks every 1 to
/// 10 ms.
const TICK: Duration = Duration::from_millis(20);

/// Holes are looked for in files from this size. Below, to ask costs more than to read.
const SPARSE: u64 = 4 << 20;

impl<'d> File<'d> {
    /// Opens the source of a declared file.
    pub(crate) fn open(path: &Path) -> Result<File<'static>, Error> {
        let path: PathBuf = path.components().collect();
        let handle = match rustix::fs::openat(CWD, &path, FILE, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::LOOP | Errno::NXIO) => return Err(wrong_kind(path, "a regular file")),
            Err(error) => return Err(unreadable(path, "open", error)),
        };
        let file = File::new(handle, Place::Declared(path))?;
        if file.is_regular() {
            file.settled()
        } else {
            Err(wrong_kind(file.path(), "a regular file"))
        }
    }

    /// An entry of a directory, just opened.
    pub(crate) fn listed(handle: OwnedFd, directory: &'d Directory, name: &'d CStr) -> Result<Self, Error> {
        let file = Self::new(handle, Place::Listed(directory, name))?;
        if file.is_regular() {
            file.settled()
        } else {
            Err(file.changed(Change::Replaced))
        }
    }

    fn new(handle: OwnedFd, place: Place<'d>) -> Result<Self, Error> {
        let stat = rustix::fs::fstat(&handle).map_err(|error| unreadable(place.path(), "read", error))?;
        let mut file = Self {
            handle,
            place,
            stat,
            at: 0,
            stretch: None,
        };
        let allocated = u64::try_from(file.stat.st_blocks).unwrap_or(0).saturating_mul(512);
        if file.size() > SPARSE && allocated < file.size() {
            file.stretch = Some(Stretch::Data(0));
        }
        Ok(file)
    }

    /// Waits until the last write is so long ago that another one would be seen, at most one tick.
    fn settled(self) -> Result<Self, Error> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // A time in the future is that of another clock, or somebody's wish.
        if now.checked_sub(since_epoch(&self.stat)).is_some_and(|age| age < TICK) {
            thread::sleep(TICK);
            self.unchanged()?;
        }
        Ok(self)
    }

    fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::RegularFile
    }

    pub(crate) fn size(&self) -> u64 {
        u64::try_from(self.stat.st_size).expect("invariant: no file has a negative size")
    }

    pub(crate) fn executable(&self) -> bool {
        Mode::from_raw_mode(self.stat.st_mode).contains(Mode::XUSR)
    }

    /// Device and inode, when other names may lead to them too.
    pub(crate) fn shared_inode(&self) -> Option<(u64, u64)> {
        (self.stat.st_nlink > 1).then_some((self.stat.st_dev, self.stat.st_ino))
    }

    /// Reads on, into at most the whole of `into`, and says how many bytes it got: at least one. Holes are not read from
    /// the disk.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        let length = match self.stretch()? {
            None => self.read_some(into)?,
            Some(Stretch::Hole(end)) => {
                let length = within(into.len(), end - self.at);
                into[..length].fill(0);
                length
            }
            Some(Stretch::Data(end)) => {
                let length = within(into.len(), end - self.at);
                self.read_some(&mut into[..length])?
            }
        };
        self.at += length as u64;
        Ok(length)
    }

    /// The stretch at the current place; `None` in a file without holes.
    fn stretch(&mut self) -> Result<Option<Stretch>, Error> {
        if let Some(Stretch::Hole(end) | Stretch::Data(end)) = self.stretch
            && end <= self.at
        {
            self.stretch = Some(self.next_stretch().map_err(|error| unreadable(self.path(), "read", error))?);
        }
        Ok(self.stretch)
    }

    /// Asks the file system what is at the current place, and leaves the file there.
    fn next_stretch(&self) -> Result<Stretch, Errno> {
        let (at, size) = (self.at, self.size());
        let stretch = match rustix::fs::seek(&self.handle, SeekFrom::Data(at)) {
            Ok(data) if data > at => Stretch::Hole(data.min(size)),
            Ok(_) => {
                let hole = rustix::fs::seek(&self.handle, SeekFrom::Hole(at))?;
                // A hole at this very place appeared since: to read it is right too.
                Stretch::Data(if hole > at { hole.min(size) } else { size })
            }
            // No bytes up to the end. Whether that is still where it was, `finish` looks.
            Err(Errno::NXIO) => Stretch::Hole(size),
            // A file system that does not know holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => Stretch::Data(size),
            Err(error) => return Err(error),
        };
        rustix::fs::seek(&self.handle, SeekFrom::Start(at))?;
        Ok(stretch)
    }

    /// Reads at least one byte.
    fn read_some(&self, into: &mut [u8]) -> Result<usize, Error> {
        loop {
            match rustix::io::read(&self.handle, &mut *into) {
                Ok(0) => return Err(self.changed(Change::Shrank)),
                Ok(length) => return Ok(length),
                Err(Errno::INTR) => {}
                Err(error) => return Err(unreadable(self.path(), "read", error)),
            }
        }
    }

    /// Asserts, after [`size`](Self::size) bytes were read, that they are the file: nobody wrote to it meanwhile.
    pub(crate) fn finish(self) -> Result<(), Error> {
        self.unchanged()?;
        if self.stat.st_size == 0 { self.finish_empty() } else { Ok(()) }
    }

    fn unchanged(&self) -> Result<(), Error> {
        let now = rustix::fs::fstat(&self.handle).map_err(|error| unreadable(self.path(), "read", error))?;
        let written = since_epoch(&now) != since_epoch(&self.stat);
        match now.st_size.cmp(&self.stat.st_size) {
            std::cmp::Ordering::Greater => Err(self.changed(Change::Grew)),
            std::cmp::Ordering::Less => Err(self.changed(Change::Shrank)),
            std::cmp::Ordering::Equal if written => Err(self.changed(Change::Modified)),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    /// Some virtual file systems say 0 for the size of files that have content.
    fn finish_empty(self) -> Result<(), Error> {
        match self.read_some(&mut [0]) {
            Err(Error::Changed { .. }) => Ok(()),
            Ok(_) => Err(self.changed(Change::Grew)),
            Err(error) => Err(error),
        }
    }

    fn path(&self) -> PathBuf {
        self.place.path()
    }

    fn changed(&self, change: Change) -> Error {
        changed(self.path(), change)
    }
}

/// The time of the last write; 0 when that is before 1970.
fn since_epoch(stat: &Stat) -> Duration {
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
    Duration::new(u64::try_from(stat.st_mtime).unwrap_or(0), nanoseconds)
}

/// The lesser of two lengths.
fn within(length: usize, limit: u64) -> usize {
    usize::try_from(limit).map_or(length, |limit| limit.min(length))
}
