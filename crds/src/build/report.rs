//! What a build step says at its end. The operator believes a success of `publish`, the facts of `fetch`, and a failure of the
//! container that exited non-zero; from `resolve`, which runs foreign code, only the reasons that packages can cause.

use serde::{Deserialize, Serialize};

use super::{MAX_REPORT_BYTES, PlanKind};
use crate::reason::Reason;

/// One step's last word.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BuildReport {
    /// Version of this contract; 1.
    pub v: u32,
    /// Build id of the plan.
    pub id: String,
    /// Which step speaks.
    pub step: Step,
    /// What it says.
    pub outcome: Outcome,
}

/// The steps, in their order.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// Trusted code over untrusted bytes: source, base facts, keys.
    Fetch,
    /// Untrusted code: package installs.
    Resolve,
    /// Trusted code over untrusted bytes: layers and push.
    Publish,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Fetch, Self::Resolve, Self::Publish];

    /// Name of the step and of its container.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Resolve => "resolve",
            Self::Publish => "publish",
        }
    }

    /// Whether a failure with this reason is believed from this step.
    pub fn may_report(self, reason: Reason) -> bool {
        self != Self::Resolve
            || matches!(
                reason,
                Reason::EnvironmentFileInvalid
                    | Reason::LockRequired
                    | Reason::EnvironmentUnsolvable
                    | Reason::PackageNotFound
                    | Reason::PackageBuildFailed
                    | Reason::PostInstallFailed
                    | Reason::IndexAuthFailed
                    | Reason::IndexUnreachable
                    | Reason::CertificateUntrusted
                    | Reason::ProxyFailed
                    | Reason::OutOfMemory
                    | Reason::StorageExceeded
                    | Reason::SecretLeakDetected
                    | Reason::BuildTimeout
                    | Reason::Canceled
                    | Reason::RccUnavailable
            )
    }
}

/// What a step says.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// Fetch ended well.
    Fetched(Box<Fetched>),
    /// Resolve ended well.
    Resolved(Resolved),
    /// Publish ended well.
    Published(Published),
    /// The step failed.
    Failed(Failure),
}

/// Facts that only fetch knows.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Fetched {
    /// Commit, 40 hexadecimal digits; of a source that is no git repository 64, a SHA-256.
    pub commit: String,
    /// Branch, tag or HEAD by which it was found; otherwise what was hashed.
    pub reference: String,
    /// Hash of the tree at `source.path`.
    pub tree: String,
    /// Author's name, at most 64 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// First line of the message, at most 72 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Digest of the base's platform manifest.
    pub base: String,
    /// rcc's version, for example v19.0.2.
    pub rcc: String,
    /// SHA-256 of rcc's binary, `sha256:…`.
    pub rcc_digest: String,
    /// Digest of the image that rcc was taken from; empty for a download.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rcc_image: String,
    /// The key of the whole build, 64 hexadecimal digits.
    pub build_key: String,
    /// The key of the environment, 64 hexadecimal digits; empty for a robot without one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub environment_key: String,
    /// rcc's blueprint hash, for display.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub blueprint: String,
    /// The build key is the previous image's: the later steps end at once and nothing is pushed.
    #[serde(default)]
    pub noop: bool,
    /// The environment's layers are there already, in the previous image or in the environment cache: resolve ends at once.
    #[serde(default)]
    pub reuse: bool,
    /// What is to be done.
    #[serde(default)]
    pub plan: PlanKind,
    /// What the environment cache said: hit, miss, or bad, and why; empty when it was not asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cache: String,
}

/// Facts of resolve. Made beside foreign code: shown, never decided on.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Resolved {
    /// Number of installed packages.
    #[serde(default)]
    pub packages: i64,
}

