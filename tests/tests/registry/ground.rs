//! What the cases stand on: one real registry with a real token service, an image for each case, and a look at what is
//! there in the end that does not go through the proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use robotimage_builder::image::oci;
use robotimage_builder::image::pipeline::{PublishError, Target};
use robotimage_builder::image::pull::BaseBlobs;
use robotimage_builder::image::{Content, Image as BuiltImage, ImageLayer, Role, push};
use robotimage_builder::steps::{Side, failure};
use robotimage_crds::reason::Reason;
use robotimage_registry::{
    BlobSource, Client, ClientOptions, Credentials, Descriptor, Digest, Error, MediaType, Repository, RetryPolicy, TagOutcome, digest, json,
};
use robotimage_tests::faultproxy::{Authority, Behind, Door, FaultProxy, Seen};
use robotimage_tests::registry::{Registry, RegistryOptions};
use robotimage_tests::tokenservice::{TokenService, User};
use robotimage_tests::{Cache, Site};
use serde_json::{Value, json};

/// The tag that every push writes.
pub(crate) const TAG: &str = "v1";
/// Where the layer lies that is mounted.
pub(crate) const BASE: &str = "base/os";
/// The longest wait that a registry may ask for.
pub(crate) const CAP: Duration = Duration::from_millis(300);
/// Layers of this size and more are sent by PATCH.
const PATCH_FROM: u64 = 64 << 10;

/// Registry, token service and certificates, shared by all cases.
pub(crate) struct Ground {
    pub(crate) registry: Registry,
    pub(crate) tokens: TokenService,
    pub(crate) authority: Authority,
    /// Reads and writes without a proxy.
    pub(crate) direct: Client,
    folder: tempfile::TempDir,
}

/// An image of a few small blobs that no other case has.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) small: Bytes,
    pub(crate) large: Bytes,
    pub(crate) base: Bytes,
    pub(crate) config: Bytes,
    pub(crate) manifest: Bytes,
    /// What refers to it.
    pub(crate) referrer: Bytes,
    /// The small and the large layer as files.
    folder: Arc<tempfile::TempDir>,
}

/// One client with its own proxy, user and repository.
pub(crate) struct Case {
    pub(crate) ground: Arc<Ground>,
    pub(crate) name: String,
    pub(crate) image: Image,
    pub(crate) proxy: FaultProxy,
    tls: bool,
    login: PathBuf,
}

impl Ground {
    pub(crate) async fn new() -> Arc<Self> {
        let folder = tempfile::tempdir().unwrap();
        let (cache, site) = (Cache::open().unwrap(), Site::loopback(folder.path()).unwrap());
        let tokens = TokenService::start(folder.path(), None).unwrap();
        tokens.set("ground", User::new("ground"));
        let options = RegistryOptions {
            auth: Some(tokens.configuration()),
            ..RegistryOptions::open("faults")
        };
        let registry = Registry::start(&cache, &site, options).await.unwrap();
        let login = json!({"auths": {registry.address(): {"username": "ground", "password": "ground"}}});
        let credentials = Credentials::from_docker_config(login.to_string().as_bytes()).unwrap();
        let direct = Client::new(ClientOptions::default(), credentials).unwrap();
        let base = Repository::parse(&format!("{}/{BASE}", registry.address())).unwrap();
        direct.push_blob(&base, &BlobSource::from_bytes(base_layer()), None).await.unwrap();
        Arc::new(Self {
            registry,
            tokens,
            authority: Authority::new().unwrap(),
            direct,
            folder,
        })
    }

    /// A repository as it is called without a proxy.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        Repository::parse(&format!("{}/{name}", self.registry.address())).unwrap()
    }

    /// The folder of a repository in the registry's storage.
    pub(crate) fn stored(&self, name: &str) -> PathBuf {
        self.registry.at().storage.join("docker/registry/v2/repositories").join(name)
    }
}

pub(crate) fn base_layer() -> Bytes {
    noise("the base", 5_000)
}

/// Bytes that follow from a name and look like nothing.
pub(crate) fn noise(name: &str, size: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(size + 32);
    let mut block = digest::sha256(name.as_bytes()).to_string();
    while bytes.len() < size {
        block = digest::sha256(block.as_bytes()).to_string();
        bytes.extend_from_slice(&block.as_bytes()[7..]);
    }
    bytes.truncate(size);
    bytes.into()
}

pub(crate) fn descriptor(kind: &MediaType, bytes: &Bytes) -> Descriptor {
    Descriptor::new(kind.clone(), bytes.len() as u64, digest::sha256(bytes))
}

impl Image {
    pub(crate) fn new(name: &str) -> Self {
        Self::sized(name, 20_000, 200_000)
    }

