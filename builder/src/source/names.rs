//! Which names and links of a foreign tree are let in.
//!
//! Invariant: a path made of accepted names, through accepted links, stays below the folder it starts in.

use gix::bstr::{BStr, ByteSlice as _};

/// Longest path below the context, in bytes; the image puts a few more before it.
pub(super) const MAX_PATH: usize = 3500;
/// Most folders inside each other.
pub(super) const MAX_DEPTH: usize = 128;

/// Why this name is not let in.
pub(super) fn refuse_name(name: &[u8]) -> Option<&'static str> {
    let options = gix::validate::path::component::Options {
        protect_windows: false,
        protect_hfs: true,
        protect_ntfs: true,
    };
    match gix::validate::path::component(name.as_bstr(), None, options) {
        Ok(_) => {}
        Err(gix::validate::path::component::Error::DotGitDir) => return Some("a name that stands for .git; rename it"),
        Err(_) => return Some("a name that is no file name; rename it"),
    }
    if name.contains(&0) {
        Some("a name that is no file name; rename it")
    } else if name.len() > 255 {
        Some("a name longer than 255 bytes; shorten it")
    } else if name.starts_with(b".wh.") {
        Some("a name beginning with .wh., which image layers reserve; rename it")
    } else {
        None
    }
}

/// Why a link with this target, found `depth` folders below the context, is not let in.
///
/// Only leading `..` are accepted: behind another name they could lead through a second link and out of the tree.
pub(super) fn refuse_link(target: &[u8], depth: usize) -> Option<&'static str> {
    const OUT: &str = "a link that leads out of the source folder; copy what it points to, or set source.path to a folder that holds both";
    if target.is_empty() || target.len() > MAX_PATH || target.contains(&0) {
        return Some("a link whose target is no path; remove it");
    }
    if target[0] == b'/' {
        return Some(OUT);
    }
    let mut up = 0;
    let mut named = false;
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if named => return Some("a link that goes up behind a folder's name; write its target without \"name/..\""),
            b".." => up += 1,
            _ => named = true,
        }
    }
    (up > depth).then_some(OUT)
}

/// A path of a foreign tree for a message: escaped, at most 200 characters.
pub(super) fn show(path: &[u8]) -> String {
    let text: String = BStr::new(path).to_str_lossy().escape_debug().collect();
    if text.chars().count() <= 200 {
        return text;
    }
    let head: String = text.chars().take(199).collect();
    format!("{head}…")
}

/// A text of a commit for a status: printable, its first line, at most `limit` bytes.
pub(super) fn first_line(text: &[u8], limit: usize) -> String {
    let lossy = text.to_str_lossy();
    let line = lossy.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut short = String::new();
    for c in line.trim().chars().filter(|c| !c.is_control()) {
        if short.len() + c.len_utf8() > limit {
            break;
        }
        short.push(c);
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "robot.yaml", ".gitignore", "a b", "äöü", "con", "a:b", "-x", ".github"] {
            assert_eq!(refuse_name(good.as_bytes()), None, "{good}");
        }
        for bad in [
            ".git",
            ".GIT",
            ".Git",
            "git~1",
            ".g\u{200c}it",
            "..",
            ".",
            "",
            "a/b",
            "a\0b",
            ".wh.x",
            ".git ",
            ".git.",
            ".git::$INDEX_ALLOCATION",
        ] {
            assert!(refuse_name(bad.as_bytes()).is_some(), "{bad:?}");
        }
        assert!(refuse_name(&[b'a'; 256]).is_some());
        assert_eq!(refuse_name(b"\xff\xfe"), None);
    }

    #[test]
    fn links() {
        for (target, depth, good) in [
            ("a", 0, true),
            ("a/b", 0, true),
            ("./a", 0, true),
            ("../a", 1, true),
            ("../a", 0, false),
            ("../../a", 2, true),
            ("../../a", 1, false),
            ("/etc/passwd", 3, false),
            ("a/../b", 3, false),
            ("a/../../b", 3, false),
            ("..", 1, true),
            (".", 0, true),
            ("", 0, false),
        ] {
            assert_eq!(refuse_link(target.as_bytes(), depth).is_none(), good, "{target} at {depth}");
        }
    }

    #[test]
    fn texts_are_cut_at_characters() {
        assert_eq!(first_line("\n  ünïcode line\nsecond".as_bytes(), 4), "ün");
        assert_eq!(first_line(b"a\x1b[31mb\xff", 64), "a[31mb\u{fffd}");
        assert_eq!(show(b"a\nb\xff"), "a\\nb\u{fffd}");
        assert!(show(&[b'x'; 500]).chars().count() <= 200);
    }
}
