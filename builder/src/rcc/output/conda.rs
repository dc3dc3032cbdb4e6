//! What micromamba says, and what it means.

use robotimage_crds::reason::Reason;

use super::network::transport;
use super::{Verdict, between, last, quoted, short};

/// What a failed phase of micromamba means.
pub(super) fn conda(said: &str) -> Verdict {
    garbled(said)
        .or_else(|| proxy(said))
        .or_else(|| transport(said, "channel"))
        .or_else(|| answer(said))
        .or_else(|| download(said))
        .unwrap_or_else(|| solver(said))
}

/// An answer that is no list of packages: a page of a guest network, half a file, a circle of redirects.
fn garbled(said: &str) -> Option<Verdict> {
    let line = |code: &str| said.lines().find(|line| line.contains(code));
    // Without the words about decompression it may be a disk that is full.
    let (line, what) = line("Download error (23)")
        .filter(|_| said.contains("decompression error"))
        .map(|line| (line, "is no list of packages"))
        .or_else(|| line("Download error (18)").map(|line| (line, "is cut in the middle")))
        .or_else(|| line("Download error (47)").map(|line| (line, "is a redirect without an end")))?;
    let url = between(line, '[', ']').unwrap_or("its list");
    Some(
        Verdict::new(
            Reason::IndexUnreachable,
            format!(
                "what the channel answers to {} {what}; look at the address with a browser: a proxy or a sign-in page may answer for it",
                short(url)
            ),
        )
        .about(url),
    )
}

/// A connection that failed to another host than the channel's: to the proxy before it.
fn proxy(said: &str) -> Option<Verdict> {
    let line = said.lines().find(|line| line.contains("Download error (7)"))?;
    let url = between(line, '[', ']')?;
    let (_, rest) = said.split_once("Failed to connect to ")?;
    let host = rest.split_whitespace().next()?;
    (!url.contains(host)).then(|| {
        let message = format!(
            "the proxy {host} on the way to {} cannot be reached; correct network in the platform's settings.yaml",
            short(url)
        );
        Verdict::new(Reason::ProxyFailed, message).about(url)
    })
}

/// What the channel answered.
fn answer(said: &str) -> Option<Verdict> {
    let (code, url) = said.lines().find_map(|line| {
        let (_, rest) = line.split_once("status: ")?;
        let code: u16 = rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
        Some((code, between(rest, '[', ']').unwrap_or_default()))
    })?;
    let shown = short(url);
    let of_package = [".conda", ".tar.bz2"].iter().any(|ending| url.ends_with(ending));
    let (reason, message) = match code {
        401 | 403 => (
            Reason::IndexAuthFailed,
            format!("the channel refused access to {shown}; use one that needs no login: its login cannot be given yet"),
        ),
        404 | 410 if of_package => (
            Reason::PackageNotFound,
            format!("the channel lists {shown} and does not have it; take another version, or tell who runs the channel"),
        ),
        404 | 410 => (
            Reason::PackageNotFound,
            format!("the channel has no {shown}; correct the channel in the environment file"),
        ),
        407 => (
            Reason::ProxyFailed,
            format!("the proxy on the way to {shown} wants credentials; correct network in the platform's settings.yaml"),
        ),
        429 => (
            Reason::IndexUnreachable,
            format!("the channel answered 429 to {shown}: too many requests; try again later, or name a mirror"),
        ),
        400.. => (
            Reason::IndexUnreachable,
            format!("the channel answered {code} to {shown}; try again later, or tell who runs the channel"),
        ),
        _ => return None,
    };
    Some(Verdict::new(reason, message).about(url))
}

