//! The chart's NetworkPolicies, enforced by a real agent: who is let through to whom, and that operator and builds work behind
//! them.
//!
//! A cluster of its own, because the agent looks at every pod of its node. Every door is seen open before the policies are made,
//! so what is closed afterwards was closed by them; and those that must close have ports that the policies let through, so that
//! it is the address which is denied.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use robotimage_crds::api::RobotImage;
use robotimage_tests::install::{self, SYSTEM};
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::pods::{self, RunOptions};
use robotimage_tests::process::{Part, run};
use robotimage_tests::product::Images;
use robotimage_tests::reach::{self, Door, PodNetwork};
use robotimage_tests::{Bed, Cache, Lifetime, Namespace, Node};
use serde_json::{Value, json};

use crate::objects::{git_repository, is_stalled, merge, post_install_robot, robot_image, wait_ready};

const LIMIT: Duration = Duration::from_mins(10);
/// How long the agent may take; it needs a tenth of a second.
const ENFORCED: Duration = Duration::from_secs(30);
/// Where everybody listens who must not be reached: the private registry's port, which all policies let through.
const PORT: u16 = 5000;
/// Where the operator serves metrics and probes, and a port of its pod that is nobody's business.
const METRICS: u16 = 8080;
const OTHER: u16 = 9999;
/// Where clouds answer pods with credentials: most of them, and one other.
const METADATA: [&str; 2] = ["169.254.169.254", "100.100.100.200"];

/// What is open for whom, by names.
type Open = BTreeMap<&'static str, BTreeSet<&'static str>>;

/// Somebody who tries doors.
struct Visitor {
    who: &'static str,
    /// None: the host, which is outside of the cluster.
    from: Option<PodNetwork>,
    doors: Vec<Door>,
}

/// The cluster with everybody who listens.
struct Ground {
    bed: Bed,
    builds: Namespace,
    watchers: Namespace,
    images: Images,
    /// On a port that no policy lists: of the host's own address, and of the one that `addressPolicy.allow` opens.
    listeners: [TcpListener; 2],
    /// Processes of the node.
    parts: Vec<Part>,
}

/// Says what a step took.
fn said(began: &mut Instant, what: &str) {
    println!("{:>5.1} s  {what}", began.elapsed().as_secs_f64());
    *began = Instant::now();
}

/// A pod that takes connections; labelled as the operator labels build pods, where it stands for one.
fn pod(bed: &Bed, name: &str, labels: &Value) -> Value {
    let options = RunOptions {
        args: vec!["-c".to_owned(), format!("exec /bin/busybox {}", reach::listener(PORT).join(" "))],
        ..RunOptions::default()
    };
    let mut pod = pods::pod(name, &bed.book().busybox_image, &options);
    pod["metadata"]["labels"] = labels.clone();
    pod
}

impl Ground {
    async fn prepare() -> Self {
        let cache = Cache::open().unwrap();
        let mut bed = Bed::start(&cache, Lifetime::Harness).await.unwrap();
        bed.own_node().unwrap().enforce_policies(&cache).await.unwrap();
        let (_, images) = install::images(&bed).await.unwrap();
        let (builds, watchers) = (
            Namespace::create(&bed, "robots").await.unwrap(),
            Namespace::create(&bed, "monitoring").await.unwrap(),
        );
        let listen = |ip: String| TcpListener::bind((ip, 0)).unwrap();
        let listeners = [listen(bed.book().instance.host_ip()), listen(bed.book().instance.other_host_ip())];
        let machine = bed.node().machine();
        for address in METADATA {
            let mut add = machine.command("ip");
            run(
                "address of a cloud",
                add.args(["address", "add", &format!("{address}/32"), "dev", "lo"]),
            )
            .unwrap();
        }
        let node = Part::start(machine.spec("listener-node", "busybox", reach::listener(PORT))).unwrap();
        Self {
            bed,
            builds,
            watchers,
            images,
            listeners,
            parts: vec![node],
        }
    }

    /// Installs or upgrades the chart. A change of policies changes the operator's pod as well, so that it has to start behind them.
    fn install(&self, policies: bool) {
        let mut values = install::values(self.bed.book(), &self.images, &[self.builds.name()]).unwrap();
        let instance = self.bed.book().instance;
        let monitoring = json!({"kubernetes.io/metadata.name": self.watchers.name()});
        merge(
            &mut values,
            &json!({
                "watchNamespaces": [self.builds.name()],
                "operator": {"replicas": 1, "podAnnotations": {"example.com/policies": policies.to_string()}},
                "addressPolicy": {"allow": [format!("{}/32", instance.other_host_ip())]},
                "networkPolicy": {
                    "operator": {
                        "enabled": policies,
                        "ingressFrom": [{"namespaceSelector": {"matchLabels": monitoring}}],
                        "egressPorts": [443, 6443, 3000, PORT, 5001],
                    },
                    // Git, both registries, the channel and rcc; and the API server's and the kubelet's, which must not help.
                    "builds": {"enabled": policies, "egressPorts": [3000, PORT, 5001, 8080, 8443, 443, 6443, 10250]},
                },
            }),
        );
        install::chart(&self.bed, &values).unwrap();
    }

