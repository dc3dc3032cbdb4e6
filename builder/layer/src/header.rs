//! Headers of the tar stream: POSIX ustar where an entry fits, else a PAX extended header before it.
//!
//! Invariant: the bytes depend on path, mode and kind alone. Owner is 0:0 without names, the time is [`MTIME`] for all,
//! and nothing ever becomes a GNU extension or a sparse file, which file systems would decide.

/// 1980-01-02T00:00:00Z, the time of every entry. ZIP archives cannot express times before 1980: with 0, a robot that
/// packs its own files would raise.
pub(crate) const MTIME: u64 = 315_619_200;

/// Tar counts in records of 512 bytes.
pub(crate) const RECORD: usize = 512;

/// The largest value of eleven octal digits: 8 GiB - 1.
const MAX_OCTAL_SIZE: u64 = 0o77_777_777_777;

const NAME: usize = 100;
const PREFIX: usize = 155;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    File { size: u64 },
    HardLink { target: &'a [u8] },
    Symlink { target: &'a [u8] },
    Directory,
}

/// Appends the header of one entry to `out`, a multiple of 512 bytes. `path` is relative and has no trailing slash;
/// a directory gets one here.
pub(crate) fn encode(out: &mut Vec<u8>, path: &[u8], mode: u32, kind: Kind<'_>) {
    let with_slash;
    let path = if kind == Kind::Directory {
        with_slash = [path, b"/"].concat();
        &with_slash
    } else {
        path
    };
    let target: &[u8] = match kind {
        Kind::HardLink { target } | Kind::Symlink { target } => target,
        Kind::File { .. } | Kind::Directory => b"",
    };
    let (flag, size) = match kind {
        Kind::File { size } => (b'0', size),
        Kind::HardLink { .. } => (b'1', 0),
        Kind::Symlink { .. } => (b'2', 0),
        Kind::Directory => (b'5', 0),
    };

    let split = split(path);
    let mut records = Vec::new();
    if target.len() > NAME {
        push_record(&mut records, "linkpath", target);
    }
    if split.is_none() {
        push_record(&mut records, "path", path);
    }
    if size > MAX_OCTAL_SIZE {
        push_record(&mut records, "size", size.to_string().as_bytes());
    }
    if !records.is_empty() {
        let length = records.len() as u64;
        push_ustar(out, (b"", b"././@PaxHeader"), 0o644, length, b'x', b"");
        out.append(&mut records);
        out.resize(out.len().next_multiple_of(RECORD), 0);
    }
    // What PAX records override is cut or zero in the plain header, as POSIX readers expect.
    let name = split.unwrap_or((b"", &path[..path.len().min(NAME)]));
    let size = if size > MAX_OCTAL_SIZE { 0 } else { size };
    push_ustar(out, name, mode, size, flag, &target[..target.len().min(NAME)]);
}

/// The (prefix, name) fields that express `path`, or nothing when it does not fit.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= NAME {
        return Some((b"", path));
    }
    // The shortest prefix whose rest fits: the first slash from which at most 100 bytes follow.
    let from = path.len() - NAME - 1;
    let slash = from + path[from..path.len() - 1].iter().position(|&b| b == b'/')?;
    (1..=PREFIX).contains(&slash).then(|| (&path[..slash], &path[slash + 1..]))
}

