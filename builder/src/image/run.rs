//! The run contract: how the image's configuration starts the robot.
//!
//! Invariant: pure; equal inputs give equal documents.

use std::collections::BTreeMap;

use super::oci::{CREATED, Config, History, RootFs, Run};
use super::{APP, Base, HOME, ROBOCORP_HOME};

/// Label with the paths that need an emptyDir on a read-only root, comma separated.
pub const WRITABLE_LABEL: &str = "robotimage.dev/writable";
/// PATH where the base sets none.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the configuration depends on beside the layers.
#[derive(Clone, Debug)]
pub struct RunSpec<'a> {
    /// The base.
    pub base: &'a Base,
    /// The robot file, relative to the context.
    pub robot_file: &'a str,
    /// The task for Cmd, when one was chosen.
    pub task: Option<&'a str>,
    /// Name for the title label: the task that runs, chosen or only.
    pub title: Option<&'a str>,
    /// The artifacts folder in the image, absolute.
    pub artifacts: &'a str,
    /// `user:group`.
    pub user: &'a str,
    /// Labels of the resource, rendered. They win over ours.
    pub labels: &'a BTreeMap<String, String>,
}

/// A layer above the base, for rootfs and history.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// What it holds.
    pub role: &'a str,
    /// Its uncompressed digest.
    pub diff_id: &'a str,
}

/// The whole configuration document.
pub fn config(spec: &RunSpec<'_>, steps: &[Step<'_>]) -> Config {
    let robot = format!("{APP}/{}", spec.robot_file);
    let working_dir = robot.rsplit_once('/').map_or(APP, |(folder, _)| folder).to_owned();
    let mut diff_ids = spec.base.diff_ids.clone();
    diff_ids.extend(steps.iter().map(|step| step.diff_id.to_owned()));
    Config {
        created: Some(CREATED.to_owned()),
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        config: Run {
            user: spec.user.to_owned(),
            env: environment(&spec.base.env),
            entrypoint: ["/usr/local/bin/rcc", "run", "--robot"]
                .into_iter()
                .map(str::to_owned)
                .chain([robot])
                .collect(),
            cmd: spec.task.map(|task| vec!["--task".to_owned(), task.to_owned()]).unwrap_or_default(),
            working_dir,
            labels: labels(spec),
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids,
        },
        history: history(spec.base, steps),
    }
}

/// The base's variables, with ours in place of those of the same name.
fn environment(base: &[String]) -> Vec<String> {
    let ours = [
        format!("HOME={HOME}"),
        "USER=robot".to_owned(),
        format!("ROBOCORP_HOME={ROBOCORP_HOME}"),
        "RCC_NO_BUILD=1".to_owned(),
        "RCC_AUTOUPDATES_RCC_INDEX=disabled:".to_owned(),
        "RCC_NO_PYC_MANAGEMENT=1".to_owned(),
        "RCC_NO_TEMP_MANAGEMENT=1".to_owned(),
    ];
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let taken: Vec<String> = ours.iter().map(|variable| name(variable)).collect();
    let mut all: Vec<String> = base.iter().filter(|variable| !taken.contains(&name(variable))).cloned().collect();
    if !all.iter().any(|variable| variable.starts_with("PATH=")) {
        all.insert(0, PATH.to_owned());
    }
    all.extend(ours);
    all
}

/// The paths that must be writable on a read-only root.
pub fn writable(artifacts: &str) -> Vec<String> {
    let mut paths = vec![
        format!("{ROBOCORP_HOME}/holotree"),
        artifacts.to_owned(),
        "/tmp".to_owned(),
        format!("{HOME}/.cache"),
    ];
    paths.dedup();
    paths
}

fn labels(spec: &RunSpec<'_>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.base.digest".to_owned(), spec.base.digest.clone()),
        (WRITABLE_LABEL.to_owned(), writable(spec.artifacts).join(",")),
    ]);
    if let Some(name) = &spec.base.name {
        labels.insert("org.opencontainers.image.base.name".to_owned(), name.clone());
    }
    if let Some(title) = spec.title {
        labels.insert("org.opencontainers.image.title".to_owned(), title.to_owned());
    }
    labels.extend(spec.labels.clone());
    labels
}

/// The base's history and one line for each of our layers. Readers count lines against layers, so a base whose history
/// does not fit its layers gets one plain line a layer instead.
fn history(base: &Base, steps: &[Step<'_>]) -> Vec<History> {
    let line = |by: String| History {
        created: Some(CREATED.to_owned()),
        created_by: Some(by),
        ..History::default()
    };
    let layers = base.history.iter().filter(|line| !line.empty_layer).count();
    let mut history = if layers == base.diff_ids.len() {
        base.history.clone()
    } else {
        base.diff_ids.iter().map(|_| line("base image".to_owned())).collect()
    };
    history.extend(steps.iter().map(|step| line(format!("robotimage {}", step.role))));
    history
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::BaseFacts;

    pub(crate) fn base() -> Base {
        Base {
            name: Some("docker.io/library/debian:bookworm-slim".to_owned()),
            digest: "sha256:base".to_owned(),
            layers: Vec::new(),
            diff_ids: vec!["sha256:d1".to_owned()],
            env: vec!["PATH=/bin".to_owned(), "HOME=/root".to_owned(), "LANG=C.UTF-8".to_owned()],
            history: vec![
                History {
                    created_by: Some("ADD".to_owned()),
                    ..History::default()
                },
                History {
                    empty_layer: true,
                    ..History::default()
                },
            ],
            facts: BaseFacts::default(),
        }
    }

    fn of(base: &Base, file: &str, task: Option<&str>) -> Config {
        let labels = BTreeMap::from([("team".to_owned(), "finance".to_owned())]);
        let spec = RunSpec {
            base,
            robot_file: file,
            task,
            title: Some("Read invoices"),
            artifacts: "/home/robot/app/output",
            user: "1000:0",
            labels: &labels,
        };
        let steps = [("rcc", "sha256:r"), ("code", "sha256:c")].map(|(role, diff_id)| Step { role, diff_id });
        config(&spec, &steps)
    }

    #[test]
    fn the_configuration_is_this() {
        insta::assert_json_snapshot!(of(&base(), "robot.yaml", Some("Read invoices")));
    }

    #[test]
    fn a_deeper_robot_starts_in_its_folder() {
        let config = of(&base(), "robots/a/robot.yaml", None);
        assert_eq!(config.config.working_dir, "/home/robot/app/robots/a");
        assert_eq!(config.config.entrypoint[3], "/home/robot/app/robots/a/robot.yaml");
        assert!(config.config.cmd.is_empty());
    }

    #[test]
    fn a_base_without_history_gets_one_line_a_layer() {
        let mut base = base();
        base.history.clear();
        base.env.clear();
        let config = of(&base, "robot.yaml", None);
        assert_eq!(config.history.len(), config.rootfs.diff_ids.len());
        assert!(config.config.env[0].starts_with("PATH="));
    }
}