    /// Pods that listen: one as a build's, one that is nobody's, one of those who may see metrics.
    async fn people(&self) -> [PodNetwork; 3] {
        let build = json!({"app.kubernetes.io/name": "robotimage-build", "app.kubernetes.io/managed-by": "robotimage-operator"});
        self.builds.apply::<Pod>(pod(&self.bed, "build", &build)).await.unwrap();
        self.builds.apply::<Pod>(pod(&self.bed, "stranger", &json!({}))).await.unwrap();
        self.watchers.apply::<Pod>(pod(&self.bed, "watcher", &json!({}))).await.unwrap();
        let network = async |namespace: &Namespace, name: &str| {
            let ready = ["wait", "--for=condition=Ready", &format!("pod/{name}"), "--timeout=90s"];
            Kubectl::within(&self.bed, namespace.name()).run(&ready).unwrap();
            PodNetwork::of(self.bed.node(), &namespace.api::<Pod>().get(name).await.unwrap()).unwrap()
        };
        [
            network(&self.builds, "build").await,
            network(&self.builds, "stranger").await,
            network(&self.watchers, "watcher").await,
        ]
    }

    /// The operator's pod, once it is the only one, with a further port.
    async fn operator(&mut self) -> PodNetwork {
        let api: Api<Pod> = Api::namespaced(self.builds.client().clone(), SYSTEM);
        let ours = ListParams::default().labels("app.kubernetes.io/instance=robotimage");
        let end = Instant::now() + LIMIT;
        let pod = loop {
            let mut pods = api.list(&ours).await.unwrap().items;
            if pods.len() == 1 {
                break pods.remove(0);
            }
            assert!(Instant::now() < end, "{} pods of the operator", pods.len());
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let network = PodNetwork::of(self.bed.node(), &pod).unwrap();
        self.parts.push(network.listen(self.bed.node(), OTHER).unwrap());
        network
    }

    /// Everybody with all doors that say something about them.
    fn visitors(&self, [build, stranger, watcher]: &[PodNetwork; 3], operator: &PodNetwork) -> Vec<Visitor> {
        let instance = self.bed.book().instance;
        let (host, node) = (instance.host_ip(), instance.node_ip());
        let ports = self.listeners.each_ref().map(|listener| listener.local_addr().unwrap().port());
        let doors = [
            Door::tcp("git", &host, 3000),
            Door::tcp("registry", &host, PORT),
            Door::tcp("public-registry", &host, 5001),
            Door::tcp("channel", &host, 8080),
            Door::tcp("unlisted-port", &host, ports[0]),
            Door::tcp("allowed-address", instance.other_host_ip(), ports[1]),
            Door::dns("dns", instance.dns_service_ip()),
            Door::tcp("dns-tcp", instance.dns_service_ip(), 53),
            Door::tcp("api-service", instance.api_service_ip(), 443),
            Door::tcp("api-server", &node, 6443),
            Door::tcp("kubelet", &node, 10250),
            Door::tcp("node", &node, PORT),
            Door::tcp("metadata", METADATA[0], PORT),
            Door::tcp("other-metadata", METADATA[1], PORT),
            Door::tcp("build-pod", build.ip(), PORT),
            Door::tcp("stranger", stranger.ip(), PORT),
            Door::tcp("metrics", operator.ip(), METRICS),
            Door::tcp("operator-other", operator.ip(), OTHER),
        ];
        let visitor = |who, from: Option<&PodNetwork>, without: &[&str]| Visitor {
            who,
            from: from.cloned(),
            doors: doors.iter().filter(|door| !without.contains(&door.name)).cloned().collect(),
        };
        vec![
            visitor("build", Some(build), &["build-pod"]),
            visitor("operator", Some(operator), &["metrics", "operator-other"]),
            visitor("stranger", Some(stranger), &["stranger"]),
            visitor("watcher", Some(watcher), &[]),
            visitor("host", None, &["metadata", "other-metadata"]),
        ]
    }
}

impl Visitor {
    fn reached(&self, node: &Node) -> BTreeSet<&'static str> {
        match &self.from {
            Some(pod) => pod.reached(node, &self.doors),
            None => reach::reached_from_host(&self.doors),
        }
        .unwrap()
    }
}

