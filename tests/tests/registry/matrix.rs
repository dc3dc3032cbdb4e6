//! Push, pull, push again and mount, with each registry in each way of letting people in.

use std::collections::BTreeMap;
use std::io::Write as _;

use bytes::Bytes;
use robotimage_registry::{BlobSource, Client, ClientOptions, Credentials, MediaType, PushOutcome, Repository, TagOutcome, digest};
use robotimage_tests::registry::{Make, Registry, RegistryOptions};
use robotimage_tests::secret::Login;
use robotimage_tests::tokenservice::{TokenService, User};
use robotimage_tests::{Cache, Site};
use serde_json::json;

use crate::ground::{Image, TAG, descriptor};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    Basic,
    Token,
    TokenTls,
}

impl Way {
    const ALL: [Self; 5] = [Self::Plain, Self::Tls, Self::Basic, Self::Token, Self::TokenTls];
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real registries: make test runs it"]
async fn every_registry_in_every_way() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, site) = (Cache::open().unwrap(), Site::loopback(folder.path()).unwrap());
    let certificate = site.certificate("tokens").unwrap();
    let services = [None, Some(certificate)].map(|tls| TokenService::start(folder.path(), tls).unwrap());
    for service in &services {
        service.set("robot", User::new("opensesame"));
    }
    let mut lines = vec!["registry, way | push | pull | push again | mount | referrers".to_owned()];
    for (make, name) in [
        (Make::Three, "distribution-3.0"),
        (Make::Two, "distribution-2.8"),
        (Make::Crane, "crane-serve"),
    ] {
        // crane serves plain http for everybody and nothing else.
        let ways = if make == Make::Crane { &Way::ALL[..1] } else { &Way::ALL };
        for way in ways {
            let service = match way {
                Way::Token => Some(&services[0]),
                // A registry with TLS may lead to no token service without.
                Way::TokenTls => Some(&services[1]),
                _ => None,
            };
            let options = RegistryOptions {
                make,
                tls: matches!(way, Way::Tls | Way::TokenTls),
                login: (*way == Way::Basic).then(|| Login::new("robot", "opensesame")),
                auth: service.map(TokenService::configuration),
                ..RegistryOptions::open(&format!("{name}-{way:?}"))
            };
            let registry = Registry::start(&cache, &site, options).await.unwrap();
            let told = Box::pin(pass(&site, &registry, make, &services[1].address())).await;
            lines.push(format!("{name}, {way:?} | {told}"));
        }
    }
    let text = lines.join("\n");
    writeln!(std::io::stdout(), "{text}").unwrap();
    assert_eq!(lines.len(), 1 + 5 + 5 + 1, "no registry and no way is left out");
}

async fn pass(site: &Site, registry: &Registry, make: Make, tokens: &str) -> String {
    let host = registry.address().to_owned();
    let login = json!({"auths": {&host: {"username": "robot", "password": "opensesame"}}});
    let options = ClientOptions {
        ca_bundle_pem: vec![site.authority.pem().unwrap().into_bytes()],
        tls_hosts: if registry.at().tls {
            vec![host.clone(), tokens.to_owned()]
        } else {
            Vec::new()
        },
        single_put_limit: 64 << 10,
        ..ClientOptions::default()
    };
    let client = || {
        let credentials = Credentials::from_docker_config(login.to_string().as_bytes()).unwrap();
        Client::new(options.clone(), credentials).unwrap()
    };
    let at = |name: &str| Repository::parse(&format!("{host}/{name}")).unwrap();
    let (first, second, image) = (at("matrix/first"), at("matrix/second"), Image::new("matrix"));
    let mut told = Vec::new();

    let sent = push(&client(), &first, &image, None).await;
    assert!(
        sent.iter().all(|outcome| matches!(outcome, PushOutcome::Uploaded { .. })),
        "{sent:?}"
    );
    told.push(outcomes(&sent));
    let empty = BlobSource::from_bytes(Bytes::from_static(b"{}"));
    let kind = MediaType::ImageManifest;
    let tagged = client().tag(&first, image.manifest.clone(), &kind, TAG).await.unwrap();
    assert_eq!(tagged, TagOutcome::Created);

    let reader = client();
    let resolved = reader.resolve_image(&first.with_tag(TAG).unwrap(), "linux", "amd64").await.unwrap();
    assert!(resolved.manifest_bytes == image.manifest && resolved.config_bytes == image.config);
    for bytes in image.blobs() {
        let blob = descriptor(&MediaType::ImageLayer, bytes);
        assert!(reader.blob_bytes(&first, &blob, 1 << 20).await.unwrap() == *bytes);
    }
    told.push("4 blobs equal".to_owned());

    let again = push(&client(), &first, &image, None).await;
    assert_eq!(again, [PushOutcome::Existing; 4]);
    let tagged = client().tag(&first, image.manifest.clone(), &kind, TAG).await.unwrap();
    assert_eq!(tagged, TagOutcome::Unchanged);
    told.push(outcomes(&again));

    let mounted = push(&client(), &second, &image, Some(&first)).await;
    // crane keeps the blobs of all repositories in one place.
    let expected = if make == Make::Crane {
        PushOutcome::Existing
    } else {
        PushOutcome::Mounted
    };
    assert_eq!(mounted, [expected; 4]);
    told.push(outcomes(&mounted));

    client().push_blob(&second, &empty, None).await.unwrap();
    client()
        .push_referrer(&second, &image.digest(), image.referrer.clone(), &kind)
        .await
        .unwrap();
    let listed = client().referrers(&second, &image.digest()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(*listed[0].digest(), digest::sha256(&image.referrer));
    let by_tag = client()
        .list_tags(&second)
        .await
        .unwrap()
        .iter()
        .any(|tag| tag.starts_with("sha256-"));
    told.push(if by_tag { "by tag" } else { "kept by the registry" }.to_owned());
    told.join(" | ")
}

/// Blobs and manifest.
async fn push(client: &Client, repository: &Repository, image: &Image, from: Option<&Repository>) -> Vec<PushOutcome> {
    let mut outcomes = Vec::new();
    for bytes in image.blobs() {
        let source = BlobSource::from_bytes(bytes.clone());
        outcomes.push(client.push_blob(repository, &source, from).await.unwrap());
    }
    let kind = MediaType::ImageManifest;
    client.push_manifest(repository, image.manifest.clone(), &kind).await.unwrap();
    outcomes
}

/// How many blobs came to be there in which way.
fn outcomes(blobs: &[PushOutcome]) -> String {
    let mut counts = BTreeMap::<&str, usize>::new();
    for outcome in blobs {
        let word = match outcome {
            PushOutcome::Existing => "there",
            PushOutcome::Mounted => "mounted",
            PushOutcome::Uploaded { .. } => "sent",
        };
        *counts.entry(word).or_default() += 1;
    }
    let words: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    words.join(", ")
}
