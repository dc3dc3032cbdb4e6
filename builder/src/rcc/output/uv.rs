//! What uv says, and what it means.

use robotimage_crds::reason::Reason;

use super::network::transport;
use super::{Verdict, last, quoted, short};

/// What a failed phase of uv means.
pub(super) fn uv(said: &str) -> Verdict {
    // uv breaks lines where its box ends; packages and causes are looked for in one line.
    let told: String = said
        .lines()
        .filter(|line| !line.starts_with("####") && !line.starts_with("@@@"))
        .flat_map(str::split_whitespace)
        .collect::<Vec<_>>()
        .join(" ");
    entry(said)
        .or_else(|| transport(said, "package index"))
        .or_else(|| answer(&told))
        .or_else(|| build(said, &told))
        .or_else(|| solver(&told))
        .unwrap_or_else(|| {
            let error = said
                .lines()
                .find_map(|line| line.strip_prefix("error: "))
                .map_or_else(|| last(said), short);
            let message = format!("uv could not install the packages: {error}; see the last lines of its output");
            Verdict::new(Reason::PackageBuildFailed, message)
        })
}

/// The words after a marker, up to the end of a sentence or of a quotation.
fn after<'a>(told: &'a str, marker: &str) -> Option<&'a str> {
    let (_, rest) = told.split_once(marker)?;
    let rest = rest.trim_start_matches(['`', '\'']);
    let end = rest.find(['`', '\'', ' ', ',']).unwrap_or(rest.len());
    Some(&rest[..end])
}

fn entry(said: &str) -> Option<Verdict> {
    let mut lines = said
        .lines()
        .skip_while(|line| !line.starts_with("error: Couldn't parse requirement") && !line.starts_with("error: Failed to parse"));
    lines.next()?;
    let entry = lines
        .map(str::trim)
        .find(|line| !line.is_empty() && !line.starts_with("Caused by") && !line.starts_with('^'))
        .unwrap_or("of the list");
    let message = format!("uv cannot read the entry {}; write it as name==version", quoted(entry));
    Some(Verdict::new(Reason::EnvironmentFileInvalid, message).about(entry))
}

/// What the index answered.
fn answer(told: &str) -> Option<Verdict> {
    let refused = ["401 Unauthorized", "403 Forbidden"].iter().any(|words| told.contains(words));
    if refused {
        let url = after(told, "An index URL (")
            .or_else(|| after(told, "for url ("))
            .unwrap_or("the package index");
        let message = format!(
            "the package index refused access to {}; use one that needs no login: its login cannot be given yet",
            short(url.trim_end_matches(')'))
        );
        return Some(Verdict::new(Reason::IndexAuthFailed, message));
    }
    let (_, rest) = told.split_once("HTTP status ")?;
    let (_, rest) = rest.split_once("error (")?;
    let (status, rest) = rest.split_once(')')?;
    let url = after(rest, "for url (").unwrap_or_default().trim_end_matches(')');
    let message = format!(
        "the package index answered {} to {}; try again later, or tell who runs the index",
        short(status),
        short(url)
    );
    Some(Verdict::new(Reason::IndexUnreachable, message))
}

fn build(said: &str, told: &str) -> Option<Verdict> {
    let failed = [
        "Build backend failed",
        "Failed to build",
        "Failed to download and build",
        "build_wheel",
    ];
    if !failed.iter().any(|words| told.contains(words)) {
        return None;
    }
    let package = after(told, "Failed to download and build ")
        .or_else(|| after(told, "Failed to build: "))
        .or_else(|| after(told, "Failed to build "))
        .or_else(|| after(told, "Failed to fetch wheel: "))
        .unwrap_or_default();
    if let Some(backend) = after(told, "No solution found when resolving: ") {
        let message = format!(
            "package {} needs {} to be built, which the index does not have; take a version that has a wheel, or add it to the index",
            quoted(package),
            quoted(backend)
        );
        return Some(Verdict::new(Reason::PackageBuildFailed, message).about(package));
    }
    // What the build itself said stands below its standard error.
    let cause = said
        .lines()
        .skip_while(|line| !line.contains("stderr"))
        .skip(1)
        .map(str::trim)
        .take_while(|line| !["---", "####", "@@@"].iter().any(|noise| line.starts_with(noise)))
        .filter(|line| !line.is_empty())
        .last()
        .unwrap_or("see the log");
    let message = format!(
        "package {} could not be built: {}; take a version that has a wheel, or add what its build needs to the conda packages",
        quoted(package),
        short(cause)
    );
    Some(Verdict::new(Reason::PackageBuildFailed, message).about(package))
}

fn solver(told: &str) -> Option<Verdict> {
    let (_, why) = told.split_once("No solution found when resolving dependencies: ")?;
    let why = why
        .split(" we can conclude that your requirements are unsatisfiable")
        .next()
        .unwrap_or(why);
    let why = why.trim_start_matches(|letter: char| !letter.is_alphanumeric());
    let absent = why.contains("was not found in the package registry")
        || why.contains("there is no version of")
        || why.contains("only the following versions");
    if absent && !why.contains("depends on") {
        let package = after(why, "you require ").unwrap_or_default();
        let advice = if why.contains("was not found") {
            "correct its name in the environment file, or the index in the platform's settings"
        } else {
            "it has other versions; correct the version in the environment file"
        };
        let message = format!("package {} does not exist in the package index; {advice}", quoted(package));
        return Some(Verdict::new(Reason::PackageNotFound, message).about(package));
    }
    let package = after(why, "Because ").unwrap_or_default();
    let message = format!(
        "the packages do not fit together: {}; change one of their versions in the environment file",
        short(why.trim_end_matches(','))
    );
    Some(Verdict::new(Reason::EnvironmentUnsolvable, message).about(package))
}
