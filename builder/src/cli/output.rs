//! How results and failures look.

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

/// Prints a failure; its exit code.
pub(super) fn failed(failure: &Failure, json: bool) -> u8 {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        reason: &'a str,
        owner: &'a str,
        retryable: bool,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        tail: Option<&'a str>,
    }
    let code = failure.reason.exit_code();
    if json {
        let document = Document {
            reason: failure.reason.as_str(),
            owner: failure.reason.owner().as_str(),
            retryable: failure.reason.retryable(),
            message: &failure.message,
            tail: failure.tail.as_deref(),
        };
        print(&to_json(&std::collections::BTreeMap::from([("error", document)])));
        return code;
    }
    let (what, advice) = split(&failure.message);
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

/// What is wrong, and what to do: messages put the cure after the last semicolon, beginning with a word.
fn split(message: &str) -> (&str, Option<&str>) {
    let is_word = |text: &str| {
        text.split(' ')
            .next()
            .is_some_and(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
    };
    match message.rsplit_once("; ") {
        Some((what, advice)) if is_word(advice) => (what, Some(advice)),
        _ => (message, None),
    }
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
    use super::*;

    #[test]
    fn advice_has_its_own_line() {
        assert_eq!(split("a: b; c; do d"), ("a: b; c", Some("do d")));
        assert_eq!(split("a"), ("a", None));
        let quoted = "command \"x; sys.exit(3)\" failed";
        assert_eq!(split(quoted), (quoted, None));
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
