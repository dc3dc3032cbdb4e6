//! The one place where a robot's files are read from disk.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{Error, Role};

/// Largest robot or environment file. Real ones have a few kilobytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

/// Reads a text file of the context. Links may lead anywhere inside it, and nowhere else.
pub(crate) fn read(context: &Path, relative: &Path, role: Role, advice: &str) -> Result<String, Error> {
    let unreadable = |source: io::Error| Error::Unreadable {
        role,
        file: relative.to_path_buf(),
        source,
    };
    let rejected = |problem| Error::Rejected {
        role,
        file: relative.to_path_buf(),
        problem,
    };
    let path = match resolve(context, relative) {
        Ok(Some(path)) => path,
        Ok(None) => return Err(rejected("is a link that leads out of the source; put the file itself there")),
        Err(error) if missing(&error) => {
            return Err(Error::Missing {
                role,
                file: relative.to_path_buf(),
                advice: advice.to_owned(),
            });
        }
        Err(error) => return Err(unreadable(error)),
    };
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(&path)
        .map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(rejected("is not a regular file; give the path of a file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(rejected("is larger than 1 MiB, which no robot needs; shorten it"));
    }
    String::from_utf8(bytes).map_err(|_| rejected("is not UTF-8 text; save it as UTF-8"))
}

/// Whether rcc would see a file there: anything that exists and is no directory.
pub(crate) fn is_file(context: &Path, relative: &Path) -> Result<bool, io::Error> {
    match resolve(context, relative) {
        Ok(Some(path)) => Ok(!path.metadata()?.is_dir()),
        Ok(None) => Ok(false),
        Err(error) if missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The real path of an entry, or `None` when it is outside the context.
pub(crate) fn resolve(context: &Path, relative: &Path) -> Result<Option<PathBuf>, io::Error> {
    let root = context.canonicalize()?;
    let path = root.join(relative).canonicalize()?;
    Ok(path.starts_with(&root).then_some(path))
}

/// A path through a file, or a name that is too long, is as absent as one that is not there.
pub(crate) fn missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}
