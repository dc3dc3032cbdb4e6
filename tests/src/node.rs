//! A real Kubernetes cluster of one node: etcd, API server, controller-manager, scheduler, containerd, kubelet,
//! kube-proxy and cluster DNS, in a [`Machine`].
//!
//! Invariant: a node that `start` returned is Ready, schedulable and resolves names; one that could not be started
//! leaves nothing behind and names the part at fault.

mod config;
mod control;
mod policies;
mod state;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node as NodeObject, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::image;
use crate::instance::Instance;
use crate::machine::Machine;
use crate::parts;
use crate::pki::Authority;
use crate::process::{Lifetime, Part, ready};
use crate::site::Site;

pub(crate) use config::PAUSE_IMAGE;

/// How long a part may take to start on a machine that is busy with builds.
const PATIENCE: Duration = Duration::from_mins(3);

/// How to start a node.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whether it ends with this process.
    pub lifetime: Lifetime,
    /// Further flags of the API server, for a feature gate or an admission plugin under test.
    pub apiserver_flags: Vec<String>,
    /// Further flags of the controller-manager, for how soon it gives a node up.
    pub manager_flags: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lifetime: Lifetime::Harness,
            apiserver_flags: Vec::new(),
            manager_flags: Vec::new(),
        }
    }
}

/// A running cluster. Dropping it ends it, unless it is kept.
#[derive(Debug)]
pub struct Node {
    parts: Vec<Part>,
    authority: Authority,
    programs: PathBuf,
    /// Last, because dropping it ends the processes of all parts.
    machine: Machine,
}

impl Node {
    /// Starts a cluster on a free instance number and waits until a pod could run on it.
    pub async fn start(cache: &Cache, options: Options) -> Result<Self> {
        let programs = parts::kubenode(cache)?;
        let coredns = parts::coredns(cache)?;
        let pause = image::pause(cache)?;
        let machine = Machine::start(cache, options.lifetime)?;
        let authority = Authority::open(&machine.run_dir().join("pki"))?;
        let mut node = Self {
            parts: Vec::new(),
            authority,
            programs,
            machine,
        };
        node.configure()?;
        match node.boot(&options, &coredns, &pause).await {
            Ok(()) => Ok(node),
            Err(error) => {
                // Its logs stay, because the error names one of them.
                node.machine.abandon()?;
                std::mem::forget(node.machine);
                Err(error)
            }
        }
    }

    async fn boot(&mut self, options: &Options, coredns: &Path, pause: &Path) -> Result<()> {
        let (instance, run) = (self.instance(), self.run_dir().to_owned());
        let program = |name: &str| self.programs.join(name);
        let (apiserver, manager, scheduler) = (
            program("kube-apiserver"),
            program("kube-controller-manager"),
            program("kube-scheduler"),
        );
        let (etcd, kubelet, proxy) = (program("etcd"), program("kubelet"), program("kube-proxy"));
        self.launch("etcd", &etcd, config::etcd(instance, &run))?;
        let containerd_config = run.join("containerd.toml").display().to_string();
        self.launch("containerd", Path::new("containerd"), vec!["--config".into(), containerd_config])?;
        self.launch(
            "kube-apiserver",
            &apiserver,
            config::apiserver(instance, &run, &options.apiserver_flags),
        )?;

        // The kubelet gives up when containerd's socket is not there; a pod needs the pause image.
        let socket = self.machine.path("/run/containerd/containerd.sock");
        ready(&[self.part("containerd")?], PATIENCE, async || exists(&socket)).await?;
        self.import(pause)?;
        self.launch("kubelet", &kubelet, config::kubelet(instance, &run))?;

        let client = self.client().await?;
        let serving = [self.part("kube-apiserver")?, self.part("etcd")?];
        ready(&serving, PATIENCE, async || answers(&client, "/readyz").await).await?;
        self.launch(
            "kube-controller-manager",
            &manager,
            config::controller_manager(&run, &options.manager_flags),
        )?;
        self.launch("kube-scheduler", &scheduler, config::scheduler(&run))?;
        let proxy_config = run.join("kube-proxy.json").display().to_string();
        self.launch("kube-proxy", &proxy, vec!["--config".into(), proxy_config])?;
        let corefile = run.join("Corefile").display().to_string();
        self.launch("coredns", coredns, vec!["-conf".into(), corefile])?;
        self.publish_dns(&client).await?;

        let schedulable = async || schedulable(&client).await;
        let kubelet = [
            self.part("kubelet")?,
            self.part("containerd")?,
            self.part("kube-controller-manager")?,
        ];
        ready(&kubelet, PATIENCE, schedulable).await?;
        self.write_state()
    }

