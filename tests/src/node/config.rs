//! The configuration of every part of the node, as pure functions of the instance and its run folder.
//!
//! Invariant: all addresses come from [`Instance`] and all paths lie below the run folder. Where a value is not the
//! program's own default, the reason stands beside it.

use std::path::Path;

use serde_json::{Value, json};

use crate::instance::Instance;

/// The image that holds a pod's namespaces; loaded into containerd from a file, never pulled.
pub(crate) const PAUSE_IMAGE: &str = "testbed.robotimage.dev/pause:1";
/// Name of the one node.
pub(crate) const NODE: &str = "node0";

/// Certificates to issue: file name, common name, organization. Kubernetes takes the user from the first and the
/// groups from the second.
pub(crate) const CLIENTS: [(&str, &str, Option<&str>); 5] = [
    ("admin", "admin", Some("system:masters")),
    ("kube-controller-manager", "system:kube-controller-manager", None),
    ("kube-scheduler", "system:kube-scheduler", None),
    ("kube-proxy", "system:kube-proxy", None),
    ("apiserver-kubelet-client", "apiserver-kubelet-client", Some("system:masters")),
];

pub(crate) fn etcd(instance: Instance, run: &Path) -> Vec<String> {
    let client = format!("http://{}:2379", instance.node_ip());
    flags(&[
        ("--data-dir", &run.join("etcd").display().to_string()),
        ("--listen-client-urls", &client),
        ("--advertise-client-urls", &client),
        ("--listen-peer-urls", "http://127.0.0.1:2380"),
        ("--log-level", "warn"),
    ])
    .into_iter()
    // The data lives as long as the test bed; the disk is shared with builds.
    .chain(["--unsafe-no-fsync".to_owned()])
    .collect()
}

pub(crate) fn apiserver(instance: Instance, run: &Path, extra: &[String]) -> Vec<String> {
    let pki = |name: &str| run.join("pki").join(name).display().to_string();
    let log = run.join("log/audit.log").display().to_string();
    let mut args = flags(&[
        ("--etcd-servers", &format!("http://{}:2379", instance.node_ip())),
        ("--bind-address", "0.0.0.0"),
        ("--advertise-address", &instance.node_ip()),
        ("--secure-port", "6443"),
        ("--client-ca-file", &pki("ca.crt")),
        ("--tls-cert-file", &pki("apiserver.crt")),
        ("--tls-private-key-file", &pki("apiserver.key")),
        ("--service-account-key-file", &pki("service-accounts.pub")),
        ("--service-account-signing-key-file", &pki("service-accounts.key")),
        ("--service-account-issuer", "https://kubernetes.default.svc"),
        ("--service-cluster-ip-range", &instance.service_cidr()),
        ("--authorization-mode", "Node,RBAC"),
        ("--enable-admission-plugins", "NodeRestriction"),
        // Left to Pod Security, as clusters have it; otherwise validation refuses such pods before it is asked.
        ("--allow-privileged", "true"),
        ("--kubelet-client-certificate", &pki("apiserver-kubelet-client.crt")),
        ("--kubelet-client-key", &pki("apiserver-kubelet-client.key")),
        ("--kubelet-certificate-authority", &pki("ca.crt")),
        // The node's name resolves nowhere.
        ("--kubelet-preferred-address-types", "InternalIP"),
        ("--audit-policy-file", &run.join("audit-policy.json").display().to_string()),
        ("--audit-log-path", &log),
        ("--audit-log-maxsize", "1000"),
    ]);
    args.extend_from_slice(extra);
    args
}

/// Every request with who, what and when, without bodies: suites count writes in it.
pub(crate) fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    })
}

pub(crate) fn controller_manager(run: &Path, extra: &[String]) -> Vec<String> {
    let pki = |name: &str| run.join("pki").join(name).display().to_string();
    let mut args = flags(&[
        ("--kubeconfig", &run.join("kube-controller-manager.conf").display().to_string()),
        ("--service-account-private-key-file", &pki("service-accounts.key")),
        ("--root-ca-file", &pki("ca.crt")),
        ("--use-service-account-credentials", "true"),
        ("--leader-elect", "false"),
        ("--bind-address", "127.0.0.1"),
        // The default of 20 a second makes suites wait for namespaces to be deleted.
        ("--kube-api-qps", "200"),
        ("--kube-api-burst", "400"),
    ]);
    args.extend_from_slice(extra);
    args
}

pub(crate) fn scheduler(run: &Path) -> Vec<String> {
    flags(&[
        ("--kubeconfig", &run.join("kube-scheduler.conf").display().to_string()),
        ("--leader-elect", "false"),
        ("--bind-address", "127.0.0.1"),
    ])
}

