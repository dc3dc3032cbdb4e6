use super::*;

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../fixtures/", $name, ".txt"))
    };
}

#[test]
fn recorded_outputs_mean_what_they_should() {
    for (name, said, code, reason, words) in [
        (
            "conda-unknown",
            fixture!("conda-unknown"),
            6,
            Reason::PackageNotFound,
            "\"no-such-package 1.0\" does not exist",
        ),
        (
            "conda-version",
            fixture!("conda-version"),
            6,
            Reason::PackageNotFound,
            "\"python 3.99.1\"",
        ),
        (
            "conda-conflict",
            fixture!("conda-conflict"),
            6,
            Reason::EnvironmentUnsolvable,
            "oldthing 1.0",
        ),
        (
            "conda-401",
            fixture!("conda-401"),
            6,
            Reason::IndexAuthFailed,
            "http://127.0.0.1:8401/ch/noarch/repodata.json",
        ),
        ("conda-403", fixture!("conda-403"), 6, Reason::IndexAuthFailed, "needs no login"),
        (
            "conda-404",
            fixture!("conda-404"),
            6,
            Reason::PackageNotFound,
            "the channel has no http://127.0.0.1:8404",
        ),
        ("conda-503", fixture!("conda-503"), 6, Reason::IndexUnreachable, "answered 503"),
        (
            "conda-dns",
            fixture!("conda-dns"),
            6,
            Reason::IndexUnreachable,
            "http://no-such-host.invalid",
        ),
        (
            "conda-refused",
            fixture!("conda-refused"),
            6,
            Reason::IndexUnreachable,
            "http://127.0.0.1:9/",
        ),
        (
            "conda-tls",
            fixture!("conda-tls"),
            6,
            Reason::CertificateUntrusted,
            "https://localhost:8443",
        ),
        ("proxy-407", fixture!("proxy-407"), 6, Reason::ProxyFailed, "proxy"),
        (
            "pip-unknown",
            fixture!("pip-unknown"),
            6,
            Reason::PackageNotFound,
            "\"robotimage-no-such-package-x==1.0\"",
        ),
        (
            "pip-version",
            fixture!("pip-version"),
            6,
            Reason::PackageNotFound,
            "\"rich==99.9.9\" does not exist in the package index; it has other versions",
        ),
        (
            "pip-conflict",
            fixture!("pip-conflict"),
            6,
            Reason::EnvironmentUnsolvable,
            "rich 13.7.1 depends on pygments",
        ),
        (
            "pip-build",
            fixture!("pip-build"),
            6,
            Reason::PackageBuildFailed,
            "native library is missing",
        ),
        (
            "pip-syntax",
            fixture!("pip-syntax"),
            6,
            Reason::EnvironmentFileInvalid,
            "'rich=13.7.1'",
        ),
        (
            "pip-local-missing",
            fixture!("pip-local-missing"),
            6,
            Reason::EnvironmentFileInvalid,
            "none-1.0-py3-none-any.whl",
        ),
        (
            "pip-401",
            fixture!("pip-401"),
            6,
            Reason::IndexAuthFailed,
            "http://127.0.0.1:8401/simple/six/",
        ),
        (
            "pip-403",
            fixture!("pip-403"),
            6,
            Reason::IndexAuthFailed,
            "http://127.0.0.1:8403/simple/six/",
        ),
        ("pip-404", fixture!("pip-404"), 6, Reason::PackageNotFound, "\"six==1.16.0\""),
        ("pip-503", fixture!("pip-503"), 6, Reason::IndexUnreachable, "503"),
        ("pip-asked", fixture!("pip-asked"), 6, Reason::IndexAuthFailed, "asks for a user"),
        (
            "pip-refused",
            fixture!("pip-refused"),
            6,
            Reason::IndexUnreachable,
            "http://127.0.0.1:9/simple/",
        ),
        (
            "pip-tls",
            fixture!("pip-tls"),
            6,
            Reason::CertificateUntrusted,
            "https://localhost:8443/simple/six/",
        ),
        (
            "pip-tls-file",
            fixture!("pip-tls-file"),
            6,
            Reason::CertificateUntrusted,
            "not trusted",
        ),
        ("pip-proxy-407", fixture!("pip-proxy-407"), 6, Reason::ProxyFailed, "proxy"),
        ("pip-killed", fixture!("pip-killed"), 6, Reason::OutOfMemory, "pip was killed"),
        ("post-fails", fixture!("post-fails"), 6, Reason::PostInstallFailed, "exit status 3"),
        (
            "post-missing",
            fixture!("post-missing"),
            6,
            Reason::PostInstallFailed,
            "\"no-such-command init\" failed: Cannot find command",
        ),
        (
            "post-killed",
            fixture!("post-killed"),
            6,
            Reason::OutOfMemory,
            "post-install command was killed",
        ),
        (
            "yaml-broken",
            fixture!("yaml-broken"),
            5,
            Reason::EnvironmentFileInvalid,
            "did not find expected node content",
        ),
        ("disk-full", fixture!("disk-full"), 6, Reason::StorageExceeded, "full"),
        (
            "17-conda-unknown",
            fixture!("17-conda-unknown"),
            6,
            Reason::PackageNotFound,
            "no-such-package",
        ),
        (
            "17-conda-conflict",
            fixture!("17-conda-conflict"),
            6,
            Reason::EnvironmentUnsolvable,
            "oldthing",
        ),
        (
            "17-conda-refused",
            fixture!("17-conda-refused"),
            6,
            Reason::IndexUnreachable,
            "http://127.0.0.1:9/",
        ),
        (
            "17-conda-tls",
            fixture!("17-conda-tls"),
            6,
            Reason::CertificateUntrusted,
            "not trusted",
        ),
        ("17-conda-401", fixture!("17-conda-401"), 6, Reason::IndexAuthFailed, "8401"),
        (
            "17-post-fails",
            fixture!("17-post-fails"),
            6,
            Reason::PostInstallFailed,
            "exit status 3",
        ),
        ("17-no-passwd", fixture!("17-no-passwd"), 2, Reason::RccUnavailable, "/etc/passwd"),
        ("17-pip-killed", fixture!("17-pip-killed"), 6, Reason::OutOfMemory, "pip was killed"),
    ] {
        let verdict = classify(said, Some(code));
        assert_eq!(verdict.reason, reason, "{name}: {verdict:?}");
        assert!(verdict.message.contains(words), "{name}: {}", verdict.message);
        assert!(
            verdict.message.len() < 600 && !verdict.message.contains('\n'),
            "{name}: {}",
            verdict.message
        );
        assert!(robotimage_crds::build::Step::Resolve.may_report(verdict.reason), "{name}");
    }
}