    pub(crate) fn sized(name: &str, small: usize, large: usize) -> Self {
        let layers = [
            noise(&format!("{name} small"), small),
            noise(&format!("{name} large"), large),
            base_layer(),
        ];
        let described: Vec<Descriptor> = layers.iter().map(|bytes| descriptor(&MediaType::ImageLayer, bytes)).collect();
        let diff_ids: Vec<String> = described.iter().map(|layer| layer.digest().to_string()).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"case": name}},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(json::canonical(&config).unwrap());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(),
            "config": descriptor(&MediaType::ImageConfig, &config), "layers": described,
        });
        let manifest = Bytes::from(json::canonical(&manifest).unwrap());
        let referrer = referrer(&descriptor(&MediaType::ImageManifest, &manifest), &json!({"of": name}));
        let [small, large, base] = layers;
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [("small", &small), ("large", &large)] {
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self {
            folder: Arc::new(folder),
            small,
            large,
            base,
            config,
            manifest,
            referrer,
        }
    }

    pub(crate) fn digest(&self) -> Digest {
        digest::sha256(&self.manifest)
    }

    /// All blobs.
    pub(crate) fn blobs(&self) -> [&Bytes; 4] {
        [&self.small, &self.large, &self.base, &self.config]
    }

    /// As the builder has it when it is to be pushed.
    pub(crate) fn built(&self) -> BuiltImage {
        let file = |name: &str| Content::File(self.folder.path().join(name));
        let layers = [
            (Role::Base, &self.base, Content::Base),
            (Role::Environment, &self.large, file("large")),
            (Role::Code, &self.small, file("small")),
        ];
        BuiltImage {
            manifest: self.manifest.to_vec(),
            digest: self.digest().to_string(),
            config: self.config.to_vec(),
            config_digest: digest::sha256(&self.config).to_string(),
            layers: layers.map(|(role, bytes, content)| layer(role, bytes, content)).to_vec(),
        }
    }
}

pub(crate) fn layer(role: Role, bytes: &Bytes, content: Content) -> ImageLayer {
    let digest = digest::sha256(bytes).to_string();
    ImageLayer {
        role,
        descriptor: oci::Descriptor {
            media_type: MediaType::ImageLayer.to_string(),
            digest: digest.clone(),
            size: bytes.len() as u64,
            annotations: std::collections::BTreeMap::new(),
        },
        diff_id: digest,
        content,
    }
}

/// A manifest without content of its own that refers to another.
pub(crate) fn referrer(subject: &Descriptor, annotations: &Value) -> Bytes {
    let empty: Descriptor = descriptor(&MediaType::EmptyJSON, &Bytes::from_static(b"{}"));
    let document = json!({
        "schemaVersion": 2, "mediaType": MediaType::ImageManifest.to_string(), "artifactType": "application/vnd.robotimage.test",
        "config": empty, "layers": [empty], "subject": subject, "annotations": annotations,
    });
    json::canonical(&document).unwrap().into()
}

/// The builder's own push: blobs, configuration, manifest by digest; the number of bytes sent for layers.
pub(crate) async fn push_image(client: &Client, repository: &Repository, base: &Repository, image: &BuiltImage) -> Result<u64, Error> {
    let scratch = tempfile::tempdir().unwrap();
    let base = BaseBlobs::Registry {
        client: client.clone(),
        repository: base.clone(),
    };
    let target = Target {
        client,
        repository,
        base: &base,
        scratch: scratch.path(),
        keep: true,
    };
    match Box::pin(push::push(&target, image)).await {
        Ok(pushed) => Ok(pushed.sent.values().sum()),
        Err(PublishError::Registry(error)) => Err(error),
        Err(PublishError::Pack(failure)) => panic!("nothing is packed here: {failure:?}"),
    }
}

/// All of a publication: the image, what refers to it, and the tag at last.
pub(crate) async fn publish(client: &Client, repository: &Repository, base: &Repository, image: &Image) -> Result<TagOutcome, Error> {
    push_image(client, repository, base, &image.built()).await?;
    let empty = BlobSource::from_bytes(Bytes::from_static(b"{}"));
    client.push_blob(repository, &empty, None).await?;
    let kind = MediaType::ImageManifest;
    let subject = image.digest();
    let referrer = client.push_referrer(repository, &subject, image.referrer.clone(), &kind);
    Box::pin(referrer).await?;
    client.tag(repository, image.manifest.clone(), &kind, TAG).await
}

/// The reason that a build would give.
pub(crate) fn reason(error: &Error) -> Reason {
    failure(error, Side::Push).reason
}

impl Case {
    /// `name` becomes the repository `cases/<name>` and the user.
    pub(crate) async fn new(ground: &Arc<Ground>, name: &str, tls: bool) -> Self {
        let behind = Behind {
            registry: ground.registry.address().to_owned(),
            token: Some(ground.tokens.address()),
            authority: tls.then(|| ground.authority.clone()),
        };
        let proxy = FaultProxy::start(behind).await.unwrap();
        let case = Self {
            login: ground.folder.path().join(format!("{name}.json")),
            ground: Arc::clone(ground),
            name: name.to_owned(),
            image: Image::new(name),
            proxy,
            tls,
        };
        case.set_password("the first password");
        case
    }

    /// What happens when a Secret is rotated: the service knows the new password alone, and the file holds it.
    pub(crate) fn set_password(&self, password: &str) {
        self.rotation()(password);
    }

