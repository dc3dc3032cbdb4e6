//! What went wrong between the tools and the servers they ask.

use robotimage_crds::reason::Reason;

use super::{Verdict, between, short};

/// What an index answered, where pip tells it.
pub(super) fn index_answer(said: &str) -> Option<Verdict> {
    let mut answers = said.lines().filter_map(|line| {
        let (before, after) = line.split_once(" Client Error: ").or_else(|| line.split_once(" Server Error: "))?;
        let code: u16 = before.rsplit(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()?;
        let url = after.split_once("for url: ").map_or("", |(_, url)| url);
        Some((code, url.split_whitespace().next().unwrap_or_default().to_owned()))
    });
    let failing = said
        .lines()
        .find_map(|line| line.split_once("too many "))
        .and_then(|(_, rest)| rest.split_once(" error responses"));
    if let Some((code, _)) = failing {
        return Some(Verdict::new(
            Reason::IndexUnreachable,
            format!(
                "the package index answered {} again and again{}; try again later, or tell who runs the index",
                short(code),
                at(said)
            ),
        ));
    }
    let refused = said.contains("User for ") && said.contains("EOFError");
    match answers.find(|(code, _)| *code != 404) {
        Some((401 | 403, url)) => Some(Verdict::new(
            Reason::IndexAuthFailed,
            format!(
                "the package index refused access to {}; use one that needs no login: its login cannot be given yet",
                short(&url)
            ),
        )),
        Some((407, _)) => Some(Verdict::new(
            Reason::ProxyFailed,
            "the proxy wants credentials; correct network in the platform's settings.yaml",
        )),
        Some((code, url)) => Some(Verdict::new(
            Reason::IndexUnreachable,
            format!(
                "the package index answered {code} to {}; try again later, or tell who runs the index",
                short(&url)
            ),
        )),
        None if refused => Some(Verdict::new(
            Reason::IndexAuthFailed,
            "the package index asks for a user; use one that needs no login: its login cannot be given yet",
        )),
        None => None,
    }
}

/// Failures before an answer: certificates, proxies, names, connections.
pub(super) fn transport(said: &str, what: &str) -> Option<Verdict> {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&[
        "CERTIFICATE_VERIFY_FAILED",
        "SSL certificate problem",
        "SSL peer certificate",
        "Download error (60)",
        "invalid peer certificate",
    ]) {
        return Some(Verdict::new(
            Reason::CertificateUntrusted,
            format!(
                "the certificate of the {what} is not trusted{}; add its authority to the platform's CA bundle",
                at(said)
            ),
        ));
    }
    if has(&[
        "ProxyError",
        "Cannot connect to proxy",
        "Could not resolve proxy",
        "CONNECT tunnel failed",
        "status: 407",
        "407 Proxy",
        "Download error (5)",
    ]) {
        return Some(Verdict::new(
            Reason::ProxyFailed,
            format!(
                "the proxy failed on the way to the {what}{}; correct network in the platform's settings.yaml",
                at(said)
            ),
        ));
    }
    let unreachable = [
        "Download error (6)",
        "Download error (7)",
        "Download error (28)",
        "Download error (35)",
        "Download error (52)",
        "Download error (56)",
        "NewConnectionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "Read timed out",
        "Connection reset by peer",
        "RemoteDisconnected",
        "Temporary failure in name resolution",
        "Name or service not known",
        "dns error",
        "tcp connect error",
        "operation timed out",
    ];
    // pip says that it tries again and may succeed then; it has failed when it found nothing or gave up.
    let gave_up = !said.contains("Retrying (") || said.contains("Retry(total=0") || said.contains("Max retries exceeded");
    (has(&unreachable) && gave_up).then(|| {
        Verdict::new(
            Reason::IndexUnreachable,
            format!(
                "the {what} cannot be reached{}; check its address, the proxy and the network",
                at(said)
            ),
        )
    })
}

/// The address that a failure was about, where it is said.
fn at(said: &str) -> String {
    let url = said
        .lines()
        .filter(|line| line.contains("Download error") || line.contains("status: "))
        .find_map(|line| between(line, '[', ']'))
        .or_else(|| {
            said.lines()
                .find_map(|line| line.split_once("Could not fetch URL "))
                .and_then(|(_, rest)| rest.split(": ").next())
        })
        .or_else(|| {
            said.lines()
                .find_map(|line| line.split_once("Looking in indexes: "))
                .map(|(_, rest)| rest)
        })
        .or_else(|| {
            said.lines()
                .find_map(|line| line.split_once("Failed to fetch: `"))
                .and_then(|(_, rest)| rest.split('`').next())
        });
    url.map(|url| format!(" ({})", short(url))).unwrap_or_default()
}
