//! A git server: the real `git http-backend` behind our own HTTP(S) server, with a password for each repository.
//!
//! Invariant: repositories are plain folders, so whoever knows the folder can make commits while the server runs in
//! another process; a commit made twice from the same words has the same id.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::TryStreamExt;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::error::{Error, Result};
use crate::process::{self, run};
use crate::secret::Login;
use crate::site::Site;
use crate::web::Server;

/// In a bare repository: the login that reading needs.
const LOGIN_FILE: &str = "testbed-login.json";

/// How to serve.
#[derive(Debug, Clone, Default)]
pub struct GitOptions {
    /// Tells the servers of one site apart, and names the folder of repositories.
    pub name: String,
    /// A fixed port, or a free one.
    pub port: Option<u16>,
    /// With a certificate of the site's authority.
    pub tls: bool,
}

/// A running git server; dropping it ends it.
#[derive(Debug)]
pub struct GitServer {
    root: GitRoot,
    server: Server,
}

/// The folder of a server's repositories and the URL under which they are served.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct GitRoot {
    /// Bare repositories, `NAME.git`.
    pub folder: PathBuf,
    /// `https://ip:port`.
    pub url: String,
}

/// One bare repository.
#[derive(Debug, Clone)]
pub struct GitRepo {
    folder: PathBuf,
    url: String,
}

impl GitServer {
    /// Starts one.
    pub fn start(site: &Site, options: &GitOptions) -> Result<Self> {
        let folder = site.folder.join(format!("git-{}", options.name));
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let tls = if options.tls {
            Some(site.certificate(&format!("git-{}", options.name))?)
        } else {
            None
        };
        let root = folder.clone();
        let router = Router::new().fallback(move |request: Request| {
            let root = root.clone();
            async move { serve(&root, request).await }
        });
        let server = Server::start(&format!("{}:{}", site.ip, options.port.unwrap_or(0)), tls, router)?;
        Ok(Self {
            root: GitRoot { folder, url: server.url() },
            server,
        })
    }

    /// Folder and URL.
    pub fn root(&self) -> &GitRoot {
        &self.root
    }

    /// Requests, faults, stop and start.
    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    /// See [`GitRoot::create`].
    pub fn create(&self, name: &str, login: Option<&Login>) -> Result<GitRepo> {
        self.root.create(name, login)
    }
}

impl GitRoot {
    /// A new, empty repository whose branch is `main`; with a login it is private.
    pub fn create(&self, name: &str, login: Option<&Login>) -> Result<GitRepo> {
        let folder = self.folder.join(format!("{name}.git"));
        crate::cache::remove(&folder)?;
        let mut init = Command::new("git");
        init.args(["init", "--quiet", "--bare", "--initial-branch=main"]).arg(&folder);
        run("new git repository", &mut init)?;
        // Fetching one commit by its id is what hosts allow and the backend by default does not.
        let repo = self.open(name);
        repo.git(&["config", "uploadpack.allowAnySHA1InWant", "true"])?;
        if let Some(login) = login {
            repo.protect(login)?;
        }
        Ok(repo)
    }

    /// `ip:port`, as credentials name it.
    pub fn host(&self) -> String {
        self.url
            .split_once("://")
            .map_or_else(|| self.url.clone(), |(_, host)| host.to_owned())
    }

    /// A repository that is there.
    pub fn open(&self, name: &str) -> GitRepo {
        GitRepo {
            folder: self.folder.join(format!("{name}.git")),
            url: format!("{}/{name}.git", self.url),
        }
    }
}

impl GitRepo {
    /// What goes into `spec.source.git.url`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it has been created.
    pub fn exists(&self) -> bool {
        self.folder.join("HEAD").exists()
    }

    /// From now on reading needs this login.
    pub fn protect(&self, login: &Login) -> Result<()> {
        let path = self.folder.join(LOGIN_FILE);
        let text = serde_json::to_vec(login).expect("invariant: plain data");
        fs::write(&path, text).map_err(Error::io("write", &path))
    }

    /// Adds or replaces files on branch `main`; gives the commit's id.
    pub fn commit(&self, files: &[(&str, &[u8])], message: &str) -> Result<String> {
        self.commit_to("main", files, &[], message)
    }

    /// Adds or replaces files (mode 0755 when they start with `#!`) and removes others on a branch.
    pub fn commit_to(&self, branch: &str, files: &[(&str, &[u8])], removed: &[&str], message: &str) -> Result<String> {
        let mut stream = Vec::new();
        let parent = self.id(branch).ok();
        // Fixed author and time: the id depends on content, message and parent alone.
        let who = "A. Developer <developer@example.com> 1700000000 +0000";
        let text = message.as_bytes();
        stream.extend(format!("commit refs/heads/{branch}\nauthor {who}\ncommitter {who}\ndata {}\n", text.len()).bytes());
        stream.extend(text);
        if let Some(parent) = parent {
            stream.extend(format!("\nfrom {parent}").bytes());
        }
        for path in removed {
            stream.extend(format!("\nD {path}").bytes());
        }
        for (path, content) in files {
            let mode = if content.starts_with(b"#!") { "100755" } else { "100644" };
            stream.extend(format!("\nM {mode} inline {path}\ndata {}\n", content.len()).bytes());
            stream.extend(*content);
        }
        stream.extend(b"\n\ndone\n");
        self.import(&stream)?;
        self.id(branch)
    }

