//! Which files of an environment share a layer.
//!
//! Few layers, by how often they change: the interpreter with what conda brought; each of the largest Python packages for
//! itself; those of middling size in two groups by their names; and everything small, which is what changes most, with the
//! scripts and records that every change touches.
//!
//! Invariant: pure. The answer depends on names and sizes alone, each file is in exactly one part, and a change of one
//! package moves no other one, unless it makes the package cross a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Component, Path};

use sha2::{Digest as _, Sha256};

/// Everything beside the files that decides about the parts, for cache keys.
pub const RECIPE: &str = "split1";

/// Most parts of an environment. With rcc, the runtime home and the code, an image has at most three layers more.
pub const MAX_PARTS: usize = 9;
/// Smaller environments stay one layer, in bytes.
const WHOLE: u64 = 64 << 20;
/// Packages and folders of this size may have a layer of their own.
const OWN: u64 = 32 << 20;
/// How many of them have one at most: the largest.
const OWN_COUNT: usize = 5;
/// Smaller packages go to the rest.
const SMALL: u64 = 4 << 20;
/// The packages between make two groups when there is this much of them.
const TWO_GROUPS: u64 = 128 << 20;
/// A part with less than this joins another.
const LEAST: u64 = 2 << 20;
/// Larger files of `bin` are programs that change with the interpreter; smaller ones are scripts of any package.
const SCRIPT: u64 = 64 << 10;
/// Beyond so many names nothing is told apart, which bounds the memory.
const MAX_NAMES: usize = 4096;

/// What a file belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// The interpreter, its library, and what conda brought.
    Base,
    /// Scripts and records.
    Rest,
    /// A Python package, by its normalised name.
    Package(String),
    /// A folder at the top.
    Folder(String),
    /// A program in `bin`, unless it is a script.
    Program(String),
}

/// The sizes of an environment's files, as a walk in any order tells them.
#[derive(Debug, Default)]
pub struct Sizes {
    base: u64,
    rest: u64,
    units: BTreeMap<Unit, u64>,
    crowded: bool,
}

impl Sizes {
    /// A file or link at this path, relative to the environment.
    pub fn add(&mut self, path: &Path, bytes: u64) {
        match unit(path, false) {
            Unit::Program(_) if bytes < SCRIPT => self.rest += bytes,
            Unit::Base => self.base += bytes,
            Unit::Rest => self.rest += bytes,
            _ if self.crowded => self.base += bytes,
            unit => {
                *self.units.entry(unit).or_default() += bytes;
                if self.units.len() > MAX_NAMES {
                    self.crowded = true;
                    self.base += std::mem::take(&mut self.units).into_values().sum::<u64>();
                }
            }
        }
    }

    fn total(&self) -> u64 {
        self.base + self.rest + self.units.values().sum::<u64>()
    }
}

/// A part of an environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What it holds, for people: `base`, a package, `group-1`, `rest`.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
}

/// The parts of an environment, from the bottom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    parts: Vec<Part>,
    /// Where packages, folders and programs are that are not where their kind is by default.
    places: BTreeMap<Unit, usize>,
    /// Where the interpreter is.
    base: usize,
    /// Where scripts, records and small packages are.
    rest: usize,
    /// The folders `lib/python*` may have packages of any part.
    parents: BTreeSet<usize>,
}

impl Split {
    /// One part with everything.
    pub fn whole(bytes: u64) -> Self {
        let part = Part {
            name: "all".to_owned(),
            bytes,
        };
        Self {
            parts: vec![part],
            places: BTreeMap::new(),
            base: 0,
            rest: 0,
            parents: BTreeSet::new(),
        }
    }

    /// The parts of an environment with these sizes.
    pub fn of(sizes: &Sizes) -> Self {
        let total = sizes.total();
        if total < WHOLE || sizes.crowded {
            return Self::whole(total);
        }
        let mut groups: BTreeMap<Group, (u64, Vec<&Unit>)> = BTreeMap::new();
        groups.entry(Group::Base).or_default().0 += sizes.base;
        groups.entry(Group::Rest).or_default().0 += sizes.rest;
        let own = sizes.own();
        let middling = |unit: &Unit, bytes: u64| matches!(unit, Unit::Package(_)) && bytes >= SMALL && !own.contains(unit);
        let medium: u64 = sizes
            .units
            .iter()
            .filter(|(unit, bytes)| middling(unit, **bytes))
            .map(|(_, bytes)| bytes)
            .sum();
        for (unit, bytes) in &sizes.units {
            let group = match unit {
                unit if own.contains(unit) => Group::Own(unit),
                Unit::Package(name) if *bytes >= SMALL => Group::Hashed(medium >= TWO_GROUPS && odd(name)),
                Unit::Package(_) => Group::Rest,
                _ => Group::Base,
            };
            let (sum, units) = groups.entry(group).or_default();
            *sum += bytes;
            units.push(unit);
        }
        // The rest comes last: only when the others have joined it is known whether it is large enough.
        for group in [Group::Hashed(true), Group::Hashed(false)] {
            join(&mut groups, &group, Group::Rest);
        }
        join(&mut groups, &Group::Rest, Group::Base);
        join(&mut groups, &Group::Base, Group::Rest);
        Self::numbered(groups)
    }

