//! Commits of a real git server, good ones and hostile ones.

#![expect(clippy::unwrap_used, reason = "a test whose fixture fails has nothing to test")]

mod support;

use std::path::Path;
use std::sync::Arc;

use robotimage_builder::source::{Checkout, GitRequest, Limits, SourceError, SourceSecret, Web, checkout};
use robotimage_crds::api::GitRef;
use robotimage_crds::build::Want;
use robotimage_crds::reason::Reason;
use robotimage_registry::AddressPolicy;
use support::{GitServer, git};

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 1000,
};

struct Ask<'a> {
    url: &'a str,
    want: Want,
    path: &'a str,
    secret: Option<&'a [(&'a str, &'a str)]>,
    limits: Limits,
    web: Web,
}

impl<'a> Ask<'a> {
    fn main(url: &'a str) -> Self {
        Self {
            url,
            want: Want::Reference(Some(GitRef {
                branch: Some("main".to_owned()),
                ..GitRef::default()
            })),
            path: "",
            secret: None,
            limits: LIMITS,
            web: Web::default(),
        }
    }

    async fn go(&self, into: &Path) -> Result<Checkout, SourceError> {
        let scratch = tempfile::tempdir().unwrap();
        let mounted = tempfile::tempdir().unwrap();
        for (key, value) in self.secret.unwrap_or_default() {
            std::fs::write(mounted.path().join(key), value).unwrap();
        }
        let secret = SourceSecret::load(mounted.path())?;
        let result = checkout(&GitRequest {
            url: self.url,
            want: &self.want,
            path: self.path,
            secret: secret.as_ref(),
            require_hosts: true,
            web: &self.web,
            limits: self.limits,
            scratch: scratch.path(),
            into,
            interrupt: Arc::default(),
        })
        .await;
        assert_eq!(
            std::fs::read_dir(scratch.path()).unwrap().count(),
            0,
            "the object database is removed"
        );
        result
    }

    async fn fails(&self) -> SourceError {
        let into = tempfile::tempdir().unwrap();
        let error = self.go(into.path()).await.unwrap_err();
        assert!(!error.to_string().contains("s3cret"), "{error}");
        error
    }
}