    /// Which instance it is: its addresses.
    pub fn instance(&self) -> Instance {
        self.machine.instance()
    }

    /// Its folder: configuration, `log/`, data.
    pub fn run_dir(&self) -> &Path {
        self.machine.run_dir()
    }

    /// The machine that it runs in.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// The certificate authority that signs every server of this test bed.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Where servers of this test bed stand: the host's address on the node's link, reachable from pods and host.
    pub fn site(&self) -> Site {
        Site {
            folder: self.run_dir().to_owned(),
            ip: self.instance().host_ip(),
            authority: self.authority.clone(),
            lifetime: self.machine.lifetime(),
        }
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.run_dir().join("admin.conf")
    }

    /// Where `kubectl` and the other programs of Kubernetes are.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The API server's log of requests, one JSON object a line.
    pub fn audit_log(&self) -> PathBuf {
        self.run_dir().join("log/audit.log")
    }

    /// A client with the administrator's rights.
    pub async fn client(&self) -> Result<Client> {
        client(&self.kubeconfig()).await
    }

    /// A running part by name: `etcd`, `containerd`, `kube-apiserver`, `kubelet`, `kube-controller-manager`,
    /// `kube-scheduler`, `kube-proxy`, `coredns`, and `kube-router` where [`Node::enforce_policies`] started it.
    pub fn part(&self, name: &str) -> Result<&Part> {
        self.parts.iter().find(|part| part.name() == name).ok_or_else(|| no_part(name))
    }

    /// The same, to kill or restart it.
    pub fn part_mut(&mut self, name: &str) -> Result<&mut Part> {
        self.parts.iter_mut().find(|part| part.name() == name).ok_or_else(|| no_part(name))
    }

    /// Every part.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Makes containerd trust a registry (`host:port`) and reach it over http or https.
    pub fn trust_registry(&self, address: &str, tls: bool) -> Result<()> {
        let folder = self.run_dir().join("certs.d").join(address);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let scheme = if tls { "https" } else { "http" };
        let authority = self.authority.certificate();
        let text = format!(
            "server = \"{scheme}://{address}\"\n[host.\"{scheme}://{address}\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"{}\"\n",
            authority.display()
        );
        let file = folder.join("hosts.toml");
        fs::write(&file, text).map_err(Error::io("write", &file))
    }

    /// Loads an image from a docker or OCI archive into containerd, as if it had been pulled.
    pub fn import(&self, archive: &Path) -> Result<()> {
        let mut command = self.machine.command("ctr");
        command.args(["--namespace", "k8s.io", "images", "import"]).arg(archive);
        crate::process::run("import of an image into containerd", &mut command).map(drop)
    }

    /// Ends it and removes everything of it.
    pub fn stop(self) -> Result<()> {
        self.machine.stop()
    }

    fn launch(&mut self, name: &str, program: &Path, args: Vec<String>) -> Result<()> {
        let spec = self.machine.spec(name, program, args);
        self.parts.push(Part::start(spec)?);
        Ok(())
    }

    fn configure(&self) -> Result<()> {
        let (instance, run) = (self.instance(), self.run_dir());
        let (node_ip, api_ip) = (instance.node_ip(), instance.api_service_ip());
        let names = [
            "127.0.0.1",
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            &api_ip,
            &node_ip,
        ];
        self.authority.issue("apiserver", "kube-apiserver", None, &names)?;
        // `kubectl logs` fails when the kubelet's certificate does not carry the node's address.
        let kubelet = ["127.0.0.1", config::NODE, &node_ip];
        let kubelet_user = format!("system:node:{}", config::NODE);
        self.authority.issue("kubelet", &kubelet_user, Some("system:nodes"), &kubelet)?;
        for (file, user, group) in config::CLIENTS {
            self.authority.issue(file, user, group, &[])?;
        }
        self.authority.key_pair("service-accounts")?;
        for name in ["admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"] {
            self.write_kubeconfig(name)?;
        }
        let resolvers = resolvers()?;
        let resolv = format!("nameserver {}\n", resolvers.join("\nnameserver "));
        write(&run.join("resolv.conf"), &resolv)?;
        write(&run.join("Corefile"), &config::corefile(instance, run, &resolvers))?;
        write(&run.join("containerd.toml"), &config::containerd(run))?;
        write(&run.join("cni/10-testbed.conflist"), &config::cni(instance).to_string())?;
        write(&run.join("kubelet.json"), &config::kubelet_config(instance, run).to_string())?;
        write(&run.join("kube-proxy.json"), &config::proxy_config(instance, run).to_string())?;
        write(&run.join("audit-policy.json"), &config::audit_policy().to_string())
    }