/// What publish made.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Digest of the manifest, read back from the registry.
    pub digest: String,
    /// Bytes of all layers, compressed.
    pub size: i64,
    /// Bytes sent.
    pub uploaded: i64,
    /// The layers by role.
    pub layers: Vec<LayerReport>,
    /// Number of installed packages: counted from the environment, or what was said of it where it is taken over; 0 when that
    /// is not known.
    #[serde(default)]
    pub packages: i64,
    /// Fetch had said that there is nothing to do; the digest is the previous image's.
    #[serde(default)]
    pub noop: bool,
}

/// Layers of one role. Short names: the whole report fits one KiB.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerReport {
    /// base, rcc, environment, home or code.
    pub role: String,
    /// Number of layers.
    pub count: u32,
    /// Compressed bytes.
    pub size: i64,
    /// Bytes of it that were sent.
    pub up: i64,
}

/// Why a step failed.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// A name of [`Reason`].
    pub reason: String,
    /// What failed, where, and what to do.
    pub message: String,
    /// Seconds that the other side asked us to wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// Last lines of the child's output, secrets replaced; cut to what fits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tail: String,
}

/// Why a termination message is no report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportError {
    /// There is none.
    Empty,
    /// It is longer than a report can be, or not one at all.
    Malformed(String),
    /// It belongs to another build.
    WrongBuild,
    /// It speaks for another step.
    WrongStep,
}

impl std::fmt::Display for ReportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("the step left no report"),
            Self::Malformed(why) => write!(f, "the step's report cannot be read: {why}"),
            Self::WrongBuild => f.write_str("the report carries the id of another build"),
            Self::WrongStep => f.write_str("the report speaks for another step"),
        }
    }
}

impl std::error::Error for ReportError {}

impl BuildReport {
    /// A report of this step.
    pub fn new(id: &str, step: Step, outcome: Outcome) -> Self {
        Self {
            v: 1,
            id: id.to_owned(),
            step,
            outcome,
        }
    }

    /// The termination message: JSON of at most [`MAX_REPORT_BYTES`]. What can be cut (the tail first, from its front, then
    /// the message, the author and the commit's first line) is cut until it fits.
    pub fn to_message(&self) -> String {
        let mut report = self.clone();
        loop {
            let text = serde_json::to_string(&report).expect("invariant: a report is plain data");
            let Some(excess) = text.len().checked_sub(MAX_REPORT_BYTES).filter(|excess| *excess > 0) else {
                return text;
            };
            // One byte becomes at most six in JSON: a sixth never cuts more than is needed.
            let excess = excess / 6;
            let shortened = match &mut report.outcome {
                Outcome::Failed(failure) => {
                    cut_front(&mut failure.tail, excess) || cut_back(&mut failure.message, excess) || cut_back(&mut failure.reason, excess)
                }
                Outcome::Fetched(facts) => {
                    cut_back(&mut facts.message, excess)
                        || cut_back(&mut facts.author, excess)
                        || cut_back(&mut facts.cache, excess)
                        || cut_back(&mut facts.reference, excess)
                }
                Outcome::Published(facts) => facts.layers.pop().is_some(),
                Outcome::Resolved(_) => false,
            };
            if !shortened {
                return text;
            }
        }
    }

    /// Reads a termination message, and checks that it is this step's of this build.
    pub fn from_message(text: &str, id: &str, step: Step) -> Result<Self, ReportError> {
        if text.is_empty() {
            return Err(ReportError::Empty);
        }
        if text.len() > MAX_REPORT_BYTES {
            return Err(ReportError::Malformed(format!(
                "{} bytes, at most {MAX_REPORT_BYTES} are a report",
                text.len()
            )));
        }
        let report: Self = serde_json::from_str(text).map_err(|error| ReportError::Malformed(error.to_string()))?;
        if report.v != 1 {
            return Err(ReportError::Malformed(format!("version {} is not known", report.v)));
        }
        if report.id != id {
            return Err(ReportError::WrongBuild);
        }
        let fits = matches!(
            (&report.outcome, step),
            (Outcome::Failed(_), _)
                | (Outcome::Fetched(_), Step::Fetch)
                | (Outcome::Resolved(_), Step::Resolve)
                | (Outcome::Published(_), Step::Publish)
        );
        if report.step != step || !fits {
            return Err(ReportError::WrongStep);
        }
        Ok(report)
    }
}

