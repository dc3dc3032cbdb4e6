//! Which glibc the programs and libraries of an environment need, against the one that the base has.
//!
//! pip chooses wheels by the glibc of the machine that resolves, so an environment can be newer than its base; such an image
//! would fail at its first import. Invariant: only headers are read, at most a few kilobytes a file, and no link is followed.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use robotimage_crds::reason::Reason;

use crate::failure::Failure;

/// Section with the versions that a file needs of its libraries.
const VERNEED: u32 = 0x6fff_fffe;
/// Largest section that is read, in bytes; real ones have a few hundred.
const MAX_SECTION: u64 = 4 << 20;
/// Length of an ELF file's header.
const HEADER: u64 = 64;

/// A version of glibc, `2.36`.
type Version = (u32, u32);

/// Ends of names that no program and no library has: most files of an environment need not be opened.
const OTHERS: [&str; 12] = [
    ".py", ".pyc", ".pyi", ".txt", ".h", ".hpp", ".json", ".js", ".html", ".css", ".md", ".csv",
];

/// The newest version of glibc that the files seen so far need.
#[derive(Debug, Default)]
pub struct Needs {
    newest: Option<(Version, PathBuf)>,
}

impl Needs {
    /// Looks at a regular file, which is below `tree`.
    pub fn look(&mut self, tree: &Path, path: &Path, size: u64) -> Result<(), Failure> {
        let name = path.file_name().unwrap_or_default().as_bytes();
        let below = path.strip_prefix(tree).unwrap_or(path);
        // Compilers bring a C library of their own, which no program of the environment runs with.
        let sysroot = below.components().any(|part| part.as_os_str() == "sysroot");
        if size < HEADER || sysroot || OTHERS.iter().any(|end| name.ends_with(end.as_bytes())) {
            return Ok(());
        }
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let file = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(|error| Failure::io("read", path, &error))?;
        if let Some(version) = needed(&file)
            && self.newest.as_ref().is_none_or(|(known, _)| version > *known)
        {
            self.newest = Some((version, below.to_owned()));
        }
        Ok(())
    }

    /// Refuses an environment that needs a newer glibc than the base has, naming both and the file.
    pub fn check(&self, base: Option<&str>) -> Result<(), Failure> {
        let Some(((major, minor), path)) = &self.newest else {
            return Ok(());
        };
        let needs = format!("the environment's {} needs glibc {major}.{minor}", path.display());
        match base.map(|text| (text, parse(text))) {
            Some((_, Some(base))) if base >= (*major, *minor) => Ok(()),
            Some((text, _)) => Err(Failure::new(
                Reason::EnvironmentUnsolvable,
                format!("{needs}, and the base image has {text}; choose a newer base, or pin the package to an older version"),
            )),
            None => Err(Failure::new(
                Reason::EnvironmentUnsolvable,
                format!("{needs}, and the base image has no glibc; choose a base with one, such as debian:bookworm-slim"),
            )),
        }
    }
}

/// The newest version of glibc that an x86-64 ELF file needs. A file that is broken or something else needs none.
fn needed(file: &File) -> Option<Version> {
    newest(&|at, size| {
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    })
}

/// The same of bytes in memory.
#[cfg(any(fuzzing, test))]
pub(crate) fn needed_by(bytes: &[u8]) -> Option<Version> {
    newest(&|at, size| {
        let start = usize::try_from(at).ok()?;
        bytes.get(start..start.checked_add(size)?).map(<[u8]>::to_vec)
    })
}

/// Reads `size` bytes at an offset.
type ReadAt<'a> = dyn Fn(u64, usize) -> Option<Vec<u8>> + 'a;