    /// A lightweight tag on a commit.
    pub fn tag(&self, name: &str, commit: &str) -> Result<()> {
        self.git(&["tag", "--force", name, commit]).map(drop)
    }

    /// The commit that a name stands for.
    pub fn id(&self, name: &str) -> Result<String> {
        Ok(self
            .git(&["rev-parse", "--verify", "--quiet", &format!("{name}^{{commit}}")])?
            .trim()
            .to_owned())
    }

    /// Any git command in the repository.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        run("git", self.command().args(args))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("git");
        command
            .arg("--git-dir")
            .arg(&self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command
    }

    fn import(&self, stream: &[u8]) -> Result<()> {
        let failed = |why: String, output: String| Error::Command {
            what: "commit".into(),
            command: format!("git fast-import in {}", self.folder.display()),
            why,
            output,
        };
        let mut command = self.command();
        command.args(["fast-import", "--quiet", "--done", "--date-format=raw"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| failed(format!("could not be run: {error}"), String::new()))?;
        let mut stdin = child.stdin.take().expect("invariant: it is piped");
        let written = stdin.write_all(stream);
        drop(stdin);
        let output = child.wait_with_output().map_err(|error| failed(error.to_string(), String::new()))?;
        if !output.status.success() {
            return Err(failed(
                format!("failed ({})", output.status),
                String::from_utf8_lossy(&output.stderr).into_owned(),
            ));
        }
        written.map_err(|error| failed(error.to_string(), String::new()))
    }
}

async fn serve(root: &Path, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let Some(repository) = path
        .split('/')
        .nth(1)
        .filter(|name| Path::new(name).extension().is_some_and(|suffix| suffix == "git"))
    else {
        return (StatusCode::NOT_FOUND, "no such repository\n").into_response();
    };
    let folder = root.join(repository);
    match allowed(&folder, &request) {
        Ok(true) => {}
        Ok(false) => {
            let realm = [(header::WWW_AUTHENTICATE, "Basic realm=\"testbed\"")];
            return (StatusCode::UNAUTHORIZED, realm, "who are you?\n").into_response();
        }
        Err(why) => return (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
    }
    match backend(root, request).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("git http-backend: {error}\n")).into_response(),
    }
}

fn allowed(folder: &Path, request: &Request) -> Result<bool, String> {
    let bytes = match fs::read(folder.join(LOGIN_FILE)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(format!("{LOGIN_FILE}: {error}\n")),
    };
    let login: Login = serde_json::from_slice(&bytes).map_err(|error| format!("{LOGIN_FILE}: {error}\n"))?;
    let expected = format!("Basic {}", login.basic());
    Ok(request
        .headers()
        .get(header::AUTHORIZATION)
        .is_some_and(|given| given.as_bytes() == expected.as_bytes()))
}

/// git as a path. Looked for by name in a `PATH` that is given, it would be started by copying this process, which takes longer the
/// more this process holds.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| process::find("git").unwrap_or_else(|| "git".into()))
}

/// One request through the CGI program that every git carries.
async fn backend(root: &Path, request: Request) -> std::io::Result<Response> {
    let uri = request.uri().clone();
    let mut command = tokio::process::Command::new(program());
    command.arg("http-backend").env_clear().envs(process::basics());
    command
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REMOTE_ADDR", "testbed");
    command
        .env("PATH_INFO", uri.path())
        .env("QUERY_STRING", uri.query().unwrap_or_default());
    command.env("REQUEST_METHOD", request.method().as_str());
    let headers = [
        (header::CONTENT_TYPE, "CONTENT_TYPE"),
        (header::CONTENT_LENGTH, "CONTENT_LENGTH"),
        (header::CONTENT_ENCODING, "HTTP_CONTENT_ENCODING"),
        (HeaderName::from_static("git-protocol"), "GIT_PROTOCOL"),
    ];
    for (name, variable) in headers {
        if let Some(value) = request.headers().get(name).and_then(|value| value.to_str().ok()) {
            command.env(variable, value);
        }
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("invariant: it is piped");
    let mut stdout = BufReader::new(child.stdout.take().expect("invariant: it is piped"));
    let body = request.into_body().into_data_stream().map_err(std::io::Error::other);
    tokio::spawn(async move {
        // The backend may answer and close before it has read all; that is its right.
        if let Err(error) = tokio::io::copy(&mut StreamReader::new(body), &mut stdin).await {
            tracing::debug!("git http-backend did not read the whole request: {error}");
        }
    });
    let mut response = Response::builder();
    loop {
        let mut line = String::new();
        if (&mut stdout).take(64 << 10).read_line(&mut line).await? == 0 {
            return Err(std::io::Error::other("it ended without an answer"));
        }
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        if name.eq_ignore_ascii_case("status") {
            let code = value.split(' ').next().and_then(|code| code.parse().ok());
            response = response.status(code.unwrap_or(StatusCode::BAD_GATEWAY.as_u16()));
        } else if let Ok(value) = HeaderValue::from_str(value) {
            response = response.header(name, value);
        }
    }
    tokio::spawn(async move { child.wait().await });
    response
        .body(Body::from_stream(ReaderStream::new(stdout)))
        .map_err(std::io::Error::other)
}
