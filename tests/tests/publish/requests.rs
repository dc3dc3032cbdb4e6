//! What a publish costs whose code alone has changed: a contract in requests and bytes.

use std::fs;
use std::io::Write as _;

use robotimage_crds::api::Compression;
use robotimage_crds::build::{Outcome, paths};
use robotimage_tests::faultproxy::{FaultProxy, Seen};

use crate::pod::{Ground, Pod, TAGS, noise};

/// Most requests, and how many more a tag may cost.
const LIMIT: (usize, usize) = (12, 2);
/// Bytes beside code, configuration and manifests.
const SLACK: u64 = 2048;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the real parts: make test runs it"]
async fn new_code_costs_the_code_and_few_requests() {
    let ground = Ground::new().await;
    let proxy = ground.proxy().await;
    let mut pod = Pod::new(&ground, &proxy, "requests/code", Compression::Zstd);
    let first = pod.publish().await;
    fs::write(pod.path(paths::SOURCE).join("task.py"), noise(6, 30_000)).unwrap();
    pod.take_over(&ground, &first).await;
    // Nothing of the environment is there in such a build.
    fs::remove_dir_all(pod.path("/opt/rcc")).unwrap();
    proxy.forget();
    let (code, outcome) = pod.run().await;
    let Outcome::Published(published) = outcome else {
        panic!("{code} {outcome:?}")
    };
    let seen = proxy.seen();
    let list: Vec<String> = seen
        .iter()
        .map(|seen| format!("{} {} {}", seen.method, seen.target, seen.length))
        .collect();
    assert_ne!(published.digest, first);
    let image = ground.verify(&pod.name, &published.digest).await;
    let code = image.of_role(Some("code")).next().unwrap().size;
    let documents: u64 = seen
        .iter()
        .filter(|seen| is_document(seen, &image.manifest))
        .map(|seen| seen.length)
        .sum();
    let up = seen.iter().map(|seen| seen.length).sum::<u64>() - documents;
    let limit = LIMIT.0 + LIMIT.1 * TAGS.len();
    writeln!(
        std::io::stdout(),
        "{} requests (at most {limit}), {up} bytes up beside {documents} of configuration and manifests, the code is {code}",
        seen.len()
    )
    .unwrap();
    assert!(seen.len() <= limit, "{list:#?}");
    assert!(up <= code + SLACK, "{list:#?}");
    assert_eq!(published.uploaded, i64::try_from(code).unwrap());
    for tag in TAGS {
        let of_tag = seen
            .iter()
            .filter(|seen| seen.target.ends_with(&format!("/manifests/{tag}")))
            .count();
        assert!(of_tag <= LIMIT.1, "{tag}: {list:#?}");
    }
    // The same again: only what the tags and the manifest need.
    repeat(&pod, &proxy, &published.digest).await;
}

/// A build whose report was lost is repeated: nothing goes up but documents.
async fn repeat(pod: &Pod, proxy: &FaultProxy, digest: &str) {
    proxy.forget();
    let (_, outcome) = pod.run().await;
    let Outcome::Published(published) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((published.digest.as_str(), published.uploaded), (digest, 0));
}

fn is_document(seen: &Seen, manifest: &serde_json::Value) -> bool {
    let configuration = manifest["config"]["digest"].as_str().unwrap().trim_start_matches("sha256:");
    seen.target.contains("/manifests/") || seen.target.contains(configuration)
}
