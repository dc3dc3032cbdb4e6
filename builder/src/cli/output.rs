//! How results and failures look.

use std::collections::BTreeMap;
use std::io::Write as _;

use robotimage_crds::build::LayerReport;
use serde::Serialize;

use super::progress::bytes;
use crate::failure::Failure;

/// What a build made.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Built {
    /// Digest of the manifest.
    pub(super) digest: String,
    /// What to deploy: repository@digest; none when nothing was pushed.
    pub(super) reference: Option<String>,
    /// Bytes of all layers, compressed.
    pub(super) size: u64,
    /// By role.
    pub(super) layers: Vec<Row>,
    /// Key of the environment.
    pub(super) environment_key: Option<String>,
    /// Number of packages in it.
    pub(super) packages: usize,
    /// Whether the environment was there from an earlier build.
    pub(super) environment_cached: bool,
    /// What the environment cache of the registry said; none when it was not asked.
    pub(super) environment_cache: Option<String>,
    /// Packages that differ at every resolve.
    pub(super) not_reproducible: Vec<String>,
    /// Key of the build.
    pub(super) build_key: String,
    /// Digest of the base.
    pub(super) base: String,
    /// Version of rcc.
    pub(super) rcc: String,
    /// Files and folders that were written.
    pub(super) written: Vec<String>,
    /// Names in registries that point at it.
    pub(super) tags: Vec<String>,
}

/// Layers of one role.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Row {
    role: String,
    layers: u32,
    size: u64,
    /// Bytes that were sent to a registry; none when nothing was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    sent: Option<u64>,
}

impl Row {
    /// A row of a report.
    pub(super) fn of(report: LayerReport, pushed: bool) -> Self {
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        Self {
            role: report.role,
            layers: report.count,
            size: number(report.size),
            sent: pushed.then(|| number(report.up)),
        }
    }
}

/// Prints the result.
pub(super) fn built(built: &Built, json: bool) {
    if json {
        print(&to_json(built));
        return;
    }
    let pushed = built.layers.iter().any(|row| row.sent.is_some());
    let heading = if pushed { format!("{:>12}", "SENT") } else { String::new() };
    let mut lines = vec![String::new(), format!("{:<13}{:>7}{:>12}{heading}", "LAYER", "COUNT", "SIZE")];
    for row in &built.layers {
        let sent = match row.sent {
            None => String::new(),
            Some(0) => format!("{:>12}", "reused"),
            Some(sent) => format!("{:>12}", bytes(sent)),
        };
        lines.push(format!("{:<13}{:>7}{:>12}{sent}", row.role, row.layers, bytes(row.size)));
    }
    lines.push(format!("{:<13}{:>7}{:>12}\n", "total", "", bytes(built.size)));
    lines.push(format!("Digest: {}", built.digest));
    lines.extend(built.written.iter().map(|path| format!("Written: {path}")));
    lines.extend(built.tags.iter().map(|tag| format!("Tag: {tag}")));
    match &built.reference {
        Some(reference) => lines.push(format!("Deploy: {reference}")),
        None if built.written.is_empty() => {
            lines.push("Nothing was kept: give --push with --tag, --save FILE, or --output oci:DIR.".to_owned());
        }
        None => {}
    }
    print(&(lines.join("\n") + "\n"));
}

/// The JSON shape of a failure, below the key `error`.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Failed<'a> {
    reason: &'a str,
    owner: &'a str,
    retryable: bool,
    exit_code: u8,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tail: Option<&'a str>,
}

impl<'a> Failed<'a> {
    fn of(failure: &'a Failure) -> BTreeMap<&'static str, Self> {
        let place = failure.place();
        let document = Self {
            reason: failure.reason.as_str(),
            owner: failure.reason.owner().as_str(),
            retryable: failure.reason.retryable(),
            exit_code: failure.reason.exit_code(),
            message: &failure.message,
            advice: failure.advice().1,
            file: place.map(|(file, _, _)| file),
            line: place.map(|(_, line, _)| line),
            column: place.map(|(_, _, column)| column),
            tail: failure.tail.as_deref(),
        };
        BTreeMap::from([("error", document)])
    }
}

/// Prints a failure; its exit code.
pub(super) fn failed(failure: &Failure, json: bool) -> u8 {
    let code = failure.reason.exit_code();
    if json {
        print(&to_json(&Failed::of(failure)));
        return code;
    }
    let (what, advice) = failure.advice();
    let mut lines = vec![format!("error: {what}")];
    lines.extend(advice.map(|advice| format!("  {advice}")));
    lines.push(format!("  reason {}, exit code {code}", failure.reason));
    if let Some(tail) = &failure.tail {
        lines.push("  the last lines of its output:".to_owned());
        lines.extend(last_lines(tail));
    }
    let text = lines.join("\n") + "\n";
    // A closed standard error changes nothing about the failure.
    std::io::stderr().lock().write_all(text.as_bytes()).ok();
    code
}

/// At most 40 lines, each cut to 200 characters: lists of versions have thousands.
fn last_lines(tail: &str) -> Vec<String> {
    let lines: Vec<&str> = tail.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(40);
    lines[first..]
        .iter()
        .map(|line| format!("  | {}", line.chars().take(200).collect::<String>()))
        .collect()
}

pub(super) fn to_json<T: Serialize>(document: &T) -> String {
    let mut text = serde_json::to_string(document).expect("invariant: results are plain data with text keys");
    text.push('\n');
    text
}

/// Writes to standard output. A reader that went away, such as `head`, is no failure.
pub(super) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).ok();
}

#[cfg(test)]
mod tests {
    use robotimage_crds::reason::Reason;

    use super::*;

    /// What programs read: a field that goes or changes its name is seen here.
    #[test]
    fn the_json_shapes_are_these() {
        let report = LayerReport {
            role: "code".to_owned(),
            count: 1,
            size: 2000,
            up: 2000,
        };
        let built = Built {
            digest: "sha256:1".to_owned(),
            reference: Some("r.example.com/a@sha256:1".to_owned()),
            size: 2000,
            layers: vec![Row::of(report, true)],
            environment_key: Some("key".to_owned()),
            packages: 4,
            environment_cached: false,
            environment_cache: Some("miss".to_owned()),
            not_reproducible: vec!["mylib 1.0".to_owned()],
            build_key: "key".to_owned(),
            base: "sha256:2".to_owned(),
            rcc: "v19.0.2".to_owned(),
            written: vec!["image.tar".to_owned()],
            tags: vec!["r.example.com/a:1".to_owned()],
        };
        insta::assert_json_snapshot!(built);
        let message = "conda.yaml:7:5: conda package \"x 1\" does not exist in the channels; correct its name";
        let failure = Failure::new(Reason::PackageNotFound, message).with_tail("last lines");
        insta::assert_json_snapshot!(Failed::of(&failure));
    }

    #[test]
    fn tails_are_short() {
        let tail = format!("first\n\n{}\n{}", "x\n".repeat(60), "y".repeat(5000));
        let lines = last_lines(&tail);
        assert_eq!(lines.len(), 40);
        assert_eq!(lines[39].chars().count(), 204);
        assert_eq!(last_lines("one\n"), ["  | one"]);
    }
}