/// Packages that arrived and cannot be used.
fn download(said: &str) -> Option<Verdict> {
    let after = |marker: &str| said.lines().find_map(|line| line.split_once(marker)).map(|(_, rest)| rest);
    if let Some(name) = after("Found incorrect download: ") {
        let name = name.split(". ").next().unwrap_or(name).trim();
        let message = format!(
            "conda package {} arrived with other bytes than the channel's list says; try again, and tell who runs the channel or the proxy before it",
            quoted(name)
        );
        return Some(Verdict::new(Reason::IndexUnreachable, message).about(name));
    }
    let file = said.lines().find_map(|line| line.trim().strip_suffix(" extraction failed"))?;
    // name-version-build
    let name = file.rsplitn(3, '-').nth(2).unwrap_or(file);
    let message = format!(
        "conda package {} cannot be unpacked; take another version, or tell who made it",
        quoted(file)
    );
    Some(Verdict::new(Reason::PackageBuildFailed, message).about(name))
}

/// What the solver says.
fn solver(said: &str) -> Verdict {
    let tree: Vec<&str> = said
        .lines()
        .map(|line| line.trim_start_matches(|letter: char| letter.is_whitespace() || "│├└─".contains(letter)))
        .collect();
    let named = |line: &str| -> String {
        let name = line.split(" is not installable").next().unwrap_or(line);
        let name = name
            .split(" is installable")
            .next()
            .unwrap_or(name)
            .split(" does not exist")
            .next()
            .unwrap_or(name);
        name.trim_start_matches("- nothing provides requested ")
            .trim_end()
            .trim_end_matches('*')
            .to_owned()
    };
    let absent = |line: &&&str| line.contains("does not exist (perhaps a typo") || line.contains("nothing provides requested");
    if let Some(line) = tree.iter().find(absent) {
        let name = named(line);
        return Verdict::new(
            Reason::PackageNotFound,
            format!(
                "conda package {} does not exist in the channels; correct its name or version in the environment file, or add its channel",
                quoted(&name)
            ),
        )
        .about(&name);
    }
    // One that the environment file names, and below it what it needs.
    let needs = tree
        .windows(2)
        .find(|lines| lines[0].ends_with("because it requires") && lines[1].contains(", which "));
    if let Some([parent, child]) = needs {
        let (parent, (child, what)) = (named(parent), child.split_once(", which ").unwrap_or((*child, "")));
        let child = child.trim();
        if child.starts_with("__") {
            let message = format!(
                "conda package {} needs {child}, which the image's system does not have; take an older version of it, or another base",
                quoted(&parent)
            );
            return Verdict::new(Reason::EnvironmentUnsolvable, message).about(&parent);
        }
        // It says the same of a package that no channel has, and of a version that the rest of the list rules out.
        if what.starts_with("does not exist") {
            let message = format!(
                "conda package {} needs {child}, which no channel has beside the rest of the list; take another version of it, or add the channel that has what it needs",
                quoted(&parent)
            );
            return Verdict::new(Reason::EnvironmentUnsolvable, message).about(&parent);
        }
    }
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
    if let Some(at) = tree.iter().position(|line| conflict(&line)) {
        let lines: Vec<&str> = tree[at..]
            .iter()
            .take(5)
            .take_while(|line| !line.starts_with("http"))
            .copied()
            .collect();
        let first = lines.iter().find(|line| line.contains(" installable")).copied().unwrap_or_default();
        return Verdict::new(
            Reason::EnvironmentUnsolvable,
            format!(
                "the conda packages do not fit together: {}; change one of their versions in the environment file",
                short(&lines.join(" "))
            ),
        )
        .about(&named(first));
    }
    if said.contains("Could not solve") || said.contains("nothing provides") {
        return Verdict::new(
            Reason::EnvironmentUnsolvable,
            format!(
                "the conda packages do not fit together: {}; change one of their versions in the environment file",
                last(said)
            ),
        );
    }
    let critical = said
        .lines()
        .find_map(|line| line.trim().strip_prefix("critical libmamba"))
        .map_or_else(|| last(said), |line| short(line.trim()));
    Verdict::new(
        Reason::PackageBuildFailed,
        format!("micromamba could not make the environment: {critical}; see the last lines of its output"),
    )
}