/// Drops at least `bytes` from the end, at a character's border; false when there was nothing left.
fn cut_back(text: &mut String, bytes: usize) -> bool {
    if text.is_empty() {
        return false;
    }
    let mut end = text.len().saturating_sub(bytes.max(1));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    true
}

/// Drops at least `bytes` from the front, at a character's border; false when there was nothing left.
fn cut_front(text: &mut String, bytes: usize) -> bool {
    if text.is_empty() {
        return false;
    }
    let mut start = bytes.max(1).min(text.len());
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.drain(..start);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn failure(message: &str, tail: &str) -> BuildReport {
        let failure = Failure {
            reason: "PackageNotFound".to_owned(),
            message: message.to_owned(),
            retry_after: None,
            tail: tail.to_owned(),
        };
        BuildReport::new(ID, Step::Resolve, Outcome::Failed(failure))
    }

    #[test]
    fn a_report_reads_back() {
        let report = failure("no such package", "line 1\nline 2");
        assert_eq!(BuildReport::from_message(&report.to_message(), ID, Step::Resolve), Ok(report));
    }

    #[test]
    fn a_long_report_keeps_its_message_and_the_end_of_its_tail() {
        let report = failure("no such package", &format!("{}the end", "ä\n\u{1}".repeat(2000)));
        let text = report.to_message();
        assert!(text.len() <= MAX_REPORT_BYTES);
        let read = BuildReport::from_message(&text, ID, Step::Resolve).unwrap();
        let Outcome::Failed(read) = read.outcome else { panic!("a failure") };
        assert_eq!(read.message, "no such package");
        assert!(read.tail.ends_with("the end"));
        let text = failure(&"\"".repeat(5000), "").to_message();
        assert!(text.len() <= MAX_REPORT_BYTES && BuildReport::from_message(&text, ID, Step::Resolve).is_ok());
    }

    #[test]
    fn the_largest_success_fits() {
        let layers = ["base", "rcc", "environment", "home", "code"]
            .map(|role| LayerReport {
                role: role.to_owned(),
                count: 12,
                size: i64::MAX,
                up: i64::MAX,
            })
            .to_vec();
        let published = Published {
            digest: format!("sha256:{}", "f".repeat(64)),
            size: i64::MAX,
            uploaded: i64::MAX,
            layers: layers.clone(),
            packages: i64::MAX,
            noop: false,
        };
        let report = BuildReport::new(ID, Step::Publish, Outcome::Published(published));
        let Outcome::Published(read) = BuildReport::from_message(&report.to_message(), ID, Step::Publish).unwrap().outcome else {
            panic!("published")
        };
        assert_eq!(read.layers, layers);
    }

    #[test]
    fn what_is_no_report_is_said() {
        let text = failure("x", "").to_message();
        let read = |text: &str, id: &str, step| BuildReport::from_message(text, id, step).unwrap_err();
        assert_eq!(read("", ID, Step::Resolve), ReportError::Empty);
        assert_eq!(read(&text, "other", Step::Resolve), ReportError::WrongBuild);
        assert_eq!(read(&text, ID, Step::Publish), ReportError::WrongStep);
        assert!(matches!(read(&text[..40], ID, Step::Resolve), ReportError::Malformed(_)));
        assert!(matches!(read(&" ".repeat(1025), ID, Step::Resolve), ReportError::Malformed(_)));
        let forged = BuildReport::new(ID, Step::Resolve, Outcome::Published(Published::default())).to_message();
        assert_eq!(read(&forged, ID, Step::Resolve), ReportError::WrongStep);
    }
}
