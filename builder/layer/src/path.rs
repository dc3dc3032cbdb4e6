//! Paths inside the image, and the limits that hold for all of them.

/// The most bytes of a path in the image, as in Linux's PATH_MAX without its closing NUL.
pub(crate) const MAX_PATH: usize = 4095;
/// The most directories above an entry: keeps recursion and open directories bounded whatever a tree holds.
pub(crate) const MAX_DEPTH: usize = 256;
/// What layers reserve for deletions.
pub(crate) const WHITEOUT: &[u8] = b".wh.";
/// The entry that hides everything lower layers have in its directory.
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// The components of a path given by a caller, with or without a leading slash; the root has none.
pub(crate) fn components(path: &str) -> Result<Vec<&[u8]>, &'static str> {
    let relative = path.strip_prefix('/').unwrap_or(path);
    if relative.is_empty() {
        return Ok(Vec::new());
    }
    if relative.len() > MAX_PATH {
        return Err("it is longer than 4095 bytes");
    }
    if relative.contains('\0') {
        return Err("it contains a NUL byte");
    }
    let parts: Vec<&[u8]> = relative.split('/').map(str::as_bytes).collect();
    if parts.len() > MAX_DEPTH {
        return Err("it is nested deeper than 256 directories");
    }
    for part in &parts {
        match *part {
            b"" => return Err("it has an empty component"),
            b"." | b".." => return Err("it has a component . or .."),
            part if part.starts_with(WHITEOUT) => {
                return Err("a component begins with .wh., which layers reserve for deletions");
            }
            part if part.len() > 255 => return Err("a component is longer than 255 bytes"),
            _ => {}
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_in_front_are_optional() {
        let expected: Vec<&[u8]> = vec![b"opt", b"rcc"];
        assert_eq!(components("opt/rcc"), Ok(expected.clone()));
        assert_eq!(components("/opt/rcc"), Ok(expected));
        assert_eq!(components("/"), Ok(vec![]));
        assert_eq!(components(""), Ok(vec![]));
    }

    #[test]
    fn what_could_leave_or_confuse_the_image_is_refused() {
        let long_name = "n".repeat(256);
        let long_path = "dir/".repeat(1024) + "f";
        let deep = "d/".repeat(256) + "f";
        for bad in [
            "..",
            "a/../b",
            "./a",
            "a/.",
            "a//b",
            "//a",
            "a/",
            "a\0b",
            ".wh.a",
            "a/.wh..wh..opq/b",
            &long_name,
            &long_path,
            &deep,
        ] {
            assert!(components(bad).is_err(), "{bad:?}");
        }
    }
}
