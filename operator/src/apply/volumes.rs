//! The volumes of a build pod, and who sees which: the whole separation of the three steps stands in one table.

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, EmptyDirVolumeSource, KeyToPath, SecretVolumeSource, Volume, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use robotimage_crds::build::{Step, paths};

use super::job::JobInput;
use crate::decide::SourceKind;
use crate::labels::PLATFORM_CONFIG_MAP;

/// Owner and group may read: the pod's common group owns what is mounted.
const SECRET_MODE: i32 = 0o440;
/// Keys of the Secret of a git repository or a web server that are mounted.
const SERVER_KEYS: &[&str] = &["username", "password", "bearerToken", "hosts", "ca.crt"];
/// Keys of a registry Secret that are mounted.
const REGISTRY_KEYS: &[&str] = &[".dockerconfigjson"];
/// Platform files that publish sees.
const TRUST_KEYS: &[&str] = &["ca-bundle.pem"];
/// Platform files that fetch and resolve see.
const PLATFORM_KEYS: &[&str] = &["ca-bundle.pem", "settings.yaml", "piprc", "micromambarc"];

/// A volume and where each step sees it.
struct Entry {
    volume: Volume,
    path: &'static str,
    /// Steps that see it, and whether they may write.
    seen: Vec<(Step, bool)>,
}

/// Everything that is mounted.
pub(super) struct Volumes(Vec<Entry>);

impl Volumes {
    /// The volumes of an attempt.
    pub(super) fn of(input: &JobInput<'_>) -> Self {
        use Step::{Fetch, Publish, Resolve};
        const WRITE: bool = true;
        const READ: bool = false;
        let image = &input.settings.image;
        let sizes = &input.platform.config.volumes;
        let mut entries = vec![
            folder("source", &sizes.source, paths::SOURCE, vec![(Fetch, WRITE), (Publish, READ)]),
            folder(
                "spec",
                &sizes.spec,
                paths::SPEC,
                vec![(Fetch, WRITE), (Resolve, READ), (Publish, READ)],
            ),
            folder(
                "environment",
                &sizes.environment,
                paths::RCC_HOME,
                vec![(Resolve, WRITE), (Publish, READ)],
            ),
            folder("home", &sizes.home, paths::HOME, vec![(Resolve, WRITE)]),
        ];
        for (step, scratch, tmp) in [
            (Fetch, "scratch-fetch", "tmp-fetch"),
            (Resolve, "scratch-resolve", "tmp-resolve"),
            (Publish, "scratch-publish", "tmp-publish"),
        ] {
            entries.push(folder(scratch, &sizes.scratch, paths::SCRATCH, vec![(step, WRITE)]));
            entries.push(folder(tmp, &sizes.tmp, "/tmp", vec![(step, WRITE)]));
        }
        entries.push(platform("platform-trust", TRUST_KEYS, vec![(Publish, READ)]));
        // The mirrors are part of the environment's key, which fetch computes.
        entries.push(platform("platform", PLATFORM_KEYS, vec![(Fetch, READ), (Resolve, READ)]));
        let secrets = [
            (
                "secret-source",
                input.settings.source.secret(),
                match input.settings.source {
                    SourceKind::Oci(_) => REGISTRY_KEYS,
                    SourceKind::Git(_) | SourceKind::Http(_) | SourceKind::ConfigMap(_) => SERVER_KEYS,
                },
                paths::SOURCE_SECRET,
                vec![(Fetch, READ)],
            ),
            (
                "secret-pull",
                image.pull_secret.as_deref(),
                REGISTRY_KEYS,
                paths::PULL_SECRET,
                vec![(Fetch, READ), (Publish, READ)],
            ),
            (
                "secret-base",
                image.base_secret.as_deref(),
                REGISTRY_KEYS,
                paths::BASE_SECRET,
                vec![(Fetch, READ), (Publish, READ)],
            ),
            (
                "secret-rcc",
                image.rcc_secret.as_deref(),
                REGISTRY_KEYS,
                paths::RCC_SECRET,
                vec![(Fetch, READ)],
            ),
            (
                "secret-push",
                image.push_secret.as_deref(),
                REGISTRY_KEYS,
                paths::PUSH_SECRET,
                vec![(Publish, READ)],
            ),
        ];
        for (name, secret, keys, path, seen) in secrets {
            entries.extend(secret.map(|secret| Entry {
                volume: secret_volume(name, secret, keys),
                path,
                seen,
            }));
        }
        if let SourceKind::ConfigMap(name) = &input.settings.source {
            entries.push(Entry {
                volume: config_map("source-config-map", name, None),
                path: paths::SOURCE_CONFIG_MAP,
                seen: vec![(Fetch, READ)],
            });
        }
        Self(entries)
    }

    /// What the pod declares.
    pub(super) fn declared(&self) -> Vec<Volume> {
        self.0.iter().map(|entry| entry.volume.clone()).collect()
    }

    /// What a step sees.
    pub(super) fn mounts(&self, step: Step) -> Vec<VolumeMount> {
        let mount = |entry: &Entry| {
            let (_, write) = entry.seen.iter().find(|(seen, _)| *seen == step)?;
            Some(VolumeMount {
                name: entry.volume.name.clone(),
                mount_path: entry.path.to_owned(),
                read_only: (!write).then_some(true),
                ..VolumeMount::default()
            })
        };
        self.0.iter().filter_map(mount).collect()
    }
}

fn folder(name: &str, size: &str, path: &'static str, seen: Vec<(Step, bool)>) -> Entry {
    let volume = Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(size.to_owned())),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    Entry { volume, path, seen }
}

fn platform(name: &str, keys: &[&str], seen: Vec<(Step, bool)>) -> Entry {
    Entry {
        volume: config_map(name, PLATFORM_CONFIG_MAP, Some(items(keys))),
        path: paths::PLATFORM,
        seen,
    }
}

/// Optional, as Secrets are: a missing one is a clear failure of the step that needs it.
fn config_map(name: &str, config_map: &str, items: Option<Vec<KeyToPath>>) -> Volume {
    Volume {
        name: name.to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: config_map.to_owned(),
            optional: Some(true),
            items,
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

/// Optional: a Secret that is missing is a clear failure of the step, and not a pod that never starts.
fn secret_volume(name: &str, secret: &str, keys: &[&str]) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret.to_owned()),
            optional: Some(true),
            default_mode: Some(SECRET_MODE),
            items: Some(items(keys)),
        }),
        ..Volume::default()
    }
}

fn items(keys: &[&str]) -> Vec<KeyToPath> {
    keys.iter()
        .map(|key| KeyToPath {
            key: (*key).to_owned(),
            path: (*key).to_owned(),
            mode: None,
        })
        .collect()
}
