//! What a user, a platform or a network can get wrong, each for real: what the resource says then, and that nothing was
//! pushed that should not be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use robotimage_crds::api::{LastFailure, RobotImage};
use robotimage_tests::git::GitRepo;
use robotimage_tests::secret::Login;
use robotimage_tests::{Bed, Error, Namespace, Result, install, kstatus};
use serde_json::{Value, json};

use crate::faults::{killed_pod, no_builder, registry_down};
use crate::objects::{SHELL_ROBOT, git_repository, is_stalled, jobs_made, merge, post_install_robot, repository, robot_image};
use crate::setup::{Setup, setup};

/// How long any row may take to come to its end on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_mins(15);

/// A robot.yaml without an environment.
fn robot_yaml(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    vec![("robot.yaml", text.as_bytes().to_vec()), ("main.sh", b"echo hello\n".to_vec())]
}

/// A robot whose environment file asks for this.
fn with_environment(conda: &str) -> Vec<(&'static str, Vec<u8>)> {
    let mut files = robot_yaml("tasks:\n  Main:\n    shell: python -V\ncondaConfigFile: conda.yaml\nartifactsDir: output\n");
    files.push(("conda.yaml", conda.as_bytes().to_vec()));
    files
}

/// Where a row ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Only a change helps.
    Stalled,
    /// The operator tries again by itself.
    Retrying,
}

