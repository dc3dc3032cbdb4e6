//! A build pod's folders as fetch and resolve leave them, the step over them, and the registry behind a proxy.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use robotimage_builder::image::oci::{Config, Descriptor, Manifest};
use robotimage_builder::image::{Base, BaseFacts, EnvironmentFacts, Recipe, RobotFacts, Role};
use robotimage_builder::reuse::Keep;
use robotimage_builder::steps::{Facts, Root, digest};
use robotimage_builder::{environment::SEALED_PATH, robot};
use robotimage_crds::api::{Compression, Platform};
use robotimage_crds::build::{
    BuildPlan, BuildReport, Fetched, Outcome, PLAN_VARIABLE, PlanEnvironment, PlanFrom, PlanIgnore, PlanImage, PlanPlatform, PlanRcc,
    PlanRobot, PlanSource, Step, Want, paths,
};
use robotimage_layer::{Codec, LayerBuilder, WriteOptions};
use robotimage_registry::{BlobSource, Client, ClientOptions, Credentials, Digest, Repository};
use robotimage_tests::faultproxy::{Behind, Door, FaultProxy};
use robotimage_tests::laptop::Program;
use robotimage_tests::registry::{Registry, RegistryOptions};
use robotimage_tests::verify;
use robotimage_tests::{Cache, Site};
use tokio::sync::Mutex;

/// Repository of the base.
const BASE: &str = "base/os";
/// Build id of every plan.
const ID: &str = "0123456789abcdef0123456789abcdef";
/// The tags that every plan names.
pub(crate) const TAGS: [&str; 2] = ["latest", "v1"];

/// A registry with a base image in it, and the program under test.
pub(crate) struct Ground {
    pub(crate) registry: Registry,
    /// Asks without a proxy.
    pub(crate) direct: Client,
    program: Program,
    base: Base,
    folder: tempfile::TempDir,
    /// One look at a time: the second opinions share files.
    looking: Mutex<()>,
}

impl Ground {
    pub(crate) async fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (cache, site) = (Cache::open().unwrap(), Site::loopback(folder.path()).unwrap());
        let program = Program::get(&cache).await.unwrap();
        let registry = Registry::start(&cache, &site, RegistryOptions::open("publish")).await.unwrap();
        let direct = Client::new(ClientOptions::default(), Credentials::none()).unwrap();
        let mut builder = LayerBuilder::new();
        builder.file("etc/os-release", "ID=test\n", 0o644);
        let mut bytes = Vec::new();
        let layer = builder.write(Codec::Gzip, &WriteOptions::default(), &mut bytes).unwrap();
        let repository = Repository::parse(&format!("{}/{BASE}", registry.address())).unwrap();
        direct.push_blob(&repository, &BlobSource::from_bytes(bytes), None).await.unwrap();
        let base = Base {
            name: Some("registry.example.com/base/os:1".to_owned()),
            digest: format!("sha256:{}", "b".repeat(64)),
            layers: vec![Descriptor {
                media_type: layer.media_type.to_owned(),
                digest: layer.digest,
                size: layer.size,
                annotations: BTreeMap::new(),
            }],
            diff_ids: vec![layer.diff_id],
            env: Vec::new(),
            history: Vec::new(),
            facts: BaseFacts {
                glibc: Some("2.36".to_owned()),
                loader: true,
                ..BaseFacts::default()
            },
        };
        Arc::new(Self {
            registry,
            direct,
            program,
            base,
            folder,
            looking: Mutex::default(),
        })
    }

    /// The base's layer.
    pub(crate) fn base_layer(&self) -> &str {
        &self.base.layers[0].digest
    }

    /// A proxy before the registry.
    pub(crate) async fn proxy(&self) -> FaultProxy {
        let behind = Behind {
            registry: self.registry.address().to_owned(),
            token: None,
            authority: None,
        };
        FaultProxy::start(behind).await.unwrap()
    }

    /// A repository as it is called without a proxy.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository::parse(&format!("{}/{name}", self.registry.address())).unwrap()
    }

    /// The digest under a tag.
    pub(crate) async fn tag(&self, name: &str, tag: &str) -> Option<String> {
        let reference = self.repository(name).with_tag(tag).unwrap();
        let digest = self.direct.head_manifest(&reference).await.unwrap();
        digest.map(|digest| digest.to_string())
    }

    /// Whether the repository has a blob.
    pub(crate) async fn has(&self, name: &str, digest: &str) -> bool {
        let digest = Digest::try_from(digest).unwrap();
        self.direct.blob_exists(&self.repository(name), &digest).await.unwrap()
    }

    /// Manifest and configuration of an image.
    pub(crate) async fn documents(&self, name: &str, digest: &str) -> (Manifest, Config) {
        let repository = self.repository(name);
        let digest = Digest::try_from(digest).unwrap();
        let fetched = self.direct.manifest(&repository.with_digest(&digest)).await.unwrap();
        let manifest: Manifest = serde_json::from_slice(&fetched.bytes).unwrap();
        let descriptor = robotimage_builder::image::push::described(&manifest.config).unwrap();
        let config = self.direct.blob_bytes(&repository, &descriptor, 1 << 20).await.unwrap();
        (manifest, serde_json::from_slice(&config).unwrap())
    }

    /// Has our own verifier read the whole image, and crane too where it can: it knows no layers in zstd.
    pub(crate) async fn verify(&self, name: &str, digest: &str) -> verify::Image {
        let _turn = self.looking.lock().await;
        let (at, layout) = (self.registry.at().clone(), self.folder.path().join("layout"));
        let reference = at.reference(&format!("{name}@{digest}"));
        let (manifest, _) = self.documents(name, digest).await;
        let gzip = manifest.layers.iter().all(|layer| layer.media_type.ends_with("+gzip"));
        let look = move || {
            if gzip {
                at.crane(&["validate", "--remote", &reference])?;
            }
            fs::remove_dir_all(&layout).ok();
            at.crane(&["pull", "--format=oci", &reference, &layout.display().to_string()])?;
            verify::Image::read(&layout)
        };
        let image = tokio::task::spawn_blocking(look).await.unwrap().unwrap();
        assert_eq!(image.digest, digest);
        image
    }
}

