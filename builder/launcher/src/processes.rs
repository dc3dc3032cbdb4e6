//! Who is whose child, from /proc.
//!
//! Invariant: only /proc/PID/stat is read, which is there in every kernel; processes that end meanwhile are left out.

use std::fs;
use std::io;

use nix::unistd::Pid;

/// A living process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// Its process group: a terminal signals all of the foreground group at once.
    pub(crate) group: Pid,
}

/// The living children of `parent`.
pub(crate) fn children(parent: Pid) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process that ended since the listing has no file any more; nothing is lost with it.
        let Ok(stat) = fs::read(format!("/proc/{pid}/stat")) else {
            continue;
        };
        if let Some((state, ppid, group)) = parse(&stat)
            && ppid == parent.as_raw()
            && !matches!(state, b'Z' | b'X')
        {
            found.push(Process {
                pid: Pid::from_raw(pid),
                group: Pid::from_raw(group),
            });
        }
    }
    Ok(found)
}

/// State, parent and group of a line `pid (name) state ppid pgrp ...`; the name may hold anything, parentheses too.
fn parse(stat: &[u8]) -> Option<(u8, i32, i32)> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let rest = std::str::from_utf8(&stat[end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Whether whoever started this process made it ignore SIGCHLD, which no `exec` undoes.
pub(crate) fn ignores_sigchld() -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let bit = nix::sys::signal::Signal::SIGCHLD as u32 - 1;
    Ok(ignored >> bit & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_and_newlines_do_not_confuse() {
        let line = b"7 (a) S 1 (\n) R 42 43 43 0 -1 4194304";
        assert_eq!(parse(line), Some((b'R', 42, 43)));
        assert_eq!(parse(b"7 (x) Z 1 7"), Some((b'Z', 1, 7)));
        assert_eq!(parse(b"7 (x"), None);
        assert_eq!(parse(b"7 (x) S"), None);
        assert_eq!(parse(b""), None);
    }

    #[test]
    fn the_own_child_is_found_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let is_listed = || children(Pid::this()).unwrap().iter().any(|c| c.pid == pid);
        assert!(is_listed());
        child.kill().unwrap();
        while fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") S ") {}
        child.wait().unwrap();
        assert!(!is_listed());
    }
}