fn robot(root: &Path) {
    std::fs::create_dir_all(root.join("robots/a/lib")).unwrap();
    std::fs::write(root.join("robots/a/robot.yaml"), "tasks: {}\n").unwrap();
    std::fs::write(root.join("robots/a/lib/run.sh"), "#!/bin/sh\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(root.join("robots/a/lib/run.sh"), mode).unwrap();
    std::os::unix::fs::symlink("lib/run.sh", root.join("robots/a/link")).unwrap();
    std::fs::write(root.join("README"), "x".repeat(5000)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_commit_by_every_name() {
    let server = GitServer::start(true, robot);
    let secret = [("username", "robot"), ("password", "s3cret"), ("hosts", "127.0.0.1")];
    let tree = git(&server.work, &["rev-parse", "HEAD:robots/a"]);
    for tag in ["v1.2.0", "v1.1.0", "v2.0.0"] {
        git(&server.work, &["tag", tag]);
    }
    let of = |reference: GitRef| Want::Reference(Some(reference));
    for (want, reference) in [
        (Ask::main("").want, "main"),
        (Want::Reference(None), "HEAD"),
        (
            of(GitRef {
                tag: Some("v1".to_owned()),
                ..GitRef::default()
            }),
            "v1",
        ),
        (
            of(GitRef {
                semver: Some(">=1.0 <2".to_owned()),
                ..GitRef::default()
            }),
            "v1.2.0",
        ),
        (
            Want::Commit {
                id: server.head(),
                reference: "main".to_owned(),
            },
            "main",
        ),
    ] {
        let into = tempfile::tempdir().unwrap();
        let ask = Ask {
            want,
            path: "robots/a",
            secret: Some(&secret),
            ..Ask::main(&server.url)
        };
        let found = ask.go(into.path()).await.unwrap();
        assert_eq!((found.commit, found.tree.as_str()), (server.head(), tree.as_str()));
        assert_eq!(
            (found.reference.as_str(), found.author.as_str(), found.message.as_str()),
            (reference, "Ada", "First line")
        );
        assert_eq!((found.entries, found.bytes), (4, 30));
        let script = into.path().join("lib/run.sh");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&script).unwrap().permissions());
        assert_eq!(mode & 0o100, 0o100);
        assert_eq!(std::fs::read_link(into.path().join("link")).unwrap(), Path::new("lib/run.sh"));
        assert!(!into.path().join("README").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_have_their_reasons() {
    let server = GitServer::start(true, robot);
    let host = [("username", "robot"), ("password", "s3cret"), ("hosts", "127.0.0.1")];
    let wrong = [("username", "robot"), ("password", "s3cret-not"), ("hosts", "127.0.0.1")];
    let other = [("username", "robot"), ("password", "s3cret"), ("hosts", "git.example.com")];
    let missing_branch = Want::Reference(Some(GitRef {
        branch: Some("nope".to_owned()),
        ..GitRef::default()
    }));
    let missing_commit = Want::Commit {
        id: "1".repeat(40),
        reference: "main".to_owned(),
    };
    let moved = server.url.replace("/repo", "/moved");
    let elsewhere = server.url.replace("/repo", "/elsewhere");
    let nowhere = server.url.replace("/repo", "/nothing");
    let good = |url| Ask {
        secret: Some(&host),
        ..Ask::main(url)
    };
    let into = tempfile::tempdir().unwrap();
    good(&moved).go(into.path()).await.unwrap();
    let table = [
        (Ask::main(&server.url), Reason::GitAuthFailed),
        (
            Ask {
                secret: Some(&wrong),
                ..Ask::main(&server.url)
            },
            Reason::GitAuthFailed,
        ),
        (
            Ask {
                secret: Some(&other),
                ..Ask::main(&server.url)
            },
            Reason::CredentialHostMismatch,
        ),
        (
            Ask {
                want: missing_branch,
                ..good(&server.url)
            },
            Reason::GitRevisionNotFound,
        ),
        (
            Ask {
                want: missing_commit,
                ..good(&server.url)
            },
            Reason::GitRevisionNotFound,
        ),
        (good(&nowhere), Reason::SourceNotFound),
        (good(&elsewhere), Reason::SourceRejected),
        (
            Ask {
                path: "robots/b",
                ..good(&server.url)
            },
            Reason::SourcePathNotFound,
        ),
        (
            Ask {
                path: "README",
                ..good(&server.url)
            },
            Reason::SourcePathNotFound,
        ),
        (
            Ask {
                limits: Limits { bytes: 100, ..LIMITS },
                ..good(&server.url)
            },
            Reason::SourceTooLarge,
        ),
        (
            Ask {
                limits: Limits { entries: 3, ..LIMITS },
                ..good(&server.url)
            },
            Reason::SourceTooLarge,
        ),
        (
            Ask {
                web: Web {
                    policy: AddressPolicy::tenant(&[]),
                    ..Web::default()
                },
                ..good(&server.url)
            },
            Reason::SourceRejected,
        ),
        (good("http://git.example.com/x"), Reason::SourceRejected),
        (good("http://127.0.0.1:1/x"), Reason::SourceUnreachable),
    ];
    for (ask, reason) in table {
        let error = ask.fails().await;
        assert_eq!(error.reason(), reason, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_trees_are_refused_by_name() {
    let out = GitServer::start(false, |root| {
        robot(root);
        std::os::unix::fs::symlink("../../../etc/passwd", root.join("robots/a/out")).unwrap();
    });
    let error = Ask::main(&out.url).fails().await;
    assert!(error.to_string().contains("robots/a/out"), "{error}");
    assert_eq!(error.reason(), Reason::SourceRejected);

    let submodule = GitServer::start(false, robot);
    std::fs::create_dir(submodule.work.join("inner")).unwrap();
    git(&submodule.work.join("inner"), &["init", "-q"]);
    git(&submodule.work.join("inner"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    git(&submodule.work, &["add", "inner"]);
    git(&submodule.work, &["commit", "-q", "-m", "submodule"]);
    let error = Ask::main(&submodule.url).fails().await;
    assert!(error.to_string().contains("submodule"), "{error}");
    let into = tempfile::tempdir().unwrap();
    let beside = Ask {
        path: "robots/a",
        ..Ask::main(&submodule.url)
    };
    beside.go(into.path()).await.unwrap();

    // A tree that git itself would not check out.
    let tricky = GitServer::start(false, robot);
    let blob = git(&tricky.work, &["rev-parse", "HEAD:README"]);
    let tree = support::make_tree(&tricky.work, &format!("100644 blob {blob}\t.GIT\n"));
    let commit = git(&tricky.work, &["commit-tree", &tree, "-m", "tricky"]);
    git(&tricky.work, &["update-ref", "refs/heads/main", &commit]);
    let error = Ask::main(&tricky.url).fails().await;
    assert!(error.to_string().contains(".GIT"), "{error}");
}
