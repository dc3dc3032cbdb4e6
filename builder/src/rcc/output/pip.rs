//! What pip says, and what it means.

use robotimage_crds::reason::Reason;

use super::network::{index_answer, transport};
use super::{Verdict, last, quoted, short};

/// What a failed phase of pip means.
pub(super) fn pip(said: &str) -> Verdict {
    entry(said)
        .or_else(|| conflict(said))
        .or_else(|| arrived(said))
        .or_else(|| build(said))
        .or_else(|| transport(said, "package index"))
        .or_else(|| index_answer(said))
        .or_else(|| missing(said))
        .unwrap_or_else(|| {
            let error = said
                .lines()
                .rev()
                .find_map(|line| line.split_once("ERROR: "))
                .map_or_else(|| last(said), |(_, what)| short(what));
            Verdict::new(
                Reason::PackageBuildFailed,
                format!("pip could not install the packages: {error}; see the last lines of its output"),
            )
        })
}

fn find<'a>(said: &'a str, marker: &str) -> Option<&'a str> {
    said.lines()
        .find_map(|line| line.split_once(marker))
        .map(|(_, rest)| rest.split(" [plan analyzer]").next().unwrap_or(rest).trim())
}

/// An entry of the list that pip cannot take as it is written.
fn entry(said: &str) -> Option<Verdict> {
    let invalid = |message: String, about: &str| Some(Verdict::new(Reason::EnvironmentFileInvalid, message).about(about));
    if let Some(option) = find(said, "no such option: ") {
        return invalid(
            format!(
                "the pip list has the option {}, which pip does not know; take it out",
                quoted(option)
            ),
            option,
        );
    }
    if let Some(what) = find(said, "Invalid requirement: ") {
        let what = what.split(" (from").next().unwrap_or(what);
        let about = what.trim_matches('\'');
        return invalid(
            format!("pip cannot read the entry {}; write it as name==version", short(what)),
            about.split(": ").next().unwrap_or(about),
        );
    }
    if let Some(file) = find(said, "Could not open requirements file: ") {
        let file = file.rsplit(": ").next().unwrap_or(file).trim_matches('\'');
        return invalid(
            format!(
                "the pip list names the file {}, which is not in the source; write its entries into the environment file",
                quoted(file)
            ),
            file,
        );
    }
    if let Some(wheel) = said
        .lines()
        .find_map(|line| line.split_once(" is not a supported wheel on this platform"))
    {
        let wheel = wheel.0.rsplit("ERROR: ").next().unwrap_or(wheel.0).trim();
        return invalid(
            format!(
                "the wheel {} is for another system or Python; name one for Linux x86-64 and the environment's Python",
                quoted(wheel)
            ),
            wheel,
        );
    }
    let path = find(said, "No such file or directory: ")?;
    let about = path.trim_matches('\'').rsplit('/').next().unwrap_or(path).to_owned();
    invalid(
        format!(
            "the pip list names {}, which is not in the source; add the file, or correct the path",
            short(path)
        ),
        &about,
    )
}

fn conflict(said: &str) -> Option<Verdict> {
    if let Some(double) = find(said, "Double requirement given: ") {
        let name = double.split(['=', '<', '>', ' ', '(']).next().unwrap_or(double);
        let message = format!("the pip list names {} twice with different versions; keep one", quoted(name));
        return Some(Verdict::new(Reason::EnvironmentUnsolvable, message).about(name));
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
        let first = detail
            .first()
            .copied()
            .unwrap_or_default()
            .trim_start_matches("The user requested ");
        return Some(
            Verdict::new(
                Reason::EnvironmentUnsolvable,
                format!(
                    "the pip packages do not fit together: {}; change one of their versions in the environment file",
                    short(&detail.join(", "))
                ),
            )
            .about(first),
        );
    }
    None
}

/// Files that arrived and are not what they should be.
fn arrived(said: &str) -> Option<Verdict> {
    if said.contains("THESE PACKAGES DO NOT MATCH THE HASHES") {
        // rcc repeats the first line of it before the rest.
        let (_, list) = said.rsplit_once("THESE PACKAGES DO NOT MATCH THE HASHES").unwrap_or_default();
        let line = list.lines().nth(1).unwrap_or_default();
        let name = line.split(" from ").next().unwrap_or(line).trim();
        let message = format!(
            "pip package {} arrived with other bytes than the index's list says; try again, and tell who runs the index or the proxy before it",
            quoted(name)
        );
        return Some(Verdict::new(Reason::IndexUnreachable, message).about(name));
    }
    if let Some(url) = find(said, "HTTP error 404 while getting ") {
        let url = url.split(" (from").next().unwrap_or(url);
        let package = find(said, "Could not install requirement ").map_or(url, |rest| rest.split(" from").next().unwrap_or(rest));
        let message = format!(
            "the package index lists {} and does not have it; take another version, or tell who runs the index",
            short(url)
        );
        return Some(Verdict::new(Reason::PackageNotFound, message).about(package));
    }
    let broken = said
        .lines()
        .find(|line| line.contains("ERROR: Wheel '") && line.contains(" is invalid"))?;
    let name = broken.split('\'').nth(1).unwrap_or_default();
    let message = format!(
        "the wheel of pip package {} is cut or no wheel at all; try again, and look at what the index sends for it",
        quoted(name)
    );
    Some(Verdict::new(Reason::IndexUnreachable, message).about(name))
}

