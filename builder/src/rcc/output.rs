//! What rcc, micromamba, pip and uv say, and which of our reasons it means.
//!
//! The texts are those of the real programs, recorded under `fixtures/`. What is not known is a package that could not be
//! built, never a success.

mod conda;
mod network;
mod pip;
mod uv;

use conda::conda;
use pip::pip;
use robotimage_crds::reason::Reason;
use uv::uv;

/// What a failed resolve means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) reason: Reason,
    /// What failed, and after the last semicolon what to do.
    pub(crate) message: String,
    /// The entry of the environment file that it is about, in the words of the tool: a package, a channel's address, a command.
    pub(crate) subject: Option<String>,
}

impl Verdict {
    /// Whatever of the output stands in the message, it is one line and not long: it goes into conditions and to terminals.
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: line(&message.into(), 1000),
            subject: None,
        }
    }

    /// The same about an entry of the environment file.
    fn about(mut self, subject: &str) -> Self {
        self.subject = (!subject.trim().is_empty()).then(|| line(subject.trim(), 1000));
        self
    }
}

/// The part of a resolve that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Conda,
    Pip,
    Uv,
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
            Part::Uv => "uv",
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
        Part::Uv => uv(said),
        Part::PostInstall => post_install(said),
        Part::Other if code == Some(5) || said.contains("Failure: yaml:") => {
            let mut lines = said.lines().skip_while(|line| !line.starts_with("Failure: "));
            let what = lines
                .next()
                .and_then(|line| line.strip_prefix("Failure: "))
                .unwrap_or("it is not valid");
            // Errors of types come as a list, of which the first says enough.
            let more = lines.next().filter(|_| what.ends_with("errors:")).unwrap_or_default();
            let what = format!("{what} {}", more.trim());
            Verdict::new(
                Reason::EnvironmentFileInvalid,
                format!(
                    "rcc cannot read the environment file: {}; see what robotimage check says of it",
                    short(&what)
                ),
            )
        }
        Part::Other if matches!(code, Some(80 | 111 | 113)) => Verdict::new(
            Reason::RccUnavailable,
            format!("rcc cannot work here: {}; name another rcc", last(said)),
        ),
        Part::Other => Verdict::new(
            Reason::PackageBuildFailed,
            format!(
                "rcc could not make the environment: {}; see the last lines of its output",
                last(said)
            ),
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
        Some(line) if line.starts_with("Pip") || line.starts_with("pip") => Part::Pip,
        Some(line) if line.starts_with("uv") => Part::Uv,
        Some(line) if line.starts_with("post-install") => Part::PostInstall,
        _ if said.contains("critical libmamba") => Part::Conda,
        _ if said.contains("ERROR: ") => Part::Pip,
        _ => Part::Other,
    }
}

fn post_install(said: &str) -> Verdict {
    let line = said.lines().find(|line| line.starts_with("Script '"));
    let (script, cause) = line
        .and_then(|line| line.strip_prefix("Script '")?.rsplit_once("' failure: "))
        .or_else(|| line.and_then(|line| line.strip_prefix("Script '")?.rsplit_once("' parsing failure: ")))
        .unwrap_or(("of the environment file", "see the log"));
    Verdict::new(
        Reason::PostInstallFailed,
        format!(
            "post-install command {} failed: {}; run it in the robot's folder to see why",
            quoted(script),
            short(cause)
        ),
    )
    .about(script)
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
mod recorded;
#[cfg(test)]
mod tests;
