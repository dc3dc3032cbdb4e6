//! Every kind of source by the fetch step as a program: the same robot is the same image wherever it comes from, and what
//! servers and registries do wrong is told. Takes about ten seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use robotimage_crds::build::{Failure, Fetched, Outcome, PlanFrom, PlanIgnore, Step, paths};
use robotimage_registry::{BlobSource, MediaType};
use robotimage_tests::files;
use robotimage_tests::web::{Fault, Rule, Server};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::learned::{Desk, ENVIRONMENT, ROBOT};
use crate::pod::noise;

/// Where artifacts are.
const ARTIFACT: &str = "sources/robot";

/// A robot as a folder and as archives behind a web server.
struct Shelf {
    desk: Desk,
    web: Server,
    folder: tempfile::TempDir,
}

impl Shelf {
    async fn new(name: &str) -> Self {
        let desk = Desk::new(name).await;
        let folder = tempfile::tempdir().unwrap();
        let robot = folder.path().join("robot");
        fs::create_dir_all(&robot).unwrap();
        for (name, text) in [("conda.yaml", ENVIRONMENT), ("robot.yaml", ROBOT), ("task.py", &noise(1, 1000))] {
            fs::write(robot.join(name), text).unwrap();
        }
        let shelf = Self {
            web: files::serve("127.0.0.1:0", None, folder.path().to_owned()).unwrap(),
            desk,
            folder,
        };
        shelf.pack("tar", &["-czf", "robot.tar.gz", "-C", "robot", "."]);
        shelf.pack("tar", &["-cf", "folder.tar", "robot"]);
        shelf.pack(
            "python3",
            &[
                "-m",
                "zipfile",
                "-c",
                "robot.zip",
                "robot/conda.yaml",
                "robot/robot.yaml",
                "robot/task.py",
            ],
        );
        shelf
    }

