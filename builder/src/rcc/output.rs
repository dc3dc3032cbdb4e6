//! What rcc, micromamba and pip say, and which of our reasons it means.
//!
//! The texts are those of the real programs, recorded under `fixtures/`. What is not known is a package that could not be
//! built, never a success.

mod network;

use network::{index_answer, transport};
use robotimage_crds::reason::Reason;

/// What a failed resolve means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Verdict {
    /// Whatever of the output stands in the message, it is one line and not long: it goes into conditions and to terminals.
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: line(&message.into(), 1000),
        }
    }
}

/// The part of a resolve that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Conda,
    Pip,
    PostInstall,
    Other,
}

/// What the standard error of an rcc that failed means. `code` is its exit status, if it ended by itself.
pub(crate) fn classify(said: &str, code: Option<i32>) -> Verdict {
    // micromamba says no more than "Write failed" when it unpacks onto a full disk.
    let full = [
        "No space left on device",
        "[Errno 28]",
        "Disk quota exceeded",
        "critical libmamba Write failed",
    ];
    if full.iter().any(|words| said.contains(words)) {
        return Verdict::new(
            Reason::StorageExceeded,
            "the volume of the environment is full; give the build more storage",
        );
    }
    let part = part(said);
    if said.contains("signal: killed") {
        let what = match part {
            Part::Conda => "micromamba",
            Part::Pip => "pip",
            Part::PostInstall => "a post-install command",
            Part::Other => "a program",
        };
        return Verdict::new(
            Reason::OutOfMemory,
            format!("{what} was killed from outside, mostly for want of memory; raise build.resources.limits.memory"),
        );
    }
    if let Some(line) = said.lines().find(|line| line.starts_with("panic: ")) {
        return Verdict::new(
            Reason::RccUnavailable,
            format!(
                "rcc crashed ({}); rcc 17 does so for a user without an entry in /etc/passwd: give it one, or use rcc 18 or 19",
                short(line)
            ),
        );
    }
    match part {
        Part::Conda => conda(said),
        Part::Pip => pip(said),
        Part::PostInstall => post_install(said),
        Part::Other if code == Some(5) || said.contains("Failure: yaml:") => {
            let what = said
                .lines()
                .find_map(|line| line.strip_prefix("Failure: "))
                .unwrap_or("it is not valid");
            Verdict::new(
                Reason::EnvironmentFileInvalid,
                format!("rcc cannot read the environment file: {}", short(what)),
            )
        }
        Part::Other if matches!(code, Some(80 | 111 | 113)) => {
            Verdict::new(Reason::RccUnavailable, format!("rcc cannot work here: {}", last(said)))
        }
        Part::Other => Verdict::new(
            Reason::PackageBuildFailed,
            format!("rcc could not make the environment: {}", last(said)),
        ),
    }
}

/// Whether pip found nothing and did not say why: its index may have refused, and only a talkative pip tells.
pub(crate) fn is_ambiguous(said: &str, verdict: &Verdict) -> bool {
    verdict.reason == Reason::PackageNotFound && said.contains("(from versions: none)") && !said.contains("Could not fetch URL")
}

/// The phase that a line of rcc's output begins, for people.
pub(crate) fn phase(line: &str) -> Option<String> {
    let (_, rest) = line.split_once("Progress: ")?;
    let text = rest.split_once("s  ").map_or(rest, |(_, text)| text);
    let text = text.split(" [").next().unwrap_or(text).trim().trim_end_matches('.');
    let interesting = [
        "micromamba",
        "pip install phase",
        "uv install phase",
        "Post install",
        "Activate",
        "Record",
        "Restore space",
    ];
    interesting.iter().any(|word| text.contains(word)).then(|| short(text))
}

