//! Images run by runc as a container engine would run them: layers stacked by overlayfs, one process, its output by the
//! line with its time, and its end.
//!
//! Invariant: whatever a container is started with is taken from the image's configuration unless a test says otherwise;
//! no container, mount or folder outlives its value.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::blackhole::{BlackHole, NAME_SERVER};
use crate::error::{Error, Result};
use crate::process::run;
use crate::rootfs::RootFs;
use crate::verify::Image;

/// How long a container that a test waits for may take.
const LIMIT: Duration = Duration::from_mins(1);

/// What differs from the image's own configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Another user and group.
    pub user: Option<(u32, u32)>,
    /// A read-only root with empty writable folders at the paths of the image's label.
    pub read_only: bool,
    /// Arguments in place of the image's Cmd.
    pub args: Option<&'a [&'a str]>,
    /// Command in place of Entrypoint and Cmd.
    pub command: Option<&'a [&'a str]>,
    /// The network; none at all, not even a way out, when absent.
    pub network: Option<&'a BlackHole>,
}

/// A line of output.
#[derive(Debug, Clone)]
pub struct Line {
    /// Since the container was started, the engine's own work included.
    pub at: Duration,
    /// Without its end.
    pub text: String,
}

/// A container that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code.
    pub exit_code: i32,
    /// Both streams, in the order of their arrival.
    pub lines: Vec<Line>,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// All of its output.
    pub fn text(&self) -> String {
        text(&self.lines)
    }

    /// When the first line with `part` came.
    pub fn first(&self, part: &str) -> Option<Duration> {
        self.lines.iter().find(|line| line.text.contains(part)).map(|line| line.at)
    }
}

fn text(lines: &[Line]) -> String {
    lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect()
}

/// A running container; dropping it ends it.
#[derive(Debug)]
pub struct Container {
    id: String,
    bundle: PathBuf,
    /// Dropped after the container was ended; it takes the bundle with it.
    root: RootFs,
    began: Instant,
    process: Child,
    lines: Arc<Mutex<Vec<Line>>>,
    readers: Vec<JoinHandle<()>>,
}

impl Container {
    /// Starts the image on these unpacked layers; bundles are made in `folder`.
    pub fn start(image: &Image, layers: &[PathBuf], folder: &Path, options: Options<'_>) -> Result<Self> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let id = format!("robotimage-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let bundle = folder.join(&id);
        let root = RootFs::mount(layers, &bundle)?;
        let resolver = bundle.join("resolv.conf");
        fs::write(&resolver, format!("nameserver {NAME_SERVER}\n")).map_err(Error::io("write", &resolver))?;
        fs::set_permissions(&resolver, fs::Permissions::from_mode(0o644)).map_err(Error::io("write", &resolver))?;
        let spec = spec(image, &root, &resolver, &id, options)?;
        let path = bundle.join("config.json");
        fs::write(&path, spec.to_string()).map_err(Error::io("write", &path))?;

        let began = Instant::now();
        let mut command = runc(&bundle);
        command.args(["run", "--bundle"]).arg(&bundle).arg(&id);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = crate::process::spawn(command).map_err(Error::io("run (Debian package runc)", "runc"))?;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let out = process.stdout.take().map(|stream| read(stream, began, &lines));
        let err = process.stderr.take().map(|stream| read(stream, began, &lines));
        let readers = out.into_iter().chain(err).collect();
        Ok(Self {
            id,
            bundle,
            root,
            began,
            process,
            lines,
            readers,
        })
    }

    /// Starts an image and waits for its end.
    pub fn run(image: &Image, layers: &[PathBuf], folder: &Path, options: Options<'_>) -> Result<Finished> {
        Ok(Self::start(image, layers, folder, options)?.finish(|_| ())?.0)
    }

