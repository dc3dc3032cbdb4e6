//! `kubectl robotimage` as a person uses it: the real kubectl finds the plugin, against a real API server, with the operator
//! that the chart installed. About a minute of builds.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kube::ResourceExt as _;
use robotimage_crds::api::RobotImage;
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::operator::service_account_kubeconfig;
use robotimage_tests::{Namespace, install};
use serde_json::{Value, json};

use crate::objects::{SHELL_ROBOT, git_repository, post_install_robot, robot_image, wait_step};
use crate::setup::{Setup, setup};

const LIMIT: Duration = Duration::from_mins(5);

/// kubectl with the plugin, in a namespace.
struct Person {
    kubectl: Kubectl,
    binary: std::path::PathBuf,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Person {
    fn new(setup: &Setup, namespace: &Namespace) -> Self {
        Self {
            kubectl: Kubectl::within(&setup.bed, namespace.name()),
            binary: setup.binaries.plugin.clone(),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.kubectl.plugin(&self.binary, args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it on a thread of its own, so that the test's other work goes on.
    async fn says(&self, args: &[&str]) -> Said {
        let mut command = self.command(args);
        let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
        let said = Said::from(output.expect("kubectl can be run"));
        println!(
            "$ kubectl robotimage {}\n{}{}(exit code {})\n",
            args.join(" "),
            said.out,
            said.err,
            said.code
        );
        said
    }
}

fn contains(text: &str, parts: &[&str]) {
    let mut rest = text;
    for part in parts {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} is not in its place:\n{text}"));
        rest = &rest[at + part.len()..];
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_person_follows_and_steers_builds() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.namespace("kubectl").await.unwrap());
    let person = Person::new(&setup, &namespace);
    let repo = git_repository(bed, &namespace, "hello", SHELL_ROBOT).unwrap();
    let object = robot_image(bed, &namespace, "hello", repo.url(), &json!({}));
    namespace.apply::<RobotImage>(object).await.unwrap();

    // From before there is a build to its end, step after step.
    let said = person.says(&["logs", "-f", "hello"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    contains(&said.out, &["fetch   ", "done", "resolve ", "publish ", "image digest=sha256:"]);
    contains(&said.err, &["build 1 succeeded, published: "]);
    assert!(!said.out.contains('\u{1b}'), "no colours in a pipe");

    let table = person.says(&["status"]).await;
    contains(&table.out, &["NAME", "STATUS", "DIGEST", "hello", "Ready", "main@"]);
    let status = person.says(&["status", "rimg/hello", "-o", "json"]).await.json();
    assert_eq!(
        (&status["apiVersion"], &status["state"], &status["build"]["number"]),
        (&json!("kubectl.robotimage.dev/v1"), &json!("UpToDate"), &json!(1))
    );
    let reference = status["image"]["ref"].as_str().unwrap().to_owned();
    let detail = person.says(&["status", "hello"]).await;
    contains(
        &detail.out,
        &["Conditions", "Image", &reference, "Build 1", "STEP", "fetch", "History"],
    );

    // A build that nothing but the wish asks for.
    let built = person.says(&["build", "hello", "--wait", "--timeout", "5m"]).await;
    assert_eq!(
        (built.code, built.out.trim()),
        (0, reference.as_str()),
        "the same files make the same image"
    );
    contains(
        &built.err,
        &["asked for a build", "build 2 was made: Requested", "build 2 succeeded"],
    );
    let again = person.says(&["build", "hello", "--wait", "-o", "json"]).await;
    assert_eq!(again.code, 0);
    let document = again.json();
    assert_eq!(
        (&document["kind"], &document["build"], &document["result"], &document["reference"]),
        (&json!("Build"), &json!(3), &json!("Succeeded"), &json!(reference))
    );
    let older = person.says(&["logs", "hello", "--build", "1", "--step", "publish", "--raw"]).await;
    assert_eq!(older.code, 0);
    assert!(older.out.lines().all(|line| line.starts_with('{')), "{older:?}");
    let explained = person.says(&["explain", "hello"]).await;
    contains(
        &explained.out,
        &[
            "Last build",
            "Build 3 was made because of: Requested",
            "No build is needed",
            "asks the git server every 10s",
        ],
    );

    // Suspended and resumed, twice each.
    let change = |said: Said| said.json()["changed"].as_bool();
    assert_eq!(change(person.says(&["suspend", "hello", "-o", "json"]).await), Some(true));
    assert_eq!(change(person.says(&["suspend", "hello", "-o", "json"]).await), Some(false));
    let refused = person.says(&["build", "hello", "--wait"]).await;
    assert_eq!(refused.code, 1);
    contains(&refused.err, &["is suspended", "kubectl robotimage resume hello"]);
    contains(&person.says(&["explain", "hello"]).await.out, &["It is suspended"]);
    assert_eq!(change(person.says(&["resume", "hello", "-o", "json"]).await), Some(true));
    assert_eq!(change(person.says(&["resume", "hello", "-o", "json"]).await), Some(false));

    // What is not there.
    let missing = person.says(&["status", "helo"]).await;
    assert_eq!(missing.code, 1);
    contains(&missing.err, &["there is no RobotImage helo in namespace", "did you mean hello?"]);
    let missing = person.says(&["logs", "hello", "--build", "99"]).await;
    assert_eq!(missing.code, 1);
    contains(&missing.err, &["has no build 99", "its last build is 3"]);
    assert_eq!(
        person.says(&["cancel", "hello"]).await.code,
        0,
        "what has ended needs no cancelling"
    );
    assert_eq!(person.says(&["status", "--nonsense"]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_running_build_is_canceled() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.namespace("kubectl").await.unwrap());
    let person = Person::new(&setup, &namespace);
    let files = post_install_robot("python -c \"import time; time.sleep(900)\"");
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let repo = git_repository(bed, &namespace, "endless", &files).unwrap();
    let object = robot_image(bed, &namespace, "endless", repo.url(), &json!({}));
    let object = namespace.apply::<RobotImage>(object).await.unwrap();
    let followed = person.command(&["logs", "-f", "endless"]).spawn().unwrap();
    wait_step(&namespace, &object, "resolve", LIMIT).await.unwrap();
    let late = person.says(&["build", "endless", "--wait", "--timeout", "10s"]).await;
    assert_eq!(late.code, 124);
    contains(&late.err, &["waits for build 1 to end", "time is over", "goes on in the cluster"]);
    let mut interrupted = person.command(&["logs", "-f", "endless"]).spawn().unwrap();
    let mut lines = BufReader::new(interrupted.stdout.take().unwrap());
    // A line of the log: it is at work by now.
    let lines = tokio::task::spawn_blocking(move || lines.read_line(&mut String::new()).map(|_| lines));
    let lines = lines.await.unwrap().unwrap();
    // kubectl replaces itself by the plugin, so this is the plugin's own process.
    let process = nix::unistd::Pid::from_raw(i32::try_from(interrupted.id()).unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGINT).unwrap();
    let interrupted = Said::from(
        tokio::task::spawn_blocking(|| interrupted.wait_with_output())
            .await
            .unwrap()
            .unwrap(),
    );
    assert_eq!(interrupted.code, 130, "{interrupted:?}");
    drop(lines);
    contains(&interrupted.err, &["interrupted"]);
    // The build that was asked for above would follow; it is not wanted here.
    let none = json!({"metadata": {"annotations": {"robotimage.dev/forceAt": null}}});
    person
        .kubectl
        .run(&["patch", "rimg", "endless", "--type=merge", "-p", &none.to_string()])
        .unwrap();
    contains(&person.says(&["explain", "endless"]).await.out, &["Build 1 runs", "is at resolve"]);

    let canceled = person.says(&["cancel", "endless"]).await;
    assert_eq!(canceled.code, 0);
    contains(&canceled.out, &["build 1 of robotimage endless is being canceled"]);
    let followed = Said::from(tokio::task::spawn_blocking(|| followed.wait_with_output()).await.unwrap().unwrap());
    assert_eq!(followed.code, 1, "{followed:?}");
    contains(&followed.out, &["fetch   ", "resolve "]);
    contains(&followed.err, &["build 1 was given up: Canceled"]);
    let status = person.says(&["status", "endless", "-o", "json"]).await.json();
    assert_eq!(
        (&status["state"], &status["build"]["phase"]),
        (&json!("Canceled"), &json!("Canceled"))
    );
    contains(
        &person.says(&["cancel", "endless", "1"]).await.out,
        &["has ended already: Canceled"],
    );
    contains(
        &person.says(&["explain", "endless"]).await.out,
        &["build 1 was canceled", "What would help", "kubectl robotimage build endless"],
    );
    // The node may have kept the log for a moment; once it is removed, that is said.
    let end = std::time::Instant::now() + LIMIT;
    let gone = loop {
        let gone = person.says(&["logs", "endless"]).await;
        assert_eq!(gone.code, 1);
        if gone.out.is_empty() || std::time::Instant::now() > end {
            break gone;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    contains(
        &gone.err,
        &["the pod of build 1 is gone, and its log with it", "given up: Canceled"],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn who_may_not_and_who_gets_no_answer_is_told_what_is_missing() {
    let setup = setup().await;
    let (bed, namespace) = (&setup.bed, setup.unserved("rights").await.unwrap());
    let person = Person::new(&setup, &namespace);
    let repo = git_repository(bed, &namespace, "seen", SHELL_ROBOT).unwrap();
    let object = robot_image(bed, &namespace, "seen", repo.url(), &json!({}));
    namespace.apply::<RobotImage>(object).await.unwrap();
    contains(&person.says(&["status"]).await.out, &["Not seen by an operator yet"]);
    contains(&person.says(&["explain", "seen"]).await.out, &["No operator has looked at it yet"]);
    let none = person.says(&["logs", "seen"]).await;
    assert_eq!(none.code, 1);
    contains(&none.err, &["has no build yet: Not seen", "logs -f seen"]);

    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}).to_string();
    person.kubectl.apply(&account("nobody")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = service_account_kubeconfig(bed.node(), namespace.name(), "nobody", folder.path())
        .await
        .unwrap();
    let nobody = Person {
        kubectl: person.kubectl.clone().with_kubeconfig(&kubeconfig),
        binary: person.binary.clone(),
    };
    let forbidden = nobody.says(&["status"]).await;
    assert_eq!(forbidden.code, 1);
    contains(
        &forbidden.err,
        &[
            "may not list robotimages in namespace",
            "kubectl auth can-i list robotimages",
            "robotimage-view",
        ],
    );
    let bind = |role: &str| ["create", "rolebinding", role, "--clusterrole", role, "--serviceaccount"].map(str::to_owned);
    let user = format!("{}:nobody", namespace.name());
    let mut viewer: Vec<String> = bind("robotimage-view").to_vec();
    viewer.push(user);
    person.kubectl.run(&viewer.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    assert_eq!(nobody.says(&["status", "seen"]).await.code, 0);
    let forbidden = nobody.says(&["suspend", "seen", "-o", "json"]).await;
    assert_eq!((forbidden.code, &forbidden.json()["error"]["kind"]), (1, &json!("Forbidden")));
    contains(&forbidden.out, &["may not patch robotimages", "robotimage-edit"]);
    let explained = nobody.says(&["explain", "seen"]).await;
    assert_eq!(explained.code, 0);
    contains(
        &explained.out,
        &["Not known from here", "may not list configmaps", "may not list jobs"],
    );

    let lost = person.says(&["status", "--kubeconfig", "/nowhere/config"]).await;
    assert_eq!(lost.code, 1);
    contains(
        &lost.err,
        &["there is no kubeconfig: /nowhere/config does not exist", "--kubeconfig"],
    );
    let lost = person.says(&["status", "--context", "elsewhere"]).await;
    contains(&lost.err, &["elsewhere", "kubectl config get-contexts"]);
    let dead = folder.path().join("dead.conf");
    let text = std::fs::read_to_string(&kubeconfig).unwrap().replace(":6443", ":1");
    std::fs::write(&dead, text).unwrap();
    let lost = person.says(&["status", "--kubeconfig", dead.to_str().unwrap()]).await;
    assert_eq!(lost.code, 1);
    contains(&lost.err, &["cannot be reached: ", "refused", "kubectl version"]);
    namespace.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn what_is_deleted_while_it_is_watched_is_said_and_a_thousand_are_listed_in_pages() {
    let setup = setup().await;
    let namespace = setup.unserved("many").await.unwrap();
    let person = Person::new(&setup, &namespace);
    let object = |name: &str| robot_image(&setup.bed, &namespace, name, "https://git.example.com/a.git", &json!({}));
    namespace.apply::<RobotImage>(object("doomed")).await.unwrap();
    let waiting = person.command(&["build", "doomed", "--wait"]).spawn().unwrap();
    let asked = |object: &RobotImage| object.annotations().contains_key("robotimage.dev/forceAt");
    install::wait_for(&namespace, "doomed", LIMIT, |_| {}, asked).await.unwrap();
    person.kubectl.run(&["delete", "rimg", "doomed"]).unwrap();
    let waited = Said::from(tokio::task::spawn_blocking(|| waiting.wait_with_output()).await.unwrap().unwrap());
    assert_eq!(waited.code, 1, "{waited:?}");
    contains(&waited.err, &["doomed was deleted meanwhile"]);

    let long = "n".repeat(58);
    let many: Vec<Value> = (0..1000).map(|number| object(&format!("{long}-{number:04}"))).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": many});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), list.to_string()).unwrap();
    person.kubectl.run(&["create", "-f", file.path().to_str().unwrap()]).unwrap();
    let mut command = person.command(&["status", "-o", "json"]);
    let said = Said::from(tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap());
    let names: Vec<String> = said.json()["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["name"].as_str().unwrap().to_owned())
        .collect();
    let expected: Vec<String> = (0..1000).map(|number| format!("{long}-{number:04}")).collect();
    assert_eq!(names, expected);
    namespace.delete().await.unwrap();
}