fn build(said: &str) -> Option<Verdict> {
    let failed = said.contains("subprocess-exited-with-error")
        || said.contains("Failed building wheel")
        || said.contains("metadata-generation-failed");
    let missing = find(said, "No matching distribution found for ");
    if said.contains("Cannot find command 'git'") {
        let message = "pip wants git to install from a repository, and it is not there; build a wheel from the repository, and name that";
        return Some(Verdict::new(Reason::PackageBuildFailed, message).about("git+"));
    }
    if let Some(command) = find(said, "\u{d7} git clone ").or_else(|| find(said, "\u{d7} git fetch ")) {
        let url = command
            .split_whitespace()
            .find(|word| word.contains("://"))
            .unwrap_or(command)
            .trim_matches(['\'', '"']);
        let (reason, advice) = if said.contains("Authentication failed") || said.contains("could not read Username") {
            (
                Reason::IndexAuthFailed,
                "the server asks for a user; build a wheel from the repository, and name that",
            )
        } else {
            (
                Reason::IndexUnreachable,
                "the server cannot be reached, or has no such repository; correct the address, or build a wheel",
            )
        };
        return Some(Verdict::new(reason, format!("pip cannot clone {}: {advice}", short(url))).about(url));
    }
    if !failed || missing.is_some() && !said.contains("pip subprocess to install") {
        return None;
    }
    if let Some(backend) = missing {
        let package = collecting(said).unwrap_or_default();
        let message = format!(
            "pip package {} needs {} to be built, which the index does not have; take a version that has a wheel, or add it to the index",
            quoted(package),
            quoted(backend)
        );
        return Some(Verdict::new(Reason::PackageBuildFailed, message).about(package));
    }
    let package = find(said, "Failed building wheel for ")
        .or_else(|| find(said, "Failed to build "))
        .or_else(|| collecting(said));
    let cause = said
        .lines()
        .rev()
        .map(str::trim)
        .skip_while(|line| *line != "[end of output]")
        .skip(1)
        .find(|line| !line.is_empty())
        .unwrap_or("see the log");
    let shown = package.map(|package| format!(" {}", quoted(package))).unwrap_or_default();
    let message = format!(
        "pip package{shown} could not be built: {}; take a version that has a wheel, or add what its build needs to the conda packages",
        short(cause)
    );
    Some(Verdict::new(Reason::PackageBuildFailed, message).about(package.unwrap_or_default()))
}

fn missing(said: &str) -> Option<Verdict> {
    let python = said.lines().find_map(|line| line.split_once(" Requires-Python "));
    if let Some((before, wanted)) = python.filter(|_| said.contains("require a different python version")) {
        let package = find(said, "No matching distribution found for ").unwrap_or(before);
        let wanted = wanted.split([';', ' ']).next().unwrap_or(wanted);
        let message = format!(
            "pip package {} wants Python {wanted}; change the version of python or of the package in the environment file",
            quoted(package)
        );
        return Some(Verdict::new(Reason::EnvironmentUnsolvable, message).about(package));
    }
    if said.contains("requires a different Python") {
        let what = find(said, "ERROR: ").unwrap_or("a package wants another version of Python");
        let message = format!(
            "{}; change the version of python or of the package in the environment file",
            short(what)
        );
        return Some(Verdict::new(Reason::EnvironmentUnsolvable, message).about(what.trim_start_matches("Package '")));
    }
    let package = find(said, "No matching distribution found for ")?;
    let wanted_by = find(said, "satisfies the requirement ")
        .and_then(|rest| rest.split_once(" (from "))
        .map(|(_, parent)| parent.split(')').next().unwrap_or(parent))
        .filter(|parent| !parent.starts_with("versions: ") && !parent.starts_with("-r "));
    if let Some(parent) = wanted_by {
        let message = format!(
            "pip package {} needs {}, which does not exist in the package index; take another version of it, or another index",
            quoted(parent),
            quoted(package)
        );
        return Some(Verdict::new(Reason::PackageNotFound, message).about(parent));
    }
    let versions = find(said, "(from versions: ").filter(|versions| !versions.starts_with("none"));
    let advice = match versions {
        Some(_) => "it has other versions; correct the version in the environment file",
        None => "correct its name in the environment file, or the index in the platform's settings",
    };
    let message = format!("pip package {} does not exist in the package index; {advice}", quoted(package));
    Some(Verdict::new(Reason::PackageNotFound, message).about(package))
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
