//! The test bed itself: it starts, does real work, can be broken, says what failed, and leaves nothing.

#![allow(clippy::unwrap_used)] // a suite says what is wrong by panicking

mod leftovers;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use leftovers::Host;
use nix::sys::signal::Signal;
use robotimage_tests::apiproxy::{ApiProxy, Moment};
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::machine::sweep;
use robotimage_tests::node::{Node, Options};
use robotimage_tests::process::{Identity, Lifetime, run};
use robotimage_tests::registry::{Registry, RegistryOptions};
use robotimage_tests::secret::Login;
use robotimage_tests::{Bed, Cache, Namespace, Site, audit};
use serde_json::json;

/// A Job that passes Pod Security `restricted`.
fn job(name: &str, image: &str, script: &str) -> serde_json::Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": {"spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "main", "image": image, "command": ["/bin/sh", "-ec", script],
                "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                    "capabilities": {"drop": ["ALL"]}}}],
        }}},
    })
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_restricted_job_pulls_with_a_password_and_reaches_everything() {
    let bed = Bed::shared().await.unwrap();
    let book = bed.book();
    let namespace = Namespace::fresh(&bed, "smoke").await.unwrap();
    let repo = book.git.create("smoke", Some(&book.git_login)).unwrap();
    repo.commit(&[("robot.yaml", b"tasks: {}\n")], "one").unwrap();
    namespace
        .apply::<Job>(job("small", &book.busybox_image, "id -u; echo done"))
        .await
        .unwrap();
    let channel = book.files.channel();
    let (address, _) = channel.trim_start_matches("http://").split_once('/').unwrap();
    let script = format!(
        "getent hosts kubernetes.default.svc.cluster.local host.testbed.internal
         fetch() {{ exec 3<>/dev/tcp/$1/$2; printf 'GET /conda/noarch/repodata.json HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3; }}
         fetch {} | grep -c pip-",
        address.replace(':', " ")
    );
    let script = format!("bash -ec \"$(cat <<'EOS'\n{script}\nEOS\n)\"");
    let debian = book.registry.reference(robotimage_tests::base::NAME);
    namespace.apply::<Job>(job("large", &debian, &script)).await.unwrap();
    let kubectl = Kubectl::within(&bed, namespace.name());
    kubectl
        .run(&["wait", "--for=condition=Complete", "job/small", "job/large", "--timeout=90s"])
        .unwrap();
    assert_eq!(kubectl.run(&["logs", "job/small"]).unwrap(), "1000\ndone\n");
    let log = kubectl.run(&["logs", "job/large"]).unwrap();
    assert!(
        log.contains(&book.instance.api_service_ip()) && log.contains(&book.instance.host_ip()),
        "{log}"
    );
    assert!(log.ends_with("1\n"), "{log}");

    // Without the pull secret the same image is refused, and a privileged pod is not let in.
    kubectl
        .run(&["patch", "serviceaccount", "default", "--patch", r#"{"imagePullSecrets":null}"#])
        .unwrap();
    let fresh = book.registry.reference("base/busybox:1");
    let mut refused = job("refused", &fresh, "true");
    refused["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
    namespace.apply::<Job>(refused).await.unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while !kubectl.run(&["get", "events"]).unwrap().contains("401 Unauthorized") {
        assert!(Instant::now() < end, "{}", kubectl.run(&["get", "events"]).unwrap());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let root = kubectl.output(&["run", "root", "--image", &fresh, "--privileged"]).unwrap();
    assert!(String::from_utf8_lossy(&root.stderr).contains("violates PodSecurity"), "{root:?}");
    namespace.delete().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn stopping_leaves_nothing_behind() {
    let cache = Cache::open().unwrap();
    let filters = leftovers::filters();
    let (bed, instance) = {
        let mut bed = Bed::start(&cache, Lifetime::Harness).await.unwrap();
        bed.own_node().unwrap().enforce_policies(&cache).await.unwrap();
        let instance = bed.book().instance;
        (bed, instance)
    };
    let mut inside = bed.node().machine().command("iptables");
    run("rules of the agent", inside.args(["--list-rules", "KUBE-ROUTER-FORWARD"])).unwrap();
    assert_eq!(leftovers::filters(), filters, "the agent has left the node");
    let during = Host::look(&cache, instance);
    assert!(!during.is_clean(), "the comparison would see nothing: {during:?}");
    let namespace = Namespace::fresh(&bed, "stop").await.unwrap();
    namespace
        .apply::<Job>(job("runs", &bed.book().busybox_image, "sleep 1000"))
        .await
        .unwrap();
    let kubectl = Kubectl::within(&bed, namespace.name());
    kubectl
        .run(&["wait", "--for=jsonpath={.status.ready}=1", "job/runs", "--timeout=60s"])
        .unwrap();
    let start = Instant::now();
    bed.stop().unwrap();
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let after = Host::look(&cache, instance);
    assert!(after.is_clean(), "{after:?}");
    assert_eq!(leftovers::filters(), filters);
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_agent_without_a_node_says_so() {
    let cache = Cache::open().unwrap();
    let mut node = Node::start_control_plane(&cache).await.unwrap();
    let error = node.enforce_policies(&cache).await.unwrap_err().to_string();
    assert!(
        error.starts_with("kube-router ended while it was starting (exit status: 1)"),
        "{error}"
    );
    assert!(
        error.contains("log/kube-router.log") && error.contains("unable to get node node0"),
        "{error}"
    );
    assert!(node.part("kube-router").is_err(), "it is a part of the node no more");
    node.stop().unwrap();
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_bad_start_names_the_part_its_log_and_the_last_lines() {
    let cache = Cache::open().unwrap();
    let options = Options {
        apiserver_flags: vec!["--no-such-flag".into()],
        ..Options::default()
    };
    let error = Node::start(&cache, options).await.unwrap_err().to_string();
    assert!(error.starts_with("kube-apiserver ended while it was starting"), "{error}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
    let log = error.split("its log is ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    assert!(std::fs::metadata(log).unwrap().len() > 0, "the log that the error names is there");
    let number = log.split("/run/").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
    let instance = robotimage_tests::Instance::all()
        .find(|instance| instance.to_string() == number)
        .unwrap();
    let mut after = Host::look(&cache, instance);
    after.forget_folder();
    assert!(after.is_clean(), "{after:?}");

    let folder = tempfile::tempdir().unwrap();
    let site = Site::loopback(folder.path()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = Some(taken.local_addr().unwrap().port());
    let occupied = RegistryOptions {
        port,
        ..RegistryOptions::open("occupied")
    };
    let error = Registry::start(&cache, &site, occupied).await.unwrap_err().to_string();
    assert!(error.starts_with("registry-occupied ended while it was starting"), "{error}");
    assert!(error.contains("address already in use"), "{error}");
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_killed_harness_takes_its_node_with_it() {
    if std::env::var_os("TESTBED_IS_TO_BE_KILLED").is_some() {
        let node = Node::start(&Cache::open().unwrap(), Options::default()).await.unwrap();
        println!("\nINSTANCE {}", node.instance());
        std::future::pending::<()>().await;
    }
    let mut harness = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_killed_harness_takes_its_node_with_it", "--nocapture"])
        .env("TESTBED_IS_TO_BE_KILLED", "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(harness.stdout.take().unwrap()).lines().map_while(Result::ok);
    let number = lines
        .into_iter()
        .find_map(|line| line.strip_prefix("INSTANCE ").map(str::to_owned))
        .unwrap();
    let instance = robotimage_tests::Instance::all()
        .find(|instance| instance.to_string() == number)
        .unwrap();
    let cache = Cache::open().unwrap();
    harness.kill().unwrap();
    harness.wait().unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while Host::look(&cache, instance).has_processes() {
        assert!(Instant::now() < end, "{:?}", Host::look(&cache, instance));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // What is no process remains until the next start or a sweep.
    sweep(&cache, instance).unwrap();
    let after = Host::look(&cache, instance);
    assert!(after.is_clean(), "{after:?}");
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_registry_goes_down_and_comes_back_with_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::loopback(folder.path()).unwrap();
    let cache = Cache::open().unwrap();
    let private = RegistryOptions::private("mine", Login::new("user", "password"));
    let mut registry = Registry::start(&cache, &site, private).await.unwrap();
    let busybox = robotimage_tests::image::busybox(&cache).unwrap();
    let digest = registry.at().push_layout(&busybox, "a/b:1").unwrap();
    registry.stop();
    assert!(
        registry
            .at()
            .digest("a/b:1")
            .unwrap_err()
            .to_string()
            .contains("connection refused")
    );
    registry.start_again().await.unwrap();
    assert_eq!(registry.at().digest("a/b:1").unwrap(), digest);
    assert_eq!(registry.at().tags("a/b").unwrap(), ["1"]);
    assert_eq!(registry.at().tags("a/none").unwrap(), [""; 0]);
    let mut stranger = registry.at().clone();
    stranger.login = Some(Login::new("user", "wrong"));
    assert!(
        stranger.digest("a/b:1").unwrap_err().to_string().contains("401"),
        "a wrong password is refused"
    );
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_process_dies_before_or_after_a_chosen_write() {
    let bed = Bed::shared().await.unwrap();
    let namespace = Namespace::fresh(&bed, "proxy").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let proxy = ApiProxy::start(&bed.node().kubeconfig(), folder.path()).unwrap();
    let kubectl = Kubectl::within(&bed, namespace.name()).with_kubeconfig(proxy.kubeconfig());
    let direct = Kubectl::within(&bed, namespace.name());
    let mark = audit::mark(&bed.node().audit_log()).unwrap();
    kubectl.run(&["create", "configmap", "first", "--from-literal=a=1"]).unwrap();
    kubectl.run(&["get", "configmap", "first"]).unwrap();
    assert_eq!(proxy.writes().len(), 1);
    assert_eq!(proxy.writes()[0].code, Some(201));

    for (name, moment, there) in [("before", Moment::Before, false), ("after", Moment::After, true)] {
        let mut writer = kubectl
            .command()
            .args(["create", "configmap", name])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Frozen until the trap is set: its write comes later than that.
        let target = Identity::of(i32::try_from(writer.id()).unwrap()).unwrap();
        assert!(target.signal(Signal::SIGSTOP));
        proxy.kill_at(proxy.writes().len(), moment, target);
        assert!(target.signal(Signal::SIGCONT));
        assert!(!writer.wait().unwrap().success());
        assert!(!proxy.is_armed());
        assert_eq!(
            direct.output(&["get", "configmap", name]).unwrap().status.success(),
            there,
            "{name}"
        );
    }

    let written: Vec<_> = audit::read(&bed.node().audit_log(), mark)
        .unwrap()
        .into_iter()
        .filter(|entry| entry.is_write() && entry.namespace == namespace.name() && entry.user == "admin")
        .map(|entry| (entry.resource, entry.name, entry.code))
        .collect();
    let names = ["first", "after"].map(|name| ("configmaps".to_owned(), name.to_owned(), 201));
    assert_eq!(written, names);
    let left: Vec<ConfigMap> = namespace.api().list(&kube::api::ListParams::default()).await.unwrap().items;
    assert_eq!(left.len(), 3, "the two, and the cluster's root certificate");
    namespace.delete().await.unwrap();
}

#[tokio::test]
#[ignore = "needs root and the real parts: make test runs it"]
async fn an_interrupted_up_is_swept() {
    let cache = Cache::open().unwrap();
    let testbed = env!("CARGO_BIN_EXE_testbed");
    let mut up = Command::new(testbed)
        .args(["up", "--another"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let own = up.id().to_string();
    // It is interrupted when its node is half started.
    let owned = |instance: &robotimage_tests::Instance| {
        let run = cache.run_dir(*instance);
        let state = std::fs::read_to_string(run.join("machine.json")).unwrap_or_default();
        state.contains(&format!("\"owner\":{{\"pid\":{own},"))
            && run.join("log/etcd.log").exists()
            && Host::look(&cache, *instance).has_processes()
    };
    let end = Instant::now() + Duration::from_mins(1);
    let instance = loop {
        if let Some(instance) = robotimage_tests::Instance::all().find(owned) {
            break instance;
        }
        assert!(Instant::now() < end && up.try_wait().unwrap().is_none(), "the node did not start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(Host::look(&cache, instance).has_processes(), "what is kept outlives its starter");
    let swept = Command::new(testbed).arg("sweep").output().unwrap();
    assert!(swept.status.success(), "{}", String::from_utf8_lossy(&swept.stderr));
    let after = Host::look(&cache, instance);
    assert!(after.is_clean(), "{after:?}");
}
