//! What the real kstatus makes of objects: the library by which Flux, kpt and others wait for resources.
//!
//! Invariant: nothing here decides; the Go library does.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::parts;

/// Status and message of one object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// `InProgress`, `Failed`, `Current`, `Terminating`, `NotFound` or `Unknown`.
    pub status: String,
    /// What it tells a person.
    pub message: String,
}

/// One verdict for each object, in their order.
pub fn of<T: Serialize>(cache: &Cache, objects: &[T]) -> Result<Vec<Verdict>> {
    let program = parts::kstatus(cache)?;
    let text = serde_json::to_vec(objects).map_err(|error| Error::Other(format!("objects for kstatus: {error}")))?;
    let mut child = Command::new(&program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("start", &program))?;
    // It reads all before it writes, so neither side waits for the other.
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(&text).map_err(Error::io("write to", &program))?;
    }
    let output = child.wait_with_output().map_err(Error::io("wait for", &program))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(Error::Other(format!("kstatus: {}", said.trim())));
    }
    let verdicts: Vec<Verdict> =
        serde_json::from_slice(&output.stdout).map_err(|error| Error::Other(format!("answer of kstatus: {error}")))?;
    if verdicts.len() != objects.len() {
        return Err(Error::Other(format!(
            "kstatus judged {} of {} objects",
            verdicts.len(),
            objects.len()
        )));
    }
    Ok(verdicts)
}
