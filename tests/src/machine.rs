//! A machine inside the machine: process, network, mount and host-name namespaces in which a whole node runs.
//!
//! Invariant: everything that a node makes (processes, mounts, bridges, network namespaces, nft tables) lives in these
//! namespaces, so ending their first process ends all of it; what the host gets (one veth pair, one nft table, two
//! routes, a cgroup folder) is named after the instance and removed by [`sweep`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::cache::{self, Cache};
use crate::cgroup;
use crate::error::{Error, Result};
use crate::instance::Instance;
use crate::process::{self, Identity, Lifetime, Part, Place, Spec, run};

/// The first process of the namespaces. Its own /run and overlays over /var/lib and /var/log keep what programs write
/// to fixed places off the host (volatile: their end need not wait for the disk); then it reaps what the node's programs leave behind, as an init does.
const INIT: &str = r#"
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/lock
for place in lib log; do
  mkdir -p "$RUN/over/$place" "$RUN/over/.$place"
  mount -t overlay overlay -o "volatile,lowerdir=/var/$place,upperdir=$RUN/over/$place,workdir=$RUN/over/.$place" "/var/$place"
done
hostname "$NAME"
ip link set lo up
: > "$RUN/machine-ready"
sleep infinity &
while :; do wait; done
"#;

/// The file with the [`MachineState`].
const STATE: &str = "machine.json";
/// The file that says that a test bed is whole; see [`crate::bed`].
pub(crate) const WHOLE: &str = "bed.json";

/// What is remembered of a machine, also across processes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MachineState {
    /// Which instance.
    pub instance: Instance,
    /// Its folder.
    pub run_dir: PathBuf,
    /// The first process of its namespaces.
    pub init: Identity,
    /// What started it and dies with it.
    pub wrapper: Identity,
    /// The process that called [`Machine::start`].
    pub owner: Identity,
}

impl MachineState {
    /// Whether it runs and somebody has use for it: a kept bed that never became whole, because its `testbed up` was
    /// interrupted, has none.
    fn is_in_use(&self) -> bool {
        self.init.is_alive() && (self.owner.is_alive() || self.run_dir.join(WHOLE).exists())
    }
}

/// A running machine; dropping it ends everything inside, unless it is kept.
#[derive(Debug)]
pub struct Machine {
    state: MachineState,
    lifetime: Lifetime,
}

impl Machine {
    /// Takes a free instance number and starts an empty machine for it.
    pub fn start(cache: &Cache, lifetime: Lifetime) -> Result<Self> {
        let _lock = cache::lock(&cache.root().join("run/lock"))?;
        let mut reasons = Vec::new();
        for instance in Instance::all() {
            let run_dir = cache.run_dir(instance);
            if let Some(state) = read_state(&run_dir).filter(MachineState::is_in_use) {
                reasons.push(format!("instance {instance} runs as process {}", state.init.pid));
                continue;
            }
            sweep(cache, instance)?;
            if Path::new("/sys/class/net").join(instance.interface()).exists() {
                reasons.push(format!("interface {} belongs to another cache", instance.interface()));
                continue;
            }
            return Self::create(instance, run_dir, lifetime);
        }
        Err(Error::NoInstance(reasons.join(", ")))
    }

