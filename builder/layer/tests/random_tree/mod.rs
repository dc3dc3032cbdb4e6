//! Trees made of bytes: the same bytes make the same tree, on disk and as declarations, and say what must be read back.
//! Shared by the differential suite and by the fuzz target over the writer, so that an input of one is one of the other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use robotimage_layer::{LayerBuilder, ModePolicy};

/// Most things in a tree.
const MAX_THINGS: usize = 60;
/// Longest path below the tree's own folder; the layer's limit is 4095 bytes.
const MAX_PATH: usize = 3000;

/// What a reader must find at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    /// `/` between components, none at the end.
    pub(crate) path: Vec<u8>,
    pub(crate) what: What,
    pub(crate) mode: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    /// To the path in the layer that has the content.
    HardLink(Vec<u8>),
}

/// Gives one byte after another, then zeros.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.next(), self.next()]))
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        let mut taken = taken.to_vec();
        taken.resize(count, b'~');
        taken
    }
}

type Parts = Vec<Vec<u8>>;
type Model = BTreeMap<Parts, (What, u32)>;

/// Makes the tree below `root`, an empty folder, and declares the rest. What cannot be made, because a name is taken or a path
/// is too long, is left out. Without `newlines` no name holds one: one reader cuts extended records there.
pub(crate) fn build(root: &Path, bytes: &[u8], newlines: bool) -> (LayerBuilder, Vec<Expected>) {
    let mut bytes = Bytes(bytes);
    let flags = bytes.next();
    let (policy, directory, file) = if flags & 1 == 0 {
        (ModePolicy::Environment, 0o755, 0o644)
    } else {
        (ModePolicy::Code, 0o775, 0o664)
    };
    // At the root of the image, or below folders that nobody declares.
    let place: &[&str] = [&[][..], &["opt"], &["opt", "rcc", "holotree"], &["ä"]][usize::from(flags >> 1) % 4];
    let mut tree = Tree {
        root,
        place: place.iter().map(|part| part.as_bytes().to_vec()).collect(),
        newlines,
        modes: (directory, file),
        directories: vec![Vec::new()],
        files: Vec::new(),
        model: Model::new(),
    };
    let mut builder = LayerBuilder::new();
    builder
        .tree(root, &format!("/{}", place.join("/")), policy, Box::new(|_, _| true))
        .expect("the folder is there");
    for depth in 1..=place.len() {
        let mode = if depth == place.len() { directory } else { 0o755 };
        tree.model.insert(tree.place[..depth].to_vec(), (What::Directory, mode));
    }
    let mut declared = 0;
    while !bytes.0.is_empty() && tree.model.len() < MAX_THINGS {
        let kind = bytes.next() % 8;
        if kind <= 5 {
            tree.thing(kind, &mut bytes);
        } else {
            declared += 1;
            declare(&mut builder, &mut tree.model, declared, &mut bytes);
        }
    }
    (builder, tree.expected())
}

struct Tree<'a> {
    root: &'a Path,
    /// Where the tree is in the image.
    place: Parts,
    newlines: bool,
    /// Of directories, and of files that are not executable.
    modes: (u32, u32),
    /// In the tree.
    directories: Vec<Parts>,
    files: Vec<Parts>,
    model: Model,
}

impl Tree<'_> {
    fn on_disk(&self, parts: &[Vec<u8>]) -> PathBuf {
        parts
            .iter()
            .fold(self.root.to_path_buf(), |path, part| path.join(OsStr::from_bytes(part)))
    }

    fn in_image(&self, parts: &[Vec<u8>]) -> Parts {
        [&self.place, parts].concat()
    }

    fn thing(&mut self, kind: u8, bytes: &mut Bytes<'_>) {
        let parent = bytes.number() % self.directories.len();
        let mut parts = self.directories[parent].clone();
        parts.push(name(bytes, self.newlines));
        let (path, image) = (self.on_disk(&parts), self.in_image(&parts));
        if self.model.contains_key(&image) || parts.concat().len() + parts.len() > MAX_PATH || parts.len() > 200 {
            return;
        }
        let (directory, plain) = self.modes;
        let entry = match kind {
            0 => {
                fs::create_dir(&path).expect("a new folder");
                self.directories.push(parts);
                (What::Directory, directory)
            }
            1..=3 => {
                let content = content(bytes);
                fs::write(&path, &content).expect("a new file");
                let executable = kind == 3;
                // Everything but the owner's execute bit is of no meaning.
                let odd = u32::from(bytes.next()) & 0o066;
                let on_disk = if executable { 0o700 } else { 0o600 } | odd;
                fs::set_permissions(&path, fs::Permissions::from_mode(on_disk)).expect("our own file");
                self.files.push(parts);
                (What::File(content), if executable { plain | 0o111 } else { plain })
            }
            4 => {
                let length = 1 + bytes.number() % 300;
                let target: Vec<u8> = bytes
                    .take(length)
                    .into_iter()
                    .map(|byte| if byte == 0 { b'0' } else { byte })
                    .collect();
                let target = if self.newlines { target } else { without_newlines(target) };
                symlink(OsStr::from_bytes(&target), &path).expect("a new link");
                (What::Symlink(target), 0o777)
            }
            _ => {
                let Some(of) = (!self.files.is_empty()).then(|| &self.files[bytes.number() % self.files.len()]) else {
                    return;
                };
                fs::hard_link(self.on_disk(of), &path).expect("a new name");
                let (_, mode) = self.model[&self.in_image(of)];
                (What::HardLink(self.in_image(of).join(&b'/')), mode)
            }
        };
        self.model.insert(image, entry);
    }

    /// In the order of a layer. Of several names for one file the first has the content.
    fn expected(self) -> Vec<Expected> {
        let mut contents = BTreeMap::new();
        for (parts, (what, _)) in &self.model {
            if let What::File(content) = what {
                contents.insert(parts.join(&b'/'), content.clone());
            }
        }
        let mut first_names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let resolve = |(parts, (what, mode)): (Parts, (What, u32))| {
            let path = parts.join(&b'/');
            let file = match &what {
                What::File(_) => Some(path.clone()),
                What::HardLink(of) => Some(of.clone()),
                What::Directory | What::Symlink(_) => None,
            };
            let what = match file {
                None => what,
                Some(file) => {
                    let first = first_names.entry(file.clone()).or_insert_with(|| path.clone());
                    if *first == path {
                        What::File(contents[&file].clone())
                    } else {
                        What::HardLink(first.clone())
                    }
                }
            };
            Expected { path, what, mode }
        };
        self.model.into_iter().map(resolve).collect()
    }
}

