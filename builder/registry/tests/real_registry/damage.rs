//! Blobs that the registry has lost bytes of, as after a full disk.

use std::path::PathBuf;

use robotimage_registry::{Descriptor, ErrorKind, PushOutcome};

use crate::image::{image, push, source};
use crate::registry::{RealRegistry, Setup};
use crate::{client, repository};

/// Where the registry keeps a blob's bytes.
fn stored(registry: &RealRegistry, blob: &Descriptor) -> PathBuf {
    let hex = blob.digest().digest();
    let blobs = registry.storage().join("docker/registry/v2/blobs/sha256");
    blobs.join(&hex[..2]).join(hex).join("data")
}

#[tokio::test]
#[ignore = "needs the real registry: make test runs it"]
async fn a_damaged_blob_is_named() {
    let registry = RealRegistry::start(&Setup::default());
    let (client, repository, image) = (client(), repository(&registry, "robots/damaged"), image(11));
    push(&client, &repository, &image).await.unwrap();
    let blob = &image.layers[0];
    let again = async || client.push_blob(&repository, &source(&image, blob), None).await;
    assert_eq!(again().await.unwrap(), PushOutcome::Existing);

    // The registry answers 201 to whatever is sent and keeps what it has.
    let whole = std::fs::read(stored(&registry, blob)).unwrap();
    for left in [0, 100] {
        std::fs::write(stored(&registry, blob), &whole[..left]).unwrap();
        let error = again().await.unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Protocol, false), "{error}");
        let message = error.to_string();
        let said = format!("{left} bytes instead of {}", blob.size());
        assert!(message.contains(blob.digest().as_ref()) && message.contains(&said), "{message}");
        assert_eq!(std::fs::metadata(stored(&registry, blob)).unwrap().len(), left as u64);
    }
    // Deleted there, it is sent anew.
    std::fs::remove_file(stored(&registry, blob)).unwrap();
    assert_eq!(again().await.unwrap(), PushOutcome::Uploaded { bytes: blob.size() });
    assert!(std::fs::read(stored(&registry, blob)).unwrap() == whole);
}
