//! The file in which rcc notes who has used a home: `rcccache.yaml`.
//!
//! rcc adds its user at the first start in a home, and then removes a mark twice, with sleeps of a second in all between its
//! tries. A home that knows its user already starts at once. One wrong name more only makes rcc warn of several users.

use std::fs;
use std::io;
use std::path::Path;

/// The file's name in a home of rcc.
pub(crate) const FILE: &str = "rcccache.yaml";
/// What rcc takes for the user's name where the system has none for the id: `USER`, which we set.
pub(crate) const FALLBACK: &str = "robot";
/// Largest passwd that is read, in bytes.
const MAX_PASSWD: u64 = 1 << 20;

/// The file's content for one user.
pub(crate) fn registered(name: &str) -> String {
    let name = serde_json::to_string(name).expect("invariant: a text is JSON");
    format!("credentials: {{}}\nstamps: {{}}\nusers:\n- {name}\n")
}

/// The name that a passwd has for an id.
pub(crate) fn name_of<'a>(passwd: &'a str, uid: &str) -> Option<&'a str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1) == Some(uid) && !name.is_empty()).then_some(name)
    })
}

/// Who rcc will find itself to be when this process starts it.
pub(crate) fn current() -> io::Result<String> {
    let path = Path::new("/etc/passwd");
    let passwd = match fs::metadata(path) {
        Ok(metadata) if metadata.len() <= MAX_PASSWD => fs::read_to_string(path)?,
        Ok(_) => String::new(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let uid = rustix::process::getuid().as_raw().to_string();
    Ok(name_of(&passwd, &uid).unwrap_or(FALLBACK).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n:x:7:7::/:\nbroken\n";
        for (uid, name) in [("0", Some("root")), ("1000", Some("app")), ("7", None), ("10", None), ("", None)] {
            assert_eq!(name_of(passwd, uid), name, "{uid}");
        }
    }

    #[test]
    fn the_file_is_yaml_whatever_the_name() {
        assert_eq!(registered("robot"), "credentials: {}\nstamps: {}\nusers:\n- \"robot\"\n");
        assert!(registered("a: [b\"").contains(r#"- "a: [b\"""#));
    }
}
