//! The heads of HTTP/1.1 messages, as little as a proxy needs.
//!
//! Invariant: lines are kept in order and as they were written; only what is asked for is changed.

use super::Door;

/// Longest head that is read, in bytes.
pub(super) const LIMIT: usize = 256 * 1024;

/// First line and headers of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The request or status line.
    pub first: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Reads what stands before the empty line; `None` when it is no HTTP.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut lines = text.split("\r\n");
        let first = lines.next()?.to_owned();
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_owned(), value.trim().to_owned()))
            })
            .collect::<Option<_>>()?;
        Some(Self { first, headers })
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// A header's value.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// Takes a header away.
    pub fn remove(&mut self, name: &str) {
        self.headers.retain(|(other, _)| !other.eq_ignore_ascii_case(name));
    }

    /// Puts a header in place of those of that name.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    /// The status of an answer; 0 when there is none.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// Changes the status of an answer.
    pub fn set_status(&mut self, status: u16) {
        self.first = format!("HTTP/1.1 {status} Changed");
    }

    pub(super) fn length(&self) -> Option<u64> {
        self.get("content-length")?.parse().ok()
    }
}

/// A request as rules see it.
#[derive(Debug, Clone)]
pub struct Request {
    /// By which door it came.
    pub door: Door,
    /// How many came by that door before.
    pub number: usize,
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// All of its head.
    pub head: Head,
}

impl Request {
    pub(super) fn new(door: Door, number: usize, head: Head) -> Self {
        let mut words = head.first.split(' ').map(str::to_owned);
        Self {
            door,
            number,
            method: words.next().unwrap_or_default(),
            target: words.next().unwrap_or_default(),
            head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_changed_and_written() {
        let bytes = b"HTTP/1.1 202 Accepted\r\nLocation: /v2/a\r\nRange: 0-0";
        let mut head = Head::parse(bytes).unwrap();
        assert_eq!((head.status(), head.get("location"), head.length()), (202, Some("/v2/a"), None));
        head.set_status(201);
        head.remove("LOCATION");
        head.set("range", "0-9");
        assert_eq!(head.to_bytes(), b"HTTP/1.1 201 Changed\r\nrange: 0-9\r\n\r\n");
        assert_eq!(Head::parse(b"GET / HTTP/1.1\r\nno colon"), None);
        let request = Request::new(Door::Token, 0, Head::parse(b"GET /token?a=b HTTP/1.1").unwrap());
        assert_eq!((request.method.as_str(), request.target.as_str()), ("GET", "/token?a=b"));
    }
}
