//! Our side: the release binary's own steps, over folders laid out as those of a build pod.
//!
//! Invariant: what is measured is the program that ships, given what the operator gives it; the environment is lent to it
//! in place of what resolve would have left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use robotimage_builder::environment::SEALED_PATH;
use robotimage_crds::build::{BuildReport, Fetched, Outcome, PLAN_VARIABLE, Published, Step};
use serde_json::{Value, json};

use super::fresh::Stand;
use super::measure::{Usage, measure};
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::files;
use crate::git::{GitOptions, GitRepo, GitServer};
use crate::product::Binaries;
use crate::rcc::{self, Rcc};
use crate::web::Server;

/// Binds a report to its plan.
const BUILD_ID: &str = "0123456789abcdef0123456789abcdef";
/// Where the launcher is in the builder's image.
const LAUNCHER: &str = "usr/local/lib/robotimage/launcher";

/// The folders of a pod, and the servers that its steps need.
#[derive(Debug)]
pub(super) struct Pod {
    root: PathBuf,
    builder: PathBuf,
    /// `host:port` of the registry, or of what stands before it.
    registry: String,
    base: String,
    repository: GitRepo,
    git: GitServer,
    rcc: Rcc,
    rcc_server: Server,
}

/// What a build goes on from.
#[derive(Debug, Clone)]
pub(super) struct Previous {
    /// What fetch said of it.
    pub(super) fetched: Fetched,
    /// Its manifest.
    pub(super) digest: String,
}

impl Pod {
    /// A pod on the stand's file system, with a git repository that holds `code`, and `environment` at the sealed path.
    pub(super) fn new(cache: &Cache, stand: &Stand, binaries: &Binaries, environment: &Path, code: &[(String, Vec<u8>)]) -> Result<Self> {
        let root = stand.fresh().path().join("pod");
        let launcher = root.join(LAUNCHER);
        let folder = launcher.parent().unwrap_or(&root);
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        fs::copy(&binaries.launcher, &launcher).map_err(Error::io("copy", &launcher))?;
        stand
            .fresh()
            .lend(environment, &Path::new("pod").join(SEALED_PATH.trim_start_matches('/')))?;
        let git = GitServer::start(stand.site(), &GitOptions::default())?;
        let repository = git.create("robot", None)?;
        let rcc = rcc::all(cache)?.swap_remove(0);
        let folder = rcc.path.parent().unwrap_or(&root).to_owned();
        let rcc_server = files::serve(&format!("{}:0", stand.site().ip), None, folder)?;
        let pod = Self {
            root,
            builder: binaries.builder.clone(),
            registry: stand.registry().address().to_owned(),
            base: stand.base(),
            repository,
            git,
            rcc,
            rcc_server,
        };
        pod.commit(code)?;
        Ok(pod)
    }

    /// Commits files of the robot, beside those it has.
    pub(super) fn commit(&self, code: &[(String, Vec<u8>)]) -> Result<String> {
        let files: Vec<(&str, &[u8])> = code.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.repository.commit(&files, "a change")
    }

    /// Speaks to the registry by another address from now on.
    pub(super) fn through(&mut self, registry: &str) {
        self.base = self.base.replacen(&self.registry, registry, 1);
        registry.clone_into(&mut self.registry);
    }

    /// The folder that stands for `/`.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The robot's code as fetch left it.
    pub(super) fn source(&self) -> PathBuf {
        self.root.join("workspace/source")
    }

    /// Runs fetch over the newest commit.
    pub(super) fn fetch(&self, repository: &str, previous: Option<&Previous>) -> Result<(Usage, Fetched)> {
        match self.step(Step::Fetch, repository, previous)? {
            (usage, Outcome::Fetched(fetched)) => Ok((usage, *fetched)),
            (_, other) => Err(Error::Other(format!("fetch reported {other:?}"))),
        }
    }

    /// Runs publish after fetch; the image is then in the repository and has the tag `bench`.
    pub(super) fn publish(&self, repository: &str, previous: Option<&Previous>) -> Result<(Usage, Published)> {
        match self.step(Step::Publish, repository, previous)? {
            (usage, Outcome::Published(published)) => Ok((usage, published)),
            (_, other) => Err(Error::Other(format!("publish reported {other:?}"))),
        }
    }

