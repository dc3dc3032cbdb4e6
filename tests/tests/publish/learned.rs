//! What a build takes over of what the one before it learned: the base's facts, which rcc it is, and rcc's hash of the
//! environment file. The fetch step as a program behind a proxy that sees each request; rcc is a mock that notes each call.
//! Takes about ten seconds.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use robotimage_builder::image::learned::ANNOTATION;
use robotimage_crds::api::{Compression, HttpFile};
use robotimage_crds::build::{Fetched, Outcome, PlanFrom, PlanKind, PlanRcc, Previous, Step, paths};
use robotimage_layer::{Codec, LayerBuilder, WriteOptions};
use robotimage_registry::{BlobSource, MediaType};
use robotimage_tests::Site;
use robotimage_tests::faultproxy::{Door, FaultProxy};
use robotimage_tests::git::{GitOptions, GitRepo, GitServer};
use serde_json::{Value, json};

use crate::pod::{Ground, Pod, noise};

const BASE: &str = "learned/os";
const RCC: &str = "learned/rcc";
pub(crate) const ROBOT: &str = "tasks:\n  Run:\n    shell: python task.py\ncondaConfigFile: conda.yaml\nartifactsDir: output\n";
pub(crate) const ENVIRONMENT: &str = "channels:\n  - conda-forge\ndependencies:\n  - python=3.11.7\n";

/// What a fetch cost.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    base: bool,
    rcc: bool,
    /// What rcc was started for.
    calls: Vec<String>,
}

fn asked(base: bool, rcc: bool) -> Asked {
    let calls: &[&str] = if rcc { &["version", "holotree"] } else { &[] };
    Asked {
        base,
        rcc,
        calls: calls.iter().map(|&call| call.to_owned()).collect(),
    }
}

/// A robot's repository, a base and an rcc, and the build pod that reads them.
pub(crate) struct Desk {
    pub(crate) ground: Arc<Ground>,
    proxy: FaultProxy,
    robot: GitRepo,
    pub(crate) pod: Pod,
    /// Layers of the base and of rcc's image that are under their tags.
    layers: [String; 2],
    log: PathBuf,
    _git: GitServer,
    _folder: tempfile::TempDir,
}

impl Desk {
    pub(crate) async fn new(name: &str) -> Self {
        let ground = Ground::new().await;
        let proxy = ground.proxy().await;
        let folder = tempfile::tempdir().unwrap();
        let git = GitServer::start(&Site::loopback(folder.path()).unwrap(), &GitOptions::default()).unwrap();
        let robot = git.create("robot", None).unwrap();
        let pod = Pod::new(&ground, &proxy, name, Compression::Zstd);
        let mut desk = Self {
            log: folder.path().join("calls"),
            ground,
            proxy,
            robot,
            pod,
            layers: Default::default(),
            _git: git,
            _folder: folder,
        };
        desk.commit("conda.yaml", ENVIRONMENT);
        desk.commit("robot.yaml", ROBOT);
        desk.commit("task.py", &noise(1, 1000));
        desk.base("one").await;
        desk.rcc("one").await;
        let door = desk.proxy.address(Door::Registry).to_owned();
        let plan = &mut desk.pod.plan;
        plan.source.from = PlanFrom::Git {
            url: desk.robot.url().to_owned(),
        };
        plan.image.base = format!("{door}/{BASE}:1");
        plan.image.rcc = PlanRcc::Image(format!("{door}/{RCC}:1"));
        plan.platform.max_source_bytes = 1 << 20;
        plan.platform.max_source_entries = 100;
        desk
    }

    fn commit(&self, path: &str, text: &str) {
        self.robot.commit(&[(path, text.as_bytes())], "a change").unwrap();
    }

    /// Puts another base under the tag.
    async fn base(&mut self, os: &str) {
        let mut library = vec![0; 64];
        library[..5].copy_from_slice(b"\x7fELF\x02");
        library[18] = 62;
        library.extend_from_slice(b"GNU C Library (mock) stable release version 2.36.\n");
        let mut layer = LayerBuilder::new();
        layer.file("etc/os-release", format!("PRETTY_NAME={os}\n"), 0o644);
        layer.file("lib/x86_64-linux-gnu/ld-linux-x86-64.so.2", "", 0o755);
        layer.file("lib/x86_64-linux-gnu/libc.so.6", library, 0o755);
        self.layers[0] = self.image(BASE, layer).await;
    }

