use serde_json::json;

use super::*;

fn documents(annotated: bool) -> Documents {
    let layer = |role: &str, part: Option<&str>, size: u64| {
        let mut annotations = BTreeMap::new();
        if annotated {
            annotations.insert(ROLE_ANNOTATION.to_owned(), role.to_owned());
            annotations.extend(part.map(|part| (PART_ANNOTATION.to_owned(), part.to_owned())));
            if role == "environment" {
                annotations.insert(KEY_ANNOTATION.to_owned(), "key1".to_owned());
            }
        }
        json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "digest": format!("sha256:{role}{}", part.unwrap_or_default()),
            "size": size, "annotations": annotations})
    };
    let made = [
        "robotimage test bed",
        "robotimage rcc",
        "robotimage environment",
        "robotimage environment",
        "robotimage home",
        "robotimage code",
    ];
    let history: Vec<_> = made.iter().map(|by| json!({"created_by": by})).collect();
    let ids: Vec<String> = (0..made.len()).map(|at| format!("sha256:d{at}")).collect();
    let facts =
        json!({"glibc": "2.36", "loader": true, "passwd": null, "group": null, "os": "Debian GNU/Linux 12 (bookworm)", "links": {}});
    let learned = json!({"base": {"digest": "sha256:b", "version": crate::image::base::FACTS_VERSION, "facts": facts},
        "rcc": {"digest": "sha256:r", "version": "v19.0.2"}});
    let mut annotations = BTreeMap::from([
        (BASE_NAME.to_owned(), "docker.io/library/debian:bookworm-slim".to_owned()),
        (BASE_DIGEST.to_owned(), "sha256:b".to_owned()),
        ("robotimage.dev/learned".to_owned(), learned.to_string()),
    ]);
    if !annotated {
        annotations.clear();
    }
    let manifest = json!({"schemaVersion": 2, "config": {"mediaType": "c", "digest": "sha256:c", "size": 1}, "annotations": annotations,
        "layers": [layer("base", None, 28_000_000), layer("rcc", None, 12_000_000), layer("environment", Some("base"), 40_000_000),
            layer("environment", Some("numpy"), 35_000_000), layer("home", None, 900), layer("code", None, 4000)]});
    let config = json!({"architecture": "amd64", "os": "linux", "history": history, "rootfs": {"type": "layers", "diff_ids": ids},
        "config": {"User": "1000:0", "Env": ["PATH=/bin", "HOME=/home/robot"], "Cmd": ["--task", "Say"], "WorkingDir": "/home/robot/app",
            "Entrypoint": ["/usr/local/bin/rcc", "run", "--robot", "/home/robot/app/robot.yaml"],
            "Labels": {"robotimage.dev/writable": "/home/robot/.robocorp/holotree,/tmp", "org.opencontainers.image.title": "Say"}}});
    Documents {
        name: "r.example.com/a:1".to_owned(),
        digest: Some("sha256:m".to_owned()),
        manifest: serde_json::from_value(manifest).unwrap(),
        config: serde_json::from_value(config).unwrap(),
    }
}

/// The shape that `--json` promises: a field that goes or changes its name is seen here.
#[test]
fn the_json_shape_is_this() {
    insta::assert_json_snapshot!(inspect(&documents(true)));
}

#[test]
fn history_tells_roles_where_there_are_no_annotations() {
    let told = inspect(&documents(false));
    let roles: Vec<Option<Role>> = told.layers.iter().map(|layer| layer.role).collect();
    let wanted = [Role::Base, Role::Rcc, Role::Environment, Role::Environment, Role::Home, Role::Code];
    assert_eq!(roles, wanted.map(Some));
    assert!(told.robot_image);
    assert_eq!((told.rcc, told.base.name, told.environment.unwrap().key), (None, None, None));
}

#[test]
fn an_image_of_another_tool_has_layers_without_roles() {
    let mut other = documents(false);
    for line in &mut other.config.history {
        line.created_by = Some("RUN true".to_owned());
    }
    let told = inspect(&other);
    assert!(!told.robot_image && told.environment.is_none());
    assert!(
        told.layers
            .iter()
            .all(|layer| layer.role.is_none() && layer.why == "made by another tool")
    );
}