    /// The same, to be done by a fault.
    pub(crate) fn rotation(&self) -> impl Fn(&str) + Send + Sync + 'static {
        let (ground, name, file) = (Arc::clone(&self.ground), self.name.clone(), self.login.clone());
        let host = self.proxy.address(Door::Registry).to_owned();
        move |password| {
            ground.tokens.set(&name, User::new(password));
            write_login(&file, &host, &name, password);
        }
    }

    pub(crate) fn is_tls(&self) -> bool {
        self.tls
    }

    pub(crate) fn options(&self) -> ClientOptions {
        let doors = [Door::Registry, Door::Token].map(|door| self.proxy.address(door).to_owned());
        ClientOptions {
            ca_bundle_pem: vec![self.ground.authority.pem().into_bytes()],
            tls_hosts: if self.tls { doors.to_vec() } else { Vec::new() },
            retry: RetryPolicy {
                attempts: 4,
                base: Duration::from_millis(5),
                cap: Duration::from_millis(20),
                retry_after_cap: CAP,
            },
            single_put_limit: PATCH_FROM,
            ..ClientOptions::default()
        }
    }

    pub(crate) fn client(&self, options: ClientOptions) -> Client {
        Client::new(options, Credentials::from_file(&self.login).unwrap()).unwrap()
    }

    pub(crate) fn through(&self, name: &str) -> Repository {
        Repository::parse(&format!("{}/{name}", self.proxy.address(Door::Registry))).unwrap()
    }

    /// The case's repository, through the proxy.
    pub(crate) fn repository(&self) -> Repository {
        self.through(&self.stored_name())
    }

    /// Where the base lies, through the proxy.
    pub(crate) fn base(&self) -> Repository {
        self.through(BASE)
    }

    pub(crate) fn stored_name(&self) -> String {
        format!("cases/{}", self.name)
    }

    pub(crate) async fn push(&self) -> Result<TagOutcome, Error> {
        self.push_with(self.options()).await
    }

    pub(crate) async fn push_with(&self, options: ClientOptions) -> Result<TagOutcome, Error> {
        publish(&self.client(options), &self.repository(), &self.base(), &self.image).await
    }

    /// The writes of the tag that the registry has done.
    pub(crate) fn tag_writes(&self) -> usize {
        let tag = format!("/manifests/{TAG}");
        let done = |seen: &&Seen| seen.method == "PUT" && seen.target.ends_with(&tag) && seen.status == Some(201);
        self.proxy.seen().iter().filter(done).count()
    }

    /// The registry holds exactly what a push without faults leaves, and the tag was written once.
    pub(crate) async fn assert_whole(&self) {
        self.assert_image().await;
        assert_eq!(self.tag_writes(), 1, "writes of the tag");
    }

    /// The same, however often the tag was written.
    pub(crate) async fn assert_image(&self) {
        let (direct, repository) = (&self.ground.direct, self.ground.repository(&self.stored_name()));
        let digest = self.image.digest();
        let fetched = direct.manifest(&repository.with_tag(TAG).unwrap()).await.unwrap();
        assert!(fetched.bytes == self.image.manifest, "the tag names other bytes");
        for bytes in self.image.blobs() {
            let found = direct
                .blob_bytes(&repository, &descriptor(&MediaType::ImageLayer, bytes), 1 << 20)
                .await
                .unwrap();
            assert!(found == *bytes, "a blob differs");
        }
        let tags = direct.list_tags(&repository).await.unwrap();
        assert_eq!(tags, [digest.to_string().replace(':', "-"), TAG.to_owned()]);
        let listed = direct.referrers(&repository, &digest).await.unwrap();
        let listed: Vec<&Digest> = listed.iter().map(Descriptor::digest).collect();
        assert_eq!(listed, [&digest::sha256(&self.image.referrer)]);
    }

    /// Nobody sees anything of the push by the tag.
    pub(crate) async fn assert_no_tag(&self) {
        let tag = self.ground.repository(&self.stored_name()).with_tag(TAG).unwrap();
        assert_eq!(self.ground.direct.head_manifest(&tag).await.unwrap(), None, "the tag is there");
        assert_eq!(self.tag_writes(), 0, "writes of the tag");
    }

    /// Passwords went to the token service alone, tokens to the registry alone, and nothing to anybody else.
    pub(crate) fn assert_credentials_stayed(&self) {
        for seen in self.proxy.seen() {
            let kind = seen.authorization.as_deref().and_then(|value| value.split(' ').next());
            let fitting = match seen.door {
                Door::Registry => matches!(kind, None | Some("Bearer")),
                Door::Token => kind == Some("Basic"),
                Door::Other => kind.is_none(),
            };
            assert!(fitting, "{} {} at {:?} carried {kind:?}", seen.method, seen.target, seen.door);
        }
    }
}

fn write_login(file: &Path, host: &str, user: &str, password: &str) {
    let login = json!({"auths": {host: {"username": user, "password": password}}});
    let part = file.with_extension("part");
    std::fs::write(&part, login.to_string()).unwrap();
    std::fs::rename(part, file).unwrap();
}
