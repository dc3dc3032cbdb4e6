//! How many requests a build costs whose code alone has changed.

use std::io::Write as _;

use bytes::Bytes;
use robotimage_builder::image::{Content, Image as BuiltImage, Role, push};
use robotimage_registry::{BlobSource, Client, ClientOptions, Credentials, MediaType, Repository, digest, json};
use robotimage_tests::faultproxy::{Behind, Door, FaultProxy};
use robotimage_tests::registry::{Registry, RegistryOptions};
use robotimage_tests::secret::Login;
use robotimage_tests::tokenservice::{TokenService, User};
use robotimage_tests::{Cache, Site};
use serde_json::{Value, json};

use crate::ground::{Image, TAG, base_layer, descriptor, layer, noise, push_image};

/// What a build may cost, and what each tag adds.
const LIMIT: (usize, usize) = (12, 2);

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real registry: make test runs it"]
async fn a_build_of_new_code_costs_few_requests() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, site) = (Cache::open().unwrap(), Site::loopback(folder.path()).unwrap());
    let tokens = TokenService::start(folder.path(), None).unwrap();
    tokens.set("robot", User::new("opensesame"));
    let ways = [
        ("anonymous", RegistryOptions::open("anonymous"), None),
        (
            "password",
            RegistryOptions {
                login: Some(Login::new("robot", "opensesame")),
                ..RegistryOptions::open("password")
            },
            None,
        ),
        (
            "token",
            RegistryOptions {
                auth: Some(tokens.configuration()),
                ..RegistryOptions::open("token")
            },
            Some(tokens.address()),
        ),
    ];
    for (way, options, token) in ways {
        let registry = Registry::start(&cache, &site, options).await.unwrap();
        let behind = Behind {
            registry: registry.address().to_owned(),
            token,
            authority: None,
        };
        let proxy = FaultProxy::start(behind).await.unwrap();
        for tags in [1, 3] {
            let counted = build(&proxy, tags).await;
            let (limit, connections) = (LIMIT.0 + LIMIT.1 * tags, proxy.connections());
            let text = format!(
                "{way}, {tags} tags: {} requests to the registry (at most {limit}), {} to the token service, {connections} connections",
                counted.0, counted.1
            );
            writeln!(std::io::stdout(), "{text}").unwrap();
            assert!(counted.0 <= limit, "{text}: {:#?}", list(&proxy));
            // A request that follows its predecessor at once may find the connection not yet free again.
            assert!(2 * connections <= counted.0 + counted.1, "{text}");
        }
    }
}

fn list(proxy: &FaultProxy) -> Vec<String> {
    let seen = proxy.seen();
    seen.iter()
        .map(|seen| format!("{} {} {:?}", seen.method, seen.target, seen.status))
        .collect()
}

/// A client as each step of a build has its own.
fn client(proxy: &FaultProxy) -> Client {
    let login = json!({"auths": {proxy.address(Door::Registry): {"username": "robot", "password": "opensesame"}}});
    let credentials = Credentials::from_docker_config(login.to_string().as_bytes()).unwrap();
    Client::new(ClientOptions::default(), credentials).unwrap()
}

/// Pushes an image, then one whose small layer is another; the requests of the second to registry and token service.
async fn build(proxy: &FaultProxy, tags: usize) -> (usize, usize) {
    let repository = Repository::parse(&format!("{}/robots/{tags}", proxy.address(Door::Registry))).unwrap();
    let first = Image::new("first");
    let before = client(proxy);
    before
        .push_blob(&repository, &BlobSource::from_bytes(base_layer()), None)
        .await
        .unwrap();
    push_image(&before, &repository, &repository, &first.built()).await.unwrap();
    proxy.forget();

    // The look at the previous image.
    let fetch = client(proxy);
    let found = fetch.manifest(&repository.with_digest(&first.digest())).await.unwrap();
    let config = descriptor(&MediaType::ImageConfig, &first.config);
    let config = fetch.blob_bytes(&repository, &config, 1 << 20).await.unwrap();

    let code = noise("second code", 30_000);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("code");
    std::fs::write(&file, &code).unwrap();
    let mut manifest: Value = serde_json::from_slice(&found.bytes).unwrap();
    let mut config: Value = serde_json::from_slice(&config).unwrap();
    config["rootfs"]["diff_ids"][0] = digest::sha256(&code).to_string().into();
    let config: Bytes = json::canonical(&config).unwrap().into();
    manifest["config"] = json!(descriptor(&MediaType::ImageConfig, &config));
    manifest["layers"][0] = json!(descriptor(&MediaType::ImageLayer, &code));
    let manifest: Bytes = json::canonical(&manifest).unwrap().into();
    let image = BuiltImage {
        digest: digest::sha256(&manifest).to_string(),
        manifest: manifest.to_vec(),
        config_digest: digest::sha256(&config).to_string(),
        config: config.to_vec(),
        layers: vec![
            layer(Role::Base, &first.base, Content::Previous),
            layer(Role::Environment, &first.large, Content::Previous),
            layer(Role::Code, &code, Content::File(file)),
        ],
    };
    let publish = client(proxy);
    let sent = push_image(&publish, &repository, &repository, &image).await.unwrap();
    assert_eq!(sent, 30_000, "the code alone");
    let tags: Vec<String> = (0..tags).map(|tag| format!("{TAG}.{tag}")).collect();
    push::tag(&publish, &repository, &manifest, &tags).await.unwrap();
    let seen = proxy.seen();
    let by = |door: Door| seen.iter().filter(|seen| seen.door == door).count();
    (by(Door::Registry), by(Door::Token))
}
