//! What each of our layers holds, and writing one to a file.
//!
//! Invariant: only names, contents and executable bits of the given folders reach a layer. Nothing in them is executed or
//! followed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use robotimage_crds::reason::Reason;
use robotimage_layer::{Codec, Inspect, Layer, LayerBuilder, ModePolicy, Progress, WriteOptions};

use super::split::Split;
use super::{APP, HOME};
use crate::failure::Failure;
use crate::leak::{Blocks, Finder};

/// Where the launcher is in the image; it has rcc's name, because the entrypoint says so.
pub const LAUNCHER_PATH: &str = "/usr/local/bin/rcc";
/// Where the real rcc is; the launcher looks for it there.
pub const RCC_PATH: &str = "/usr/local/bin/rcc-real";

/// rcc and the launcher, and the base's passwd with the image's user in it where the base has none with that id.
pub fn rcc(rcc: &Path, launcher: &Path, passwd: Option<&str>) -> LayerBuilder {
    let mut layer = LayerBuilder::new();
    layer.file_from(LAUNCHER_PATH, launcher, 0o755).file_from(RCC_PATH, rcc, 0o755);
    if let Some(passwd) = passwd {
        layer.file("/etc/passwd", passwd, 0o644);
    }
    layer
}

/// The base's passwd plus a line for the image's user; `None` when the base knows the id. cgo programs such as rcc 17
/// end at once under an id without a line.
pub fn passwd(base: Option<&str>, user: &str) -> Option<String> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, "0"));
    let known = base.unwrap_or_default().lines().any(|line| line.split(':').nth(2) == Some(uid));
    if known {
        return None;
    }
    let mut text = base.unwrap_or_default().to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Some(text + &format!("robot:x:{uid}:{gid}::{HOME}:/bin/sh\n"))
}

/// One part of the sealed environment at the path it was resolved at. The first one hides what the base has there.
pub fn environment(tree: &Path, sealed: &str, split: &Arc<Split>, part: usize) -> Result<LayerBuilder, Failure> {
    let mut layer = LayerBuilder::new();
    if part == 0 {
        layer.opaque(sealed);
    }
    let split = Arc::clone(split);
    let taken = move |path: &Path, folder: bool| split.takes(part, path, folder);
    layer
        .tree(tree, sealed, ModePolicy::Environment, Box::new(taken))
        .map_err(|error| failure(&error, Reason::InternalError))?;
    Ok(layer)
}

/// The robot's code.
#[derive(Clone, Debug)]
pub struct Code<'a> {
    /// The context's folder.
    pub source: &'a Path,
    /// The artifacts folder, relative to the context; `None` when it is outside of the context, or holds code.
    pub artifacts: Option<PathBuf>,
    /// Files that are left out, relative to the context.
    pub left_out: Vec<PathBuf>,
    /// Files that rcc would change at its start.
    pub fixed: Vec<Fixed>,
}

/// A file as rcc would make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Relative to the context.
    pub path: String,
    /// New content; `None` for what is on disk.
    pub content: Option<Vec<u8>>,
    /// Whether it may be executed.
    pub executable: bool,
}

/// The robot's code, writable for group 0, with an empty artifacts folder.
pub fn code(code: &Code<'_>) -> Result<LayerBuilder, Failure> {
    let mut layer = LayerBuilder::new();
    layer.opaque(APP).dir(HOME, 0o775);
    let artifacts = code.artifacts.clone();
    let elsewhere: Vec<PathBuf> = code
        .left_out
        .iter()
        .cloned()
        .chain(code.fixed.iter().map(|fixed| PathBuf::from(&fixed.path)))
        .collect();
    let source = code.source.to_owned();
    let taken = move |path: &Path, folder: bool| {
        !elsewhere.iter().any(|other| other == path) && is_taken(&source, path, folder, artifacts.as_deref())
    };
    layer
        .tree(code.source, APP, ModePolicy::Code, Box::new(taken))
        .map_err(|error| failure(&error, Reason::SourceRejected))?;
    if let Some(artifacts) = code.artifacts.as_ref().and_then(|path| path.to_str()) {
        layer.dir(&format!("{APP}/{artifacts}"), 0o775);
    }
    for fixed in &code.fixed {
        let (path, mode) = (format!("{APP}/{}", fixed.path), if fixed.executable { 0o775 } else { 0o664 });
        match &fixed.content {
            Some(content) => layer.file(&path, content.clone(), mode),
            None => layer.file_from(&path, code.source.join(&fixed.path), mode),
        };
    }
    Ok(layer)
}