    fn create(instance: Instance, run_dir: PathBuf, lifetime: Lifetime) -> Result<Self> {
        fs::create_dir_all(run_dir.join("log")).map_err(Error::io("create", &run_dir))?;
        let spec = Spec {
            name: "machine".into(),
            program: "unshare".into(),
            args: ["--pid", "--fork", "--kill-child=KILL", "--mount", "--mount-proc", "--net", "--uts"]
                .into_iter()
                .chain(["--propagation", "private", "bash", "-c", INIT])
                .map(String::from)
                .collect(),
            env: BTreeMap::from([
                ("RUN".into(), run_dir.display().to_string()),
                ("NAME".into(), format!("node{instance}")),
            ]),
            log: run_dir.join("log/machine.log"),
            place: Place::Host,
            lifetime,
        };
        let mut outer = Part::start(spec)?;
        let inner = process::only_child(outer.identity().pid).and_then(Identity::of);
        let Some(init) = inner else {
            outer.kill();
            return Err(outer.failure("made no namespaces (root and CAP_SYS_ADMIN are needed)"));
        };
        let own = i32::try_from(std::process::id()).expect("invariant: Linux process ids fit in 31 bits");
        let owner = Identity::of(own).expect("invariant: this process runs");
        let state = MachineState {
            instance,
            run_dir,
            init,
            wrapper: outer.identity(),
            owner,
        };
        let machine = Self { state, lifetime };
        match machine.set_up(&outer) {
            Ok(()) => Ok(machine),
            Err(error) => {
                // Its log stays, because the error names it.
                machine.abandon()?;
                std::mem::forget(machine);
                Err(error)
            }
        }
    }