    /// Puts another rcc under the tag.
    async fn rcc(&mut self, name: &str) {
        let script = self.script(name);
        let mut layer = LayerBuilder::new();
        layer.file("rcc", script, 0o755);
        self.layers[1] = self.image(RCC, layer).await;
    }

    fn script(&self, name: &str) -> String {
        format!(
            "#!/bin/sh\n# mock rcc {name}\necho \"$1\" >> {}\ncase \"$1\" in\nversion) echo v19.0.2 ;;\n\
             holotree) echo 'Blueprint hash for [conda.yaml] is 873a70b30de4a4c9.' ;;\nesac\n",
            self.log.display()
        )
    }

    /// Pushes an image of one layer under the tag `1`; the layer's digest.
    async fn image(&self, name: &str, layer: LayerBuilder) -> String {
        let (client, repository) = (&self.ground.direct, self.ground.repository(name));
        let mut bytes = Vec::new();
        let made = layer.write(Codec::Gzip, &WriteOptions::default(), &mut bytes).unwrap();
        let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [made.diff_id]}});
        let config = BlobSource::from_bytes(config.to_string());
        for blob in [&BlobSource::from_bytes(bytes), &config] {
            client.push_blob(&repository, blob, None).await.unwrap();
        }
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest.to_string(),
            "config": {"mediaType": MediaType::ImageConfig.to_string(), "digest": config.digest().to_string(), "size": config.size()},
            "layers": [{"mediaType": made.media_type, "digest": made.digest, "size": made.size}],
        });
        let bytes = manifest.to_string().into();
        client.tag(&repository, bytes, &MediaType::ImageManifest, "1").await.unwrap();
        made.digest
    }

    async fn try_fetch(&self) -> (Outcome, Asked) {
        self.proxy.forget();
        fs::remove_file(&self.log).ok();
        let (_, outcome) = self.pod.run_step(Step::Fetch).await;
        let seen = self.proxy.seen();
        let read = |layer: &String| seen.iter().any(|seen| seen.method == "GET" && seen.target.contains(layer.as_str()));
        let calls = fs::read_to_string(&self.log).unwrap_or_default();
        let cost = Asked {
            base: read(&self.layers[0]),
            rcc: read(&self.layers[1]),
            calls: calls.lines().map(str::to_owned).collect(),
        };
        (outcome, cost)
    }

    async fn fetch(&self) -> (Fetched, Asked) {
        match self.try_fetch().await {
            (Outcome::Fetched(fetched), cost) => (*fetched, cost),
            other => panic!("{other:?}"),
        }
    }

    /// Builds the image, which is then the previous one.
    async fn build(&mut self) -> Fetched {
        let (fetched, _) = self.fetch().await;
        let digest = self.pod.publish().await;
        self.pod.plan.previous = Some(Previous {
            build_key: fetched.build_key.clone(),
            digest,
            environment_key: fetched.environment_key.clone(),
            packages: 0,
            rcc_image: fetched.rcc_image.clone(),
        });
        fetched
    }

    fn previous(&mut self) -> &mut Previous {
        self.pod.plan.previous.as_mut().unwrap()
    }

    /// What the previous image's manifest says that was learned.
    async fn learned(&self) -> Value {
        let previous = self.pod.plan.previous.as_ref().unwrap();
        let (manifest, _) = self.ground.documents(&self.pod.name, &previous.digest).await;
        serde_json::from_str(&manifest.annotations[ANNOTATION]).unwrap()
    }

    /// Makes the previous image one that says something else, or nothing.
    async fn say(&mut self, learned: Option<Value>) {
        let repository = self.ground.repository(&self.pod.name);
        let digest = self.previous().digest.clone();
        let (mut manifest, _) = self.ground.documents(&self.pod.name, &digest).await;
        manifest.annotations.remove(ANNOTATION);
        if let Some(learned) = learned {
            manifest.annotations.insert(ANNOTATION.to_owned(), learned.to_string());
        }
        let bytes = serde_json::to_vec(&manifest).unwrap().into();
        let kind = MediaType::ImageManifest;
        let digest = self.ground.direct.push_manifest(&repository, bytes, &kind).await.unwrap();
        self.previous().digest = digest.to_string();
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn a_build_learns_only_what_has_changed() {
    let mut desk = Desk::new("learned/a").await;
    let (_, cost) = desk.fetch().await;
    assert_eq!(cost, asked(true, true), "nobody has learned anything");
    let first = desk.build().await;
    let learned = desk.learned().await;

    // New code: nothing is read, nothing started, and the image says the same as the one before.
    desk.commit("task.py", &noise(2, 1000));
    let (second, cost) = desk.fetch().await;
    assert_eq!((second.plan, cost), (PlanKind::CodeOnly, asked(false, false)));
    assert_eq!(
        (&second.base, &second.rcc, &second.blueprint),
        (&first.base, &first.rcc, &first.blueprint)
    );
    assert_eq!(second.environment_key, first.environment_key);
    desk.build().await;
    assert_eq!(desk.learned().await, learned);

    // A second attempt looks for itself, and comes to the same.
    desk.commit("task.py", &noise(3, 1000));
    desk.pod.plan.attempt = 2;
    let (third, cost) = desk.fetch().await;
    assert_eq!((third.plan, cost), (PlanKind::CodeOnly, asked(true, true)));
    assert_eq!(third.environment_key, first.environment_key);
    desk.pod.plan.attempt = 1;

    // rcc by its checksum: what is known of the binary needs no address that answers.
    let image = desk.pod.plan.image.rcc.clone();
    desk.pod.plan.image.rcc = PlanRcc::Http(HttpFile {
        url: "http://127.0.0.1:1/rcc".to_owned(),
        sha256: third.rcc_digest.trim_start_matches("sha256:").to_owned(),
    });
    let (by_checksum, cost) = desk.fetch().await;
    assert_eq!((by_checksum.plan, cost), (PlanKind::CodeOnly, asked(false, false)));
    desk.pod.plan.image.rcc = image;

    // A new base is read, and the rcc of before serves.
    desk.base("two").await;
    let (rebased, cost) = desk.fetch().await;
    assert_ne!(rebased.base, first.base);
    assert_eq!(cost, asked(true, false));
    desk.base("one").await;

    // A new rcc is brought and asked.
    desk.rcc("two").await;
    let (other, cost) = desk.fetch().await;
    assert_ne!(
        (&other.rcc_digest, &other.environment_key),
        (&first.rcc_digest, &first.environment_key)
    );
    assert_eq!((other.plan, cost), (PlanKind::Full, asked(false, true)));
    desk.rcc("one").await;

    // So is the one of before about a new environment file, because it has to resolve it, too.
    desk.commit("conda.yaml", &format!("{ENVIRONMENT}  - numpy=2.1.0\n"));
    let (other, cost) = desk.fetch().await;
    assert_ne!(other.environment_key, first.environment_key);
    assert_eq!((other.plan, cost), (PlanKind::Full, asked(false, true)));
    assert!(desk.pod.path(paths::SPEC).join("rcc").is_file());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn what_an_image_says_wrongly_builds_nothing_wrong() {
    let mut desk = Desk::new("learned/b").await;
    let first = desk.build().await;
    desk.commit("task.py", &noise(2, 1000));
    let learned = desk.learned().await;
    let change = |pointer: &str, to: Value| {
        let mut changed = learned.clone();
        *changed.pointer_mut(pointer).unwrap() = to;
        Some(changed)
    };
    let other = format!("sha256:{}", "0".repeat(64));
    // What it says, and what is then asked for.
    for (said, cost) in [
        (None, asked(true, true)),
        (Some(json!({"base": 1})), asked(true, true)),
        (change("/base/version", json!(1)), asked(true, false)),
        (change("/base/digest", json!(other)), asked(true, false)),
        (change("/environment/file", json!("0".repeat(64))), asked(false, true)),
    ] {
        desk.say(said.clone()).await;
        let (fetched, found) = desk.fetch().await;
        assert_eq!(found, cost, "{said:?}");
        assert_eq!(
            (&fetched.rcc_digest, &fetched.environment_key),
            (&first.rcc_digest, &first.environment_key),
            "{said:?}"
        );
    }
    // An rcc that the image was not made with shows when it is brought.
    desk.say(change("/rcc/digest", json!(other))).await;
    let (outcome, _) = desk.try_fetch().await;
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.reason, "DigestMismatch", "{failure:?}");
    // The next attempt believes nothing.
    desk.pod.plan.attempt = 2;
    let (fetched, cost) = desk.fetch().await;
    assert_eq!((fetched.rcc_digest, cost), (first.rcc_digest, asked(true, true)));
}
