//! `RealRegistry`: the real distribution registry as a child process over a temporary folder.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// User `robot`, password `opensesame`; bcrypt at its lowest cost.
const HTPASSWD: &str = "robot:$2b$05$abcdefghijklmnopqrstuuQbLfdQZSxZ9gjhA5V9o8Tyc6aQRO0Qi\n";

/// How the registry is set up.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) password: bool,
    /// Certificate and key in PEM.
    pub(crate) tls: Option<(String, String)>,
}

pub(crate) struct RealRegistry {
    pub(crate) host: String,
    folder: tempfile::TempDir,
    child: Option<Child>,
}

impl RealRegistry {
    /// Starts it and waits until it answers.
    pub(crate) fn start(setup: &Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The registry cannot pick a port itself; nobody else binds this one within the next milliseconds.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: test\n",
            path("data")
        );
        if let Some((certificate, key)) = &setup.tls {
            std::fs::write(path("tls.crt"), certificate).unwrap();
            std::fs::write(path("tls.key"), key).unwrap();
            writeln!(config, "  tls: {{certificate: {}, key: {}}}", path("tls.crt"), path("tls.key")).unwrap();
        }
        if setup.password {
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            writeln!(config, "auth:\n  htpasswd: {{realm: test, path: {}}}", path("htpasswd")).unwrap();
        }
        std::fs::write(path("config.yaml"), config).unwrap();
        let mut registry = Self {
            host: format!("127.0.0.1:{port}"),
            folder,
            child: None,
        };
        registry.up();
        registry
    }

    /// The folder of its storage driver.
    pub(crate) fn storage(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts the process over the same data and port.
    pub(crate) fn up(&mut self) {
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let child = Command::new(binary())
            .arg("serve")
            .arg(self.folder.path().join("config.yaml"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let child = self.child.insert(child);
        let begun = Instant::now();
        while std::net::TcpStream::connect(&self.host).is_err() {
            let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(child.try_wait().unwrap().is_none(), "the registry has ended: {log}");
            assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not answer: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process at once, as a crash would.
    pub(crate) fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        self.down();
    }
}

fn binary() -> PathBuf {
    let given = std::env::var_os("ROBOTIMAGE_REGISTRY_BIN").map(PathBuf::from);
    let path = given.or_else(built);
    match path {
        Some(path) if path.is_file() => path,
        other => panic!("no registry binary at {other:?}: `make parts` builds it, or set ROBOTIMAGE_REGISTRY_BIN to one"),
    }
}

/// The one that the test bed has built: in `bin`, or in a folder of its own that carries a hash of its inputs.
fn built() -> Option<PathBuf> {
    let given = std::env::var_os("ROBOTIMAGE_CACHE").map(PathBuf::from);
    let cache = given.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/robotimage")))?;
    let mut parts: Vec<PathBuf> = std::fs::read_dir(cache.join("parts"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("registry-")))
        .map(|path| path.join("registry"))
        .chain([cache.join("bin/registry")])
        .filter(|path| path.is_file())
        .collect();
    parts.sort_by_key(|path| path.metadata().and_then(|file| file.modified()).ok());
    parts.pop()
}
