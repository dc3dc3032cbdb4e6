//! What can be done to a request, and to which.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::Door;
use super::head::{Head, Request};
use super::tls::Shown;

/// An answer of the proxy's own.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Headers besides the length.
    pub headers: Vec<(String, String)>,
    /// The body's beginning.
    pub body: Vec<u8>,
    /// So many bytes more, all `x`.
    pub filler: u64,
}

impl Reply {
    /// An empty answer.
    pub fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// One header more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, kind: &str, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.with("content-type", kind)
    }

    /// An OCI error document.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let document = serde_json::json!({"errors": [{"code": code, "message": message}]});
        Self::new(status).body("application/json", document.to_string())
    }
}

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    /// This answer; nothing is done.
    Answer(Reply),
    /// It is done, and this answered.
    DoneThen(Reply),
    /// This status, and the same target at that door.
    Redirect(u16, Door),
    /// The connection is reset; nothing is done.
    Reset,
    /// It is done, and the connection is reset.
    Lost,
    /// Nothing is done or answered, and the connection stays open.
    Stall,
    /// It is done, and the answer comes byte by byte with this pause.
    Drip(Duration),
    /// Nothing is done, and these bytes come back.
    Raw(Bytes),
    /// It is done, and the head of the answer is changed.
    Change(Arc<dyn Fn(&mut Head) + Send + Sync>),
    /// The request's target is changed before it is done.
    Target(Arc<dyn Fn(&str) -> String + Send + Sync>),
    /// Something else happens first.
    First(Arc<dyn Fn() + Send + Sync>),
    /// Something else happens, and this is answered; nothing is done.
    FirstThen(Arc<dyn Fn() + Send + Sync>, Reply),
    /// Only so many bytes of the body reach the registry, then this is answered.
    Part(u64, Reply),
    /// The connection is reset, all others too, and from then on this certificate is shown.
    Certificate(Shown),
}

impl Fault {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Answer(_) => "answer",
            Self::DoneThen(_) => "done, other answer",
            Self::Redirect(..) => "redirect",
            Self::Reset => "reset",
            Self::Lost => "answer lost",
            Self::Stall => "stall",
            Self::Drip(_) => "drip",
            Self::Raw(_) => "raw bytes",
            Self::Change(_) => "changed answer",
            Self::Target(_) => "changed target",
            Self::First(_) => "event before",
            Self::FirstThen(..) => "event and answer",
            Self::Part(..) => "part of the body",
            Self::Certificate(_) => "certificate",
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A fault and the requests that it touches.
#[derive(Clone)]
pub struct Rule {
    /// Whether a request is one of them.
    pub when: Arc<dyn Fn(&Request) -> bool + Send + Sync>,
    /// How many of them more.
    pub times: usize,
    /// What happens to it.
    pub fault: Fault,
}

impl Rule {
    /// The next `times` requests that `when` picks.
    pub fn new(times: usize, fault: Fault, when: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        Self {
            when: Arc::new(when),
            times,
            fault,
        }
    }
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} x {}", self.fault, self.times)
    }
}
