use std::time::Duration;

use super::*;

/// A program that stands in for rcc, for faults that the real one cannot be made to show.
struct MockRcc {
    folder: tempfile::TempDir,
    rcc: Rcc,
}

const MAKE: &str = r#"
space=$ROBOCORP_HOME/holotree/$(cat "$HOME/space")
mkdir -p "$space/lib/python3.11/site-packages" "$ROBOCORP_HOME/hololib"
echo x > "$space/identity.yaml"
echo times > "$space/rcc_plan.log"
answer() { printf '[{"key":"RCC_HOLOTREE_SPACE_ROOT","value":"%s"}]' "$1"; }
"#;

impl MockRcc {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mock-rcc");
        fs::write(&path, format!("#!/bin/sh\n{MAKE}\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(folder.path().join("spec/bot")).unwrap();
        fs::create_dir_all(folder.path().join("home")).unwrap();
        fs::write(folder.path().join("home/space"), space::name(&folder.path().join("home"))).unwrap();
        fs::write(folder.path().join("netrc"), "machine h login me password geheimes-wort\n").unwrap();
        let rcc = Rcc {
            path,
            version: "v19.0.2".to_owned(),
            sha256: "0".repeat(64),
        };
        Self { folder, rcc }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn resolve(&self, key: &str, seconds: u64) -> Result<Resolved, Error> {
        resolve(&ResolveRequest {
            rcc: &self.rcc,
            spec: &self.at("spec"),
            folder: Path::new("bot"),
            environment_file: Path::new("bot/conda.yaml"),
            rcc_home: &self.at("rcc"),
            home: &self.at("home"),
            platform: None,
            index_secret: Some(&self.at("netrc")),
            glibc: "2.36",
            deadline: Instant::now() + Duration::from_secs(seconds),
            cancel: Arc::new(AtomicBool::new(false)),
            progress: &|_| {},
            bytecode: false,
            key,
        })
    }
}

#[test]
fn a_result_is_sealed_and_reused_by_its_key() {
    let mock = MockRcc::new(
        "env | sort > \"$HOME/seen\"; pwd >> \"$HOME/seen\"; stat -c %a \"$HOME/.netrc\" >> \"$HOME/seen\"; answer \"$space\"",
    );
    let resolved = mock.resolve("a", 60).unwrap();
    assert!(resolved.sealed.starts_with(mock.at("rcc/holotree")));
    assert!(!resolved.sealed.join("rcc_plan.log").exists());
    assert_eq!(resolved.outside, ["seen", "space"]);
    assert!(!mock.at("home/.netrc").exists());
    let seen = fs::read_to_string(mock.at("home/seen")).unwrap();
    assert!(
        seen.contains("CONDA_OVERRIDE_GLIBC=2.36\n") && seen.contains("/spec/bot\n") && seen.ends_with("600\n"),
        "{seen}"
    );
    assert!(!seen.contains("CARGO"), "{seen}");
    fs::remove_file(mock.at("home/seen")).unwrap();
    assert_eq!(mock.resolve("a", 60).unwrap(), resolved);
    assert!(!mock.at("home/seen").exists());
    mock.resolve("b", 60).unwrap();
    assert!(mock.at("home/seen").exists());
}

#[test]
fn a_failure_has_its_reason_and_no_secret() {
    let mock = MockRcc::new("echo 'Fatal [post-install]: x' >&2; echo \"Script 'curl geheimes-wort' failure: exit status 3\" >&2; exit 6");
    let error = mock.resolve("", 60).unwrap_err();
    assert_eq!(error.reason(), Reason::PostInstallFailed);
    assert!(error.to_string().contains("\"curl [secret]\""), "{error}");
    assert!(!error.tail().unwrap().contains("geheim"));
    assert!(!mock.at("home/.netrc").exists());
}

#[test]
fn silence_is_asked_once_more() {
    let silent = "echo 'Fatal [Pip [1/1]]: exit status 1' >&2; echo 'ERROR: Could not find a version that satisfies the requirement six (from versions: none)' >&2; echo 'ERROR: No matching distribution found for six' >&2;";
    let mock = MockRcc::new(&format!(
        "{silent} grep -q verbose \"$ROBOCORP_HOME/piprc\" && echo 'Could not fetch URL http://h/six/: 403 Client Error: Forbidden for url: http://h/six/ - skipping' >&2; exit 6"
    ));
    assert_eq!(mock.resolve("", 60).unwrap_err().reason(), Reason::IndexAuthFailed);
}

#[test]
fn bad_ends_are_told_apart() {
    for (script, reason, said) in [
        ("kill -9 $$", Reason::OutOfMemory, "killed from outside"),
        ("sleep 100", Reason::BuildTimeout, "not ready in time"),
        ("answer /elsewhere", Reason::RccUnavailable, "the environment is at /elsewhere"),
        ("echo '[]'", Reason::RccUnavailable, "does not say where"),
        ("echo no json", Reason::RccUnavailable, "not the list of variables"),
        (
            "rm -r \"$space\"; ln -s /etc \"$space\"; answer \"$space\"",
            Reason::RccUnavailable,
            "there is no folder",
        ),
        (
            "echo geheimes-wort > \"$space/leak\"; answer \"$space\"",
            Reason::SecretLeakDetected,
            "\"leak\" holds a secret",
        ),
        ("exit 113", Reason::RccUnavailable, "rcc cannot work here"),
    ] {
        let mock = MockRcc::new(script);
        let error = mock.resolve("k", 2).unwrap_err();
        assert_eq!(error.reason(), reason, "{script}: {error}");
        assert!(error.to_string().contains(said), "{script}: {error}");
        assert!(!mock.at("rcc").join(RESULT).exists());
    }
}

#[test]
fn a_foreign_home_is_left_alone() {
    let mock = MockRcc::new("answer \"$space\"");
    fs::create_dir_all(mock.at("rcc/hololib")).unwrap();
    fs::write(mock.at("rcc/hololib/precious"), "x").unwrap();
    assert!(matches!(mock.resolve("", 60), Err(Error::NotOurs { .. })));
    assert!(mock.at("rcc/hololib/precious").exists());
}
