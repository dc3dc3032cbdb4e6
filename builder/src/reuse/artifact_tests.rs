use std::path::PathBuf;

use robotimage_crds::api::Compression;

use super::*;
use crate::image::{Base, BaseFacts, Content, EnvironmentFacts, RobotFacts};

fn recipe() -> Recipe {
    Recipe {
        tree: "0".repeat(40),
        base: Base {
            name: None,
            digest: digest(b"base"),
            layers: Vec::new(),
            diff_ids: Vec::new(),
            env: Vec::new(),
            history: Vec::new(),
            facts: BaseFacts::default(),
        },
        rcc: digest(b"rcc"),
        rcc_version: "v19.0.2".to_owned(),
        launcher: digest(b"launcher"),
        robot: RobotFacts {
            file: "robot.yaml".to_owned(),
            task: None,
            title: None,
            artifacts: "output".to_owned(),
        },
        environment: Some(EnvironmentFacts {
            key: "e".repeat(64),
            files: "f".repeat(64),
            blueprint: "873a70b30de4a4c9".to_owned(),
            file: "conda.yaml".to_owned(),
            file_digest: "d".repeat(64),
        }),
        user: "1000:0".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        compression: Compression::Zstd,
        compatibility: 1,
    }
}

fn layer(recipe: &Recipe, role: Role, name: &str) -> ImageLayer {
    let mut annotations = BTreeMap::from([(ROLE_ANNOTATION.to_owned(), role.as_str().to_owned())]);
    if let Some(key) = recipe.layer_key(role) {
        annotations.insert(KEY_ANNOTATION.to_owned(), key);
    }
    ImageLayer {
        role,
        descriptor: Descriptor {
            media_type: recipe.codec().media_type().to_owned(),
            digest: digest(name.as_bytes()),
            size: 7,
            annotations,
        },
        diff_id: digest(format!("diff of {name}").as_bytes()),
        content: Content::File(PathBuf::new()),
    }
}

fn made(recipe: &Recipe) -> Artifact {
    let layers = [
        layer(recipe, Role::Rcc, "rcc"),
        layer(recipe, Role::Environment, "python"),
        layer(recipe, Role::Environment, "packages"),
        layer(recipe, Role::Home, "home"),
        layer(recipe, Role::Code, "code"),
    ];
    Artifact::of(recipe, &layers, 143).unwrap()
}

fn read_back(recipe: &Recipe, bytes: &[u8], config: &[u8]) -> Result<Kept, Bad> {
    read(recipe, &manifest(recipe, bytes)?, config)
}

#[test]
fn what_is_kept_reads_back() {
    let recipe = recipe();
    let artifact = made(&recipe);
    let kept = read_back(&recipe, &artifact.manifest, &artifact.config).unwrap();
    let roles: Vec<Role> = kept.layers.iter().map(|layer| layer.role).collect();
    assert_eq!(roles, [Role::Environment, Role::Environment, Role::Home]);
    assert_eq!(kept.packages, 143);
    assert_eq!(kept.layers[1].diff_id, digest(b"diff of packages"));
    assert_eq!(artifact, made(&recipe), "the same environment gives the same bytes");
    insta::assert_snapshot!(String::from_utf8(artifact.manifest).unwrap());
    insta::assert_snapshot!(String::from_utf8(artifact.config).unwrap());
}

#[test]
fn an_image_without_environment_keeps_none() {
    let with = recipe();
    let without = Recipe {
        environment: None,
        ..with.clone()
    };
    assert_eq!(Artifact::of(&without, &[layer(&with, Role::Home, "home")], 0), None);
}

#[test]
fn another_user_has_a_key_of_its_own() {
    let ours = recipe();
    assert_eq!(
        key(&ours).as_deref(),
        ours.environment.as_ref().map(|environment| environment.key.as_str())
    );
    let mut other = ours.clone();
    other.base.facts.passwd = Some("node:x:1000:1000::/home/node:/bin/sh\n".to_owned());
    assert_ne!(key(&other), key(&ours));
    assert_ne!(other.layer_key(Role::Home), ours.layer_key(Role::Home));
    // Each reads its own and no other.
    let artifact = made(&other);
    assert!(read_back(&other, &artifact.manifest, &artifact.config).is_ok());
    assert_eq!(read_back(&ours, &artifact.manifest, &artifact.config), Err(Bad::OtherKey));
}

