//! Blobs that are copied from a registry whose mirror lies.

use std::collections::BTreeMap;

use axum::http::Method;
use robotimage_registry::{Client, ClientOptions, Credentials, ErrorKind, PushOutcome};

use crate::mock_registry::MockRegistry;
use crate::{client, descriptor, options, repository};

/// A base's registry, its mirror, the registry that is pushed to, and a client of the first that asks its mirror.
struct Ground {
    origin: MockRegistry,
    mirror: MockRegistry,
    target: MockRegistry,
    from: Client,
}

async fn ground() -> Ground {
    let (origin, mirror, target) = (
        MockRegistry::start().await,
        MockRegistry::start().await,
        MockRegistry::start().await,
    );
    let options = ClientOptions {
        mirrors: BTreeMap::from([(origin.host.clone(), vec![mirror.host.clone()])]),
        ..options()
    };
    let from = Client::new(options, Credentials::none()).unwrap();
    Ground {
        origin,
        mirror,
        target,
        from,
    }
}

impl Ground {
    /// Serves these bytes under the digest of others.
    fn lies(at: &MockRegistry, right: &[u8], wrong: Vec<u8>) {
        let digest = descriptor(right).digest().to_string();
        at.store().blobs.insert(("robots/a".into(), digest), wrong.into());
    }

    async fn copy(&self, to: &Client, right: &[u8]) -> Result<PushOutcome, robotimage_registry::Error> {
        let (from, into) = (repository(&self.origin), repository(&self.target));
        to.copy_blob(&self.from, &from, &into, &descriptor(right)).await
    }

    /// What the target has under the digest.
    fn arrived(&self, right: &[u8]) -> Option<bytes::Bytes> {
        let digest = descriptor(right).digest().to_string();
        self.target.store().blobs.get(&("robots/a".into(), digest)).cloned()
    }
}

#[tokio::test]
async fn a_copy_is_made_once_more_from_the_registry_itself() {
    let patching = Client::new(
        ClientOptions {
            single_put_limit: 1000,
            ..options()
        },
        Credentials::none(),
    )
    .unwrap();
    // As one request and as a session of several; other bytes, too many, and too few.
    for to in [client(), patching] {
        for wrong in [vec![b'x'; 300_000], vec![b'x'; 300_001], vec![b'x'; 10]] {
            let ground = ground().await;
            let (first, second) = (vec![b'a'; 300_000], vec![b'b'; 300_000]);
            for right in [&first, &second] {
                ground.origin.put_blob("robots/a", right);
                Ground::lies(&ground.mirror, right, wrong.clone());
            }
            for right in [&first, &second] {
                let bytes = right.len() as u64;
                assert_eq!(ground.copy(&to, right).await.unwrap(), PushOutcome::Uploaded { bytes });
                assert!(ground.arrived(right).unwrap() == right[..]);
            }
            let asked = ground.mirror.seen(&Method::GET, "/blobs/").len();
            assert_eq!(asked, 1, "it rests after the first blob");
        }
    }
}

#[tokio::test]
async fn what_the_registry_itself_has_wrong_is_an_error() {
    let ground = ground().await;
    let right = vec![b'a'; 300_000];
    for server in [&ground.mirror, &ground.origin] {
        Ground::lies(server, &right, vec![b'x'; 300_000]);
    }
    let error = ground.copy(&client(), &right).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch, "{error}");
    let digest = descriptor(&right).digest().to_string();
    assert!(error.to_string().contains(&digest), "{error}");
    assert!(ground.arrived(&right).is_none());
}
