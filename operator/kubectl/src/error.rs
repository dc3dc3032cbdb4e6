//! What can go wrong between a person and the cluster: what failed, and what to do about it.

use kube::config::KubeconfigError;

/// Exit code of a command that could not do its work.
const FAILED: u8 = 1;
/// Exit code of an interrupted command, as shells expect it.
const INTERRUPTED: u8 = 130;

/// A command could not do its work.
#[derive(thiserror::Error, Debug)]
pub(crate) enum Error {
    /// There is no configuration.
    #[error("there is no kubeconfig: {looked}")]
    NoKubeconfig {
        /// Where it was looked for.
        looked: String,
    },
    /// The configuration cannot be used.
    #[error("the kubeconfig cannot be used: {0}")]
    Kubeconfig(Box<KubeconfigError>),
    /// No client can be made from the configuration.
    #[error("no connection can be made with this kubeconfig: {0}")]
    Client(String),
    /// Nobody answers.
    #[error("the API server {server} cannot be reached: {problem}")]
    Unreachable {
        /// Its address.
        server: String,
        /// The innermost cause.
        problem: String,
    },
    /// No answer in time.
    #[error("the API server {server} did not answer within {seconds} s while asked to {verb} {resource}")]
    Late {
        /// Its address.
        server: String,
        /// The time it had.
        seconds: u64,
        /// What was asked.
        verb: &'static str,
        /// Of what.
        resource: &'static str,
    },
    /// Who we are was not accepted.
    #[error("the API server {server} does not accept the credentials of this kubeconfig")]
    Unauthenticated {
        /// Its address.
        server: String,
    },
    /// We may not.
    #[error("this user may not {verb} {resource} in {}: {told}", place(namespace.as_deref()))]
    Forbidden {
        /// The verb that is missing.
        verb: &'static str,
        /// The resource it is missing for.
        resource: &'static str,
        /// Where; `None` for all namespaces.
        namespace: Option<String>,
        /// In the server's words.
        told: String,
    },
    /// The definition is not there.
    #[error("the cluster {server} does not know RobotImages: the CustomResourceDefinition robotimages.robotimage.dev is not installed")]
    NoDefinition {
        /// Its address.
        server: String,
    },
    /// No such resource.
    #[error("there is no RobotImage {name} in namespace {namespace}")]
    NotFound {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
        /// Names that are nearly the same.
        near: Vec<String>,
        /// Namespaces that have one of that name.
        elsewhere: Vec<String>,
    },
    /// It was deleted while we looked at it.
    #[error("RobotImage {namespace}/{name} was deleted meanwhile")]
    Gone {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    },
    /// It was written for a newer version.
    #[error("RobotImage {namespace}/{name} cannot be read by this version of the plugin: {problem}")]
    Unreadable {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
        /// What is not understood.
        problem: String,
    },
    /// No such build.
    #[error("RobotImage {name} has no build {number}")]
    NoSuchBuild {
        /// Name of the resource.
        name: String,
        /// The number asked for.
        number: i64,
        /// The number of its last build; 0 when it has had none.
        last: i64,
    },
    /// A build of a suspended resource.
    #[error("RobotImage {name} is suspended, so the operator makes no build of it")]
    Suspended {
        /// Its name.
        name: String,
    },
    /// Others changed it again and again.
    #[error("RobotImage {name} was changed by others {times} times while it was to be changed here")]
    Contended {
        /// Its name.
        name: String,
        /// How often.
        times: u32,
    },
    /// The server refused for another reason.
    #[error("the API server refused to {verb} {resource}: {told}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// Of what.
        resource: &'static str,
        /// In the server's words.
        told: String,
    },
    /// The answer is not what it should be.
    #[error("the answer of the API server {server} to {verb} {resource} cannot be read: {problem}")]
    Garbled {
        /// Its address.
        server: String,
        /// What was asked.
        verb: &'static str,
        /// Of what.
        resource: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// There is nothing to show.
    #[error("RobotImage {name} has {why}")]
    NoBuild {
        /// Its name.
        name: String,
        /// "no build yet", and how it stands.
        why: String,
    },
    /// Nobody reads our output.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// What to do, when something can be said.
    pub(crate) fn advice(&self) -> Option<String> {
        let text = match self {
            Self::NoKubeconfig { .. } => "give --kubeconfig FILE, or set KUBECONFIG".to_owned(),
            Self::Kubeconfig(error) => match **error {
                KubeconfigError::CurrentContextNotSet => {
                    "give --context NAME, or choose one with `kubectl config use-context NAME`".to_owned()
                }
                KubeconfigError::LoadContext(_) => "`kubectl config get-contexts` lists the contexts that there are".to_owned(),
                _ => "`kubectl config view` shows what kubectl makes of it".to_owned(),
            },
            Self::Unreachable { .. } | Self::Late { .. } => {
                "see whether `kubectl version` gets an answer; the address is that of the kubeconfig's context (--context, --kubeconfig)"
                    .to_owned()
            }
            Self::Unauthenticated { .. } => "log in anew; `kubectl auth whoami` must work with the same --context".to_owned(),
            Self::Forbidden {
                verb, resource, namespace, ..
            } => format!(
                "whoever administers the cluster can allow it: `kubectl auth can-i {verb} {resource} {}` must say yes; {}",
                namespace
                    .as_ref()
                    .map_or_else(|| "-A".to_owned(), |namespace| format!("-n {namespace}")),
                roles(verb, resource)
            ),
            Self::NoDefinition { .. } => {
                "install the chart with Helm (docs/install.md), or choose another cluster with --context".to_owned()
            }
            Self::NotFound {
                near,
                elsewhere,
                namespace,
                ..
            } => {
                let mut hints = Vec::new();
                if !near.is_empty() {
                    hints.push(format!("did you mean {}?", near.join(" or ")));
                }
                if !elsewhere.is_empty() {
                    let others: Vec<String> = elsewhere.iter().map(|other| format!("-n {other}")).collect();
                    hints.push(format!("one of that name exists elsewhere: {}", others.join(", ")));
                }
                if hints.is_empty() {
                    hints.push(format!("`kubectl robotimage status -n {namespace}` lists those that there are"));
                }
                hints.join("; ")
            }
            Self::Unreadable { .. } => "use the plugin of the installed operator's version".to_owned(),
            Self::NoSuchBuild { last: 0, .. } => "it has had no build yet".to_owned(),
            Self::NoSuchBuild { last, .. } => format!("its last build is {last}"),
            Self::NoBuild { name, .. } => format!("wait for its first build with `kubectl robotimage logs -f {name}`"),
            Self::Suspended { name } => format!("resume it first: kubectl robotimage resume {name}"),
            Self::Contended { .. } => "run the command again".to_owned(),
            Self::Client(_) | Self::Gone { .. } | Self::Refused { .. } | Self::Garbled { .. } | Self::Output(_) | Self::Interrupted => {
                return None;
            }
        };
        Some(text)
    }

    /// Its name in JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NoKubeconfig { .. } => "NoKubeconfig",
            Self::Kubeconfig(_) => "KubeconfigInvalid",
            Self::Client(_) => "ClientInvalid",
            Self::Unreachable { .. } => "Unreachable",
            Self::Late { .. } => "Late",
            Self::Unauthenticated { .. } => "Unauthenticated",
            Self::Forbidden { .. } => "Forbidden",
            Self::NoDefinition { .. } => "NoDefinition",
            Self::NotFound { .. } => "NotFound",
            Self::Gone { .. } => "Gone",
            Self::Unreadable { .. } => "Unreadable",
            Self::NoSuchBuild { .. } => "NoSuchBuild",
            Self::Suspended { .. } => "Suspended",
            Self::Contended { .. } => "Contended",
            Self::Refused { .. } => "Refused",
            Self::Garbled { .. } => "Garbled",
            Self::NoBuild { .. } => "NoBuild",
            Self::Output(_) => "OutputFailed",
            Self::Interrupted => "Interrupted",
        }
    }

    /// The exit code of the command.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Interrupted => INTERRUPTED,
            _ => FAILED,
        }
    }

    /// Whether whoever read our output has gone: an end, and no failure.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// A namespace in a sentence.
fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"))
}

/// Which of the chart's roles, or which of Kubernetes' own, grants it.
fn roles(verb: &str, resource: &str) -> &'static str {
    match (resource, verb) {
        ("robotimages", "patch") => "the chart's ClusterRole robotimage-edit grants it",
        ("robotimages", _) => "the chart's ClusterRole robotimage-view, a part of Kubernetes' own role view, grants it",
        _ => "Kubernetes' own role view grants it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_near_are_offered() {
        let not_found = |near: &[&str], elsewhere: &[&str]| {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            Error::NotFound {
                name: "invoce".to_owned(),
                namespace: "finance".to_owned(),
                near: owned(near),
                elsewhere: owned(elsewhere),
            }
            .advice()
            .unwrap()
        };
        assert_eq!(not_found(&["invoice", "invoke"], &[]), "did you mean invoice or invoke?");
        assert_eq!(not_found(&[], &["sales"]), "one of that name exists elsewhere: -n sales");
        assert!(not_found(&[], &[]).contains("status -n finance"));
    }

    #[test]
    fn a_missing_right_is_named_with_the_role_that_grants_it() {
        let error = Error::Forbidden {
            verb: "patch",
            resource: "robotimages",
            namespace: Some("finance".to_owned()),
            told: "no".to_owned(),
        };
        let advice = error.advice().unwrap();
        assert!(
            advice.contains("kubectl auth can-i patch robotimages -n finance") && advice.contains("robotimage-edit"),
            "{advice}"
        );
        assert_eq!(error.exit_code(), 1);
        assert_eq!(Error::Interrupted.exit_code(), 130);
    }
}