/// The same rule as [`crate::source::LocalSource`]: no `.git`, nothing in the artifacts folder, no folder without files.
fn is_taken(source: &Path, path: &Path, folder: bool, artifacts: Option<&Path>) -> bool {
    if path.file_name().is_some_and(|name| name == ".git") || (folder && artifacts == Some(path)) {
        return false;
    }
    !folder || has_content(source, path, artifacts)
}

fn has_content(source: &Path, folder: &Path, artifacts: Option<&Path>) -> bool {
    // A folder that cannot be listed is taken, so that the layer's own walk names it in its error.
    let Ok(listed) = std::fs::read_dir(source.join(folder)) else {
        return true;
    };
    listed.flatten().any(|entry| {
        let kind = entry.file_type();
        let is_folder = kind.as_ref().is_ok_and(std::fs::FileType::is_dir);
        is_taken(source, &folder.join(entry.file_name()), is_folder, artifacts)
    })
}

/// How layers are written.
pub struct Spool<'a> {
    /// Folder for the files.
    pub folder: &'a Path,
    /// Compression.
    pub codec: Codec,
    /// What must be in no layer.
    pub secrets: Arc<Finder>,
    /// Raised to end the work.
    pub cancel: Arc<AtomicBool>,
    /// Told after each block.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl std::fmt::Debug for Spool<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spool")
            .field("folder", &self.folder)
            .field("codec", &self.codec)
            .finish_non_exhaustive()
    }
}

/// A layer that is to be written.
#[derive(Debug)]
pub struct Draft {
    /// Name of its file.
    pub name: String,
    /// What it holds.
    pub layer: LayerBuilder,
    /// What a bad name or entry in it means.
    pub blame: Reason,
    /// The folder that it is made from, where a secret in it is looked for.
    pub root: Option<PathBuf>,
}

impl Spool<'_> {
    /// Writes a layer to its file.
    pub fn write(&self, draft: Draft) -> Result<(Layer, PathBuf), Failure> {
        let path = self.folder.join(&draft.name);
        let file = std::fs::File::create(&path).map_err(|error| Failure::io("write", &path, &error))?;
        let progress = self.progress.clone();
        let blocks = (!self.secrets.is_empty()).then(|| Blocks::new(Arc::clone(&self.secrets)));
        let options = WriteOptions {
            cancel: Some(Arc::clone(&self.cancel)),
            on_progress: progress.map(|tell| Box::new(move |at: Progress| tell(at)) as Box<dyn Fn(Progress) + Send + Sync>),
            inspect: blocks.map(|blocks| Box::new(move |number, block: &[u8]| blocks.is_clean(number, block)) as Box<Inspect>),
            ..WriteOptions::default()
        };
        let written = draft.layer.write(self.codec, &options, file).map_err(|error| match error {
            robotimage_layer::Error::Refused => self.leak(&draft.name, draft.root.as_deref()),
            error => failure(&error, draft.blame),
        })?;
        if written.skipped.count > 0 {
            tracing::warn!(count = written.skipped.count, first = ?written.skipped.first, "sockets, FIFOs and devices are left out");
        }
        Ok((written, path))
    }

    /// A layer holds a secret: which file of it, looked for only now.
    fn leak(&self, layer: &str, root: Option<&Path>) -> Failure {
        let place = match root.and_then(|root| Some((root, self.secrets.file_in(root)?))) {
            Some((root, path)) => format!("the file {}", path.strip_prefix(root).unwrap_or(&path).display()),
            None => format!("the layer {layer}"),
        };
        let message = format!(
            "{place} holds a credential of a registry that this build uses; remove it, and replace the credential, since others may have read it"
        );
        Failure::new(Reason::SecretLeakDetected, message)
    }
}