fn part(said: &str) -> Part {
    let fatal = said.lines().find_map(|line| line.strip_prefix("Fatal ["));
    match fatal {
        Some(line) if line.starts_with("Micromamba") => Part::Conda,
        Some(line) if line.starts_with("Pip") || line.starts_with("uv") || line.starts_with("pip") => Part::Pip,
        Some(line) if line.starts_with("post-install") => Part::PostInstall,
        _ if said.contains("critical libmamba") => Part::Conda,
        _ if said.contains("ERROR: ") => Part::Pip,
        _ => Part::Other,
    }
}

fn conda(said: &str) -> Verdict {
    if let Some(verdict) = transport(said, "channel") {
        return verdict;
    }
    let status = said.lines().find_map(|line| {
        let (_, rest) = line.split_once("status: ")?;
        let code: u16 = rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
        Some((code, between(rest, '[', ']').unwrap_or_default()))
    });
    match status {
        Some((401 | 403, url)) => {
            return Verdict::new(
                Reason::IndexAuthFailed,
                format!("the channel refused access to {url}; give its credentials as a netrc file (index secret)"),
            );
        }
        Some((404 | 410, url)) => {
            return Verdict::new(
                Reason::PackageNotFound,
                format!("the channel has no {url}; correct the channel in the environment file"),
            );
        }
        Some((code, url)) if code >= 400 => {
            return Verdict::new(Reason::IndexUnreachable, format!("the channel answered {code} to {url}"));
        }
        _ => {}
    }
    let tree: Vec<&str> = said
        .lines()
        .map(|line| line.trim_start_matches(|letter: char| letter.is_whitespace() || "│├└─".contains(letter)))
        .collect();
    let conflict = |line: &&&str| {
        [
            "is not installable",
            "conflicts with",
            "is uninstallable",
            "needed by",
            "requires ",
            "incompatible",
        ]
        .iter()
        .any(|word| line.contains(word))
    };
    let absent = |line: &&&str| line.contains("does not exist (perhaps a typo") || line.contains("nothing provides requested");
    if let Some(line) = tree.iter().find(absent) {
        let name = line.split(" does not exist").next().unwrap_or(line);
        let name = name
            .trim_start_matches("- nothing provides requested ")
            .trim_end()
            .trim_end_matches('*');
        return Verdict::new(
            Reason::PackageNotFound,
            format!(
                "conda package {} does not exist in the channels; correct its name or version in the environment file, or add its channel",
                quoted(name)
            ),
        );
    }
    if let Some(line) = tree.iter().find(conflict) {
        let detail = tree
            .iter()
            .skip_while(|other| *other != line)
            .take(4)
            .copied()
            .collect::<Vec<_>>()
            .join(" ");
        return Verdict::new(
            Reason::EnvironmentUnsolvable,
            format!("the conda packages do not fit together: {}", short(&detail)),
        );
    }
    if said.contains("Could not solve") || said.contains("nothing provides") {
        return Verdict::new(
            Reason::EnvironmentUnsolvable,
            format!("the conda packages do not fit together: {}", last(said)),
        );
    }
    let critical = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("critical libmamba"))
        .map_or_else(|| last(said), |line| short(line.trim()));
    Verdict::new(
        Reason::PackageBuildFailed,
        format!("micromamba could not make the environment: {critical}"),
    )
}

