//! Large content, and connections that break in the middle of it.

use std::time::Duration;

use futures::TryStreamExt as _;
use futures::future::ready;
use robotimage_registry::{
    BlobSource, Client, ClientOptions, Credentials, Descriptor, Digest, MediaType, PushOutcome, Repository, RetryPolicy,
};

use crate::access::with_tls;
use crate::image::{image, source};
use crate::registry::{RealRegistry, Setup};
use crate::{client, options, repository};

/// Digest of 300 MiB of zero bytes.
const ZEROS: &str = "sha256:17a88af83717f68b8bd97873ffcf022c8aed703416fe9b08e0fa9e3287692bf0";

/// How the first connection through a proxy ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Cut,
    /// It stays open, and nothing comes any more.
    Silent,
}

/// Forwards to the registry; the first connection ends after this many bytes from the client.
async fn breaking_proxy(target: String, limit: u64, end: End) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut limit = limit;
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(&target).await.unwrap();
            let most = std::mem::replace(&mut limit, u64::MAX);
            tokio::spawn(async move {
                let ((from_client, mut to_client), (mut from_server, mut to_server)) = (client.into_split(), server.into_split());
                let mut from_client = tokio::io::AsyncReadExt::take(from_client, most);
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                }
                if end == End::Silent && most != u64::MAX {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    host
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn a_cut_connection_does_not_lose_an_upload() {
    let registry = RealRegistry::start(&Setup::default());
    let image = image(10);
    let large = &image.layers[1];
    for (number, limit) in [1_000_000, u64::MAX].into_iter().enumerate() {
        let proxy = breaking_proxy(registry.host.clone(), 2_000_000, End::Cut).await;
        let patching = Client::new(
            ClientOptions {
                single_put_limit: limit,
                ..options()
            },
            Credentials::none(),
        )
        .unwrap();
        let through = Repository::parse(&format!("{proxy}/robots/cut{number}")).unwrap();
        let outcome = patching.push_blob(&through, &source(&image, large), None).await.unwrap();
        assert_eq!(outcome, PushOutcome::Uploaded { bytes: large.size() });
        let direct = repository(&registry, &format!("robots/cut{number}"));
        assert_eq!(
            client().blob_bytes(&direct, large, 10_000_000).await.unwrap().len() as u64,
            large.size()
        );
        // The same cut while reading.
        let proxy = breaking_proxy(registry.host.clone(), 150, End::Cut).await;
        let through = Repository::parse(&format!("{proxy}/robots/cut{number}")).unwrap();
        client().blob_bytes(&through, large, 10_000_000).await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn a_connection_that_falls_silent_is_given_up() {
    let (setup, authority) = with_tls();
    let registry = RealRegistry::start(&setup);
    // Over TLS all requests share one connection, so a new attempt on the silent one would not help.
    let proxy = breaking_proxy(registry.host.clone(), 20_000, End::Silent).await;
    let limit = Duration::from_secs(1);
    let options = ClientOptions {
        ca_bundle_pem: vec![authority],
        tls_hosts: vec![proxy.clone()],
        idle_timeout: limit,
        request_timeout: limit,
        commit_timeout: limit,
        retry: RetryPolicy {
            attempts: 3,
            base: Duration::from_millis(10),
            ..RetryPolicy::default()
        },
        ..ClientOptions::default()
    };
    let client = Client::new(options, Credentials::none()).unwrap();
    let (through, image) = (Repository::parse(&format!("{proxy}/robots/silent")).unwrap(), image(11));
    let large = &image.layers[1];
    let outcome = client.push_blob(&through, &source(&image, large), None).await.unwrap();
    assert_eq!(outcome, PushOutcome::Uploaded { bytes: large.size() });
}

/// The most memory this process has held, in KiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn large_blobs_stream_through_little_memory() {
    const SIZE: u64 = 300 * 1024 * 1024;
    let (registry, other) = (RealRegistry::start(&Setup::default()), RealRegistry::start(&Setup::default()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("zeros");
    std::fs::File::create(&path).unwrap().set_len(SIZE).unwrap();
    let zeros = Digest::try_from(ZEROS).unwrap();
    let before = peak_memory();
    let (client, here, there) = (client(), repository(&registry, "robots/a"), repository(&other, "robots/a"));
    let outcome = client
        .push_blob(&here, &BlobSource::from_file(&path, zeros.clone(), SIZE), None)
        .await
        .unwrap();
    assert_eq!(outcome, PushOutcome::Uploaded { bytes: SIZE });
    let layer = Descriptor::new(MediaType::ImageLayer, SIZE, zeros);
    assert_eq!(
        client.copy_blob(&client, &here, &there, &layer).await.unwrap(),
        PushOutcome::Uploaded { bytes: SIZE }
    );
    client.blob_stream(&there, &layer).try_for_each(|_| ready(Ok(()))).await.unwrap();
    let grown = (peak_memory() - before) / 1024;
    assert!(grown < 64, "{grown} MiB more memory for blobs of {} MiB", SIZE / 1024 / 1024);
}