#[test]
fn tags_are_short_enough() {
    let key = "a".repeat(64);
    let beside = tag_beside(&key, &digest(b""));
    assert_eq!(beside, format!("env-{key}-e3b0c442"));
    assert!(beside.len() <= 128);
}

#[test]
fn what_is_not_the_environment_of_the_key_is_refused() {
    type Change = fn(&mut Manifest, &mut Config);
    let recipe = recipe();
    let table: [(&str, Change); 20] = [
        ("is no environment", |manifest, _| manifest.media_type = "text/plain".to_owned()),
        ("is no environment", |manifest, _| {
            manifest.config.media_type = "application/json".to_owned();
        }),
        ("is no environment", |manifest, _| manifest.schema_version = 1),
        ("is no environment", |manifest, _| manifest.annotations.clear()),
        ("another key", |manifest, _| {
            manifest.annotations.insert(KEY_ANNOTATION.to_owned(), "d".repeat(64));
        }),
        ("how many packages", |manifest, _| {
            manifest.annotations.remove(PACKAGES_ANNOTATION);
        }),
        ("how many packages", |manifest, _| {
            manifest.annotations.insert(PACKAGES_ANNOTATION.to_owned(), "-1".to_owned());
        }),
        ("too many layers", |manifest, _| {
            let one = manifest.layers[0].clone();
            manifest.layers.resize(65, one);
        }),
        ("lists 2 layers", |_, config| drop(config.rootfs.diff_ids.pop())),
        ("is no digest", |_, config| config.rootfs.diff_ids[0] = "sha256:x".to_owned()),
        ("another platform", |_, config| config.architecture = "arm64".to_owned()),
        ("does not belong", |manifest, _| {
            manifest.layers[1].media_type = "application/vnd.oci.image.layer.v1.tar".to_owned();
        }),
        ("does not belong", |manifest, _| {
            manifest.layers[1].digest = "sha256:../../etc".to_owned();
        }),
        ("does not belong", |manifest, _| manifest.layers[1].size = 0),
        ("does not belong", |manifest, _| {
            manifest.layers[1].annotations.insert(KEY_ANNOTATION.to_owned(), "d".repeat(64));
        }),
        ("does not belong", |manifest, _| {
            manifest.layers[1].annotations.insert(ROLE_ANNOTATION.to_owned(), "code".to_owned());
        }),
        ("lacks the layers", |manifest, config| {
            manifest.layers.pop();
            config.rootfs.diff_ids.pop();
        }),
        ("lacks the layers", |manifest, config| {
            manifest.layers.drain(..2);
            config.rootfs.diff_ids.drain(..2);
        }),
        ("lacks the layers", |manifest, config| {
            manifest.layers.clear();
            config.rootfs.diff_ids.clear();
        }),
        ("does not belong", |manifest, _| manifest.layers.swap(0, 2)),
    ];
    for (number, (said, change)) in table.into_iter().enumerate() {
        let artifact = made(&recipe);
        let mut document: Manifest = serde_json::from_slice(&artifact.manifest).unwrap();
        let mut config: Config = serde_json::from_slice(&artifact.config).unwrap();
        change(&mut document, &mut config);
        let bad = read_back(&recipe, &to_bytes(&document), &to_bytes(&config)).unwrap_err();
        assert!(bad.to_string().contains(said), "{number}: {bad} does not say {said:?}");
    }
    let artifact = made(&recipe);
    for bytes in [&b""[..], b"[]", b"{}", b"null", &artifact.manifest[..100]] {
        assert!(matches!(read_back(&recipe, bytes, &artifact.config), Err(Bad::Manifest(_))));
        assert!(matches!(read_back(&recipe, &artifact.manifest, bytes), Err(Bad::Config(_))));
    }
    // What fits the tag and not the robot: another codec has another key, and so has the home of another rcc.
    let other = Recipe {
        rcc_version: "v20".to_owned(),
        ..recipe.clone()
    };
    assert!(read_back(&other, &artifact.manifest, &artifact.config).is_err());
}
