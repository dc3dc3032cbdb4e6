//! Many pushes over connections that break at random bytes: each ends in an image that is whole, or in a clear error with
//! the tag where it was.
//!
//! `ROBOTIMAGE_PUSHES` says how many, `ROBOTIMAGE_SEED` repeats a run, `ROBOTIMAGE_PUSH` one push of it.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::StreamExt as _;
use robotimage_registry::{BlobSource, Client, ClientOptions, Credentials, Digest, Repository, RetryPolicy};
use robotimage_tests::faultproxy::{Breaker, Breaks};
use robotimage_tests::registry::{Registry, RegistryOptions};
use robotimage_tests::{Cache, Site};

use crate::ground::{BASE, Image, TAG, base_layer, descriptor, publish, reason};
use crate::table::caught;

const AT_ONCE: usize = 8;
/// How many connections of a hundred break, from push to push.
const PERCENT: [u64; 5] = [20, 50, 80, 95, 100];
const LARGE: usize = 300_000;
/// How a push should end.
const VERIFIED: &str = "a verified image";

struct Field {
    /// Over http, and over https.
    registries: [Registry; 2],
    direct: Client,
    seed: u64,
    authority: Vec<u8>,
    _folder: tempfile::TempDir,
}

/// What became of a push.
struct Ended {
    /// In words: a verified image or a reason, and over what.
    what: String,
    broken: u64,
    repository: Repository,
    /// What the tag must name.
    named: Option<Digest>,
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs the real registry: make test runs it"]
async fn a_campaign_of_breaking_connections() {
    let began = Instant::now();
    let pushes = variable("ROBOTIMAGE_PUSHES").unwrap_or(40);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = variable("ROBOTIMAGE_SEED").unwrap_or(now);
    let say = |text: &str| writeln!(std::io::stdout(), "{text}").unwrap();
    say(&format!("campaign: {pushes} pushes, ROBOTIMAGE_SEED={seed} repeats them"));
    let field = Arc::new(field(seed).await);
    let numbers = match variable("ROBOTIMAGE_PUSH") {
        Some(one) => one..one + 1,
        None => 0..pushes,
    };
    let work = futures::stream::iter(numbers).map(|number| {
        let field = Arc::clone(&field);
        async move { (number, caught(async move { Box::pin(push(&field, number)).await }).await) }
    });
    let ended: Vec<(u64, Result<Ended, String>)> = work.buffer_unordered(AT_ONCE).collect().await;

    let (mut counts, mut wrong, mut broken) = (BTreeMap::<String, usize>::new(), Vec::new(), 0);
    for (number, ended) in &ended {
        match ended {
            Ok(ended) => {
                broken += ended.broken;
                // Once more at the end: nothing that was sent arrives late and moves a tag.
                let named = field.direct.head_manifest(&ended.repository.with_tag(TAG).unwrap()).await.unwrap();
                if named != ended.named {
                    wrong.push(format!("push {number}: the tag names {named:?} in the end, not {:?}", ended.named));
                }
                *counts.entry(ended.what.clone()).or_default() += 1;
            }
            Err(text) => wrong.push(format!("push {number}: {text}")),
        }
    }
    for (what, count) in &counts {
        say(&format!("{count:>5} ended in {what}"));
    }
    let seconds = began.elapsed().as_secs_f32();
    say(&format!(
        "{broken:>5} connections broken, {} pushes wrong, {seconds:.0} s",
        wrong.len()
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(broken > 0 && counts.keys().any(|what| what.starts_with(VERIFIED)));
}

async fn field(seed: u64) -> Field {
    let folder = tempfile::tempdir().unwrap();
    let (cache, site) = (Cache::open().unwrap(), Site::loopback(folder.path()).unwrap());
    let secure = RegistryOptions {
        tls: true,
        ..RegistryOptions::open("https")
    };
    let plain = Registry::start(&cache, &site, RegistryOptions::open("http")).await.unwrap();
    let secure = Registry::start(&cache, &site, secure).await.unwrap();
    let authority = site.authority.pem().unwrap().into_bytes();
    let options = ClientOptions {
        ca_bundle_pem: vec![authority.clone()],
        tls_hosts: vec![secure.address().to_owned()],
        ..ClientOptions::default()
    };
    let direct = Client::new(options, Credentials::none()).unwrap();
    for registry in [&plain, &secure] {
        let base = Repository::parse(&format!("{}/{BASE}", registry.address())).unwrap();
        direct.push_blob(&base, &BlobSource::from_bytes(base_layer()), None).await.unwrap();
    }
    Field {
        registries: [plain, secure],
        direct,
        seed,
        authority,
        _folder: folder,
    }
}

async fn push(field: &Field, number: u64) -> Ended {
    let choice = |of: usize| usize::try_from(number % of as u64).unwrap();
    let registry = &field.registries[choice(2)];
    let name = format!("campaign/{number}");
    let at = |host: &str, name: &str| Repository::parse(&format!("{host}/{name}")).unwrap();
    let (direct, base) = (at(registry.address(), &name), at(registry.address(), BASE));
    // Every other tag names an older image already.
    let before = if (number / 2).is_multiple_of(2) {
        None
    } else {
        let old = Image::sized(&format!("{name} before"), 500, 1_000);
        publish(&field.direct, &direct, &base, &old).await.unwrap();
        Some(old.digest())
    };
    let breaks = Breaks {
        percent: PERCENT[choice(PERCENT.len())],
        most: 2 * LARGE as u64,
        silence: Duration::from_secs(20),
    };
    let breaker = Breaker::start(registry.address(), field.seed.wrapping_mul(1_000_003).wrapping_add(number), breaks)
        .await
        .unwrap();
    let limit = Duration::from_millis(1_500);
    let options = ClientOptions {
        ca_bundle_pem: vec![field.authority.clone()],
        tls_hosts: if registry.at().tls {
            vec![breaker.address().to_owned()]
        } else {
            Vec::new()
        },
        connect_timeout: limit,
        idle_timeout: limit,
        request_timeout: limit,
        commit_timeout: limit,
        retry: RetryPolicy {
            base: Duration::from_millis(5),
            cap: Duration::from_millis(20),
            ..RetryPolicy::default()
        },
        single_put_limit: 64 << 10,
        ..ClientOptions::default()
    };
    let client = Client::new(options, Credentials::none()).unwrap();
    let image = Image::sized(&name, 20_000, LARGE);
    let (through, base) = (at(breaker.address(), &name), at(breaker.address(), BASE));
    let outcome = publish(&client, &through, &base, &image).await;
    let tag = direct.with_tag(TAG).unwrap();
    let (reason, named) = match outcome {
        Ok(_) => {
            let found = field.direct.manifest(&tag).await.unwrap();
            assert!(found.bytes == image.manifest, "the tag names other bytes");
            for bytes in image.blobs() {
                let blob = descriptor(&robotimage_registry::MediaType::ImageLayer, bytes);
                let found = field.direct.blob_bytes(&direct, &blob, 1 << 20).await.unwrap();
                assert!(found == *bytes, "a blob differs");
            }
            (None, Some(image.digest()))
        }
        Err(error) => {
            let named = field.direct.head_manifest(&tag).await.unwrap();
            assert_eq!(named, before, "the tag was moved by a push that failed: {error}");
            let text = error.to_string();
            assert!(text.contains(&name) && text.len() < 1000, "{text}");
            (Some(reason(&error).to_string()), before)
        }
    };
    let scheme = registry.at().scheme();
    Ended {
        what: format!("{} over {scheme}", reason.as_deref().unwrap_or(VERIFIED)),
        broken: breaker.broken(),
        repository: direct,
        named,
    }
}