    /// Waits for a line with `part`.
    pub fn wait_for(&mut self, part: &str) -> Result<()> {
        while !self.said().iter().any(|line| line.text.contains(part)) {
            if self.ended()?.is_some() || self.began.elapsed() > LIMIT {
                return Err(Error::Other(format!(
                    "the container never said {part:?}; it said:\n{}",
                    text(&self.said())
                )));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Sends a signal to its first process, by name: `TERM`.
    pub fn signal(&self, name: &str) -> Result<()> {
        run("signal to a container", runc(&self.bundle).args(["kill", &self.id, name])).map(drop)
    }

    /// Waits for its end, then hands what it wrote to `look`: a folder with its changed files by their paths in the image.
    pub fn finish<T>(mut self, look: impl FnOnce(&Path) -> T) -> Result<(Finished, T)> {
        let status = loop {
            if let Some(status) = self.ended()? {
                break status;
            }
            if self.began.elapsed() > LIMIT {
                return Err(Error::Other(format!(
                    "the container did not end within {LIMIT:?}; it said:\n{}",
                    text(&self.said())
                )));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let took = self.began.elapsed();
        for reader in self.readers.drain(..) {
            reader
                .join()
                .map_err(|_| Error::Other("the reader of a container's output ended by a panic".to_owned()))?;
        }
        let exit_code = status.code().ok_or_else(|| Error::Other(format!("runc ended with {status}")))?;
        let seen = look(&self.root.upper());
        Ok((
            Finished {
                exit_code,
                lines: self.said(),
                took,
            },
            seen,
        ))
    }

    fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.process.try_wait().map_err(Error::io("wait for", "runc"))
    }

    fn said(&self) -> Vec<Line> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let end = Instant::now() + LIMIT;
        // Again until it worked: one that was only just started may not be known to runc yet.
        while matches!(self.process.try_wait(), Ok(None)) && Instant::now() < end {
            if let Err(error) = run("end of a container", runc(&self.bundle).args(["delete", "--force", &self.id])) {
                tracing::debug!("{error}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// runc with its state beside the bundle, so that containers of others are never seen.
fn runc(bundle: &Path) -> Command {
    let mut command = Command::new("runc");
    command
        .arg("--root")
        .arg(bundle.join("state"))
        .env_clear()
        .envs(crate::process::basics());
    command
}

fn read(stream: impl Read + Send + 'static, began: Instant, lines: &Arc<Mutex<Vec<Line>>>) -> JoinHandle<()> {
    let lines = Arc::clone(lines);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).is_ok_and(|size| size > 0) {
            // A robot may print anything; what is no UTF-8 is shown as well as it can be.
            let text = String::from_utf8_lossy(&bytes).trim_end_matches(['\r', '\n']).to_owned();
            lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Line { at: began.elapsed(), text });
            bytes.clear();
        }
    })
}

fn spec(image: &Image, root: &RootFs, resolver: &Path, id: &str, options: Options<'_>) -> Result<Value> {
    let config = &image.config["config"];
    let words = |name: &str| -> Vec<String> {
        let list = config[name].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let own = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    let args = match options.command {
        Some(command) => own(command),
        None => [words("Entrypoint"), options.args.map_or_else(|| words("Cmd"), own)].concat(),
    };
    let (uid, gid) = options.user.map_or_else(|| user(config["User"].as_str().unwrap_or_default()), Ok)?;
    let mount = |destination: &str, kind: &str, source: &Path, options: &str| {
        let options: Vec<&str> = options.split(',').filter(|option| !option.is_empty()).collect();
        json!({"destination": destination, "type": kind, "source": source, "options": options})
    };
    let mut mounts = vec![
        mount("/proc", "proc", Path::new("proc"), ""),
        mount("/dev", "tmpfs", Path::new("tmpfs"), "nosuid,strictatime,mode=755,size=65536k"),
        mount(
            "/dev/pts",
            "devpts",
            Path::new("devpts"),
            "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620",
        ),
        mount("/dev/shm", "tmpfs", Path::new("shm"), "nosuid,noexec,nodev,mode=1777,size=65536k"),
        mount("/sys", "none", Path::new("/sys"), "rbind,nosuid,noexec,nodev,ro"),
        mount("/etc/resolv.conf", "bind", resolver, "rbind,ro"),
    ];
    if options.read_only {
        // As the kubelet makes an emptyDir: empty, root's, open for everybody.
        mounts.extend(
            image
                .writable()
                .iter()
                .map(|path| mount(path, "tmpfs", Path::new("tmpfs"), "mode=777,nosuid,nodev")),
        );
    }
    let network = options.network.map_or_else(
        || json!({"type": "network"}),
        |network| json!({"type": "network", "path": network.namespace()}),
    );
    Ok(json!({
        "ociVersion": "1.0.2",
        "hostname": "robot",
        "root": {"path": root.path(), "readonly": options.read_only},
        "process": {
            "terminal": false, "user": {"uid": uid, "gid": gid}, "args": args, "env": words("Env"),
            "cwd": config["WorkingDir"].as_str().filter(|path| !path.is_empty()).unwrap_or("/"),
            "noNewPrivileges": true, "capabilities": {},
        },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": format!("/{id}"),
            "namespaces": [{"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, network],
            "maskedPaths": ["/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
        },
    }))
}

fn user(text: &str) -> Result<(u32, u32)> {
    let (uid, gid) = text.split_once(':').unwrap_or((text, "0"));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok((uid, gid)),
        _ => Err(Error::Other(format!("the image's user {text:?} is not numeric"))),
    }
}