/// One bad input.
struct Row {
    name: &'static str,
    files: Vec<(&'static str, Vec<u8>)>,
    change: Value,
    end: End,
    reason: &'static str,
    owner: &'static str,
    jobs: usize,
    /// What the message must hold: the offending thing, and what to do.
    says: [&'static str; 2],
}

#[rustfmt::skip] // One line a row.
fn rows(bed: &Bed) -> Vec<Row> {
    let shell = || SHELL_ROBOT.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect::<Vec<_>>();
    let spec = |value: Value| json!({"spec": value});
    let git = |value: Value| json!({"spec": {"source": {"git": value}}});
    let none = || json!({});
    let missing_base = bed.book().public.reference("base/no-such-image:1");
    let row = |name, files, change, (end, reason, owner), jobs, says| Row {
        name,
        files,
        change,
        end,
        reason,
        owner,
        jobs,
        says,
    };
    let user = |reason| (End::Stalled, reason, "User");
    vec![
        row("no such host", shell(), git(json!({"url": "https://no-such-host.invalid/a.git", "secretRef": null})), user("SourceNotFound"), 0, ["no-such-host.invalid", "check"]),
        row("wrong git password", shell(), git(json!({"secretRef": {"name": "git-wrong"}})), user("GitAuthFailed"), 0, ["does not accept the credentials", "check the keys of the git Secret"]),
        row("no git Secret", shell(), git(json!({"secretRef": {"name": "git-nowhere"}})), user("SecretMissing"), 0, ["there is no Secret git-nowhere", "spec.source.git.secretRef"]),
        row("Secret for another host", shell(), git(json!({"secretRef": {"name": "git-elsewhere"}})), user("CredentialHostMismatch"), 0, ["git-elsewhere", "hosts"]),
        row("no such branch", shell(), git(json!({"ref": {"branch": "no-such-branch"}})), user("GitRevisionNotFound"), 0, ["no-such-branch", "check its spelling, or push it"]),
        row("no such commit", shell(), git(json!({"ref": {"branch": null, "commit": "0123456789012345678901234567890123456789"}})), user("GitRevisionNotFound"), 1, ["0123456789", "check its spelling, or push it"]),
        row("no such folder", shell(), spec(json!({"source": {"path": "robots/none"}})), user("SourcePathNotFound"), 1, ["robots/none", "check source.path"]),
        row("no robot.yaml", vec![("main.sh", b"echo\n".to_vec())], none(), user("RobotYamlInvalid"), 1, ["robot.yaml", "does not exist"]),
        row("robot.yaml not YAML", robot_yaml("tasks: {Main: [\n"), none(), user("RobotYamlInvalid"), 1, ["robot.yaml:", "not valid YAML"]),
        row("no tasks", robot_yaml("artifactsDir: output\n"), none(), user("RobotYamlInvalid"), 1, ["robot.yaml", "at least one task, such as"]),
        row("two tasks, none chosen", robot_yaml("tasks:\n  One: {shell: sh main.sh}\n  Two: {shell: sh main.sh}\nartifactsDir: output\n"), none(), user("RobotYamlInvalid"), 1, ["\"One\"", "robot.task"]),
        row("path out of the tree", robot_yaml("tasks:\n  Main: {shell: sh main.sh}\ncondaConfigFile: ../../conda.yaml\nartifactsDir: output\n"), none(), user("RobotYamlInvalid"), 1, ["../../conda.yaml", "source.path"]),
        row("link out of the tree", shell(), none(), user("SourceRejected"), 1, ["leads-out", "copy what it points to"]),
        row("unknown conda package", with_environment("channels: [conda-forge]\ndependencies: [python=3.11.7, no-such-conda-package=1.0]\n"), none(), user("PackageNotFound"), 1, ["no-such-conda-package", "correct its name or version"]),
        row("unknown pip package", with_environment("channels: [conda-forge]\ndependencies: [python=3.11.7, pip=23.2.1, {pip: [no-such-pip-package-of-robotimage==1.0]}]\n"), none(), user("PackageNotFound"), 1, ["no-such-pip-package-of-robotimage", "correct its name"]),
        row("failing post-install", post_install_robot("python -c \"import sys; sys.exit('post-install is sorry')\""), none(), user("PostInstallFailed"), 1, ["exit status 1", "post-install is sorry"]),
        row("wrong push password", shell(), spec(json!({"image": {"secretRef": {"name": "registry-wrong"}}})), user("PushUnauthorized"), 1, ["wrong-push-password", "check user and password"]),
        row("no push Secret", shell(), spec(json!({"image": {"secretRef": {"name": "registry-nowhere"}}})), user("SecretMissing"), 1, ["push", "Secret"]),
        row("no such base", shell(), spec(json!({"image": {"base": {"image": missing_base}}})), (End::Stalled, "BaseNotFound", "Platform"), 1, ["base/no-such-image", "check its spelling"]),
        row("over its timeout", post_install_robot("sleep 600"), spec(json!({"build": {"timeout": "30s"}})), (End::Retrying, "BuildTimeout", "Infrastructure"), 1, ["build.timeout", "raise"]),
    ]
}

/// What came of a row.
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) ready: String,
    pub(crate) state: String,
    pub(crate) owner: String,
    pub(crate) jobs: usize,
    pub(crate) tags: String,
    pub(crate) message: String,
    pub(crate) wrong: Vec<String>,
}

/// A failure of one row must not hide the others.
fn broken(name: &str, error: &Error) -> Seen {
    let none = String::new;
    Seen {
        name: name.to_owned(),
        ready: none(),
        state: none(),
        owner: none(),
        jobs: 0,
        tags: none(),
        message: none(),
        wrong: vec![error.to_string()],
    }
}

/// Conditions as kstatus needs them: one row of the table in docs/ARCHITECTURE.md.
pub(crate) fn judge_conditions(object: &RobotImage, end: End, reason: &str, wrong: &mut Vec<String>) {
    let mut expect = |kind: &str, wanted: Option<(&str, &str)>| {
        let found = install::condition(object, kind).map(|(status, reason, _)| (status, reason));
        if found != wanted {
            wrong.push(format!("{kind} is {found:?}, not {wanted:?}"));
        }
    };
    expect("Ready", Some(("False", reason)));
    expect("Available", Some(("False", "NeverBuilt")));
    expect("Stalled", (end == End::Stalled).then_some(("True", reason)));
    expect("Reconciling", (end == End::Retrying).then_some(("True", "ProgressingWithRetry")));
    let generation = object.metadata.generation;
    let status = object.status.clone().unwrap_or_default();
    if status.observed_generation != generation
        || status
            .conditions
            .iter()
            .any(|condition| condition.observed_generation != generation)
    {
        wrong.push(format!("not everything is of generation {generation:?}"));
    }
}