fn newest(file: &ReadAt<'_>) -> Option<Version> {
    let header = part(file, 0, HEADER)?;
    if header.get(..6)? != b"\x7fELF\x02\x01" || u16_at(&header, 18)? != 62 {
        return None;
    }
    let (start, size, count) = (
        u64_at(&header, 40)?,
        u64::from(u16_at(&header, 58)?),
        u64::from(u16_at(&header, 60)?),
    );
    if size < 64 {
        return None;
    }
    let sections = part(file, start, size.checked_mul(count)?)?;
    let section = |index: usize| sections.get(index.checked_mul(usize::try_from(size).ok()?)?..);
    let wanted = (0..usize::try_from(count).ok()?).find_map(|index| section(index).filter(|header| u32_at(header, 4) == Some(VERNEED)))?;
    let content = |header: &[u8]| part(file, u64_at(header, 24)?, u64_at(header, 32)?);
    let names = content(section(usize::try_from(u32_at(wanted, 40)?).ok()?)?)?;
    let content = content(wanted)?;
    let mut newest = None;
    let mut at = 0_usize;
    // Each entry is a library with a chain of versions. Every one of them takes 16 bytes, so a section with more of them than
    // fit into it repeats itself.
    let mut left = content.len() / 16;
    loop {
        let entry = content.get(at..)?;
        let mut version_at = at.checked_add(usize::try_from(u32_at(entry, 8)?).ok()?)?;
        for _ in 0..u16_at(entry, 2)? {
            left = left.checked_sub(1)?;
            let version = content.get(version_at..)?;
            let name = names.get(usize::try_from(u32_at(version, 8)?).ok()?..)?;
            let name = &name[..name.iter().position(|byte| *byte == 0)?];
            let found = std::str::from_utf8(name).ok().and_then(|name| parse(name.strip_prefix("GLIBC_")?));
            newest = newest.max(found);
            version_at = version_at.checked_add(usize::try_from(u32_at(version, 12)?).ok()?)?;
        }
        match usize::try_from(u32_at(entry, 12)?).ok()? {
            0 => return newest,
            next => at = at.checked_add(next)?,
        }
    }
}

/// `2.36`, `2.2.5`: the first two numbers.
fn parse(text: &str) -> Option<Version> {
    let mut numbers = text.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn part(file: &ReadAt<'_>, at: u64, size: u64) -> Option<Vec<u8>> {
    if size > MAX_SECTION {
        return None;
    }
    file(at, usize::try_from(size).ok()?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_needs_of_a_real_program() {
        let own = File::open(std::env::current_exe().unwrap()).unwrap();
        let version = needed(&own).expect("this test is linked to glibc");
        assert!(((2, 2)..(3, 0)).contains(&version), "{version:?}");
    }

    #[test]
    fn broken_files_need_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let path = folder.path().join("f");
        for bytes in [&b""[..], b"\x7fELF", &own[..64], &own[..4096], b"#!/bin/sh\n"] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(needed(&File::open(&path).unwrap()), None);
        }
    }

    /// An ELF file with this section of needed versions and these names.
    fn program(versions: &[u8], names: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[18] = 62;
        file[40] = 64;
        file[58] = 64;
        file[60] = 2;
        let mut section = |kind: u32, link: u8, at: usize, size: usize| {
            let mut header = [0; 64];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
            header[40] = link;
            file.extend_from_slice(&header);
        };
        section(VERNEED, 1, 192, versions.len());
        section(3, 0, 192 + versions.len(), names.len());
        file.extend_from_slice(versions);
        file.extend_from_slice(names);
        file
    }

    #[test]
    fn a_chain_that_repeats_itself_ends() {
        // One library with one version: at 16, named by offset 0.
        let mut one = vec![0; 32];
        (one[2], one[8]) = (1, 16);
        assert_eq!(needed_by(&program(&one, b"GLIBC_2.7\0")), Some((2, 7)));
        // 65535 versions that are all the same one, in each of 262144 libraries: hours without a bound.
        let mut entry = [0_u8; 16];
        entry[2..4].fill(0xff);
        (entry[8], entry[12]) = (16, 16);
        assert_eq!(needed_by(&program(&entry.repeat(262_144), b"GLIBC_2.7\0")), None);
    }

    proptest::proptest! {
        #[test]
        fn hostile_headers_never_panic(changes in proptest::collection::vec((0_usize..4096, proptest::num::u8::ANY), 1..40)) {
            let mut bytes = vec![0; 1 << 16];
            File::open("/proc/self/exe").unwrap().read_exact_at(&mut bytes, 0).unwrap();
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            needed_by(&bytes);
        }
    }
}