/// What an error of the layer writer means; `blame` is for content that no layer can hold.
pub(super) fn failure(error: &robotimage_layer::Error, blame: Reason) -> Failure {
    use robotimage_layer::Error;
    let full = |source: &std::io::Error| matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded);
    let reason = match error {
        Error::Canceled => Reason::Canceled,
        Error::Sink(source) if full(source) => Reason::StorageExceeded,
        Error::InvalidPlacement { .. } | Error::Conflict { .. } | Error::WhiteoutName { .. } | Error::TooDeep { .. } => blame,
        _ => Reason::InternalError,
    };
    Failure::new(reason, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_added_once() {
        let base = "root:x:0:0::/root:/bin/sh";
        assert_eq!(
            passwd(Some(base), "1000:0").as_deref(),
            Some("root:x:0:0::/root:/bin/sh\nrobot:x:1000:0::/home/robot:/bin/sh\n")
        );
        assert_eq!(passwd(Some("node:x:1000:1000::/home/node:/bin/sh\n"), "1000:0"), None);
        assert_eq!(passwd(None, "7").as_deref(), Some("robot:x:7:0::/home/robot:/bin/sh\n"));
        assert_eq!(passwd(Some(base), "0:0"), None);
    }

    fn draft(layer: LayerBuilder) -> Draft {
        Draft {
            name: "layer".to_owned(),
            layer,
            blame: Reason::InternalError,
            root: None,
        }
    }

    /// The names, modes and contents of a layer.
    fn listing(layer: LayerBuilder) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool {
            folder: folder.path(),
            codec: Codec::Gzip,
            secrets: Arc::default(),
            cancel: Arc::default(),
            progress: None,
        };
        let (_, path) = spool.write(draft(layer)).unwrap();
        let bytes = flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap());
        let mut archive = tar::Archive::new(bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                format!("{:o} {}", entry.header().mode().unwrap(), entry.path().unwrap().display())
            })
            .collect()
    }

    #[test]
    fn code_is_writable_for_the_group_and_runs_leave_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("sub/empty")).unwrap();
        std::fs::create_dir_all(root.join("output")).unwrap();
        std::fs::create_dir_all(root.join(".git")).unwrap();
        for (path, content) in [
            ("robot.yaml", "x"),
            ("output/log.html", "x"),
            (".git/HEAD", "x"),
            ("sub/run.sh", "a\r\n"),
        ] {
            std::fs::write(root.join(path), content).unwrap();
        }
        let made = code(&Code {
            source: root,
            artifacts: Some(PathBuf::from("output")),
            left_out: vec![PathBuf::from("hololib.zip")],
            fixed: vec![Fixed {
                path: "sub/run.sh".to_owned(),
                content: Some(b"a\n".to_vec()),
                executable: true,
            }],
        });
        assert_eq!(
            listing(made.unwrap()),
            [
                "755 home/",
                "775 home/robot/",
                "775 home/robot/app/",
                "644 home/robot/app/.wh..wh..opq",
                "775 home/robot/app/output/",
                "664 home/robot/app/robot.yaml",
                "775 home/robot/app/sub/",
                "775 home/robot/app/sub/run.sh",
            ]
        );
    }

    #[test]
    fn rcc_has_its_launcher_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("f");
        std::fs::write(&file, "x").unwrap();
        let entries = listing(rcc(&file, &file, Some("root")));
        for expected in ["755 usr/local/bin/rcc", "755 usr/local/bin/rcc-real", "644 etc/passwd"] {
            assert!(entries.iter().any(|entry| entry == expected), "{entries:?}");
        }
    }

    #[test]
    fn a_layer_with_a_credential_is_refused_and_the_file_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("source");
        std::fs::create_dir_all(root.join("devdata")).unwrap();
        std::fs::write(root.join("robot.yaml"), "x").unwrap();
        std::fs::write(root.join("devdata/env.json"), "{\"auth\": \"cm9ib3Q6b3BlbnNlc2FtZQ==\"}").unwrap();
        let spool = Spool {
            folder: folder.path(),
            codec: Codec::Zstd,
            secrets: Arc::new(Finder::new(["opensesame"])),
            cancel: Arc::default(),
            progress: None,
        };
        let layer = || {
            let code = Code {
                source: &root,
                artifacts: None,
                left_out: Vec::new(),
                fixed: Vec::new(),
            };
            super::code(&code).unwrap()
        };
        for (root, place) in [(Some(root.clone()), "devdata/env.json"), (None, "the layer layer")] {
            let failure = spool.write(Draft { root, ..draft(layer()) }).unwrap_err();
            assert_eq!(failure.reason, Reason::SecretLeakDetected);
            assert!(
                failure.message.contains(place) && !failure.message.contains("opensesame"),
                "{failure}"
            );
        }
        std::fs::write(root.join("devdata/env.json"), "{}").unwrap();
        spool.write(draft(layer())).unwrap();
    }

    #[test]
    fn the_parts_of_an_environment_are_together_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut sizes = crate::image::split::Sizes::default();
        for path in [
            "bin/python",
            "bin/pip",
            "identity.yaml",
            "lib/libz.so",
            "lib/python3.11/os.py",
            "lib/python3.11/site-packages/numpy/core/a.so",
            "lib/python3.11/site-packages/numpy-1.dist-info/RECORD",
            "lib/python3.11/site-packages/lxml/etree.so",
            "lib/python3.11/site-packages/six.py",
            "share/x/y",
        ] {
            let at = folder.path().join(path);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            std::fs::write(&at, path).unwrap();
            // Declared sizes make parts out of small files.
            sizes.add(
                Path::new(path),
                if path.contains("pip") || path.contains("yaml") {
                    1
                } else {
                    40 << 20
                },
            );
        }
        std::fs::create_dir_all(folder.path().join("lib/python3.11/site-packages/empty/more")).unwrap();
        std::os::unix::fs::symlink("python", folder.path().join("bin/python3")).unwrap();
        std::fs::hard_link(folder.path().join("lib/libz.so"), folder.path().join("lib/libz.so.1")).unwrap();
        let environment = |split: Split| {
            let split = Arc::new(split);
            let parts = split.parts().len();
            let list = |part| listing(super::environment(folder.path(), "/opt/e", &split, part).unwrap());
            (0..parts).map(list).collect::<Vec<_>>()
        };
        let parts = environment(Split::of(&sizes));
        assert!(parts.len() > 4, "{parts:?}");
        let whiteout = |entry: &&String| entry.ends_with(".wh..wh..opq");
        let opaque: Vec<usize> = parts.iter().map(|part| part.iter().filter(whiteout).count()).collect();
        assert_eq!(opaque.iter().sum::<usize>(), 1);
        assert_eq!(
            opaque[0], 1,
            "the first part hides the base's folder, the others must not hide the first"
        );
        let files = |part: &Vec<String>| part.iter().filter(|entry| !entry.ends_with('/')).count();
        let mut union: Vec<String> = parts.iter().flatten().cloned().collect();
        union.sort();
        union.dedup();
        let [whole] = environment(Split::whole(0)).try_into().unwrap();
        let mut sorted = whole.clone();
        sorted.sort();
        assert_eq!(union, sorted, "names and modes, those of parents too");
        assert_eq!(parts.iter().map(files).sum::<usize>(), files(&whole), "no file is in two parts");
    }
}
