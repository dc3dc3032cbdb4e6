//! What foreign code can see inside the build: the resolve container holds neither git nor push credentials nor a token,
//! and the pod that says so passes Pod Security `restricted`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::api::PostParams;
use robotimage_crds::api::RobotImage;
use robotimage_tests::{Namespace, install};
use serde_json::json;

use crate::objects::{git_repository, is_stalled, jobs, post_install_robot, robot_image};
use crate::setup::setup;

const LIMIT: Duration = Duration::from_mins(15);

/// What a hostile package would do: look everywhere for something to steal. rcc runs it with the environment's Python; it
/// ends with a failure, so that what it printed is shown to the user. The secrets stand in it backwards: it must not find
/// itself.
fn probe(secrets: &[&str]) -> String {
    let reversed: Vec<String> = secrets.iter().map(|secret| secret.chars().rev().collect()).collect();
    format!(
        r#"
import base64, glob, os, sys
wanted = [text[::-1].encode() for text in {reversed:?}]
wanted += [base64.b64encode(text) for text in wanted]
seen, found = 0, []
def look(path):
    global seen
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 22)
    except OSError:
        return
    seen += 1
    found.extend(path for text in wanted if text in data)
for top in ("/secrets", "/var/run", "/run", "/workspace", "/platform", "/home", "/tmp", "/etc", "/root", "/dev/shm"):
    for folder, _, names in os.walk(top):
        for name in names:
            look(os.path.join(folder, name))
processes = [path for path in os.listdir("/proc") if path.isdigit()]
for process in processes:
    for name in ("environ", "cmdline"):
        look(f"/proc/{{process}}/{{name}}")
    for path in glob.glob(f"/proc/{{process}}/root/secrets/*/*") + glob.glob(f"/proc/{{process}}/cwd/*"):
        look(path)
listed = lambda path: sorted(os.listdir(path)) if os.path.isdir(path) else "none"
def can_write(path):
    try:
        with open(os.path.join(path, "probe"), "w"):
            return True
    except OSError:
        return False
print("PROBE files", "some" if seen > 50 else seen)
print("PROBE found", sorted(set(found)))
print("PROBE secrets", listed("/secrets"), listed("/workspace/source"), os.path.exists("/var/run/secrets/kubernetes.io"))
print("PROBE user", os.getuid(), os.getgid(), sorted(set(os.getgroups())))
print("PROBE writes", [path for path in ("/", "/workspace/spec", "/platform", "/usr/local/bin", "/etc") if can_write(path)])
sys.stdout.flush()
sys.exit(3)
"#
    )
}

/// Names of the Secrets that a container mounts.
fn secrets(container: &Container, pod: &PodSpec) -> BTreeSet<String> {
    let volumes = pod
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| Some((volume.name.clone(), volume.secret.as_ref()?.secret_name.clone()?)));
    let volumes: BTreeMap<String, String> = volumes.collect();
    container
        .volume_mounts
        .iter()
        .flatten()
        .filter_map(|mount| volumes.get(&mount.name).cloned())
        .collect()
}