/// The folders of one build, whose step speaks to the registry by a proxy.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) plan: BuildPlan,
    pub(crate) facts: Facts,
    root: tempfile::TempDir,
    program: PathBuf,
}

impl Pod {
    /// A robot with an environment of two parts, to be pushed to the repository `name`.
    pub(crate) fn new(ground: &Ground, proxy: &FaultProxy, name: &str, compression: Compression) -> Self {
        let root = tempfile::tempdir().unwrap();
        let at = Root::new(root.path());
        let (source, sealed) = (at.path(paths::SOURCE), at.path(SEALED_PATH));
        let yaml = "tasks:\n  Run:\n    shell: python task.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\n";
        for (folder, path, content) in [
            (&source, "robot.yaml", yaml.to_owned()),
            (
                &source,
                "conda.yaml",
                "channels:\n  - conda-forge\ndependencies:\n  - python=3.11.7\n".to_owned(),
            ),
            (&source, "task.py", noise(1, 30_000)),
            (&sealed, "identity.yaml", "channels:\n- conda-forge\n".to_owned()),
            (&sealed, "bin/python", noise(2, 70_000)),
            (&sealed, "lib/python3.11/site-packages/large/data", noise(3, 50_000)),
            (&at.path(paths::SPEC), "rcc", noise(4, 60_000)),
            (&at.path("/usr/local/lib/robotimage"), "launcher", noise(5, 20_000)),
        ] {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::create_dir_all(at.path("/secrets/push")).unwrap();
        // Holes make an environment that is large enough to be split, and cost nothing to send.
        for (path, size) in [("lib/holes", 30 << 20), ("lib/python3.11/site-packages/large/holes", 40 << 20)] {
            fs::File::create(sealed.join(path)).unwrap().set_len(size).unwrap();
        }
        let facts = facts(ground, &at, &source, compression);
        let pod = Self {
            name: name.to_owned(),
            plan: plan(
                &format!("{}/{name}", proxy.address(Door::Registry)),
                &format!("{}/{BASE}:1", proxy.address(Door::Registry)),
            ),
            facts,
            root,
            program: ground.program.builder.clone(),
        };
        pod.write_facts();
        pod
    }

    pub(crate) fn path(&self, fixed: &str) -> PathBuf {
        Root::new(self.root.path()).path(fixed)
    }

    pub(crate) fn write_facts(&self) {
        self.facts.write(&Root::new(self.root.path())).unwrap();
    }

    /// Starts the publish step.
    pub(crate) fn start(&self) -> Child {
        self.start_step(Step::Publish)
    }

    fn start_step(&self, step: Step) -> Child {
        let mut command = Command::new(&self.program);
        command.arg(step.as_str()).arg("--root").arg(self.root.path());
        command.arg("--report").arg(self.root.path().join("report")).env_clear();
        command.env(PLAN_VARIABLE, serde_json::to_string(&self.plan).unwrap());
        let log = fs::File::create(self.root.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    /// Runs the publish step to its end; its exit code and report.
    pub(crate) async fn run(&self) -> (i32, Outcome) {
        self.run_step(Step::Publish).await
    }

    pub(crate) async fn run_step(&self, step: Step) -> (i32, Outcome) {
        let mut child = self.start_step(step);
        let status = wait(&mut child).await;
        let log = fs::read_to_string(self.root.path().join("log")).unwrap();
        let text = fs::read_to_string(self.root.path().join("report")).unwrap_or_default();
        let report = BuildReport::from_message(&text, ID, step).unwrap_or_else(|error| panic!("{error}: {status}\n{log}"));
        (status.code().unwrap_or(-1), report.outcome)
    }

    /// Runs the step, which must succeed; the digest.
    pub(crate) async fn publish(&self) -> String {
        match self.run().await {
            (0, Outcome::Published(published)) => published.digest,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    /// Takes over what it can from an image, as fetch does.
    pub(crate) async fn take_over(&mut self, ground: &Ground, digest: &str) {
        let (manifest, config) = ground.documents(&self.name, digest).await;
        self.facts.reused = self.facts.recipe.reusable(&manifest, &config);
        self.facts.fetched.reuse = self.facts.reused.iter().any(|layer| layer.role == Role::Environment);
        assert!(self.facts.fetched.reuse);
        self.write_facts();
    }

    /// What is left in the scratch folder.
    pub(crate) fn scratch(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path(paths::SCRATCH)).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Waits without holding a thread of the runtime.
pub(crate) async fn wait(child: &mut Child) -> ExitStatus {
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

fn plan(repository: &str, base: &str) -> BuildPlan {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    BuildPlan {
        version: 1,
        build_id: ID.to_owned(),
        namespace: "finance".to_owned(),
        name: "invoices".to_owned(),
        number: 1,
        attempt: 1,
        deadline: i64::try_from(now + 300).unwrap(),
        source: PlanSource {
            from: PlanFrom::Git {
                url: "https://git.example.com/a".to_owned(),
            },
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
            repository: repository.to_owned(),
            tags: TAGS.map(str::to_owned).to_vec(),
            push_secret: false,
            platform: Platform::LinuxAmd64,
            base: base.to_owned(),
            rcc: PlanRcc::Image("registry.example.com/rcc:1".to_owned()),
            compression: Compression::Zstd,
            user: "1000:0".to_owned(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            compatibility: 1,
        },
        previous: None,
        platform: PlanPlatform::default(),
    }
}

fn facts(ground: &Ground, at: &Root, source: &Path, compression: Compression) -> Facts {
    let robot = robot::load(source, "robot.yaml").unwrap();
    let recipe = Recipe {
        tree: "0".repeat(40),
        base: ground.base.clone(),
        rcc: digest(&at.path(paths::SPEC).join("rcc")).unwrap(),
        rcc_version: "v19.0.2".to_owned(),
        launcher: digest(&at.path("/usr/local/lib/robotimage/launcher")).unwrap(),
        robot: RobotFacts::of(&robot, None).unwrap(),
        environment: Some(EnvironmentFacts {
            key: "e".repeat(64),
            files: "f".repeat(64),
            blueprint: "873a70b30de4a4c9".to_owned(),
            file: "conda.yaml".to_owned(),
            file_digest: "d".repeat(64),
        }),
        user: "1000:0".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        compression,
        compatibility: 1,
    };
    Facts {
        version: 1,
        build_id: ID.to_owned(),
        fetched: Fetched::default(),
        recipe,
        reused: Vec::new(),
        packages: 0,
        keep: Keep::No,
        tags: TAGS.map(str::to_owned).to_vec(),
    }
}

/// Text that follows from a number and does not compress.
pub(crate) fn noise(seed: u64, size: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(size + 16);
    while text.len() < size {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.extend(state.to_be_bytes().map(|byte| char::from(b'!' + byte % 90)));
    }
    text.truncate(size);
    text
}
