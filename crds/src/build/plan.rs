//! What a build pod is told to do. No secret is ever in it: it is an environment variable that `kubectl describe` shows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PlanSource;
use crate::api::{Compression, HttpFile, Platform};

/// One attempt of one build.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BuildPlan {
    /// Version of this contract; 1.
    pub version: u32,
    /// 128 random bits in hexadecimal; the report must carry them.
    pub build_id: String,
    /// Namespace of the RobotImage, for logs.
    pub namespace: String,
    /// Name of the RobotImage, for logs.
    pub name: String,
    /// Number of the build.
    pub number: i64,
    /// Attempt of this number, from 1.
    pub attempt: u32,
    /// When every step must have ended, in seconds since 1970 UTC; a step that is late reports BuildTimeout.
    pub deadline: i64,
    /// Where the robot is.
    pub source: PlanSource,
    /// Which robot it is.
    pub robot: PlanRobot,
    /// Which environment it is.
    #[serde(default, skip_serializing_if = "PlanEnvironment::is_default")]
    pub environment: PlanEnvironment,
    /// The image to make.
    pub image: PlanImage,
    /// The image that is there, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// What the platform demands.
    pub platform: PlanPlatform,
}

/// The robot.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanRobot {
    /// The robot file, relative to the context.
    pub file: String,
    /// The task, if chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// What tells this environment from another one of the same files.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanEnvironment {
    /// Whether it belongs to the base's digest: on another base its packages are installed anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub of_base: bool,
    /// When it was last to be solved anew, in seconds since 1970 UTC; 0 for never.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refresh: u64,
}

impl PlanEnvironment {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The image.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanImage {
    /// Target repository.
    pub repository: String,
    /// Tags with their templates unrendered; only fetch knows the revision for sure.
    pub tags: Vec<String>,
    /// Whether the resource names a push Secret.
    pub push_secret: bool,
    /// Platform of the image.
    pub platform: Platform,
    /// Base image by tag or digest.
    pub base: String,
    /// Which rcc.
    pub rcc: PlanRcc,
    /// Compression of our layers.
    pub compression: Compression,
    /// `user:group` of the configuration.
    pub user: String,
    /// Labels, values unrendered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations, values unrendered.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Recipe version.
    pub compatibility: u32,
}

/// Which rcc.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum PlanRcc {
    /// The binary at /rcc or /usr/local/bin/rcc of an image.
    Image(String),
    /// A file behind a URL.
    Http(HttpFile),
}

/// The image that is there.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Previous {
    /// Its build key: when fetch computes the same, there is nothing to do.
    pub build_key: String,
    /// Its manifest's digest.
    pub digest: String,
    /// Key of its environment.
    pub environment_key: String,
    /// Number of packages in it; 0 when that is not known.
    #[serde(default)]
    pub packages: i64,
    /// Digest of the image that its rcc was taken from; empty when it was downloaded.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rcc_image: String,
}

/// What the platform demands of each step.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanPlatform {
    /// Hosts (`host` or `host:port`) that may be spoken to without TLS.
    #[serde(default)]
    pub plain_http: Vec<String>,
    /// Mirrors that are asked for bases and rcc before their registry, by its `host[:port]`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Address ranges that a tenant's URL must not reach.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Exceptions to `deny`.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Whether the Secret of a git or http source must name its hosts.
    pub require_secret_hosts: bool,
    /// Largest source, in bytes of its files.
    pub max_source_bytes: u64,
    /// Most files and folders of a source.
    pub max_source_entries: u64,
    /// The repository in which environments are looked for and kept; none: they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_cache: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::{PlanFrom, PlanIgnore, Want};
    use super::*;
    use crate::api::GitRef;

    #[test]
    fn reads_back_what_it_writes() {
        let plan = BuildPlan {
            version: 1,
            build_id: "0123456789abcdef0123456789abcdef".to_owned(),
            namespace: "finance".to_owned(),
            name: "invoices".to_owned(),
            number: 3,
            attempt: 1,
            deadline: 1_800_000_000,
            source: PlanSource {
                from: PlanFrom::Git {
                    url: "https://git.example.com/rpa/invoices.git".to_owned(),
                },
                want: Want::Reference(Some(GitRef {
                    branch: Some("main".to_owned()),
                    ..GitRef::default()
                })),
                secret: true,
                path: String::new(),
                ignore: PlanIgnore::default(),
            },
            robot: PlanRobot {
                file: "robot.yaml".to_owned(),
                task: None,
            },
            environment: PlanEnvironment {
                of_base: true,
                refresh: 1_800_000_000,
            },
            image: PlanImage {
                repository: "registry.example.com/robots/invoices".to_owned(),
                tags: vec!["{{source.short}}".to_owned()],
                push_secret: true,
                platform: Platform::LinuxAmd64,
                base: "debian:bookworm-slim".to_owned(),
                rcc: PlanRcc::Http(HttpFile {
                    url: "https://example.com/rcc".to_owned(),
                    sha256: "0".repeat(64),
                }),
                compression: Compression::Zstd,
                user: "1000:0".to_owned(),
                labels: BTreeMap::new(),
                annotations: BTreeMap::new(),
                compatibility: 1,
            },
            previous: None,
            platform: PlanPlatform::default(),
        };
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<BuildPlan>(&text).unwrap(), plan);
        assert!(serde_json::from_str::<BuildPlan>(&text.replacen("\"version\"", "\"surprise\":1,\"version\"", 1)).is_err());
    }
}