pub(crate) fn kubelet(instance: Instance, run: &Path) -> Vec<String> {
    flags(&[
        ("--config", &run.join("kubelet.json").display().to_string()),
        ("--kubeconfig", &run.join("kubelet.conf").display().to_string()),
        ("--hostname-override", NODE),
        ("--node-ip", &instance.node_ip()),
        ("--root-dir", &run.join("kubelet").display().to_string()),
    ])
}

pub(crate) fn kubelet_config(instance: Instance, run: &Path) -> Value {
    let pki = |name: &str| run.join("pki").join(name);
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "cgroupDriver": "cgroupfs",
        // Two test beds must not share a tree of cgroups; the whole of this one is removed at the end.
        "cgroupRoot": format!("/{}", instance.interface()),
        // Version 1.35 refuses cgroup v1 unless this is said.
        "failCgroupV1": false,
        "failSwapOn": false,
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": pki("ca.crt")}},
        "authorization": {"mode": "Webhook"},
        "clusterDNS": [instance.dns_service_ip()], "clusterDomain": "cluster.local",
        "resolvConf": run.join("resolv.conf"),
        "tlsCertFile": pki("kubelet.crt"), "tlsPrivateKeyFile": pki("kubelet.key"),
        // The default of a minute is how long a changed Secret or ConfigMap takes to be seen.
        "syncFrequency": "2s", "nodeStatusUpdateFrequency": "5s",
        "serializeImagePulls": false, "registryPullQPS": 0, "eventRecordQPS": 0,
        "kubeAPIQPS": 200, "kubeAPIBurst": 400,
        // Off: on a machine whose disk is nearly full the sandbox image would go, and nothing could bring it back.
        "imageGCHighThresholdPercent": 100, "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%",
            "nodefs.inodesFree": "1%", "imagefs.inodesFree": "1%"},
    })
}

pub(crate) fn proxy_config(instance: Instance, run: &Path) -> Value {
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "nftables", "clusterCIDR": instance.pod_cidr(), "hostnameOverride": NODE,
        "clientConnection": {"kubeconfig": run.join("kube-proxy.conf")},
        // Zero leaves the kernel's own limits, which a namespace may not change.
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    })
}

/// The agent that enforces NetworkPolicies.
pub(crate) fn kube_router(instance: Instance, run: &Path) -> Vec<String> {
    flags(&[
        ("--kubeconfig", &run.join("admin.conf").display().to_string()),
        ("--hostname-override", NODE),
        ("--service-cluster-ip-range", &instance.service_cidr()),
        // It then says when it has written its rules.
        ("--v", "1"),
    ])
}

/// `restrict_oom_score_adj`: without CAP_SYS_RESOURCE a negative value is refused, and runc dies with "can't get final
/// child's PID from pipe". The socket and the state lie in the machine's own /run.
pub(crate) fn containerd(run: &Path) -> String {
    let run = run.display();
    format!(
        r#"version = 2
root = "{run}/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.tracing.processor.v1.otlp"]
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{PAUSE_IMAGE}"
  max_concurrent_downloads = 8
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{run}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{run}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#
    )
}

/// Each pod on a link of its own: over a bridge, answers of one pod to another would bypass the translation of service
/// addresses unless the kernel's bridge filter is loaded. Translation for the outside is done by the machine.
pub(crate) fn cni(instance: Instance) -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "testbed", "plugins": [
            {"type": "ptp", "ipMasq": false,
             "ipam": {"type": "host-local", "ranges": [[{"subnet": instance.pod_cidr()}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}},
        ],
    })
}

/// Cluster DNS answers for services, forwards the rest to the host's resolvers, and knows the host itself by a name.
pub(crate) fn corefile(instance: Instance, run: &Path, resolvers: &[String]) -> String {
    format!(
        ".:53 {{
    bind {node}
    errors
    hosts {{
        {host} host.testbed.internal
        {other} other.testbed.internal
        ttl 5
        fallthrough
    }}
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
    forward . {resolvers}
    cache 30
}}
",
        node = instance.node_ip(),
        host = instance.host_ip(),
        other = instance.other_host_ip(),
        kubeconfig = run.join("admin.conf").display(),
        resolvers = resolvers.join(" "),
    )
}

/// A kubeconfig in JSON, which is YAML as well.
pub(crate) fn kubeconfig(server: &str, authority: &str, certificate: &str, key: &str) -> Value {
    use base64::Engine as _;
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "testbed",
        "clusters": [{"name": "testbed",
            "cluster": {"server": server, "certificate-authority-data": encode(authority)}}],
        "users": [{"name": "testbed",
            "user": {"client-certificate-data": encode(certificate), "client-key-data": encode(key)}}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
    })
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect()
}
