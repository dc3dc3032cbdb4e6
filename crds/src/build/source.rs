//! Where a build pod finds the robot's source, and what it takes of it.

use serde::{Deserialize, Serialize};

use crate::api::GitRef;

/// The source.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", try_from = "Written")]
pub struct PlanSource {
    /// Where it is.
    pub from: PlanFrom,
    /// What to take of it.
    pub want: Want,
    /// Whether the resource names a Secret: without this a missing Secret could not be told from none.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
    /// Folder of it that is the context; empty for the root.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Files of the context that are left out.
    #[serde(skip_serializing_if = "PlanIgnore::is_nothing")]
    pub ignore: PlanIgnore,
}

/// Where a source is.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum PlanFrom {
    /// A git repository.
    Git {
        /// Its address.
        url: String,
    },
    /// An archive behind a URL.
    Http {
        /// Its address.
        url: String,
        /// SHA-256 of its bytes, if that is demanded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<String>,
    },
    /// An artifact in a registry.
    Oci {
        /// Its reference.
        image: String,
    },
    /// A ConfigMap, which is mounted.
    ConfigMap {
        /// Its name, for messages.
        name: String,
    },
}

/// Files that are left out.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanIgnore {
    /// Lines of a .gitignore.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub patterns: String,
    /// Whether robot.yaml's `ignoreFiles` count.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_robot: bool,
}

impl PlanIgnore {
    /// Whether nothing is left out.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// A revision.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Want {
    /// The operator knows the revision, known to people as `reference` (a branch, a tag, `HEAD`, or what was hashed).
    Commit {
        /// 40 hexadecimal digits of a commit, or 64 of a SHA-256: of an archive, of what a server says of its file, of a manifest.
        id: String,
        /// Name shown in the revision.
        reference: String,
    },
    /// The operator could not (it has no credentials): fetch resolves it. `None` is the default branch, and whatever is there now
    /// of a source that is no git repository.
    Reference(Option<GitRef>),
}

/// A source as it may be written: by this version, or by the one before, which knew git repositories only and whose builds may
/// still run when this one starts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    from: Option<PlanFrom>,
    want: Option<Want>,
    #[serde(default)]
    secret: bool,
    #[serde(default)]
    path: String,
    #[serde(default)]
    ignore: PlanIgnore,
    git: Option<WrittenBefore>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenBefore {
    url: String,
    want: Want,
    secret: bool,
}

impl TryFrom<Written> for PlanSource {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let (from, want, secret) = match written {
            Written {
                from: Some(from),
                want: Some(want),
                secret,
                git: None,
                ..
            } => (from, want, secret),
            Written {
                from: None,
                want: None,
                secret: false,
                git: Some(WrittenBefore { url, want, secret }),
                ..
            } => (PlanFrom::Git { url }, want, secret),
            _ => return Err("a source has `from` and `want`"),
        };
        Ok(Self {
            from,
            want,
            secret,
            path: written.path,
            ignore: written.ignore,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_is_read_as_it_is_written() {
        let url = || "https://example.com/a".to_owned();
        for from in [
            PlanFrom::Git { url: url() },
            PlanFrom::Http { url: url(), sha256: None },
            PlanFrom::Http {
                url: url(),
                sha256: Some("0".repeat(64)),
            },
            PlanFrom::Oci {
                image: "registry.example.com/a:1".to_owned(),
            },
            PlanFrom::ConfigMap { name: "robot".to_owned() },
        ] {
            for (secret, path, patterns) in [(false, "", ""), (true, "robots/a", "*.md\n")] {
                let source = PlanSource {
                    from: from.clone(),
                    want: Want::Reference(None),
                    secret,
                    path: path.to_owned(),
                    ignore: PlanIgnore {
                        patterns: patterns.to_owned(),
                        from_robot: secret,
                    },
                };
                let text = serde_json::to_string(&source).unwrap();
                assert_eq!(serde_json::from_str::<PlanSource>(&text).unwrap(), source, "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_source_is_refused() {
        let git = json!({"url": "https://example.com/a", "want": {"reference": null}, "secret": true});
        let from = json!({"git": {"url": "https://example.com/a"}});
        let want = json!({"reference": null});
        for wrong in [
            json!({}),
            json!({"from": from}),
            json!({"want": want}),
            json!({"from": from, "want": want, "git": git}),
            json!({"git": git, "secret": true}),
            json!({"git": git, "surprise": 1}),
            json!({"from": {"svn": {"url": "https://example.com/a"}}, "want": want}),
        ] {
            assert!(serde_json::from_value::<PlanSource>(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
