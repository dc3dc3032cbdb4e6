use std::sync::Arc;

use super::*;
use crate::image::layers::Spool;
use crate::image::oci;
use crate::image::{BaseFacts, Content, Image, Parts, oci::History};
use crate::robot;

/// A robot, an environment and two binaries on disk, always the same.
struct Fixture {
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fixture = Self { folder };
        for (path, content) in [
            (
                "source/robot.yaml",
                "tasks:\n  Read invoices:\n    shell: python task.py\nartifactsDir: output\ncondaConfigFile: conda.yaml\nPATH:\n  - bin\n",
            ),
            (
                "source/conda.yaml",
                "channels:\n  - conda-forge\ndependencies:\n  - python=3.11.7\n",
            ),
            ("source/task.py", "print('hello')\n"),
            ("source/bin/run.sh", "#!/bin/sh\r\necho hello\r\n"),
            ("source/output/log.html", "from a run"),
            ("env/identity.yaml", "channels:\n- conda-forge\n"),
            ("env/bin/python", "elf"),
            ("rcc", "rcc"),
            ("launcher", "launcher"),
        ] {
            let path = fixture.at(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, content).unwrap();
        }
        fixture
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn recipe(&self, compression: Compression) -> Recipe {
        let robot = robot::load(&self.at("source"), "robot.yaml").unwrap();
        Recipe {
            tree: "0".repeat(40),
            base: base(),
            rcc: oci::digest(b"rcc"),
            rcc_version: "v19.0.2".to_owned(),
            launcher: oci::digest(b"launcher"),
            robot: RobotFacts::of(&robot, None).unwrap(),
            environment: Some(EnvironmentFacts {
                key: "e".repeat(64),
                files: "f".repeat(64),
                blueprint: "873a70b30de4a4c9".to_owned(),
                file: "conda.yaml".to_owned(),
                file_digest: "d".repeat(64),
            }),
            user: "1000:0".to_owned(),
            labels: BTreeMap::from([("team".to_owned(), "finance".to_owned())]),
            annotations: BTreeMap::new(),
            compression,
            compatibility: 1,
        }
    }

    fn make(&self, recipe: &Recipe, reused: &[Reused]) -> Result<Image, Failure> {
        let scratch = tempfile::tempdir_in(self.folder.path()).unwrap();
        let spool = Spool {
            folder: scratch.path(),
            codec: recipe.codec(),
            secrets: Arc::default(),
            cancel: Arc::default(),
            progress: None,
        };
        let tree = self.at("env");
        let parts = Parts {
            source: &self.at("source"),
            rcc: &self.at("rcc"),
            launcher: &self.at("launcher"),
            environment: reused.is_empty().then_some(tree.as_path()),
            reused,
        };
        recipe.make(&parts, &spool, &mut |_| Ok(()))
    }
}

fn base() -> Base {
    Base {
        name: Some("docker.io/library/debian:bookworm-slim".to_owned()),
        digest: format!("sha256:{}", "b".repeat(64)),
        layers: vec![Descriptor {
            media_type: "application/vnd.oci.image.layer.v1.tar+gzip".to_owned(),
            digest: format!("sha256:{}", "1".repeat(64)),
            size: 28_000_000,
            annotations: BTreeMap::new(),
        }],
        diff_ids: vec![format!("sha256:{}", "2".repeat(64))],
        env: vec!["PATH=/usr/bin:/bin".to_owned()],
        history: vec![History {
            created_by: Some("debian".to_owned()),
            ..History::default()
        }],
        facts: BaseFacts {
            glibc: Some("2.36".to_owned()),
            loader: true,
            passwd: Some("root:x:0:0:root:/root:/bin/bash\n".to_owned()),
            ..BaseFacts::default()
        },
    }
}

#[test]
fn golden_images_of_compatibility_1() {
    // These digests are a promise: the same files give them on every machine and with every later version of this program.
    // A change needs a new value of `compatibility`.
    let fixture = Fixture::new();
    let digests = [Compression::Gzip, Compression::Zstd].map(|compression| fixture.make(&fixture.recipe(compression), &[]).unwrap().digest);
    assert_eq!(
        digests,
        [
            "sha256:56cc9629afcb6513cef83559b916caa6969b791940d718aecf4d6c301ccf6a21",
            "sha256:74d41c1cb55090b996c1f9282aa16f83a85fa37db5e51bf6e71e044497727e4a"
        ]
    );
}

#[test]
fn the_manifest_is_this() {
    let fixture = Fixture::new();
    let image = fixture.make(&fixture.recipe(Compression::Zstd), &[]).unwrap();
    insta::assert_snapshot!(String::from_utf8(image.manifest).unwrap());
    insta::assert_snapshot!(String::from_utf8(image.config).unwrap());
}