/// One PAX record: its own length in decimal, a space, `key=value` and a newline.
fn push_record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + decimal_digits(length) {
        length = rest + decimal_digits(length);
    }
    out.extend_from_slice(format!("{length} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

fn decimal_digits(number: usize) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

fn push_ustar(out: &mut Vec<u8>, (prefix, name): (&[u8], &[u8]), mode: u32, size: u64, flag: u8, target: &[u8]) {
    let mut header = [0_u8; RECORD];
    header[..name.len()].copy_from_slice(name);
    octal(&mut header[100..108], u64::from(mode & 0o7777));
    octal(&mut header[108..116], 0);
    octal(&mut header[116..124], 0);
    octal(&mut header[124..136], size);
    octal(&mut header[136..148], MTIME);
    header[148..156].fill(b' ');
    header[156] = flag;
    header[157..157 + target.len()].copy_from_slice(target);
    header[257..265].copy_from_slice(b"ustar\x0000");
    octal(&mut header[329..337], 0);
    octal(&mut header[337..345], 0);
    header[345..345 + prefix.len()].copy_from_slice(prefix);
    let sum = header.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut header[148..155], sum);
    out.extend_from_slice(&header);
}

/// `value` in octal digits that fill `field` up to a closing NUL.
fn octal(field: &mut [u8], mut value: u64) {
    let (end, digits) = field.split_last_mut().expect("invariant: header fields are not empty");
    *end = 0;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn encoded(path: &[u8], kind: Kind<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, path, 0o755, kind);
        assert_eq!(out.len() % RECORD, 0);
        out
    }

    #[test]
    fn a_short_path_is_one_plain_header() {
        let header = encoded(b"opt/rcc/bin", Kind::Directory);
        assert_eq!(header.len(), RECORD);
        assert_eq!(&header[..13], b"opt/rcc/bin/\0");
        assert_eq!(&header[100..108], b"0000755\0");
        assert_eq!(&header[124..136], b"00000000000\0");
        assert_eq!(&header[136..148], b"02263773600\0");
        assert_eq!(&header[148..156], b"011372\0 ");
        assert_eq!(&header[257..265], b"ustar\x0000");
        assert!(header[265..329].iter().all(|&b| b == 0), "owner names");
    }

    #[test]
    fn ustar_is_used_exactly_where_it_fits() {
        let long = |n: usize| vec![b'n'; n];
        let with_dir = |dir: usize, name: usize| [long(dir), b"/".to_vec(), long(name)].concat();
        for (path, plain) in [
            (long(100), true),
            (long(101), false),
            (with_dir(155, 100), true),
            (with_dir(156, 100), false),
            (with_dir(155, 101), false),
            (with_dir(1, 100), true),
            ([b"a/".repeat(77), long(100)].concat(), true),
            ([b"a/".repeat(79), long(100)].concat(), false),
        ] {
            let bytes = encoded(&path, Kind::File { size: 0 });
            assert_eq!(bytes.len() == RECORD, plain, "{} bytes", path.len());
            let mut archive = tar::Archive::new(bytes.as_slice());
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.path_bytes().as_ref(), path.as_slice());
        }
    }

    #[test]
    fn a_directory_of_exactly_one_field_needs_no_extension() {
        let path = [b"d".repeat(99), b"/".to_vec(), b"e".repeat(99)].concat();
        let bytes = encoded(&path, Kind::Directory);
        assert_eq!(bytes.len(), RECORD);
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path_bytes().as_ref(), [&path[..], b"/"].concat());
    }

    #[test]
    fn sizes_beyond_eight_gibibytes_are_kept() {
        for size in [MAX_OCTAL_SIZE, MAX_OCTAL_SIZE + 1, u64::from(u32::MAX) * 100] {
            let bytes = encoded(b"big", Kind::File { size });
            let mut archive = tar::Archive::new(bytes.as_slice().chain(std::io::repeat(0)));
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.size(), size);
            assert_eq!(bytes.len() == RECORD, size <= MAX_OCTAL_SIZE);
        }
    }

    #[test]
    fn record_lengths_count_their_own_digits() {
        for length in 0..2000 {
            let mut out = Vec::new();
            push_record(&mut out, "path", &vec![b'x'; length]);
            let text = String::from_utf8(out).unwrap();
            let (stated, _) = text.split_once(' ').unwrap();
            assert_eq!(stated.parse(), Ok(text.len()));
        }
    }

    #[test]
    fn long_and_binary_link_targets_survive() {
        let target = [&b"\xff\xfe ".repeat(100)[..], b"x"].concat();
        for kind in [Kind::Symlink { target: &target }, Kind::HardLink { target: &target }] {
            let bytes = encoded(b"link", kind);
            let mut archive = tar::Archive::new(bytes.as_slice());
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.link_name_bytes().unwrap().as_ref(), target);
        }
    }
}
