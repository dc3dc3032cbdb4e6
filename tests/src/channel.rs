//! A small real conda channel: python, pip, setuptools and wheel, made from this machine's CPython.
//!
//! Invariant: the same Python and the same script give the same bytes, so environments solved from it repeat.

use std::path::PathBuf;
use std::process::Command;

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::process::run;

const SCRIPT: &str = include_str!("../parts/conda_channel.py");

/// The channel's folder, to be served by any file server.
pub fn channel(cache: &Cache) -> Result<PathBuf> {
    let question = "import sys; print(sys.version, sys.base_prefix)";
    let python = run("version of Python", Command::new("python3").args(["-c", question]))?;
    cache.artifact(
        "conda-channel",
        &[SCRIPT.as_bytes(), python.as_bytes()],
        "about 8 s the first time",
        |out| {
            let script = out.join("conda_channel.py");
            std::fs::write(&script, SCRIPT).map_err(Error::io("write", &script))?;
            run("conda channel", Command::new("python3").arg(&script).arg(out))?;
            std::fs::remove_file(&script).map_err(Error::io("remove", &script))
        },
    )
}