    fn numbered(groups: BTreeMap<Group<'_>, (u64, Vec<&Unit>)>) -> Self {
        let at = |wanted: Group<'_>| groups.keys().position(|group| *group == wanted);
        // One of the two may have joined the other.
        let base = at(Group::Base).or(at(Group::Rest)).unwrap_or(0);
        let rest = at(Group::Rest).unwrap_or(base);
        let mut split = Self {
            parts: Vec::new(),
            places: BTreeMap::new(),
            base,
            rest,
            // An empty folder among the packages belongs to no package that is known.
            parents: BTreeSet::from([rest]),
        };
        for (number, (group, (bytes, units))) in groups.into_iter().enumerate() {
            for unit in units {
                if matches!(unit, Unit::Package(_)) {
                    split.parents.insert(number);
                }
                if number != split.place(unit) {
                    split.places.insert(unit.clone(), number);
                }
            }
            split.parts.push(Part { name: group.name(), bytes });
        }
        split
    }

    /// The parts, from the bottom; at most [`MAX_PARTS`].
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Whether an entry, given by its path relative to the environment, is in a part. Folders are in each part that holds
    /// something below them, and possibly in others.
    pub fn takes(&self, part: usize, path: &Path, folder: bool) -> bool {
        if self.parts.len() == 1 {
            return true;
        }
        if folder && is_shared(path) {
            let scripts = path.as_os_str() == "bin";
            return part == self.base || if scripts { part == self.rest } else { self.parents.contains(&part) };
        }
        part == self.place(&unit(path, folder))
    }

    fn place(&self, unit: &Unit) -> usize {
        match (self.places.get(unit), unit) {
            (Some(part), _) => *part,
            (None, Unit::Rest | Unit::Package(_) | Unit::Program(_)) => self.rest,
            (None, Unit::Base | Unit::Folder(_)) => self.base,
        }
    }
}

/// A part in the making; the order is that of the layers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group<'a> {
    Base,
    Own(&'a Unit),
    Hashed(bool),
    Rest,
}

impl Group<'_> {
    fn name(&self) -> String {
        match self {
            Self::Base | Self::Own(Unit::Base | Unit::Rest) => "base".to_owned(),
            Self::Rest => "rest".to_owned(),
            Self::Hashed(second) => format!("group-{}", 1 + usize::from(*second)),
            Self::Own(Unit::Package(name) | Unit::Folder(name) | Unit::Program(name)) => name.clone(),
        }
    }
}

impl Sizes {
    /// The largest packages and folders.
    fn own(&self) -> BTreeSet<&Unit> {
        let large = |(unit, bytes): &(&Unit, &u64)| **bytes >= OWN && !matches!(unit, Unit::Program(_));
        let mut candidates: Vec<(&Unit, &u64)> = self.units.iter().filter(large).collect();
        candidates.sort_by_key(|(unit, bytes)| (std::cmp::Reverse(**bytes), *unit));
        candidates.into_iter().take(OWN_COUNT).map(|(unit, _)| unit).collect()
    }
}

/// Adds a group that is too small to another one.
fn join<'a>(groups: &mut BTreeMap<Group<'a>, (u64, Vec<&'a Unit>)>, small: &Group<'a>, other: Group<'a>) {
    if groups.len() > 1
        && groups.contains_key(&other)
        && groups.get(small).is_some_and(|(bytes, _)| *bytes < LEAST)
        && let Some((bytes, units)) = groups.remove(small)
    {
        let (sum, all) = groups.entry(other).or_default();
        *sum += bytes;
        all.extend(units);
    }
}

/// Folders that parts share: those on the way to packages and scripts.
fn is_shared(path: &Path) -> bool {
    let names: Vec<&OsStr> = path.components().map(Component::as_os_str).take(4).collect();
    match names.as_slice() {
        [first] => *first == "bin" || *first == "lib",
        [lib, python] => *lib == "lib" && is_python(python),
        [lib, python, site] => *lib == "lib" && is_python(python) && *site == "site-packages",
        _ => false,
    }
}

fn is_python(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with("python")
}

fn unit(path: &Path, folder: bool) -> Unit {
    let mut names = path.components().map(Component::as_os_str);
    let (first, second, third, fourth) = (names.next(), names.next(), names.next(), names.next());
    match (first, second, third, fourth) {
        (Some(lib), Some(python), Some(site), Some(name)) if lib == "lib" && is_python(python) && site == "site-packages" => {
            Unit::Package(package(name))
        }
        (Some(bin), Some(name), None, None) if bin == "bin" && !folder => Unit::Program(name.to_string_lossy().into_owned()),
        (Some(top), ..) if top == "lib" || top == "bin" => Unit::Base,
        (Some(top), more, ..) if more.is_some() || folder => Unit::Folder(top.to_string_lossy().into_owned()),
        _ => Unit::Rest,
    }
}

/// What an entry of site-packages belongs to: `numpy`, `numpy.libs` and `numpy-2.1.0.dist-info` are one package.
fn package(entry: &OsStr) -> String {
    let entry = entry.to_string_lossy();
    let end = entry.find(['-', '.']).filter(|end| *end > 0).unwrap_or(entry.len());
    entry[..end].to_ascii_lowercase()
}

/// A coin that always falls alike for one name.
fn odd(name: &str) -> bool {
    Sha256::digest(name.as_bytes())[0] % 2 == 1
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
