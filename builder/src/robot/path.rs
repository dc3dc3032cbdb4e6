//! Paths as robot files write them, joined the way rcc joins them, and kept inside the context.

use std::path::{Component, Path, PathBuf};

/// `folder/part` with `.` and `..` resolved by their letters, as Go's `filepath.Join` does it; an absolute `part` lands below
/// `folder` too. `None` when the result leaves the context.
pub(crate) fn join(folder: &Path, part: &str) -> Option<PathBuf> {
    let mut path = PathBuf::new();
    for component in folder.components().chain(Path::new(part).components()) {
        match component {
            Component::Normal(name) => path.push(name),
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn joins_as_rcc_does() {
        for (folder, part, joined) in [
            ("", "conda.yaml", Some("conda.yaml")),
            ("a", "../conda.yaml", Some("conda.yaml")),
            ("a/b", "./../c//d.yaml", Some("a/c/d.yaml")),
            ("a", "/etc/passwd", Some("a/etc/passwd")),
            ("", "..", None),
            ("a", "../../x", None),
            ("a", "x/../../../y", None),
            ("a", ".", Some("a")),
            ("", "", Some("")),
        ] {
            assert_eq!(join(Path::new(folder), part), joined.map(PathBuf::from), "{folder} + {part}");
        }
    }

    proptest! {
        #[test]
        fn never_leaves_the_context(part in "[a./]{0,24}") {
            if let Some(path) = join(Path::new("x/y"), &part) {
                prop_assert!(path.components().all(|component| matches!(component, Component::Normal(_))));
            }
        }
    }
}
