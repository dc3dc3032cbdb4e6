//! The servers of our own, asked by the real git over loopback: they work, and they misbehave as told.

#![allow(clippy::unwrap_used)] // a suite says what is wrong by panicking

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use robotimage_tests::git::{GitOptions, GitServer};
use robotimage_tests::secret::Login;
use robotimage_tests::web::{Fault, Rule};
use robotimage_tests::{Site, files};

fn git(site: &Site, folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args(args)
        .env("GIT_SSL_CAINFO", site.authority.certificate());
    command
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("NO_PROXY", "127.0.0.1");
    command
        .env("GIT_HTTP_LOW_SPEED_LIMIT", "1")
        .env("GIT_HTTP_LOW_SPEED_TIME", "2")
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn server(folder: &Path) -> (Site, GitServer) {
    let site = Site::loopback(folder).unwrap();
    let options = GitOptions {
        name: "main".into(),
        port: None,
        tls: true,
    };
    let server = GitServer::start(&site, &options).unwrap();
    (site, server)
}

#[test]
fn a_private_repository_is_cloned_with_its_password_only() {
    let folder = tempfile::tempdir().unwrap();
    let (site, mut server) = server(folder.path());
    let login = Login::new("reader", "secret");
    let repo = server.create("robot", Some(&login)).unwrap();
    let first = repo
        .commit(&[("robot.yaml", b"tasks: {}\n"), ("bin/run.sh", b"#!/bin/sh\n")], "one")
        .unwrap();
    let second = repo.commit(&[("robot.yaml", b"tasks: {a: {}}\n")], "two").unwrap();
    assert_ne!(first, second);
    repo.tag("v1", &first).unwrap();

    let refused = git(&site, folder.path(), &["clone", "-q", repo.url(), "nobody"]);
    assert!(
        !refused.status.success() && said(&refused).contains("could not read Username"),
        "{}",
        said(&refused)
    );
    assert!(server.server().seen().iter().all(|request| !request.has_credentials()));
    let with = |password: &str| repo.url().replace("https://", &format!("https://reader:{password}@"));
    let wrong = git(&site, folder.path(), &["clone", "-q", &with("wrong"), "wrong"]);
    assert!(said(&wrong).contains("Authentication failed"), "{}", said(&wrong));
    let right = git(&site, folder.path(), &["clone", "-q", "--branch", "v1", &with("secret"), "right"]);
    assert!(right.status.success(), "{}", said(&right));
    assert_eq!(
        std::fs::read_to_string(folder.path().join("right/robot.yaml")).unwrap(),
        "tasks: {}\n"
    );
    assert!(server.server().seen().iter().any(robotimage_tests::web::Seen::has_credentials));

    // One commit by its id, as an operator fetches it.
    assert!(git(&site, folder.path(), &["init", "-q", "one"]).status.success());
    let fetched = git(
        &site,
        &folder.path().join("one"),
        &["fetch", "-q", "--depth=1", &with("secret"), &second],
    );
    assert!(fetched.status.success(), "{}", said(&fetched));
}

#[test]
fn the_same_words_make_the_same_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (_site, server) = server(folder.path());
    let ids: Vec<String> = ["a", "b"]
        .iter()
        .map(|name| {
            let repo = server.create(name, None).unwrap();
            repo.commit(&[("x y", b"1"), ("gone", b"2")], "one").unwrap();
            repo.commit_to("main", &[("dir/z", b"\n")], &["gone"], "two\n\nbody").unwrap()
        })
        .collect();
    assert_eq!(ids[0], ids[1]);
    let files = server.root().open("a").git(&["ls-tree", "-r", "--name-only", "main"]).unwrap();
    assert_eq!(files, "dir/z\nx y\n");
}

#[test]
fn a_server_fails_redirects_hangs_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (site, mut server) = server(folder.path());
    let repo = server.create("robot", None).unwrap();
    repo.commit(&[("a", b"1")], "one").unwrap();
    let url = repo.url().to_owned();
    let list = || git(&site, folder.path(), &["ls-remote", &url]);
    assert!(list().status.success());

    server.server().fault_rule(Rule {
        fault: Fault::Status(503),
        path: "info/refs".into(),
        times: Some(1),
    });
    assert!(said(&list()).contains("503"));
    assert!(list().status.success(), "the fault was for one request");

    let mut other = GitServer::start(
        &site,
        &GitOptions {
            name: "other".into(),
            port: None,
            tls: true,
        },
    )
    .unwrap();
    server.server().fault(Fault::Redirect(other.server().url()));
    assert!(!list().status.success());
    assert_eq!(other.server().seen().len(), 1, "git followed the redirect once");
    server.server().heal();

    server.server().fault(Fault::Hang);
    assert!(said(&list()).contains("too slow"), "{}", said(&list()));
    server.server().heal();
    server.server().fault(Fault::Cut(10));
    assert!(!list().status.success());
    server.server().heal();
    assert!(list().status.success());

    server.server().stop();
    assert!(said(&list()).contains("onnect"), "{}", said(&list()));
    server.server().start_again().unwrap();
    assert!(list().status.success());
}

#[tokio::test]
async fn files_are_served_and_nothing_above_them() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::loopback(folder.path()).unwrap();
    std::fs::create_dir_all(folder.path().join("www/conda")).unwrap();
    std::fs::write(folder.path().join("www/conda/repodata.json"), "{}").unwrap();
    std::fs::write(folder.path().join("above"), "no").unwrap();
    let server = files::serve("127.0.0.1:0", Some(site.certificate("files").unwrap()), folder.path().join("www")).unwrap();
    let authority = reqwest::Certificate::from_pem(site.authority.pem().unwrap().as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .timeout(Duration::from_secs(10));
    let client = client.build().unwrap();
    let get = async |path: &str| client.get(format!("{}{path}", server.url())).send().await.unwrap();
    assert_eq!(get("/conda/repodata.json").await.text().await.unwrap(), "{}");
    for path in ["/", "/conda", "/%2e%2e/above", "/..%2fabove", "//etc/passwd", "/nothing"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
}