/// What the pod of a build may hold, step by step.
fn assert_separated(pod: &PodSpec) {
    let steps: Vec<&Container> = pod.init_containers.iter().flatten().chain(&pod.containers).collect();
    let mounted: Vec<(&str, Vec<String>)> = steps
        .iter()
        .map(|step| (step.name.as_str(), secrets(step, pod).into_iter().collect()))
        .collect();
    let wanted = [
        ("fetch", vec!["git", "pull"]),
        ("resolve", vec![]),
        ("publish", vec!["pull", "push"]),
    ];
    let wanted: Vec<(&str, Vec<String>)> = wanted
        .map(|(step, names)| (step, names.into_iter().map(str::to_owned).collect()))
        .to_vec();
    assert_eq!(mounted, wanted);
    assert_eq!(pod.automount_service_account_token, Some(false));
    for volume in pod.volumes.iter().flatten() {
        assert!(volume.projected.is_none() && volume.host_path.is_none(), "{}", volume.name);
        if let Some(secret) = &volume.secret {
            assert!(
                secret.items.as_ref().is_some_and(|items| !items.is_empty()),
                "{} mounts every key",
                volume.name
            );
        }
    }
    let users: BTreeSet<Option<i64>> = steps
        .iter()
        .map(|step| step.security_context.as_ref().and_then(|context| context.run_as_user))
        .collect();
    assert_eq!(users.len(), 3, "{users:?}");
    for step in steps {
        let context = step.security_context.clone().unwrap_or_default();
        assert_eq!(
            (context.read_only_root_filesystem, context.allow_privilege_escalation),
            (Some(true), Some(false)),
            "{}",
            step.name
        );
        let variables = step.env.iter().flatten().filter(|variable| variable.value_from.is_some());
        assert_eq!(variables.count() + step.env_from.iter().flatten().count(), 0, "{}", step.name);
    }
}

/// The namespace does refuse what is not restricted.
async fn assert_enforced(namespace: &Namespace) {
    let pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "root"}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    let pod: Pod = serde_json::from_value(pod).expect("a pod");
    let refused = namespace
        .api::<Pod>()
        .create(&PostParams::default(), &pod)
        .await
        .expect_err("Pod Security restricted");
    assert!(refused.to_string().contains("restricted"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn foreign_code_finds_no_credential() {
    let setup = setup().await;
    let (bed, book) = (&setup.bed, setup.bed.book());
    let namespace = setup.namespace("isolation").await.unwrap();
    assert_enforced(&namespace).await;
    let login = book.registry.login.clone().unwrap();
    let config = book.registry.docker_config().to_string();
    for name in ["pull", "push"] {
        namespace
            .secret(name, "kubernetes.io/dockerconfigjson", &[(".dockerconfigjson", &config)])
            .await
            .unwrap();
    }
    let wanted = [
        book.git_login.password.reveal().to_owned(),
        login.password.reveal().to_owned(),
        book.git_login.basic(),
        login.basic(),
    ];
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    let mut files = post_install_robot("python probe.py");
    files.push(("probe.py", probe(&wanted).into_bytes()));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let repo = git_repository(bed, &namespace, "probe", &files).unwrap();
    let change = json!({"spec": {"image": {"secretRef": {"name": "push"}, "pullSecretRef": {"name": "pull"}}}});
    namespace
        .apply::<RobotImage>(robot_image(bed, &namespace, "probe", repo.url(), &change))
        .await
        .unwrap();
    let object = install::wait_for(&namespace, "probe", LIMIT, |_| {}, is_stalled).await.unwrap();
    let failure = object.status.as_ref().and_then(|status| status.last_failure.clone()).unwrap();
    assert_eq!(
        (failure.reason.as_str(), failure.owner.as_str()),
        ("PostInstallFailed", "User"),
        "{failure:?}"
    );

    let job = jobs(&namespace, &object).await.unwrap().remove(0);
    let pod = job.spec.clone().and_then(|job| job.template.spec).unwrap();
    assert_separated(&pod);

    let kubectl = robotimage_tests::kubectl::Kubectl::within(bed, namespace.name());
    let job_name = format!("job/{}", job.metadata.name.unwrap_or_default());
    let log = kubectl.run(&["logs", &job_name, "--container", "resolve"]).unwrap();
    // The step's own log is JSON lines, and what the command said is a text inside of one.
    let log = log.replace("\\n", "\n");
    let said: Vec<&str> = log.lines().filter_map(|line| line.find("PROBE").map(|at| &line[at..])).collect();
    println!("{}", said.join("\n"));
    assert_eq!(
        said[..3],
        ["PROBE files some", "PROBE found []", "PROBE secrets [] [] False"],
        "{log}\n{failure:?}"
    );
    assert!(
        said[3].starts_with("PROBE user 10002 10100 [10100]") && said[4] == "PROBE writes []",
        "{said:?}"
    );
}
