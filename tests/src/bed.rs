//! The whole test bed: a cluster, two registries, a git server, a conda channel, rcc and the base image.
//!
//! Invariant: a bed that one can attach to is complete; its address book (`bed.json`) is written last.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::base;
use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::git::GitRoot;
use crate::image;
use crate::index::PackageIndex;
use crate::instance::Instance;
use crate::machine::WHOLE;
use crate::node::{self, Node};
use crate::parts;
use crate::process::{Identity, Lifetime, Part, Place, Spec, ready};
use crate::rcc::{self, Rcc};
use crate::registry::{Registry, RegistryAddress, RegistryOptions};
use crate::secret::Login;
use crate::serve::{self, FileUrls, GIT_PORT, Servers};
use crate::site::Site;

const REGISTRY_PORT: u16 = 5000;
const PUBLIC_REGISTRY_PORT: u16 = 5001;

/// Everything that a user of a test bed needs to know; `testbed env` prints it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddressBook {
    /// Whether it stays when the process that started it ends: only then may others attach to it.
    pub lifetime: Lifetime,
    /// Which instance.
    pub instance: Instance,
    /// The administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// TLS and a password: what teams push to. Carries the base images too.
    pub registry: RegistryAddress,
    /// TLS and no password: where base images come from.
    pub public: RegistryAddress,
    /// Base image with its registry, public.
    pub base_image: String,
    /// A shell and a few static commands, in the private registry: what a test pod pulls with a pull secret.
    pub busybox_image: String,
    /// The git server's folder and URL (https).
    pub git: GitRoot,
    /// A login that suites give to private repositories.
    pub git_login: Login,
    /// The file servers.
    pub files: FileUrls,
    /// The rcc binaries, newest first.
    pub rcc: Vec<Rcc>,
    /// The package index of this machine.
    pub index: PackageIndex,
    /// Certificates to trust: this machine's and the test bed's, PEM.
    pub ca_bundle: PathBuf,
    /// The test bed's own authority, PEM.
    pub ca: PathBuf,
    /// A folder with kubectl, helm and crane.
    pub tools: PathBuf,
}

/// A running test bed. Dropping it ends it, unless it is kept.
#[derive(Debug)]
pub struct Bed {
    book: AddressBook,
    /// Present when this process started them.
    own: Option<Own>,
    node: Node,
    cache: Cache,
}

#[derive(Debug)]
struct Own {
    registry: Registry,
    public: Registry,
    servers: Option<Servers>,
}

/// What a kept bed needs to remember to be ended: host processes besides the machine.
#[derive(Serialize, Deserialize)]
struct Processes(Vec<(Spec, Identity)>);

impl Bed {
    /// Starts one on a free instance number.
    pub async fn start(cache: &Cache, lifetime: Lifetime) -> Result<Self> {
        let options = node::Options {
            lifetime,
            ..node::Options::default()
        };
        Self::with_node(cache, options).await
    }

    /// The same with a node that is started otherwise.
    pub async fn with_node(cache: &Cache, options: node::Options) -> Result<Self> {
        // All that may have to be built first, so that starting is only starting.
        let (debian, busybox, rcc) = (base::debian(cache)?, image::busybox(cache)?, rcc::all(cache)?);
        parts::registry(cache)?;
        parts::registry_two(cache)?;
        let node = Node::start(cache, options).await?;
        let run = node.run_dir().to_owned();
        match Self::furnish(cache, node, &debian, &busybox, rcc).await {
            Ok(bed) => Ok(bed),
            Err(error) => {
                // The logs stay: the error names one of them.
                end_processes(&run);
                crate::machine::Machine::attach(&run)?.abandon()?;
                Err(error)
            }
        }
    }

    async fn furnish(cache: &Cache, node: Node, debian: &Path, busybox: &Path, rcc: Vec<Rcc>) -> Result<Self> {
        let site = node.site();
        let tools = site.folder.join("bin");
        parts::link_all(&tools, cache)?;
        let login = Login::new("robot-builder", "only-for-tests");
        let private = RegistryOptions {
            port: Some(REGISTRY_PORT),
            ..RegistryOptions::private("main", login)
        };
        let open = RegistryOptions {
            port: Some(PUBLIC_REGISTRY_PORT),
            tls: true,
            ..RegistryOptions::open("public")
        };
        let (registry, public) = tokio::try_join!(Registry::start(cache, &site, private), Registry::start(cache, &site, open))?;
        record(&site.folder, &[registry.part(), public.part()])?;
        for address in [registry.address(), public.address()] {
            node.trust_registry(address, true)?;
        }
        public.at().push_layout(debian, base::NAME)?;
        registry.at().push_layout(debian, base::NAME)?;
        registry.at().push_layout(busybox, "base/busybox:1")?;
        serve::publish(cache, &site, &rcc)?;
        let servers = match site.lifetime {
            Lifetime::Harness => Some(serve::start(&site)?),
            Lifetime::Kept => {
                let part = serve_apart(&site).await?;
                record(&site.folder, &[registry.part(), public.part(), &part])?;
                None
            }
        };
        let index = PackageIndex::of_this_machine()?;
        let ca_bundle = site.folder.join("ca-bundle.pem");
        let certificates = format!("{}\n{}", index.ca_pem()?.trim_end(), site.authority.pem()?);
        fs::write(&ca_bundle, certificates).map_err(Error::io("write", &ca_bundle))?;
        let book = AddressBook {
            lifetime: site.lifetime,
            instance: node.instance(),
            kubeconfig: node.kubeconfig(),
            base_image: public.at().reference(base::NAME),
            busybox_image: registry.at().reference("base/busybox:1"),
            registry: registry.at().clone(),
            public: public.at().clone(),
            git: GitRoot {
                folder: site.folder.join("git-main"),
                url: format!("https://{}:{GIT_PORT}", site.ip),
            },
            git_login: Login::new("git-reader", "only-for-tests-too"),
            files: FileUrls::of(&site),
            rcc,
            index,
            ca_bundle,
            ca: site.authority.certificate(),
            tools,
        };
        let path = site.folder.join(WHOLE);
        let text = serde_json::to_vec_pretty(&book).expect("invariant: plain data");
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        Ok(Self {
            book,
            own: Some(Own { registry, public, servers }),
            node,
            cache: cache.clone(),
        })
    }