fn judge_failure(failure: &LastFailure, row: &Row, wrong: &mut Vec<String>) {
    if (failure.reason.as_str(), failure.owner.as_str()) != (row.reason, row.owner) {
        wrong.push(format!(
            "lastFailure is {} of {}, not {} of {}",
            failure.reason, failure.owner, row.reason, row.owner
        ));
    }
    if failure.retryable != (row.end == End::Retrying) {
        wrong.push(format!("retryable is {}", failure.retryable));
    }
    let all = format!("{}\n{}", failure.message, failure.log_tail.clone().unwrap_or_default());
    for word in row.says {
        if !all.contains(word) {
            wrong.push(format!("the message does not say {word:?}"));
        }
    }
    for secret in ["only-for-tests", "not-the-password"] {
        if all.contains(secret) {
            wrong.push("the message holds a password".to_owned());
        }
    }
}

async fn run(setup: &Setup, namespace: &Namespace, row: &Row) -> Result<Seen> {
    let bed = &setup.bed;
    let name = row.name.to_lowercase().replace([' ', ',', '.'], "-").replace("--", "-");
    let image = repository(namespace, &name);
    let files: Vec<(&str, &[u8])> = row.files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let repo = git_repository(bed, namespace, &name, &files)?;
    if row.name == "link out of the tree" {
        commit_link(&repo, "leads-out", "../../etc/passwd")?;
    }
    let before = bed.book().registry.tags(&image)?;
    namespace
        .apply::<RobotImage>(robot_image(bed, namespace, &name, repo.url(), &row.change))
        .await?;
    let ended = |object: &RobotImage| {
        let failed = object.status.as_ref().is_some_and(|status| status.last_failure.is_some());
        failed && (is_stalled(object) || matches!(install::condition(object, "Reconciling"), Some((_, "ProgressingWithRetry", _))))
    };
    let object = install::wait_for(namespace, &name, LIMIT, |_| {}, ended).await?;
    let made = jobs_made(setup, namespace, &name)?;
    if row.end == End::Retrying {
        // What it says now is asserted; a build that can never end must not go on beside the other suites.
        namespace
            .apply::<RobotImage>(suspended(bed, namespace, &name, repo.url(), &row.change))
            .await?;
    }
    let mut wrong = Vec::new();
    judge_conditions(&object, row.end, row.reason, &mut wrong);
    let wanted = if row.end == End::Stalled { "Failed" } else { "InProgress" };
    for verdict in kstatus::of(bed.cache(), std::slice::from_ref(&object))? {
        if verdict.status != wanted {
            wrong.push(format!("kstatus says {verdict:?}, not {wanted}"));
        }
    }
    let failure = object
        .status
        .as_ref()
        .and_then(|status| status.last_failure.clone())
        .unwrap_or_default();
    judge_failure(&failure, row, &mut wrong);
    if made != row.jobs {
        wrong.push(format!("{made} Jobs, not {}", row.jobs));
    }
    let after = bed.book().registry.tags(&image)?;
    if !before.is_empty() || !after.is_empty() {
        wrong.push(format!("tags {before:?} before and {after:?} after"));
    }
    let ready = install::condition(&object, "Ready").map_or("", |(_, reason, _)| reason).to_owned();
    Ok(Seen {
        name: row.name.to_owned(),
        ready,
        state: format!("{:?}", row.end),
        owner: failure.owner,
        jobs: made,
        tags: format!("{} -> {}", before.len(), after.len()),
        message: failure.message,
        wrong,
    })
}

fn suspended(bed: &Bed, namespace: &Namespace, name: &str, url: &str, change: &Value) -> Value {
    let mut change = change.clone();
    merge(&mut change, &json!({"spec": {"suspend": true}}));
    robot_image(bed, namespace, name, url, &change)
}

