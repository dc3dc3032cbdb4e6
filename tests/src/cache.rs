//! What is built once and kept: `${ROBOTIMAGE_CACHE:-~/.cache/robotimage}`.
//!
//! Invariant: an artifact's folder is there whole or not at all (built beside it, then renamed), its name carries the
//! hash of everything that it was built from, and of several processes that want it one builds and the others wait.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::process;

/// The cache folder of this user.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// `$ROBOTIMAGE_CACHE`, or `~/.cache/robotimage`.
    pub fn open() -> Result<Self> {
        let root = match std::env::var_os("ROBOTIMAGE_CACHE").filter(|value| !value.is_empty()) {
            Some(root) => PathBuf::from(root),
            None => PathBuf::from(
                std::env::var_os("HOME")
                    .ok_or_else(|| Error::Other("neither ROBOTIMAGE_CACHE nor HOME is set, so there is no place for the cache".into()))?,
            )
            .join(".cache/robotimage"),
        };
        Self::at(std::path::absolute(&root).map_err(Error::io("resolve", &root))?)
    }

    /// A cache in this folder.
    pub fn at(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(root.join("parts")).map_err(Error::io("create", &root))?;
        Ok(Self { root })
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of one running test bed.
    pub fn run_dir(&self, instance: crate::instance::Instance) -> PathBuf {
        self.root.join("run").join(instance.to_string())
    }

    /// The folder of an artifact, built when it is not there.
    ///
    /// `inputs` is all that the result depends on; `note` is shown to the person who waits.
    pub fn artifact(&self, name: &str, inputs: &[&[u8]], note: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let parts = self.root.join("parts");
        let done = parts.join(format!("{name}-{}", &key(inputs)[..16]));
        if done.is_dir() {
            return Ok(done);
        }
        let lock_path = done.with_added_extension("lock");
        let _lock = lock(&lock_path)?;
        if done.is_dir() {
            return Ok(done);
        }
        eprintln!("building {name} ({note}) ...");
        let start = Instant::now();
        let partial = done.with_added_extension("partial");
        remove(&partial)?;
        fs::create_dir(&partial).map_err(Error::io("create", &partial))?;
        build(&partial)?;
        fs::rename(&partial, &done).map_err(Error::io("rename", &partial))?;
        eprintln!("built {name} in {:.1} s", start.elapsed().as_secs_f32());
        Ok(done)
    }
}

/// Holds a lock file until it is dropped or its process ends.
pub(crate) fn lock(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    let file = File::create(path).map_err(Error::io("create", path))?;
    file.lock().map_err(Error::io("lock", path))?;
    Ok(file)
}

/// Removes a folder when it is there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Moves a folder out of the way at once, when it is there, and removes it in the background: a cluster leaves thousands
/// of files, and their removal takes many seconds on a disk that is busy with builds.
pub(crate) fn discard(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let trash = path.with_file_name("trash");
    fs::create_dir_all(&trash).map_err(Error::io("create", &trash))?;
    let place = tempfile::tempdir_in(&trash)
        .map_err(Error::io("create a folder in", &trash))?
        .keep();
    fs::rename(path, place.join("run")).map_err(Error::io("rename", path))?;
    let all = fs::read_dir(&trash).map_err(Error::io("list", &trash))?;
    let mut remove = Command::new("rm");
    // With what an earlier removal did not finish. In a group of its own: an interrupt of this program must not stop it.
    remove.arg("-rf").args(all.flatten().map(|entry| entry.path())).process_group(0);
    remove.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    process::spawn(remove).map(drop).map_err(Error::io("remove", &trash))
}

/// Hex SHA-256 over the inputs, each with its length, so that moving a byte from one to the next changes it.
fn key(inputs: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update((input.len() as u64).to_le_bytes());
        hash.update(input);
    }
    hex::encode(hash.finalize())
}

/// Hex SHA-256 of a file.
pub fn sha256(path: &Path) -> Result<String> {
    let bytes = fs::read(path).map_err(Error::io("read", path))?;
    Ok(hex::encode(Sha256::digest(bytes)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn many_who_want_an_artifact_build_it_once() {
        let folder = tempfile::tempdir().unwrap();
        let built = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let cache = Cache::at(folder.path().to_owned()).unwrap();
                    let path = cache.artifact("sample", &[b"1"], "at once", |out| {
                        built.fetch_add(1, Ordering::SeqCst);
                        fs::write(out.join("file"), "whole").map_err(Error::io("write", out))
                    });
                    assert_eq!(fs::read_to_string(path.unwrap().join("file")).unwrap(), "whole");
                });
            }
        });
        assert_eq!(built.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_build_leaves_nothing_that_looks_built() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().to_owned()).unwrap();
        let failed = cache.artifact("sample", &[b"1"], "never", |out| {
            fs::write(out.join("half"), "half").map_err(Error::io("write", out))?;
            Err(Error::Other("no network".into()))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no network");
        let path = cache.artifact("sample", &[b"1"], "again", |_| Ok(())).unwrap();
        assert!(!path.join("half").exists());
    }

    #[test]
    fn a_discarded_folder_is_gone_at_once_and_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0");
        for _ in 0..2 {
            fs::create_dir_all(path.join("deep/inside")).unwrap();
            discard(&path).unwrap();
            assert!(!path.exists());
        }
        discard(&path).unwrap();
        let end = Instant::now() + std::time::Duration::from_secs(10);
        while fs::read_dir(folder.path().join("trash")).unwrap().next().is_some() {
            assert!(Instant::now() < end, "the trash is still there");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    #[test]
    fn the_key_separates_its_inputs() {
        assert_ne!(key(&[b"ab", b"c"]), key(&[b"a", b"bc"]));
        assert_ne!(key(&[b"ab"]), key(&[b"ab", b""]));
    }
}