    fn step(&self, step: Step, repository: &str, previous: Option<&Previous>) -> Result<(Usage, Outcome)> {
        let name = step.as_str();
        let report = self.root.join(format!("{name}.report"));
        let plan = self.plan(repository, previous)?.to_string();
        let text = |path: &Path| path.display().to_string();
        let words = [
            text(&self.builder),
            name.into(),
            "--root".into(),
            text(&self.root),
            "--report".into(),
            text(&report),
        ];
        let measured = measure(name, &words, &[(PLAN_VARIABLE, plan)]);
        // A failed step has written its reason, which says more than its exit code.
        let message = fs::read_to_string(&report).unwrap_or_default();
        let (usage, _) = measured.map_err(|error| Error::Other(format!("{error}\n{message}")))?;
        let report = BuildReport::from_message(&message, BUILD_ID, step)
            .map_err(|error| Error::Other(format!("report of {name}: {error}: {message}")))?;
        Ok((usage, report.outcome))
    }

    /// As the operator writes it.
    fn plan(&self, repository: &str, previous: Option<&Previous>) -> Result<Value> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let rcc = format!("{}/rcc", self.rcc_server.url());
        let mut plan = json!({
            "version": 1, "buildId": BUILD_ID, "namespace": "bench", "name": "robot", "number": 1, "attempt": 1,
            "deadline": now + 3600,
            "source": {
                "from": {"git": {"url": self.repository.url()}},
                "want": {"commit": {"id": self.repository.id("main")?, "reference": "main"}},
            },
            "robot": {"file": "robot.yaml"},
            "image": {
                "repository": format!("{}/{repository}", self.registry), "tags": ["bench"], "pushSecret": false,
                "platform": "linux/amd64", "base": self.base, "user": "1000:0", "compression": "zstd", "compatibility": 1,
                "rcc": {"http": {"url": rcc, "sha256": self.rcc.sha256}},
            },
            "platform": {
                "plainHttp": [self.registry, self.git.root().host(), self.rcc_server.address()],
                "requireSecretHosts": false, "maxSourceBytes": 1_u64 << 30, "maxSourceEntries": 100_000,
            },
        });
        if let Some(previous) = previous {
            plan["previous"] = json!({
                "buildKey": previous.fetched.build_key,
                "environmentKey": previous.fetched.environment_key,
                "digest": previous.digest,
            });
        }
        Ok(plan)
    }
}

/// Files of a robot of about 200 kB; `edition` changes one of them.
pub(super) fn robot(edition: usize) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![
        (
            "robot.yaml".to_owned(),
            b"tasks:\n  Run:\n    shell: python -m robot --outputdir output tasks/suite00.robot\n\
              environmentConfigs:\n  - conda.yaml\nartifactsDir: output\nPATH:\n  - .\nPYTHONPATH:\n  - .\n"
                .to_vec(),
        ),
        (
            "conda.yaml".to_owned(),
            b"channels:\n  - conda-forge\ndependencies:\n  - python=3.11.7\n  - pip=23.2.1\n".to_vec(),
        ),
    ];
    for suite in 0..60 {
        let mut text = format!(
            "*** Settings ***\nDocumentation    Suite {suite}, edition {}\n*** Test Cases ***\n",
            if suite == 0 { edition } else { 0 }
        );
        for case in 0..36_u32 {
            // A number with no pattern, so that the text compresses as text does and not as a repetition.
            let number = (suite * 36 + case).wrapping_mul(2_654_435_761);
            let lines = format!("Case {case}\n    Open Workbook    orders-{number}.xlsx\n    Should Be Equal As Numbers    {number}\n");
            text.push_str(&lines);
        }
        files.push((format!("tasks/suite{suite:02}.robot"), text.into_bytes()));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editions_of_the_robot_differ_in_one_file() {
        let (first, second) = (robot(0), robot(1));
        let differ: Vec<&str> = first
            .iter()
            .zip(&second)
            .filter(|(a, b)| a != b)
            .map(|(a, _)| a.0.as_str())
            .collect();
        assert_eq!(differ, ["tasks/suite00.robot"]);
        let bytes: usize = first.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!((150_000..300_000).contains(&bytes), "{bytes}");
    }
}