    fn write_kubeconfig(&self, name: &str) -> Result<()> {
        let pki = self.run_dir().join("pki");
        let read = |file: String| fs::read_to_string(pki.join(&file)).map_err(Error::io("read", pki.join(file)));
        let server = format!("https://{}:6443", self.instance().node_ip());
        let (certificate, key) = (read(format!("{name}.crt"))?, read(format!("{name}.key"))?);
        let config = config::kubeconfig(&server, &self.authority.pem()?, &certificate, &key);
        write(&self.run_dir().join(format!("{name}.conf")), &config.to_string())
    }

    /// Cluster DNS is a process of the node, so its service names its address by hand.
    async fn publish_dns(&self, client: &Client) -> Result<()> {
        let ports = |port: &str| json!([{"name": "dns", "protocol": "UDP", port: 53}, {"name": "dns-tcp", "protocol": "TCP", port: 53}]);
        let service = json!({
            "metadata": {"name": "kube-dns", "labels": {"k8s-app": "kube-dns"}},
            "spec": {"clusterIP": self.instance().dns_service_ip(), "ports": ports("port")},
        });
        let slice = json!({
            "metadata": {"name": "kube-dns-testbed", "labels": {
                "kubernetes.io/service-name": "kube-dns",
                "endpointslice.kubernetes.io/managed-by": "testbed.robotimage.dev"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [self.instance().node_ip()], "conditions": {"ready": true}}],
            "ports": ports("port"),
        });
        let services: Api<Service> = Api::namespaced(client.clone(), "kube-system");
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "kube-system");
        // The namespace is made by the API server itself, a moment after it says that it is ready.
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client.clone());
        let there = async || namespaces.get("kube-system").await.map(drop).map_err(|error| error.to_string());
        ready(&[self.part("kube-apiserver")?], PATIENCE, there).await?;
        let made = services.create(&PostParams::default(), &parse(service)).await;
        made.map_err(Error::cluster("creation of service kube-dns"))?;
        let made = slices.create(&PostParams::default(), &parse(slice)).await;
        made.map_err(Error::cluster("creation of the endpoints of kube-dns")).map(drop)
    }
}

/// A client for a kubeconfig file.
pub async fn client(kubeconfig: &Path) -> Result<Client> {
    // Several crypto back ends may be compiled in by others; ours is chosen once, and a second choice is no error.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let unreadable = |why: String| Error::Other(format!("kubeconfig {}: {why}", kubeconfig.display()));
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| unreadable(error.to_string()))?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| unreadable(error.to_string()))?;
    // The node is on this machine; a proxy for the outside cannot reach it.
    config.proxy_url = None;
    Client::try_from(config).map_err(Error::cluster("client of the API server"))
}

async fn answers(client: &Client, path: &str) -> Result<(), String> {
    let request = http_get(path);
    client.request_text(request).await.map(drop).map_err(|error| error.to_string())
}

fn http_get(path: &str) -> axum::http::Request<Vec<u8>> {
    axum::http::Request::get(path)
        .body(Vec::new())
        .expect("invariant: a constant path is a valid address")
}

/// Ready, without taint, and a service account for the first pod.
async fn schedulable(client: &Client) -> Result<(), String> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let node = nodes.get(config::NODE).await.map_err(|error| error.to_string())?;
    let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => {}
        Some(condition) => return Err(condition.message.clone().unwrap_or_else(|| "the node is not Ready".into())),
        None => return Err("the node has no condition Ready".into()),
    }
    if let Some(taint) = node.spec.and_then(|spec| spec.taints).unwrap_or_default().first() {
        return Err(format!("the node has the taint {}", taint.key));
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    accounts.get("default").await.map(drop).map_err(|error| error.to_string())
}

/// The host's name servers, as seen from another network namespace: a loopback address there is another machine's, and
/// the node speaks IPv4 only.
fn resolvers() -> Result<Vec<String>> {
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let text = fs::read_to_string(path).unwrap_or_default();
        let found: Vec<String> = text
            .lines()
            .filter_map(|line| line.strip_prefix("nameserver "))
            .map(|address| address.trim().to_owned())
            .filter(|address| !address.starts_with("127.") && !address.contains(':'))
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(Error::Other(
        "/etc/resolv.conf names no server that a pod could reach (only loopback and IPv6 addresses)".into(),
    ))
}

fn no_part(name: &str) -> Error {
    Error::Other(format!("the node has no part named {name}"))
}

fn exists(path: &Path) -> Result<(), String> {
    if path.exists() {
        Ok(())
    } else {
        Err("its socket is not there".into())
    }
}

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("invariant: a constant object of its kind")
}

fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    }
    fs::write(path, text).map_err(Error::io("write", path))
}