/// Waits until exactly the wanted doors are open.
async fn wait_open(node: &Node, visitors: &[Visitor], wanted: &Open) {
    let end = Instant::now() + ENFORCED;
    loop {
        let open: Open = visitors.iter().map(|visitor| (visitor.who, visitor.reached(node))).collect();
        if open == *wanted {
            return;
        }
        assert!(Instant::now() < end, "open: {open:#?}\nwanted: {wanted:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// All doors but the named ones.
fn all_but(visitor: &Visitor, closed: &[&str]) -> BTreeSet<&'static str> {
    let names = visitor.doors.iter().map(|door| door.name);
    names.filter(|name| !closed.contains(name)).collect()
}

/// What is to be open behind the policies.
fn wanted(visitors: &[Visitor]) -> Open {
    let open = visitors.iter().map(|visitor| {
        let doors = match visitor.who {
            "build" => ["git", "registry", "public-registry", "channel", "allowed-address", "dns", "dns-tcp"].into(),
            // Its ports are open at every address, as it has to reach the API server; but it has no business with a build pod.
            "operator" => all_but(
                visitor,
                &[
                    "channel",
                    "unlisted-port",
                    "allowed-address",
                    "kubelet",
                    "metadata",
                    "other-metadata",
                    "build-pod",
                ],
            ),
            "watcher" => all_but(visitor, &["build-pod", "operator-other"]),
            _ => all_but(visitor, &["build-pod", "metrics", "operator-other"]),
        };
        (visitor.who, doors)
    });
    open.collect()
}

/// A command of an installation that fails when it reaches one of the doors.
fn intruder(doors: &[Door]) -> String {
    let addresses: Vec<(String, u16)> = doors
        .iter()
        .filter_map(|door| match door.knock {
            reach::Knock::Tcp(port) => Some((door.ip.clone(), port)),
            reach::Knock::Dns => None,
        })
        .collect();
    let addresses = serde_json::to_string(&addresses).unwrap();
    format!(
        r#"
import socket, sys
reached = []
for host, port in {addresses}:
    try:
        socket.create_connection((host, port), 1).close()
        reached.append(host)
    except OSError:
        pass
print("REACHED", reached)
sys.exit(3 if reached else 0)
"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn a_network_that_enforces_the_policies_lets_through_what_is_needed_and_nothing_else() {
    let mut began = Instant::now();
    let mut ground = Ground::prepare().await;
    said(&mut began, "a cluster with an agent, and our images");
    ground.install(false);
    let people = ground.people().await;
    let operator = ground.operator().await;
    let visitors = ground.visitors(&people, &operator);
    // What must be closed for foreign code of a build, tried by such code.
    let policed = wanted(&visitors);
    let closed: Vec<Door> = visitors[0]
        .doors
        .iter()
        .filter(|door| !policed["build"].contains(door.name))
        .cloned()
        .collect();
    let mut files = post_install_robot("python intruder.py");
    files.push(("intruder.py", intruder(&closed).into_bytes()));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    let repo = git_repository(&ground.bed, &ground.builds, "intruder", &files).unwrap();
    let object = robot_image(&ground.bed, &ground.builds, "intruder", repo.url(), &json!({}));
    ground.builds.apply::<RobotImage>(object.clone()).await.unwrap();
    let everything = visitors.iter().map(|visitor| (visitor.who, all_but(visitor, &[]))).collect();
    wait_open(ground.bed.node(), &visitors, &everything).await;
    said(&mut began, "without policies every door is open");

    let failed = install::wait_for(&ground.builds, "intruder", LIMIT, |_| {}, is_stalled)
        .await
        .unwrap();
    let failure = failed.status.and_then(|status| status.last_failure).unwrap();
    assert_eq!(failure.reason, "PostInstallFailed", "{failure:?}");
    said(&mut began, "a package install that reaches what it should not fails its build");

    ground.install(true);
    let operator = ground.operator().await;
    let visitors = ground.visitors(&people, &operator);
    wait_open(ground.bed.node(), &visitors, &wanted(&visitors)).await;
    said(&mut began, "with policies exactly the right doors are open");

    let mut again = object;
    again["metadata"]["annotations"] = json!({"robotimage.dev/forceAt": "2026-01-01T00:00:00Z"});
    ground.builds.apply::<RobotImage>(again).await.unwrap();
    let done = |object: &RobotImage| {
        let number = object.status.as_ref().and_then(|status| status.build_counter);
        number == Some(2) && (install::is_ready(object) || is_stalled(object))
    };
    install::wait_for(&ground.builds, "intruder", LIMIT, |_| {}, done).await.unwrap();
    wait_ready(&ground.builds, "intruder", LIMIT).await.unwrap();
    said(
        &mut began,
        "the same build succeeds behind the policies, and its install reaches nothing",
    );
    // The node's probes of the operator are let through as well: it would not be available any more.
    let deployments: Api<Deployment> = Api::namespaced(ground.builds.client().clone(), SYSTEM);
    let status = deployments.get("robotimage").await.unwrap().status.unwrap();
    assert_eq!(status.ready_replicas, Some(1), "{status:?}");
    ground.bed.stop().unwrap();
}