#[test]
fn place_umask_and_runs_change_nothing() {
    let (one, two) = (Fixture::new(), Fixture::new());
    std::fs::write(two.at("source/output/other"), "x").unwrap();
    std::fs::write(two.at("source/hololib.zip"), "x").unwrap();
    for path in ["source", "source/robot.yaml", "env/identity.yaml"] {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(if path == "source" { 0o700 } else { 0o600 });
        std::fs::set_permissions(two.at(path), mode).unwrap();
    }
    let make = |fixture: &Fixture| fixture.make(&fixture.recipe(Compression::Zstd), &[]).unwrap().digest;
    assert_eq!(make(&one), make(&two));
    std::fs::write(two.at("source/task.py"), "print('changed')\n").unwrap();
    assert_ne!(make(&one), make(&two));
}

#[test]
fn a_code_change_takes_the_other_layers_over() {
    let fixture = Fixture::new();
    let recipe = fixture.recipe(Compression::Zstd);
    let first = fixture.make(&recipe, &[]).unwrap();
    let manifest: Manifest = serde_json::from_slice(&first.manifest).unwrap();
    let config: Config = serde_json::from_slice(&first.config).unwrap();
    std::fs::write(fixture.at("source/task.py"), "print('changed')\n").unwrap();
    let reused = recipe.reusable(&manifest, &config);
    assert_eq!(
        reused.iter().map(|layer| layer.role).collect::<Vec<_>>(),
        [Role::Base, Role::Rcc, Role::Environment, Role::Home]
    );
    let second = fixture.make(&recipe, &reused).unwrap();
    let fresh = fixture.make(&recipe, &[]).unwrap();
    assert_eq!(second.digest, fresh.digest, "reused or made anew, the image is the same");
    assert_ne!(second.digest, first.digest);
    let previous = second.layers.iter().filter(|layer| layer.content == Content::Previous).count();
    assert_eq!((previous, second.layers.len()), (4, 5));

    let other = |change: fn(&mut Recipe)| {
        let mut changed = recipe.clone();
        change(&mut changed);
        changed
            .reusable(&manifest, &config)
            .iter()
            .map(|layer| layer.role)
            .collect::<Vec<_>>()
    };
    assert_eq!(other(|recipe| recipe.rcc.push('x')), [Role::Base, Role::Environment, Role::Home]);
    assert_eq!(
        other(|recipe| recipe.environment.as_mut().unwrap().key.push('x')),
        [Role::Base, Role::Rcc]
    );
    assert_eq!(
        other(|recipe| recipe.base.layers[0].digest.push('x')),
        [Role::Rcc, Role::Environment, Role::Home]
    );
    // The same packages under another of rcc's hashes need another catalog, which is made from the environment's files.
    assert_eq!(
        other(|recipe| recipe.environment.as_mut().unwrap().blueprint.push('x')),
        [Role::Base, Role::Rcc]
    );
    assert_eq!(
        other(|recipe| recipe.user = "7:0".to_owned()),
        [Role::Base, Role::Environment, Role::Home]
    );
}

#[test]
fn a_shell_robot_has_no_environment_layer() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe(Compression::Gzip);
    recipe.environment = None;
    std::fs::write(
        fixture.at("source/robot.yaml"),
        "tasks:\n  Read invoices:\n    shell: sh run.sh\nartifactsDir: output\n",
    )
    .unwrap();
    let image = fixture.make(&recipe, &[]).unwrap();
    let roles: Vec<Role> = image.layers.iter().map(|layer| layer.role).collect();
    assert_eq!(roles, [Role::Base, Role::Rcc, Role::Home, Role::Code]);
}

#[test]
fn a_base_with_links_in_our_way_is_refused() {
    let fixture = Fixture::new();
    let mut recipe = fixture.recipe(Compression::Gzip);
    recipe.base.facts.links.insert("/opt".to_owned(), "var/opt".to_owned());
    let failure = fixture.make(&recipe, &[]).unwrap_err();
    assert_eq!(failure.reason, Reason::BaseNotFound);
    assert!(failure.message.contains("/opt"), "{failure}");
}

#[test]
fn artifacts_that_hold_code_are_not_left_out() {
    let facts = |file: &str, artifacts: &str| RobotFacts {
        file: file.to_owned(),
        task: None,
        title: None,
        artifacts: artifacts.to_owned(),
    };
    assert_eq!(facts("robot.yaml", "").artifacts_to_skip(), None);
    assert_eq!(facts("a/robot.yaml", "a").artifacts_to_skip(), None);
    assert_eq!(
        facts("a/robot.yaml", "a/output").artifacts_to_skip(),
        Some(PathBuf::from("a/output"))
    );
    assert_eq!(facts("a/robot.yaml", "ab").artifacts_to_skip(), Some(PathBuf::from("ab")));
    assert_eq!(facts("robot.yaml", "").artifacts_in_image(), "/home/robot/app");
}
