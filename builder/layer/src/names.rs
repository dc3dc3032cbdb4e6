//! The names of one directory of the image, whoever contributes them, in order.
//!
//! Invariant: a name costs its bytes and 17 more, because a directory may hold a million of them, and all of them must
//! be known before the first can be written.

use std::ffi::CStr;

use crate::disk::Kind;

/// Who contributes a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contributor {
    /// The declaration with this number.
    Declared(usize),
    /// An entry of the directory on disk with this number.
    Disk(usize, Kind),
}

/// One name: its first bytes that differ from other names', where it is, and its contributor.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Eight bytes after the prefix that all names share, so that hardly any comparison looks at the name itself.
    key: u64,
    start: u32,
    /// The number of a declaration; or, with [`DISK`] set, the directory's number and in the lowest two bits the kind.
    origin: u32,
}

/// Set in the origin of what is on disk, which comes after declarations.
const DISK: u32 = 1 << 31;

/// Names in the order in which they were added, and after [`sort`](Self::sort) bytewise.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Each with a closing NUL, which no name holds.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// The length of what all names begin with.
    shared: usize,
}

impl Names {
    /// Adds a name. `None` when there are too many of them: beyond 4 GiB.
    pub(crate) fn add(&mut self, name: &CStr, contributor: Contributor) -> Option<()> {
        let start = u32::try_from(self.bytes.len()).ok()?;
        let origin = match contributor {
            Contributor::Declared(number) => u32::try_from(number).ok().filter(|number| *number < DISK)?,
            Contributor::Disk(number, kind) => {
                let number = u32::try_from(number).ok().filter(|number| *number < DISK / 4)?;
                DISK + 4 * number + kind as u32
            }
        };
        let first = self.entries.first().map(|first| &self.bytes[first.start as usize..]);
        self.shared = first.map_or(name.count_bytes(), |first| {
            let both = first[..self.shared].iter().zip(name.to_bytes());
            both.take_while(|(a, b)| a == b).count()
        });
        self.bytes.extend_from_slice(name.to_bytes_with_nul());
        self.entries.push(Entry { key: 0, start, origin });
        Some(())
    }

    /// Orders the names bytewise, and the contributors of one name by their numbers, declarations first.
    pub(crate) fn sort(&mut self) {
        let (bytes, shared) = (self.bytes.as_slice(), self.shared);
        for entry in &mut self.entries {
            let name = &bytes[entry.start as usize + shared..];
            let mut key = [0; 8];
            for (to, from) in key.iter_mut().zip(name.iter().take_while(|byte| **byte != 0)) {
                *to = *from;
            }
            entry.key = u64::from_be_bytes(key);
        }
        self.entries.sort_unstable_by(|a, b| {
            let names = || name_at(bytes, *a).cmp(name_at(bytes, *b));
            a.key.cmp(&b.key).then_with(names).then(a.origin.cmp(&b.origin))
        });
    }

    /// Each distinct name with its contributors.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&CStr, impl Iterator<Item = Contributor> + Clone)> {
        let same = |a: &Entry, b: &Entry| a.key == b.key && name_at(&self.bytes, *a) == name_at(&self.bytes, *b);
        self.entries.chunk_by(same).map(|group| {
            let name = name_at(&self.bytes, group[0]);
            (name, group.iter().map(|entry| contributor(entry.origin)))
        })
    }
}

fn name_at(bytes: &[u8], entry: Entry) -> &CStr {
    CStr::from_bytes_until_nul(&bytes[entry.start as usize..]).expect("invariant: names were added with their NUL")
}

fn contributor(origin: u32) -> Contributor {
    match origin & DISK {
        0 => Contributor::Declared(origin as usize),
        _ => Contributor::Disk((origin & !DISK) as usize / 4, Kind::ALL[origin as usize % 4]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ffi::CString;

    fn sorted(names: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<Contributor>)> {
        let mut all = Names::default();
        for (number, name) in names.iter().enumerate() {
            let contributor = match number % 3 {
                0 => Contributor::Declared(number),
                _ => Contributor::Disk(number, Kind::ALL[number % 4]),
            };
            all.add(&CString::new(name.clone()).unwrap(), contributor).unwrap();
        }
        all.sort();
        all.groups()
            .map(|(name, group)| (name.to_bytes().to_vec(), group.collect()))
            .collect()
    }

    #[test]
    fn a_name_costs_its_bytes_and_17_more() {
        assert_eq!(size_of::<Entry>(), 16);
        let mut names = Names::default();
        for number in 0..100_000 {
            let name = CString::new(format!("name-{number:06}")).unwrap();
            names.add(&name, Contributor::Disk(0, Kind::File)).unwrap();
        }
        assert_eq!((names.entries.len(), names.bytes.len()), (100_000, 1_200_000));
    }

    #[test]
    fn few_names() {
        assert_eq!(sorted(&[]), []);
        assert_eq!(sorted(&[b"one".to_vec()]), [(b"one".to_vec(), vec![Contributor::Declared(0)])]);
        let twice = vec![Contributor::Declared(0), Contributor::Disk(1, Kind::ALL[1])];
        assert_eq!(sorted(&[b"one".to_vec(), b"one".to_vec()]), [(b"one".to_vec(), twice.clone())]);
        let all = [b"one".to_vec(), b"one".to_vec(), b"on".to_vec(), b"two".to_vec()];
        assert_eq!(sorted(&all)[1], (b"one".to_vec(), twice));
    }

    proptest! {
        #[test]
        fn they_are_ordered_as_byte_strings_are(
            prefix in prop::collection::vec(1_u8..=255, 0..12),
            ends in prop::collection::vec(prop::collection::vec(prop_oneof![Just(1_u8), Just(b'a'), Just(255)], 0..12), 1..40),
        ) {
            let names: Vec<Vec<u8>> = ends.iter().map(|end| [&prefix[..], end].concat()).collect();
            let mut expected = names.clone();
            expected.sort();
            expected.dedup();
            let found = sorted(&names);
            prop_assert_eq!(found.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
            for (name, contributors) in found {
                let numbers: Vec<(bool, usize)> = contributors.iter().map(|contributor| match contributor {
                    Contributor::Declared(number) => (false, *number),
                    Contributor::Disk(number, kind) => {
                        assert_eq!(*kind, Kind::ALL[number % 4]);
                        (true, *number)
                    }
                }).collect();
                prop_assert!(numbers.iter().all(|(_, number)| names[*number] == name));
                prop_assert_eq!(numbers.len(), names.iter().filter(|other| **other == name).count());
                prop_assert!(numbers.is_sorted(), "declarations first");
            }
        }
    }
}
