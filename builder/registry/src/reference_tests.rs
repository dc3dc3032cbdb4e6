//! Tables of what is and what is not a reference.

use proptest::prelude::*;

use super::*;

const D: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn accepted() {
    let long_tag = "t".repeat(128);
    let table: Vec<(String, &str, &str, Option<&str>, bool)> = vec![
        (
            "registry.example.com/robots/a".into(),
            "registry.example.com",
            "robots/a",
            None,
            false,
        ),
        (
            "registry.example.com:5000/robots/a:v1".into(),
            "registry.example.com:5000",
            "robots/a",
            Some("v1"),
            false,
        ),
        (format!("localhost:5000/a@{D}"), "localhost:5000", "a", None, true),
        (format!("localhost/a:1@{D}"), "localhost", "a", Some("1"), true),
        ("[::1]:5000/a:x".into(), "[::1]:5000", "a", Some("x"), false),
        ("127.0.0.1:5000/a/b/c".into(), "127.0.0.1:5000", "a/b/c", None, false),
        ("debian:13-slim".into(), "docker.io", "library/debian", Some("13-slim"), false),
        ("grafana/loki".into(), "docker.io", "grafana/loki", None, false),
        ("index.docker.io/grafana/loki".into(), "docker.io", "grafana/loki", None, false),
        ("docker.io/debian".into(), "docker.io", "library/debian", None, false),
        (
            "r.example.com/a__b/c---d.e_f:_x.Y-z".into(),
            "r.example.com",
            "a__b/c---d.e_f",
            Some("_x.Y-z"),
            false,
        ),
        (format!("r.example.com/a:{long_tag}"), "r.example.com", "a", Some(&long_tag), false),
    ];
    for (text, registry, repository, tag, pinned) in &table {
        let reference = Reference::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            (
                reference.registry(),
                reference.repository(),
                reference.tag(),
                reference.digest().is_some()
            ),
            (*registry, *repository, *tag, *pinned),
            "{text}"
        );
        assert_eq!(Reference::parse(&reference.to_string()), Ok(reference), "{text}: printed form");
    }
}

#[test]
fn refused_with_a_reason_that_names_the_input() {
    let long = format!("r.example.com/{}", "a".repeat(256));
    let huge = "a".repeat(100_000);
    let table = [
        ("", "empty"),
        ("https://r.example.com/a", "scheme"),
        ("r.example.com/A", "upper-case"),
        ("r.example.com/a b", "space"),
        ("r.example.com/a\u{7}", "control"),
        ("r.example.com/ä", "ASCII"),
        ("r.example.com/a:", "a tag is"),
        ("r.example.com/a:é", "ASCII"),
        ("r.example.com/a:-x", "a tag is"),
        ("r.example.com/a:b:c", "a tag is"),
        ("r.example.com/a@sha256:12", "digest"),
        ("r.example.com/a@md5:900150983cd24fb0d6963f7d28e17f72", "sha256 or sha512"),
        ("r.example.com//a", "a repository name is made"),
        ("r.example.com/a/", "a repository name is made"),
        ("r.example.com/../a", "a repository name is made"),
        ("r.example.com/a___b", "a repository name is made"),
        ("r.example.com/_a", "a repository name is made"),
        ("r.example.com:0/a", "host name"),
        ("r.example.com:99999/a", "host name"),
        ("r.example.com:+80/a", "host name"),
        ("-r.example.com/a", "host name"),
        ("[::1/a", "host name"),
        (long.as_str(), "longer than 255"),
        (huge.as_str(), "longer than 1024"),
    ];
    for (text, expected) in table {
        let error = Reference::parse(text).expect_err(text).to_string();
        assert!(error.contains(expected), "{text:?} -> {error}");
        assert!(error.len() < 700, "bounded: {error}");
    }
}

#[test]
fn a_password_is_not_shown() {
    for text in [
        "user:hunter2@r.example.com/a",
        "user:hunter2@r.example.com:5000/a:1",
        "u:hunter2@x@r.example.com/a",
    ] {
        let error = Reference::parse(text).unwrap_err().to_string();
        assert!(!error.contains("hunter2") && error.contains("r.example.com"), "{error}");
    }
}

#[test]
fn a_repository_has_neither_tag_nor_digest() {
    assert_eq!(Repository::parse("r.example.com/a").unwrap().to_string(), "r.example.com/a");
    assert!(Repository::parse("r.example.com/a:1").is_err());
    assert!(Repository::parse(&format!("r.example.com/a@{D}")).is_err());
    let tagged = Repository::parse("r.example.com/a").unwrap().with_tag("1").unwrap();
    let pinned = tagged.with_digest(&Digest::try_from(D).unwrap());
    assert_eq!(pinned.to_string(), format!("r.example.com/a:1@{D}"));
    assert_eq!(pinned.with_tag("2").unwrap().to_string(), "r.example.com/a:2");
    assert_eq!((tagged.locator().as_str(), pinned.locator().as_str()), ("1", D));
    let json = serde_json::to_string(&pinned).unwrap();
    assert_eq!(serde_json::from_str::<Reference>(&json).unwrap(), pinned);
    assert!(serde_json::from_str::<Repository>(&json).is_err());
}

proptest! {
    #[test]
    fn never_panics_and_what_parses_prints_and_parses_again(text in "\\PC{0,80}") {
        if let Ok(reference) = Reference::parse(&text) {
            prop_assert_eq!(Reference::parse(&reference.to_string()).unwrap(), reference);
        }
    }

    #[test]
    fn what_is_accepted_is_safe_in_a_path(text in "[a-zA-Z0-9./:@_%?#-]{1,60}") {
        if let Ok(reference) = Reference::parse(&text) {
            let path = format!("/v2/{}/manifests/{}", reference.repository(), reference.locator());
            prop_assert!(!path.contains(['%', '?', '#']));
            prop_assert!(path[1..].split('/').all(|part| !matches!(part, "" | "." | "..")));
        }
    }
}