    /// The bed that `testbed up` keeps: instance `$ROBOTIMAGE_TESTBED`, or the first that is whole.
    pub fn attach(cache: &Cache) -> Result<Self> {
        let wanted = std::env::var("ROBOTIMAGE_TESTBED").ok().filter(|value| !value.is_empty());
        let mut missing = cache.root().join("run");
        for instance in Instance::all().filter(|i| wanted.as_ref().is_none_or(|wanted| *wanted == i.to_string())) {
            let run = cache.run_dir(instance);
            let path = run.join(WHOLE);
            let Ok(bytes) = fs::read(&path) else { continue };
            let book: AddressBook = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Other(format!("{} is damaged ({error}); run `testbed down`", path.display())))?;
            match Node::attach(&run) {
                Ok(node) if book.lifetime == Lifetime::Kept => {
                    return Ok(Self {
                        book,
                        own: None,
                        node,
                        cache: cache.clone(),
                    });
                }
                _ => missing = run,
            }
        }
        Err(Error::NotRunning(missing))
    }

    /// The bed that the suites of one test process share: the kept one if there is one, else one of its own that
    /// ends with the process.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: OnceCell<Arc<Bed>> = OnceCell::const_new();
        let start = async || {
            let cache = Cache::open()?;
            match Self::attach(&cache) {
                Err(Error::NotRunning(_)) => Self::start(&cache, Lifetime::Harness).await.map(Arc::new),
                attached => attached.and_then(|bed| bed.check().map(|()| Arc::new(bed))),
            }
        };
        SHARED.get_or_try_init(start).await.cloned()
    }

    /// An error when a part has ended since the start, which would otherwise be met as a refused connection somewhere.
    pub fn check(&self) -> Result<()> {
        match self.node.parts().iter().find(|part| !part.is_alive()) {
            Some(part) => Err(part.failure("has ended since the test bed was started (`testbed down`, then `testbed up`)")),
            None => Ok(()),
        }
    }

    /// All addresses.
    pub fn book(&self) -> &AddressBook {
        &self.book
    }

    /// The cluster.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its own cluster, to be broken; absent on a kept bed, which others use too.
    pub fn own_node(&mut self) -> Option<&mut Node> {
        self.own.as_ref().map(|_| &mut self.node)
    }

    /// The cache that its parts come from.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Its own registries' processes, to be broken; absent on a kept bed, which others use too.
    pub fn registries(&mut self) -> Option<(&mut Registry, &mut Registry)> {
        self.own.as_mut().map(|own| (&mut own.registry, &mut own.public))
    }

    /// Its own servers, to be broken; absent on a kept bed.
    pub fn servers(&mut self) -> Option<&mut Servers> {
        self.own.as_mut().and_then(|own| own.servers.as_mut())
    }

    /// Ends everything and removes its folder.
    pub fn stop(mut self) -> Result<()> {
        self.own.take();
        end_processes(self.node.run_dir());
        self.node.stop()
    }
}

/// Writes down host processes, so that `testbed down` and a sweep can end them.
fn record(run: &Path, parts: &[&Part]) -> Result<()> {
    let processes = Processes(parts.iter().map(|part| (part.spec().clone(), part.identity())).collect());
    let path = run.join("processes.json");
    fs::write(&path, serde_json::to_vec(&processes).expect("invariant: plain data")).map_err(Error::io("write", &path))
}

/// Ends the host processes of a run folder, if any still run.
pub(crate) fn end_processes(run: &Path) {
    let Ok(bytes) = fs::read(run.join("processes.json")) else { return };
    if let Ok(Processes(list)) = serde_json::from_slice(&bytes) {
        for (spec, identity) in list {
            Part::attach(spec, identity).kill();
        }
    }
}

/// The servers of a kept bed, in a process of their own: `testbed serve`.
async fn serve_apart(site: &Site) -> Result<Part> {
    let program = std::env::current_exe().map_err(Error::io("find", "the testbed program"))?;
    let spec = Spec {
        name: "servers".into(),
        program,
        args: vec!["serve".into(), site.folder.display().to_string()],
        env: std::collections::BTreeMap::new(),
        log: site.folder.join("log/servers.log"),
        place: Place::Host,
        lifetime: Lifetime::Kept,
    };
    let mut part = Part::start(spec)?;
    let address = format!("{}:{GIT_PORT}", site.ip);
    let connect = async || tokio::net::TcpStream::connect(&address).await.map(drop).map_err(|e| e.to_string());
    if let Err(error) = ready(&[&part], Duration::from_secs(30), connect).await {
        part.kill();
        return Err(error);
    }
    Ok(part)
}
