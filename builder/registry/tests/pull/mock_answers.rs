//! `MockAnswers`: a server that answers what it is told byte by byte, for bodies and connections that no real registry makes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use robotimage_registry::digest::sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One answer, after which the connection is closed.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    /// What `Content-Length` says; none leaves it out, so that the end of the connection is the end of the body.
    length: Option<usize>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status: 200,
            headers: Vec::new(),
            length: Some(body.len()),
            body,
        }
    }

    pub(crate) fn status(status: u16) -> Self {
        Self { status, ..Self::ok("") }
    }

    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push(format!("{name}: {value}"));
        self
    }

    /// Says another length than it has.
    pub(crate) fn length(mut self, length: Option<usize>) -> Self {
        self.length = length;
        self
    }

    /// Sends the beginning only.
    pub(crate) fn cut(mut self, bytes: usize) -> Self {
        self.body.truncate(bytes);
        self
    }
}

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) range: Option<String>,
}

#[derive(Default)]
struct State {
    /// By path; the last one is given again and again.
    answers: HashMap<String, Vec<Answer>>,
    seen: Vec<Seen>,
}

#[derive(Clone)]
pub(crate) struct MockAnswers {
    pub(crate) host: String,
    state: Arc<Mutex<State>>,
}

impl MockAnswers {
    /// Starts it on a free port of 127.0.0.1. It ends with the test's runtime. What it is not told about is 404.
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            host: listener.local_addr().unwrap().to_string(),
            state: Arc::default(),
        };
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = accepting.clone();
                // A client that hangs up early is what some tests are about.
                tokio::spawn(async move { server.serve(stream).await.ok() });
            }
        });
        server
    }

    /// Answers to requests for a path of the repository `robots/a`, one after the other.
    pub(crate) fn on(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.at(&format!("/v2/robots/a/{path}"), answers);
    }

    /// The same for any path.
    pub(crate) fn at(&self, path: &str, answers: impl IntoIterator<Item = Answer>) {
        self.state
            .lock()
            .unwrap()
            .answers
            .insert(path.to_owned(), answers.into_iter().collect());
    }

    /// Serves a blob.
    pub(crate) fn blob(&self, bytes: &[u8]) {
        self.on(&format!("blobs/{}", sha256(bytes)), [Answer::ok(bytes)]);
    }

    /// Serves a manifest by its digest and as a tag.
    pub(crate) fn manifest(&self, kind: &str, bytes: &[u8], tag: Option<&str>) {
        let answer = Answer::ok(bytes).header("Content-Type", kind);
        for name in [Some(sha256(bytes).to_string()), tag.map(str::to_owned)].into_iter().flatten() {
            self.on(&format!("manifests/{name}"), [answer.clone()]);
        }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    async fn serve(&self, mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.lines();
        let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.split_once(": ").filter(|(key, _)| key.eq_ignore_ascii_case(name)))
                .map(|(_, value)| value.to_owned())
        };
        let seen = Seen {
            path: path.clone(),
            authorization: header("authorization"),
            range: header("range"),
        };
        let answer = {
            let mut state = self.state.lock().unwrap();
            state.seen.push(seen.clone());
            match state.answers.get_mut(&path) {
                Some(answers) if answers.len() > 1 => answers.remove(0),
                Some(answers) => answers[0].clone(),
                None => Answer::status(404),
            }
        };
        let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
        for header in &answer.headers {
            write!(text, "{header}\r\n").unwrap();
        }
        if let Some(length) = answer.length {
            write!(text, "Content-Length: {length}\r\n").unwrap();
        }
        stream.write_all(format!("{text}\r\n").as_bytes()).await?;
        stream.write_all(&answer.body).await?;
        stream.shutdown().await
    }
}
