//! Archives of every writer, and archives that no writer makes.

use super::*;

/// A header with these fields and a right checksum.
fn header(name: &[u8], kind: u8, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.as_mut_bytes()[..name.len()].copy_from_slice(name);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    header
}

fn entry(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64).as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(RECORD), 0);
    bytes
}

fn record(key: &str, value: &str) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let length = (rest..rest + 10).find(|length| *length == rest + length.to_string().len()).unwrap();
    format!("{length} {key}={value}\n").into_bytes()
}

/// Path, kind, target and content of an entry.
type Whole = (String, u8, String, Vec<u8>);

fn all(archive: &[u8]) -> io::Result<Vec<Whole>> {
    let mut entries = Entries::new(archive, 1000);
    let mut found = Vec::new();
    while let Some(entry) = entries.next()? {
        let content = entries.read(1 << 20)?;
        assert_eq!(content.len() as u64, entry.size);
        let target = String::from_utf8(entry.target).unwrap();
        found.push((entry.path, entry.kind.as_byte(), target, content));
    }
    entries.finish().map(|()| found)
}

fn names(archive: &[u8]) -> io::Result<Vec<String>> {
    Ok(all(archive)?.into_iter().map(|(path, ..)| path).collect())
}

#[test]
fn what_writers_write() {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(140));
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, content, target) in [
        ("./a/b", EntryType::Regular, &b"hello"[..], ""),
        (long.as_str(), EntryType::Regular, &[7; 700], ""),
        ("l", EntryType::Symlink, b"", long.as_str()),
        ("h", EntryType::Link, b"", "a/b"),
        ("dir/", EntryType::Directory, b"", ""),
    ] {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        if target.is_empty() {
            builder.append_data(&mut header, path, content).unwrap();
        } else {
            builder.append_link(&mut header, path, target).unwrap();
        }
    }
    let found = all(&builder.into_inner().unwrap()).unwrap();
    let expected = [
        ("a/b", b'0', "", b"hello".to_vec()),
        (long.as_str(), b'0', "", vec![7; 700]),
        ("l", b'2', long.as_str(), Vec::new()),
        ("h", b'1', "a/b", Vec::new()),
        ("dir", b'5', "", Vec::new()),
    ];
    let expected: Vec<_> = expected
        .map(|(path, kind, target, content)| (path.to_owned(), kind, target.to_owned(), content))
        .into();
    assert_eq!(found, expected);
}

#[test]
fn extended_headers() {
    let named = |path: &str| [record("mtime", "1.5"), record("path", path), record("linkpath", "t\nt")].concat();
    let pax = |records: &[u8], kind: u8| [entry(b"PaxHeaders/x", b'x', records), entry(b"short", kind, b"")].concat();
    assert_eq!(
        all(&pax(&named("long\nname"), b'2')).unwrap()[0],
        ("long\nname".to_owned(), b'2', "t\nt".to_owned(), Vec::new())
    );
    // The size of a file beyond 8 GiB is only there; a small one shows that it counts.
    let sized = [
        entry(b"x", b'x', &record("size", "3")),
        header(b"big", b'0', 0).as_bytes().to_vec(),
        b"abc".to_vec(),
        vec![0; 509],
    ]
    .concat();
    assert_eq!(all(&[sized, entry(b"next", b'0', b"n")].concat()).unwrap()[0].3, b"abc");
    // One entry only is meant.
    assert_eq!(
        names(&[pax(&named("a"), b'0'), entry(b"b", b'0', b"")].concat()).unwrap(),
        ["a", "b"]
    );
    // Of all entries: runtimes pay no heed to it.
    assert_eq!(
        names(&[entry(b"g", b'g', &named("a")), entry(b"b", b'0', b"")].concat()).unwrap(),
        ["b"]
    );
    let sparse = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.name", "real"),
        record("path", "GNUSparseFile.0/real"),
    ]
    .concat();
    assert_eq!(names(&pax(&sparse, b'0')).unwrap(), ["real"]);
    let mut old = header(b"old", b'S', 5);
    old.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
    old.as_mut_bytes()[482] = 1;
    old.set_cksum();
    let mut more = [0; RECORD];
    more[504] = 1;
    let archive = [
        old.as_bytes().to_vec(),
        more.to_vec(),
        vec![0; RECORD],
        entry(b"", b'0', b"")[..0].to_vec(),
        b"holes".to_vec(),
        vec![0; 507],
    ];
    assert_eq!(
        names(&[archive.concat(), entry(b"after", b'0', b"")].concat()).unwrap(),
        ["old", "after"]
    );
    for damaged in [
        &b"x"[..],
        b"5 a=b",
        b"99 path=a\n",
        b"3 =\n",
        b"0 path=a\n",
        b"12 path\n    \n",
        b"-5 path=a\n",
        b"10 size=x\n\n",
    ] {
        assert!(all(&pax(damaged, b'0')).is_err(), "{}", String::from_utf8_lossy(damaged));
    }
}

