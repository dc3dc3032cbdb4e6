//! The steps as programs: plan in, report out, exit code, signals and deadline.

#![expect(clippy::unwrap_used, reason = "a test whose fixture fails has nothing to test")]

mod support;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use robotimage_crds::api::{Compression, Platform};
use robotimage_crds::build::{
    BuildPlan, BuildReport, Failure, Outcome, PLAN_VARIABLE, PlanEnvironment, PlanFrom, PlanIgnore, PlanImage, PlanPlatform, PlanRcc,
    PlanRobot, PlanSource, Step, Want,
};
use support::GitServer;

const ID: &str = "0123456789abcdef0123456789abcdef";

fn plan(url: &str, seconds: u64) -> BuildPlan {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    BuildPlan {
        version: 1,
        build_id: ID.to_owned(),
        namespace: "finance".to_owned(),
        name: "invoices".to_owned(),
        number: 1,
        attempt: 1,
        deadline: i64::try_from(now + seconds).unwrap(),
        source: PlanSource {
            from: PlanFrom::Git { url: url.to_owned() },
            want: Want::Reference(None),
            secret: false,
            path: String::new(),
            ignore: PlanIgnore::default(),
        },
        robot: PlanRobot {
            file: "robot.yaml".to_owned(),
            task: None,
        },
        environment: PlanEnvironment::default(),
        image: PlanImage {
            repository: "127.0.0.1:1/robots/a".to_owned(),
            tags: vec!["{{source.short}}".to_owned()],
            push_secret: false,
            platform: Platform::LinuxAmd64,
            base: "127.0.0.1:1/base:1".to_owned(),
            rcc: PlanRcc::Image("127.0.0.1:1/rcc:1".to_owned()),
            compression: Compression::Zstd,
            user: "1000:0".to_owned(),
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
            compatibility: 1,
        },
        previous: None,
        platform: PlanPlatform {
            require_secret_hosts: true,
            max_source_bytes: 1 << 20,
            max_source_entries: 1000,
            ..PlanPlatform::default()
        },
    }
}

struct Pod {
    root: tempfile::TempDir,
}

impl Pod {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn report_path(&self) -> PathBuf {
        self.root.path().join("report")
    }

    fn start(&self, step: Step, plan: Option<&BuildPlan>) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_robotimage"));
        command
            .arg(step.as_str())
            .arg("--root")
            .arg(self.root.path())
            .arg("--report")
            .arg(self.report_path())
            .env_clear()
            .stderr(Stdio::piped());
        if let Some(plan) = plan {
            command.env(PLAN_VARIABLE, serde_json::to_string(plan).unwrap());
        }
        command.spawn().unwrap()
    }

    fn run(&self, step: Step, plan: &BuildPlan) -> (i32, Failure) {
        let output = self.start(step, Some(plan)).wait_with_output().unwrap();
        for line in String::from_utf8(output.stderr).unwrap().lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        (output.status.code().unwrap(), self.failure(step))
    }

    fn failure(&self, step: Step) -> Failure {
        let text = std::fs::read_to_string(self.report_path()).unwrap();
        match BuildReport::from_message(&text, ID, step).unwrap().outcome {
            Outcome::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }
}

fn robot(root: &Path, yaml: &str) {
    std::fs::write(root.join("robot.yaml"), yaml).unwrap();
}

const GOOD: &str = "tasks:\n  One:\n    shell: sh run.sh\nartifactsDir: output\n";

#[test]
fn without_a_plan_it_is_a_usage_error() {
    let pod = Pod::new();
    let status = pod.start(Step::Fetch, None).wait().unwrap();
    assert_eq!(status.code(), Some(2));
    assert!(!pod.report_path().exists());
}

#[test]
fn failures_are_reported_with_their_reason() {
    let private = GitServer::start(true, |root| robot(root, GOOD));
    let two = GitServer::start(false, |root| {
        robot(root, &GOOD.replace("artifactsDir", "  Two:\n    shell: sh run.sh\nartifactsDir"));
    });
    let none = GitServer::start(false, |root| std::fs::write(root.join("README"), "x").unwrap());
    let broken = GitServer::start(false, |root| robot(root, "tasks: [\n"));
    let good = GitServer::start(false, |root| robot(root, GOOD));
    let mut secret = plan(&private.url, 60);
    secret.source.secret = true;
    let mut denied = plan(&good.url, 60);
    denied.platform.deny = vec!["127.0.0.0/8".to_owned()];
    let table = [
        (plan(&private.url, 60), "GitAuthFailed", 11),
        (secret, "SecretMissing", 11),
        (plan("http://127.0.0.1:1/x", 60), "SourceUnreachable", 20),
        (plan(&two.url, 60), "RobotYamlInvalid", 10),
        (plan(&none.url, 60), "RobotYamlInvalid", 10),
        (plan(&broken.url, 60), "RobotYamlInvalid", 10),
        (denied, "SourceRejected", 10),
    ];
    for (plan, reason, code) in table {
        let (exit, failure) = Pod::new().run(Step::Fetch, &plan);
        assert_eq!((failure.reason.as_str(), exit), (reason, code), "{failure:?}");
    }
}

#[test]
fn later_steps_need_the_facts_of_fetch() {
    for step in [Step::Resolve, Step::Publish] {
        let (exit, failure) = Pod::new().run(step, &plan("http://127.0.0.1:1/x", 60));
        assert_eq!((failure.reason.as_str(), exit), ("InternalError", 70), "{failure:?}");
    }
}

#[test]
fn a_server_that_says_nothing_meets_the_deadline_and_the_signal() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let pod = Pod::new();
    let (exit, failure) = pod.run(Step::Fetch, &plan(&url, 2));
    assert_eq!((failure.reason.as_str(), exit), ("BuildTimeout", 20));

    let pod = Pod::new();
    let mut child = pod.start(Step::Fetch, Some(&plan(&url, 600)));
    listener.accept().unwrap();
    listener.accept().unwrap();
    let began = Instant::now();
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(pod.failure(Step::Fetch).reason, "Canceled");
}