/// Adds a symbolic link to the branch, which the harness' own commits cannot hold.
fn commit_link(repo: &GitRepo, name: &str, target: &str) -> Result<()> {
    let file = tempfile::NamedTempFile::new().map_err(Error::io("create", "a temporary file"))?;
    std::fs::write(file.path(), target).map_err(Error::io("write", file.path()))?;
    let blob = repo.git(&["hash-object", "-w", &file.path().display().to_string()])?;
    repo.git(&["read-tree", "main"])?;
    repo.git(&["update-index", "--add", "--cacheinfo", &format!("120000,{},{name}", blob.trim())])?;
    let tree = repo.git(&["write-tree"])?;
    let who = ["-c", "user.name=A. Developer", "-c", "user.email=developer@example.com"];
    let commit = repo.git(&[&who[..], &["commit-tree", tree.trim(), "-p", "main", "-m", "Link"]].concat())?;
    repo.git(&["update-ref", "refs/heads/main", commit.trim()]).map(drop)
}

/// Secrets that are wrong on purpose.
async fn bad_secrets(bed: &Bed, namespace: &Namespace) -> Result<()> {
    let book = bed.book();
    let authority = bed.node().authority().pem()?;
    let wrong = Login::new(&book.git_login.user, "not-the-password");
    namespace.git_secret("git-wrong", &wrong, &book.git.host(), &authority).await?;
    namespace
        .git_secret("git-elsewhere", &book.git_login, "git.example.com", &authority)
        .await?;
    let login = Login::new("robot-builder", "not-the-password");
    let config = json!({"auths": {&book.registry.address: {"auth": login.basic()}}}).to_string();
    namespace
        .secret(
            "registry-wrong",
            "kubernetes.io/dockerconfigjson",
            &[(".dockerconfigjson", &config)],
        )
        .await
}

fn print_table(seen: &[Seen]) {
    println!(
        "{:<30} {:<40} {:<21} {:<15} {:>4}  {:<7} message",
        "input", "Ready", "state", "owner", "Jobs", "tags"
    );
    for row in seen {
        println!(
            "{:<30} {:<40} {:<21} {:<15} {:>4}  {:<7} {}",
            row.name, row.ready, row.state, row.owner, row.jobs, row.tags, row.message
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn every_bad_input_says_what_it_is_and_whose() {
    let setup: Arc<Setup> = setup().await;
    let bed = &setup.bed;
    let namespace = setup.namespace("inputs").await.unwrap();
    bad_secrets(bed, &namespace).await.unwrap();
    let rows = rows(bed);
    let plain = async {
        let named = |row: &Row, result: Result<Seen>| result.unwrap_or_else(|error| broken(row.name, &error));
        join_all(rows.iter().map(async |row| named(row, run(&setup, &namespace, row).await))).await
    };
    let named = |name: &'static str, result: Result<Seen>| result.unwrap_or_else(|error| broken(name, &error));
    let (mut seen, killed, down, builder) = tokio::join!(
        plain,
        async { named("a pod killed in the middle", killed_pod(&setup, &namespace).await) },
        async { named("registry down during the push", registry_down(&setup, &namespace).await) },
        async { named("no such builder image", no_builder(&setup).await) },
    );
    seen.extend([killed, down, builder]);
    print_table(&seen);
    let wrong: BTreeMap<&str, &[String]> = seen
        .iter()
        .filter(|row| !row.wrong.is_empty())
        .map(|row| (row.name.as_str(), &row.wrong[..]))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_nothing_more_was_tried(&setup, &namespace).await;
}

/// What only a change can help has not been tried a second time while the other rows ran.
async fn assert_nothing_more_was_tried(setup: &Setup, namespace: &Namespace) {
    let list = namespace
        .api::<RobotImage>()
        .list(&kube::api::ListParams::default())
        .await
        .expect("a list");
    for object in list.items.iter().filter(|object| is_stalled(object)) {
        let name = object.metadata.name.clone().unwrap_or_default();
        let made = jobs_made(setup, namespace, &name).expect("the audit log");
        assert!(made <= 1, "{made} Jobs were made for {name}");
    }
}