    fn pack(&self, program: &str, arguments: &[&str]) {
        let status = Command::new(program)
            .args(arguments)
            .current_dir(self.folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "{program} {arguments:?}");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.web.url())
    }

    fn http(&self, name: &str) -> PlanFrom {
        PlanFrom::Http {
            url: self.url(name),
            sha256: None,
        }
    }

    /// Pushes blobs with their annotations under a tag.
    async fn push(&self, tag: &str, blobs: &[(&[u8], Value)]) -> PlanFrom {
        let (client, repository) = (&self.desk.ground.direct, self.desk.ground.repository(ARTIFACT));
        let mut layers = Vec::new();
        for (bytes, annotations) in blobs {
            let blob = BlobSource::from_bytes(bytes.to_vec());
            client.push_blob(&repository, &blob, None).await.unwrap();
            layers.push(
                json!({"mediaType": "application/vnd.cncf.flux.content.v1.tar+gzip", "size": blob.size(),
                "digest": blob.digest().to_string(), "annotations": annotations}),
            );
        }
        let config = BlobSource::from_bytes("{}");
        client.push_blob(&repository, &config, None).await.unwrap();
        let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "layers": layers,
            "config": {"mediaType": "application/vnd.cncf.flux.config.v1+json", "size": 2, "digest": config.digest().to_string()}});
        client
            .tag(&repository, manifest.to_string().into(), &MediaType::ImageManifest, tag)
            .await
            .unwrap();
        PlanFrom::Oci {
            image: format!("{}/{ARTIFACT}:{tag}", self.desk.ground.registry.address()),
        }
    }

    /// Mounts files as the kubelet mounts a ConfigMap.
    fn mount(&self, files: &[(&str, &[u8])]) -> PlanFrom {
        let mounted = self.desk.pod.path(paths::SOURCE_CONFIG_MAP);
        let state = mounted.join("..1");
        fs::create_dir_all(&state).unwrap();
        for (name, bytes) in files {
            fs::write(state.join(name), bytes).unwrap();
        }
        std::os::unix::fs::symlink("..1", mounted.join("..data")).unwrap();
        PlanFrom::ConfigMap {
            name: "robot-files".to_owned(),
        }
    }

    async fn fetch(&mut self, from: PlanFrom, path: &str) -> Result<Fetched, Failure> {
        let source = &mut self.desk.pod.plan.source;
        source.from = from;
        path.clone_into(&mut source.path);
        match self.desk.pod.run_step(Step::Fetch).await {
            (0, Outcome::Fetched(fetched)) => Ok(*fetched),
            (_, Outcome::Failed(failure)) => Err(failure),
            other => panic!("{other:?}"),
        }
    }

    async fn fails(&mut self, from: PlanFrom, path: &str) -> Failure {
        self.fetch(from, path).await.unwrap_err()
    }

    fn secret(&mut self, files: &[(&str, &str)]) {
        let mounted = self.desk.pod.path(paths::SOURCE_SECRET);
        fs::remove_dir_all(&mounted).ok();
        fs::create_dir_all(&mounted).unwrap();
        for (name, text) in files {
            fs::write(mounted.join(name), text).unwrap();
        }
        self.desk.pod.plan.source.secret = true;
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn the_same_robot_from_every_kind_of_source_is_the_same_image() {
    let mut shelf = Shelf::new("sources/a").await;
    let archive = shelf.read("robot.tar.gz");
    let title = |name: &str| json!({"org.opencontainers.image.title": name});
    let (conda, robot, task) = (
        shelf.read("robot/conda.yaml"),
        shelf.read("robot/robot.yaml"),
        shelf.read("robot/task.py"),
    );
    let one: [(&str, &[u8]); 3] = [("conda.yaml", &conda), ("robot.yaml", &robot), ("task.py", &task)];
    let flux = shelf.push("flux", &[(&archive, json!({}))]).await;
    let files = shelf.push("files", &one.map(|(name, bytes)| (bytes, title(name)))).await;
    shelf.pack("tar", &["-czf", "folder.tar.gz", "robot"]);
    let mut unpacked = title("robot");
    unpacked["io.deis.oras.content.unpack"] = json!("true");
    let folder = shelf.push("folder", &[(&shelf.read("folder.tar.gz"), unpacked)]).await;
    let mounted = shelf.mount(&one);
    let git = shelf.desk.pod.plan.source.from.clone();
    let checked = PlanFrom::Http {
        url: shelf.url("robot.tar.gz"),
        sha256: Some(sha256(&archive)),
    };
    let (tar_gz, zip, tar) = (shelf.http("robot.tar.gz"), shelf.http("robot.zip"), shelf.http("folder.tar"));
    let mut images = BTreeMap::new();
    for (kind, from, path, reference) in [
        ("git", git, "", "HEAD"),
        ("tar.gz", tar_gz, "", "archive"),
        ("checked", checked, "", "archive"),
        ("zip", zip, "", "archive"),
        ("tar", tar, "robot", "archive"),
        ("flux", flux, "", "flux"),
        ("oras files", files, "", "files"),
        ("oras folder", folder, "robot", "folder"),
        ("ConfigMap", mounted, "", "robot-files"),
    ] {
        let fetched = shelf
            .fetch(from, path)
            .await
            .unwrap_or_else(|failure| panic!("{kind}: {failure:?}"));
        assert_eq!(fetched.reference, reference, "{kind}");
        assert_eq!(fetched.commit.len(), if kind == "git" { 40 } else { 64 }, "{kind}");
        if kind == "tar.gz" {
            assert_eq!(fetched.commit, sha256(&archive));
        }
        let digest = shelf.desk.pod.publish().await;
        images.insert(kind, (fetched.tree, fetched.build_key, digest));
    }
    let first = &images["git"];
    assert!(images.values().all(|image| image == first), "{images:#?}");

    // What is left out is as if it had never been there.
    fs::write(shelf.folder.path().join("robot/notes.md"), "x").unwrap();
    shelf.pack("tar", &["-czf", "more.tar.gz", "-C", "robot", "."]);
    shelf.desk.pod.plan.source.ignore = PlanIgnore {
        patterns: "*.md\n".to_owned(),
        from_robot: false,
    };
    let more = shelf.http("more.tar.gz");
    let fetched = shelf.fetch(more, "").await.unwrap();
    assert_eq!((&fetched.tree, &fetched.build_key), (&first.0, &first.1));
    assert_eq!(shelf.desk.pod.publish().await, first.2);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn what_goes_wrong_with_a_source_is_told() {
    let mut shelf = Shelf::new("sources/b").await;
    let archive = shelf.read("robot.tar.gz");
    let once = |fault| Rule {
        fault,
        path: "robot.tar.gz".to_owned(),
        times: Some(1),
    };
    // A moment later it works.
    for fault in [Fault::Cut(100), Fault::Status(502), Fault::Delay(Duration::from_millis(100))] {
        shelf.web.fault_rule(once(fault.clone()));
        let from = shelf.http("robot.tar.gz");
        assert!(shelf.fetch(from, "").await.is_ok(), "{fault:?}");
        shelf.web.heal();
    }
    fs::write(shelf.folder.path().join("page.html"), "<html>log in</html>").unwrap();
    fs::write(shelf.folder.path().join("cut.tar.gz"), &archive[..archive.len() - 9]).unwrap();
    fs::write(shelf.folder.path().join("zeros"), vec![0; 3 << 20]).unwrap();
    let wrong = PlanFrom::Http {
        url: shelf.url("robot.tar.gz"),
        sha256: Some("0".repeat(64)),
    };
    let elsewhere = |url: &str| PlanFrom::Http {
        url: url.to_owned(),
        sha256: None,
    };
    let address = shelf.desk.ground.registry.address().to_owned();
    let nothing = PlanFrom::Oci {
        image: format!("{address}/{ARTIFACT}:nothing"),
    };
    let image = PlanFrom::Oci {
        image: format!("{address}/learned/rcc:1"),
    };
    let up = shelf.push("up", &[(b"x", json!({"org.opencontainers.image.title": "../x"}))]).await;
    let table = [
        (wrong, "", "ChecksumMismatch", "correct source.http.sha256"),
        (shelf.http("gone.tar.gz"), "", "SourceNotFound", "404"),
        (shelf.http("page.html"), "", "SourceRejected", "is a web page"),
        (shelf.http("cut.tar.gz"), "", "SourceRejected", "is cut off"),
        (shelf.http("zeros"), "", "SourceTooLarge", "sends more than"),
        (
            shelf.http("folder.tar"),
            "",
            "SourcePathNotFound",
            "in the folder \"robot\"; set source.path",
        ),
        (shelf.http("folder.tar"), "robots", "SourcePathNotFound", "it begins with \"robot\""),
        (elsewhere("http://192.0.2.1/x"), "", "SourceRejected", "plain http"),
        (elsewhere("https://127.0.0.1:1/x"), "", "SourceUnreachable", "cannot be reached"),
        (nothing, "", "SourceNotFound", ":nothing"),
        (image, "", "RobotYamlInvalid", "robot.yaml"),
        (up, "", "SourceRejected", "\"../x\", a name that leads out"),
        (
            PlanFrom::ConfigMap { name: "none".to_owned() },
            "",
            "SourceNotFound",
            "ConfigMap none",
        ),
    ];
    for (from, path, reason, said) in table {
        let failure = shelf.fails(from, path).await;
        assert_eq!(failure.reason, reason, "{failure:?}");
        assert!(failure.message.contains(said), "{failure:?}");
    }
    // A bomb of another kind: the manifest says the truth about a blob that is too large.
    let large = shelf.push("large", &[(&vec![0; 3 << 20], json!({}))]).await;
    assert_eq!(shelf.fails(large, "").await.reason, "SourceTooLarge");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn credentials_of_a_source_go_to_the_hosts_they_name() {
    let mut shelf = Shelf::new("sources/c").await;
    let from = shelf.http("robot.tar.gz");
    shelf.desk.pod.plan.platform.require_secret_hosts = true;
    shelf.desk.pod.plan.source.secret = true;
    let missing = shelf.fails(from.clone(), "").await;
    assert_eq!(missing.reason, "SecretMissing", "{missing:?}");
    assert!(shelf.web.seen().is_empty());
    shelf.secret(&[("bearerToken", "s3cret"), ("hosts", "files.example.com")]);
    let mismatch = shelf.fails(from.clone(), "").await;
    assert_eq!(mismatch.reason, "CredentialHostMismatch", "{mismatch:?}");
    assert!(shelf.web.seen().is_empty());
    shelf.secret(&[("bearerToken", "s3cret"), ("hosts", "127.0.0.1")]);
    assert!(shelf.fetch(from.clone(), "").await.is_ok());
    assert!(shelf.web.seen().iter().all(robotimage_tests::web::Seen::has_credentials));
    // Another host that a redirect names gets none of it.
    let other = files::serve("127.0.0.2:0", None, shelf.folder.path().to_owned()).unwrap();
    shelf.web.fault(Fault::Redirect(other.url()));
    assert!(shelf.fetch(from.clone(), "").await.is_ok());
    assert!(!other.seen().is_empty() && other.seen().iter().all(|seen| !seen.has_credentials()));
    shelf.web.heal();
    shelf.web.fault(Fault::Status(401));
    let refused = shelf.fails(from, "").await;
    assert_eq!(refused.reason, "SourceAuthFailed", "{refused:?}");
    assert!(refused.message.contains("does not accept the credentials") && !refused.message.contains("s3cret"));
    assert!(!leaked(shelf.desk.pod.path("/").as_path(), "s3cret"));
}

/// Whether any file but the Secret itself holds the text.
fn leaked(folder: &Path, text: &str) -> bool {
    fs::read_dir(folder).unwrap().flatten().any(|entry| {
        let (at, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            return entry.file_name() != "secrets" && leaked(&at, text);
        }
        kind.is_file()
            && entry.metadata().unwrap().len() < 1 << 20
            && fs::read(&at).unwrap().windows(text.len()).any(|part| part == text.as_bytes())
    })
}