/// Something that is on no disk, in a folder of its own so that nothing conflicts.
fn declare(builder: &mut LayerBuilder, model: &mut Model, number: usize, bytes: &mut Bytes<'_>) {
    let folder = format!("declared-{number}");
    // The letters of UTF-8 are all that a declaration can have.
    let letters = 1 + usize::from(bytes.next()) % 120;
    let name: String = (0..letters)
        .map(|_| ['a', 'ü', '名', '-', ' ', '.'][usize::from(bytes.next()) % 6])
        .collect();
    let name = if matches!(name.as_str(), "." | "..") || name.len() > 255 {
        "n".repeat(255)
    } else {
        name
    };
    let path = format!("/{folder}/{name}");
    let mode = u32::try_from(bytes.number()).expect("16 bits") & 0o7777;
    let parts = vec![folder.clone().into_bytes(), name.into_bytes()];
    model.insert(parts[..1].to_vec(), (What::Directory, 0o755));
    match bytes.next() % 4 {
        0 => {
            let content = content(bytes);
            builder.file(&path, content.clone(), mode);
            model.insert(parts, (What::File(content), mode));
        }
        1 => {
            builder.dir(&path, mode);
            model.insert(parts, (What::Directory, mode));
        }
        2 => {
            let target = "../ü/".repeat(1 + usize::from(bytes.next()));
            builder.symlink(&path, &target);
            model.insert(parts, (What::Symlink(target.into_bytes()), 0o777));
        }
        _ => {
            builder.opaque(&format!("/{folder}"));
            model.insert(vec![folder.into_bytes(), b".wh..wh..opq".to_vec()], (What::File(Vec::new()), 0o644));
        }
    }
}

fn name(bytes: &mut Bytes<'_>, newlines: bool) -> Vec<u8> {
    const ODD: [&str; 12] = ["a", "a.b", "a-b", "A", "b", "-x", " ", "ü", "名前", "a\tb", "...", "\\n"];
    let kind = bytes.next();
    let name = match kind % 4 {
        0 => ODD[usize::from(kind >> 2) % ODD.len()].as_bytes().to_vec(),
        1 => {
            let length = 1 + usize::from(bytes.next()) % 255;
            bytes.take(length)
        }
        2 => vec![b'n'; 1 + usize::from(bytes.next()) % 255],
        // Around the lengths of the header's fields.
        _ => vec![b'e'; [98, 99, 100, 101, 153, 154, 155, 156][usize::from(bytes.next()) % 8]],
    };
    let name: Vec<u8> = name
        .into_iter()
        .map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte })
        .collect();
    let name = if newlines { name } else { without_newlines(name) };
    if name == b"." || name == b".." || name.starts_with(b".wh.") {
        b"dots".to_vec()
    } else {
        name
    }
}

fn without_newlines(text: Vec<u8>) -> Vec<u8> {
    text.into_iter().map(|byte| if byte == b'\n' { b'_' } else { byte }).collect()
}

fn content(bytes: &mut Bytes<'_>) -> Vec<u8> {
    let length = match bytes.next() {
        kind @ 0..=199 => usize::from(kind),
        // Around the records and the buffers.
        kind @ 200..=239 => [511, 512, 513, 1023, 1024, 65_535, 65_536, 65_537][usize::from(kind) % 8],
        _ => bytes.number(),
    };
    let start = bytes.next();
    (0..length)
        .map(|at| start.wrapping_add(u8::try_from(at % 251).expect("less than 251")))
        .collect()
}
