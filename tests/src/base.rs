//! The base image "Debian slim", made with Debian's own tools, as an OCI layout.
//!
//! Invariant: built without a container runtime; the same packages give the same bytes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::image::{Run, write_layout};
use crate::process::run;

const SUITE: &str = "bookworm";
/// What slim images of Debian leave out as well.
const LEFT_OUT: [&str; 4] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];
/// The repository and tag that test registries carry it under.
pub const NAME: &str = "base/debian:bookworm-slim";

/// An OCI layout of Debian with the CA certificates package and nothing else that is not essential.
pub fn debian(cache: &Cache) -> Result<PathBuf> {
    let words = format!("1 {SUITE} {LEFT_OUT:?}");
    let folder = cache.artifact("debian", &[words.as_bytes()], "about 45 s the first time", |out| {
        let tar = out.join("root.tar");
        let mut command = Command::new("mmdebstrap");
        command.args(["--variant=minbase", "--include=ca-certificates"]);
        command.args(LEFT_OUT.map(|pattern| format!("--dpkgopt=path-exclude={pattern}")));
        // mmdebstrap cuts every later time stamp to this one.
        command.arg(SUITE).arg(&tar).env("SOURCE_DATE_EPOCH", "1700000000");
        run("base image", &mut command)?;
        let settings = Run {
            entrypoint: Vec::new(),
            env: vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into()],
            user: String::new(),
        };
        write_layout(&out.join("layout"), &tar, &settings, None)?;
        fs::remove_file(&tar).map_err(Error::io("remove", &tar))
    })?;
    Ok(folder.join("layout"))
}
