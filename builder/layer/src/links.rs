//! The first names of inodes that have several.
//!
//! Invariant: only files with more than one name are remembered, at some 25 to 45 bytes beside the last component of the
//! name. In an environment that is linked to a package cache, that is every file.

use std::collections::HashMap;

/// What a hard link must share with its target beside the inode number: the device, and the mode it got.
type Space = (u64, u32);

/// The first names, by inode.
#[derive(Debug, Default)]
pub(crate) struct Links {
    spaces: Vec<Space>,
    /// Where the name is, by inode and number of its space.
    first: HashMap<(u64, u32), u32>,
    /// For each name the place of its folder, its length and itself; among them folders, each a length and a path.
    names: Vec<u8>,
    /// The folder that was needed last.
    folder: Option<u32>,
}

impl Links {
    /// The first name of the file, in full; `None` when this is the first, which is kept.
    ///
    /// Beyond 4 GiB of names, none is kept, and such files are written whole.
    pub(crate) fn first(&mut self, inode: u64, space: Space, path: &[u8]) -> Option<Vec<u8>> {
        let known = self.spaces.iter().position(|other| *other == space);
        let number = known.unwrap_or_else(|| {
            self.spaces.push(space);
            self.spaces.len() - 1
        });
        let key = (inode, u32::try_from(number).ok()?);
        if let Some(at) = self.first.get(&key) {
            return Some(self.path(*at as usize));
        }
        let (folder, name) = split(path);
        let folder = self.folder(folder)?;
        self.first.insert(key, u32::try_from(self.names.len()).ok()?);
        self.names.extend_from_slice(&folder.to_le_bytes());
        push(&mut self.names, name);
        None
    }

    /// The place of this folder: again that of the last, or a new one.
    fn folder(&mut self, path: &[u8]) -> Option<u32> {
        if let Some(last) = self.folder
            && text(&self.names, last as usize) == path
        {
            return self.folder;
        }
        let at = u32::try_from(self.names.len()).ok()?;
        push(&mut self.names, path);
        self.folder = Some(at);
        self.folder
    }

    fn path(&self, at: usize) -> Vec<u8> {
        let (folder, name) = (&self.names[at..at + 4], text(&self.names, at + 4));
        let folder = u32::from_le_bytes(folder.try_into().expect("invariant: a place is four bytes"));
        match text(&self.names, folder as usize) {
            b"" => name.to_vec(),
            folder => [folder, b"/", name].concat(),
        }
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Adds a text of at most `MAX_PATH` bytes, its length first.
fn push(to: &mut Vec<u8>, text: &[u8]) {
    let length = u16::try_from(text.len()).expect("invariant: paths in the image have at most 4095 bytes");
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(text);
}

fn text(from: &[u8], at: usize) -> &[u8] {
    let start = at + 2;
    let length = u16::from_le_bytes([from[at], from[at + 1]]);
    &from[start..start + usize::from(length)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_name_of_each_inode_in_each_space_is_kept() {
        let mut links = Links::default();
        let (here, there) = ((1, 0o644), (1, 0o755));
        for (inode, space, path, expected) in [
            (7, here, "a", None),
            (7, here, "b/c/d", Some("a")),
            (8, here, "b/c/e", None),
            (7, there, "b/c/f", None),
            (8, here, "b/g", Some("b/c/e")),
            (7, there, "b/c/h", Some("b/c/f")),
            (7, (2, 0o644), "z", None),
            (7, here, "zz", Some("a")),
        ] {
            let found = links.first(inode, space, path.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{path}");
        }
    }
}