#[test]
fn odd_headers() {
    assert_eq!(names(&entry(b"v7/", 0, b"")).unwrap(), ["v7"]);
    assert_eq!(all(&entry(b"v7/", 0, b"")).unwrap()[0].1, b'5');
    // Links say a size and have no content.
    let link = [header(b"l", b'1', 512).as_bytes().to_vec(), entry(b"next", b'0', b"")].concat();
    assert_eq!(names(&link).unwrap(), ["l", "next"]);
    for (written, path) in [
        ("./a//b/./c", "a/b/c"),
        ("/etc/passwd", "etc/passwd"),
        ("a/../../etc/passwd", "etc/passwd"),
        ("./", ""),
        ("..", ""),
    ] {
        assert_eq!(resolved(written.as_bytes()), path);
    }
    // An archive without its end, as some writers leave it, and one with bytes behind it.
    assert_eq!(names(&entry(b"a", b'0', b"")).unwrap(), ["a"]);
    assert_eq!(
        names(&[entry(b"a", b'0', b""), vec![0; 1024], vec![9; 700]].concat()).unwrap(),
        ["a"]
    );
    assert_eq!(names(b"").unwrap(), [""; 0]);
}

/// Counts what is taken from an endless archive.
struct Endless {
    head: Vec<u8>,
    repeat: Vec<u8>,
    taken: u64,
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.head.is_empty() {
            self.head = self.repeat.clone();
        }
        let count = into.len().min(self.head.len());
        into[..count].copy_from_slice(&self.head[..count]);
        self.head.drain(..count);
        self.taken += count as u64;
        Ok(count)
    }
}

#[test]
fn bombs_end_before_they_are_read() {
    for kind in *b"xLK" {
        let mut bomb = Endless {
            head: header(b"bomb", kind, 1 << 33).as_bytes().to_vec(),
            repeat: vec![b'x'; 4096],
            taken: 0,
        };
        let error = Entries::new(&mut bomb, 1000).next().unwrap_err();
        assert!(error.to_string().contains("extended header"), "{error}");
        assert!(bomb.taken <= 512, "{} bytes read", bomb.taken);
    }
    let mut endless = Endless {
        head: Vec::new(),
        repeat: entry(b"x", b'x', &record("path", "a")),
        taken: 0,
    };
    let error = Entries::new(&mut endless, 1000).next().unwrap_err();
    assert!(
        error.to_string().contains("too many") && endless.taken < 1 << 21,
        "{error}, {} bytes",
        endless.taken
    );
    let long = [entry(b"x", b'x', &record("path", &"p/".repeat(3000))), entry(b"a", b'0', b"")].concat();
    assert!(all(&long).unwrap_err().to_string().contains("4096"));
    let mut huge = header(b"huge", b'0', 0);
    huge.as_mut_bytes()[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    huge.set_cksum();
    assert!(all(huge.as_bytes()).is_err());
    // Error messages reach a terminal; what is in the archive must not.
    let mut text = header(b"text", b'0', 0);
    text.as_mut_bytes()[124..136].copy_from_slice(b"\x1b[2J\x03./etc/\n");
    text.set_cksum();
    assert_eq!(all(text.as_bytes()).unwrap_err().to_string(), "the size in a header is no number");
    let mut wrong = entry(b"a", b'0', b"");
    wrong[0] = b'b';
    assert!(all(&wrong).unwrap_err().to_string().contains("checksum"));
    assert!(Entries::new(entry(b"a", b'0', b"12345").as_slice(), 10).next().is_ok());
    let archive = entry(b"a", b'0', b"12345");
    let mut entries = Entries::new(archive.as_slice(), 10);
    entries.next().unwrap();
    assert!(entries.read(4).unwrap_err().to_string().contains("at most 4"));
}

#[test]
fn a_cut_archive_is_an_error_wherever_it_is_cut() {
    let whole = [
        entry(b"x", b'x', &record("path", "b")),
        entry(b"a", b'0', &[1; 600]),
        entry(b"c", b'0', b"1"),
    ]
    .concat();
    for length in 1..whole.len() {
        match all(&whole[..length]) {
            Ok(found) => assert!(length % RECORD == 0 && found.len() < 2, "{length}: {found:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{length}: {error}"),
        }
    }
    assert_eq!(all(&whole).unwrap().len(), 2);
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
        let _ = all(&bytes);
    }
}
