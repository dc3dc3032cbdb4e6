//! What each of our layers holds, and writing one to a file.
//!
//! Invariant: only names, contents and executable bits of the given folders reach a layer. Nothing in them is executed or
//! followed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use robotimage_crds::reason::Reason;
use robotimage_layer::{Codec, Layer, LayerBuilder, ModePolicy, Progress, WriteOptions};

use super::{APP, HOME};
use crate::failure::Failure;

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

/// The sealed environment at the path it was resolved at.
pub fn environment(tree: &Path, sealed: &str) -> Result<LayerBuilder, Failure> {
    let mut layer = LayerBuilder::new();
    layer.opaque(sealed);
    layer
        .tree(tree, sealed, ModePolicy::Environment, Box::new(|_, _| true))
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

impl Spool<'_> {
    /// Writes a layer to a file of this name; what a bad name or entry in it means is `blame`.
    pub fn write(&self, name: &str, layer: LayerBuilder, blame: Reason) -> Result<(Layer, PathBuf), Failure> {
        let path = self.folder.join(name);
        let file = std::fs::File::create(&path).map_err(|error| Failure::io("write", &path, &error))?;
        let progress = self.progress.clone();
        let options = WriteOptions {
            cancel: Some(Arc::clone(&self.cancel)),
            on_progress: progress.map(|tell| Box::new(move |at: Progress| tell(at)) as Box<dyn Fn(Progress) + Send + Sync>),
            ..WriteOptions::default()
        };
        let written = layer.write(self.codec, &options, file).map_err(|error| failure(&error, blame))?;
        if written.skipped.count > 0 {
            tracing::warn!(count = written.skipped.count, first = ?written.skipped.first, "sockets, FIFOs and devices are left out");
        }
        Ok((written, path))
    }
}

/// What an error of the layer writer means; `blame` is for content that no layer can hold.
fn failure(error: &robotimage_layer::Error, blame: Reason) -> Failure {
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

    /// The names, modes and contents of a layer.
    fn listing(layer: LayerBuilder) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool {
            folder: folder.path(),
            codec: Codec::Gzip,
            cancel: Arc::default(),
            progress: None,
        };
        let (_, path) = spool.write("layer", layer, Reason::InternalError).unwrap();
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
}