fn pip(said: &str) -> Verdict {
    let find = |marker: &str| {
        said.lines()
            .find_map(|line| line.split_once(marker))
            .map(|(_, rest)| rest.split(" [plan analyzer]").next().unwrap_or(rest).trim())
    };
    if let Some(what) = find("Invalid requirement: ") {
        return Verdict::new(
            Reason::EnvironmentFileInvalid,
            format!("pip cannot read the entry {}", short(what.split(" (from").next().unwrap_or(what))),
        );
    }
    if let Some(path) = find("No such file or directory: ") {
        return Verdict::new(
            Reason::EnvironmentFileInvalid,
            format!("the pip list names {}, which is not in the source", short(path)),
        );
    }
    // A talkative pip shows this exception for a package that does not exist, too.
    if said.contains("ResolutionImpossible: for help") {
        let detail: Vec<&str> = said
            .lines()
            .skip_while(|line| !line.contains("The conflict is caused by"))
            .skip(1)
            .map(str::trim)
            .take_while(|line| !line.is_empty() && !line.starts_with("To fix"))
            .collect();
        return Verdict::new(
            Reason::EnvironmentUnsolvable,
            format!("the pip packages do not fit together: {}", short(&detail.join("; "))),
        );
    }
    let missing = find("No matching distribution found for ");
    let failed_to_build = said.contains("subprocess-exited-with-error")
        || said.contains("Failed building wheel")
        || said.contains("metadata-generation-failed");
    if failed_to_build && missing.is_none() {
        let package = find("Failed building wheel for ")
            .or_else(|| find("Failed to build "))
            .or_else(|| collecting(said));
        let cause = said
            .lines()
            .rev()
            .map(str::trim)
            .skip_while(|line| *line != "[end of output]")
            .skip(1)
            .find(|line| !line.is_empty())
            .unwrap_or("see the log");
        let package = package.map(|package| format!(" {}", quoted(package))).unwrap_or_default();
        return Verdict::new(
            Reason::PackageBuildFailed,
            format!(
                "pip package{package} could not be built: {}; take a version that has a wheel, or add what its build needs to the conda packages",
                short(cause)
            ),
        );
    }
    if let Some(verdict) = transport(said, "package index") {
        return verdict;
    }
    if let Some(verdict) = index_answer(said) {
        return verdict;
    }
    if let Some(package) = missing {
        let versions = find("(from versions: ").filter(|versions| !versions.starts_with("none"));
        let advice = match versions {
            Some(_) => "it has other versions; correct the version in the environment file",
            None => "correct its name in the environment file, or the index in the platform's settings",
        };
        return Verdict::new(
            Reason::PackageNotFound,
            format!("pip package {} does not exist in the package index; {advice}", quoted(package)),
        );
    }
    if said.contains("requires a different Python") {
        let what = find("ERROR: ").unwrap_or("a package wants another version of Python");
        return Verdict::new(Reason::EnvironmentUnsolvable, short(what));
    }
    let error = said
        .lines()
        .rev()
        .find_map(|line| line.split_once("ERROR: "))
        .map_or_else(|| last(said), |(_, what)| short(what));
    Verdict::new(Reason::PackageBuildFailed, format!("pip could not install the packages: {error}"))
}

fn post_install(said: &str) -> Verdict {
    let line = said.lines().find(|line| line.starts_with("Script '"));
    let (script, cause) = line
        .and_then(|line| line.strip_prefix("Script '")?.rsplit_once("' failure: "))
        .or_else(|| line.and_then(|line| line.strip_prefix("Script '")?.rsplit_once("' parsing failure: ")))
        .unwrap_or(("of the environment file", "see the log"));
    Verdict::new(
        Reason::PostInstallFailed,
        format!("post-install command {} failed: {}", quoted(script), short(cause)),
    )
}

/// The package that pip worked on last.
fn collecting(said: &str) -> Option<&str> {
    let line = said
        .lines()
        .rev()
        .map(str::trim)
        .find_map(|line| line.strip_prefix("Collecting ").or_else(|| line.strip_prefix("Processing ")))?;
    line.split(" (from").next()
}

fn between(line: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = line.split_once(open)?;
    rest.split_once(close).map(|(inner, _)| inner)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", short(text))
}

/// A part of a message.
fn short(text: &str) -> String {
    line(text.trim(), 240)
}

/// Without control characters, and cut to so many letters.
fn line(text: &str, most: usize) -> String {
    let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    match clean.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &clean[..end]),
        None => clean,
    }
}

fn last(said: &str) -> String {
    let noise = |line: &&str| line.is_empty() || line.starts_with("@@@") || line.starts_with("[rcc]") || line.starts_with("####");
    short(said.lines().map(str::trim).rfind(|line| !noise(line)).unwrap_or("it said nothing"))
}

#[cfg(test)]
mod tests;