    fn set_up(&self, outer: &Part) -> Result<()> {
        self.write_state()?;
        let ready = self.state.run_dir.join("machine-ready");
        let end = Instant::now() + Duration::from_secs(20);
        while !ready.exists() {
            if !outer.is_alive() || Instant::now() > end {
                return Err(outer.failure("could not set up its namespaces"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        cgroup::create(&self.state.instance.interface())?;
        self.connect()
    }

    /// Whether somebody has use for it; see [`sweep`].
    pub fn is_in_use(&self) -> bool {
        self.state.is_in_use()
    }

    /// A machine that another process started and keeps.
    pub fn attach(run_dir: &Path) -> Result<Self> {
        match read_state(run_dir).filter(|state| state.init.is_alive()) {
            Some(state) => Ok(Self {
                state,
                lifetime: Lifetime::Kept,
            }),
            None => Err(Error::NotRunning(run_dir.to_owned())),
        }
    }

    /// Which instance it is.
    pub fn instance(&self) -> Instance {
        self.state.instance
    }

    /// Its folder: configuration, logs, data.
    pub fn run_dir(&self) -> &Path {
        &self.state.run_dir
    }

    /// Whether it is ended with its owner.
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// A file inside, as the host sees it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.state.init.pid))
    }

    /// How to start a long-running program inside; its log is `log/NAME.log` of the run folder.
    pub fn spec(&self, name: &str, program: impl Into<PathBuf>, args: Vec<String>) -> Spec {
        Spec {
            name: name.to_owned(),
            program: program.into(),
            args,
            env: BTreeMap::new(),
            log: self.state.run_dir.join("log").join(format!("{name}.log")),
            place: Place::Machine(self.state.init.pid),
            lifetime: self.lifetime,
        }
    }

    /// A command that runs inside, for helpers that end by themselves.
    pub fn command(&self, program: &str) -> Command {
        let words = process::enter(self.state.init.pid);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program).env_clear().envs(process::basics());
        command
    }

    /// One veth pair to the host, routes both ways, and address translation for what leaves the machine.
    fn connect(&self) -> Result<()> {
        let instance = self.state.instance;
        let (link, init) = (instance.interface(), self.state.init.pid);
        let (host, other, node) = (instance.host_ip(), instance.other_host_ip(), instance.node_ip());
        let (pods, services, subnet) = (instance.pod_cidr(), instance.service_cidr(), instance.link_cidr());
        shell(
            "network of the node, host side",
            Command::new("sh"),
            &format!(
                "ip link add {link} type veth peer name eth0 netns {init}
                 ip addr add {host}/24 dev {link}
                 ip addr add {other}/24 dev {link}
                 ip link set {link} up"
            ),
        )?;
        shell(
            "network of the node, inner side",
            self.command("sh"),
            &format!(
                "ip addr add {node}/24 dev eth0
                 ip link set eth0 up
                 ip route add default via {host}
                 echo 1 > /proc/sys/net/ipv4/ip_forward"
            ),
        )?;
        // Forwarding stays on when the bed ends: other programs of the host may have come to rely on it meanwhile.
        shell(
            "routes and address translation of the node",
            Command::new("sh"),
            &format!(
                "ip route add {pods} via {node} dev {link}
                 ip route add {services} via {node} dev {link}
                 [ \"$(cat /proc/sys/net/ipv4/ip_forward)\" = 1 ] || echo 1 > /proc/sys/net/ipv4/ip_forward
                 nft -f - <<'RULES'
                 table ip {link} {{
                   chain out {{
                     type nat hook postrouting priority srcnat;
                     ip saddr {{ {subnet}, {pods} }} oifname != {{ \"lo\", \"{link}\" }} masquerade
                   }}
                 }}
RULES"
            ),
        )
    }

    fn write_state(&self) -> Result<()> {
        let path = self.state.run_dir.join(STATE);
        let text = serde_json::to_vec(&self.state).expect("invariant: plain data");
        fs::write(&path, text).map_err(Error::io("write", &path))
    }

    /// Ends everything inside and removes what the host had of it, its folder included.
    pub fn stop(&self) -> Result<()> {
        self.abandon()?;
        cache::discard(&self.state.run_dir)
    }

    /// The same, but the folder with the logs stays until the instance is used again.
    pub fn abandon(&self) -> Result<()> {
        end(&self.state);
        clean(self.state.instance)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.lifetime == Lifetime::Harness
            && let Err(error) = self.stop()
        {
            tracing::error!("the machine left something behind: {error}");
        }
    }
}

/// Ends what an instance still runs and removes what it left, after a crash or on request. Its folder goes too.
pub fn sweep(cache: &Cache, instance: Instance) -> Result<()> {
    let run_dir = cache.run_dir(instance);
    let path = run_dir.join(STATE);
    let Some(state) = read_state(&run_dir) else {
        if path.exists() {
            // Of another version, perhaps of a machine that runs: blind removal would tear it apart.
            return Err(Error::Other(format!(
                "{} cannot be read; end that test bed with the program that started it, then remove {}",
                path.display(),
                run_dir.display()
            )));
        }
        return cache::discard(&run_dir);
    };
    crate::bed::end_processes(&run_dir);
    end(&state);
    clean(instance)?;
    cache::discard(&run_dir)
}

fn read_state(run_dir: &Path) -> Option<MachineState> {
    let bytes = fs::read(run_dir.join(STATE)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn end(state: &MachineState) {
    state.init.signal(Signal::SIGKILL);
    state.wrapper.signal(Signal::SIGKILL);
    let end = Instant::now() + Duration::from_secs(20);
    // The kernel ends every process of the namespace before the first one is gone.
    while (state.init.is_alive() || exists(state.init.pid)) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn exists(pid: i32) -> bool {
    // A zombie that its wrapper has not yet reaped has no namespaces any more.
    fs::read_link(format!("/proc/{pid}/ns/net")).is_ok()
}

fn clean(instance: Instance) -> Result<()> {
    let link = instance.interface();
    if Path::new("/sys/class/net").join(&link).exists() {
        // The pair goes with its namespace, but some time after the last process.
        let deleted = run("removal of the node's link", Command::new("ip").args(["link", "del", &link]));
        if Path::new("/sys/class/net").join(&link).exists() {
            deleted?;
        }
    }
    let tables = run("list of nft tables", Command::new("nft").args(["list", "tables"]))?;
    if tables.lines().any(|line| line == format!("table ip {link}")) {
        run(
            "removal of the node's nft table",
            Command::new("nft").args(["delete", "table", "ip", &link]),
        )?;
    }
    cgroup::remove(&link)
}

fn shell(what: &str, mut command: Command, script: &str) -> Result<()> {
    // `sh` itself is the command's last word, on the host as well as inside.
    run(what, command.args(["-ec", script])).map(drop)
}
