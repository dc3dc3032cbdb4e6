//! The API server's audit log: who asked for what, when, and what came of it.
//!
//! Invariant: only finished requests count; a line that another version of the server writes differently is an error
//! and not a request that was never made.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

use crate::error::{Error, Result};

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// User name, `system:serviceaccount:NAMESPACE:NAME` for pods.
    pub user: String,
    /// User agent, as the client says.
    pub agent: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Plural of the resource, and after a slash the subresource.
    pub resource: String,
    /// Namespace, empty for cluster-wide objects.
    pub namespace: String,
    /// Name, empty for lists and for creations with a generated name.
    pub name: String,
    /// Status of the answer.
    pub code: u16,
    /// When the request came in.
    pub received: Timestamp,
    /// When it was answered.
    pub completed: Timestamp,
}

impl Entry {
    /// Whether it may have changed something.
    pub fn is_write(&self) -> bool {
        matches!(self.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
    }

    /// Whether the server did what was asked.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.code)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct Object {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// Where a log ends now, so that a test reads only what comes after.
pub fn mark(log: &Path) -> Result<u64> {
    Ok(std::fs::metadata(log).map_err(Error::io("read", log))?.len())
}

/// The finished requests after a mark (0: all), oldest first.
pub fn read(log: &Path, mark: u64) -> Result<Vec<Entry>> {
    let mut file = File::open(log).map_err(Error::io("open", log))?;
    file.seek(SeekFrom::Start(mark)).map_err(Error::io("read", log))?;
    let mut entries = Vec::new();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.map_err(Error::io("read", log))?;
        match parse(&line) {
            Ok(entry) => entries.extend(entry),
            // The server may be in the middle of its last line.
            Err(error) if error.is_eof() => break,
            Err(error) => return Err(Error::Other(format!("{}: not an audit event: {error}", log.display()))),
        }
    }
    Ok(entries)
}

/// `None` for stages before the end; a watch ends when it is closed.
fn parse(line: &[u8]) -> serde_json::Result<Option<Entry>> {
    let line: Line = serde_json::from_slice(line)?;
    if line.stage != "ResponseComplete" {
        return Ok(None);
    }
    let Some(object) = line.object_ref else { return Ok(None) };
    let resource = if object.subresource.is_empty() {
        object.resource
    } else {
        format!("{}/{}", object.resource, object.subresource)
    };
    Ok(Some(Entry {
        user: line.user.username,
        agent: line.user_agent,
        verb: line.verb,
        resource,
        namespace: object.namespace,
        name: object.name,
        code: line.response_status.map_or(0, |status| status.code),
        received: line.request_received_timestamp,
        completed: line.stage_timestamp,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"1","stage":"ResponseComplete","requestURI":"/apis/robotimage.dev/v1alpha1/namespaces/finance/robotimages/a/status","verb":"patch","user":{"username":"system:serviceaccount:robotimage:operator","groups":["system:authenticated"]},"sourceIPs":["10.88.0.5"],"userAgent":"robotimage-operator/0.1","objectRef":{"resource":"robotimages","namespace":"finance","name":"a","apiGroup":"robotimage.dev","apiVersion":"v1alpha1","subresource":"status"},"responseStatus":{"metadata":{},"code":200},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z","stageTimestamp":"2026-01-02T03:04:05.100000Z"}"#;

    #[test]
    fn a_request_is_read_with_its_subresource() {
        let entry = parse(PATCH.as_bytes()).unwrap().unwrap();
        assert_eq!((entry.resource.as_str(), entry.code), ("robotimages/status", 200));
        assert!(entry.is_write() && entry.is_success() && entry.completed > entry.received);
    }

    #[test]
    fn unfinished_requests_and_a_half_line_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        let started = PATCH.replace("ResponseComplete", "ResponseStarted");
        std::fs::write(&log, format!("{PATCH}\n{started}\n{}", &PATCH[..100])).unwrap();
        assert_eq!(read(&log, 0).unwrap().len(), 1);
        assert_eq!(read(&log, PATCH.len() as u64 + 1).unwrap(), []);
    }

    #[test]
    fn a_line_of_another_kind_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("audit.log");
        std::fs::write(&log, "{\"level\":\"info\"}\n").unwrap();
        assert!(read(&log, 0).unwrap_err().to_string().contains("not an audit event"));
    }
}