#[test]
fn only_a_talkative_pip_is_sure() {
    for (said, ambiguous) in [
        (fixture!("pip-silent-403"), true),
        (fixture!("pip-silent-429"), true),
        (fixture!("pip-silent-500"), true),
        (fixture!("pip-silent-portal"), true),
        (fixture!("pip-403"), false),
        (fixture!("pip-unknown"), false),
        (fixture!("pip-version"), false),
    ] {
        assert_eq!(is_ambiguous(said, &classify(said, Some(6))), ambiguous);
    }
}

#[test]
fn what_is_not_known_is_still_a_failure() {
    for (said, code, reason) in [
        ("", Some(1), Reason::PackageBuildFailed),
        ("settings.yaml broken\n", Some(111), Reason::RccUnavailable),
        (
            "Fatal [Micromamba [1/1]]: exit status 1\ncritical libmamba something new\n",
            Some(6),
            Reason::PackageBuildFailed,
        ),
        (
            "Fatal [Pip [1/1]]: exit status 1\nERROR: something new\n",
            Some(6),
            Reason::PackageBuildFailed,
        ),
        ("\u{1b}[31m\u{0}\u{fffd}", None, Reason::PackageBuildFailed),
    ] {
        let verdict = classify(said, code);
        assert_eq!(verdict.reason, reason, "{said}");
        assert!(!verdict.message.contains('\u{1b}'));
    }
}

#[test]
fn phases_are_for_people() {
    assert_eq!(
        phase("####  Progress: 07/15  v19.0.2     0.195s  Running micromamba phase. (micromamba v1.5.11) [layer: 34d20f6d2f2892e2]")
            .as_deref(),
        Some("Running micromamba phase. (micromamba v1.5.11)")
    );
    assert_eq!(
        phase("####  Progress: 01/15  v19.0.2     0.002s  Fresh [private mode] holotree environment x."),
        None
    );
    assert_eq!(phase("Collecting rich"), None);
}
