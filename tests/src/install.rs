//! RobotImage on a test bed: our images pushed, the chart installed by the real Helm, namespaces that may build.
//!
//! Invariant: demo and suites install the same way, with nothing that a user of the chart could not say.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use robotimage_crds::api::RobotImage;
use robotimage_registry::{ClientOptions, Credentials};
use serde_json::{Value, json};

use crate::bed::{AddressBook, Bed};
use crate::error::{Error, Result};
use crate::helm::Helm;
use crate::laptop;
use crate::namespace::{GIT_SECRET, Namespace, REGISTRY_SECRET};
use crate::product::{self, Binaries, Images};

/// Namespace of the operator.
pub const SYSTEM: &str = "robotimage-system";

/// The root of the work tree that this crate was built in.
pub fn work_tree() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Builds our binaries and pushes our images to the bed's public registry.
pub async fn images(bed: &Bed) -> Result<(Binaries, Images)> {
    let cache = bed.cache().clone();
    let binaries = tokio::task::spawn_blocking(move || product::binaries(&cache, &work_tree()))
        .await
        .map_err(|error| Error::Other(format!("release build: {error}")))??;
    let ca = fs::read(&bed.book().ca).map_err(Error::io("read", &bed.book().ca))?;
    let options = ClientOptions {
        ca_bundle_pem: vec![ca],
        ..ClientOptions::default()
    };
    let client = robotimage_registry::Client::new(options, Credentials::none())
        .map_err(|error| Error::Other(format!("client of the public registry: {error}")))?;
    let prefix = bed.book().public.reference("robotimage");
    let images = Box::pin(product::push(&client, &binaries, &bed.book().base_image, &prefix, "dev")).await?;
    Ok((binaries, images))
}

/// Values of the chart for this bed: `namespaces` are those in which the operator may read git Secrets by name.
pub fn values(book: &AddressBook, images: &Images, namespaces: &[&str]) -> Result<Value> {
    let rcc = book.rcc.first().ok_or_else(|| Error::Other("the test bed has no rcc".to_owned()))?;
    let bundle = fs::read_to_string(&book.ca_bundle).map_err(Error::io("read", &book.ca_bundle))?;
    let settings = laptop::settings(book);
    Ok(json!({
        "operator": {"image": images.operator},
        "builder": {"image": images.builder},
        "base": {"image": book.base_image},
        "rcc": {"http": {"url": book.files.rcc(rcc), "sha256": rcc.sha256}},
        "caBundle": bundle,
        "index": {"settingsYaml": settings.to_string()},
        "addressPolicy": {
            "podCidrs": [book.instance.pod_cidr()],
            "serviceCidrs": [book.instance.service_cidr()],
            "deny": [format!("{}/32", book.instance.node_ip())],
        },
        "sourcePolling": {"mode": "Operator", "namespaces": namespaces},
    }))
}

/// The smallest RobotImage over a private repository of the bed.
pub fn robot_image(book: &AddressBook, name: &str, url: &str) -> Value {
    json!({
        "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage",
        "metadata": {"name": name},
        "spec": {
            "interval": "10s",
            "source": {"git": {"url": url, "ref": {"branch": "main"}, "secretRef": {"name": GIT_SECRET}}},
            "image": {"repository": book.registry.reference(&format!("robots/{name}")), "secretRef": {"name": REGISTRY_SECRET}},
        },
    })
}

/// Waits until the RobotImage satisfies `done`; `seen` is called with each new state. Gives the object.
pub async fn wait_for(
    namespace: &Namespace,
    name: &str,
    limit: Duration,
    mut seen: impl FnMut(&RobotImage),
    done: impl Fn(&RobotImage) -> bool,
) -> Result<RobotImage> {
    let api = namespace.api::<RobotImage>();
    let at = format!("RobotImage {}/{name}", namespace.name());
    let began = Instant::now();
    let mut last = None;
    loop {
        let object = api.get(name).await.map_err(Error::cluster(format!("get {at}")))?;
        if object.metadata.resource_version != last {
            last.clone_from(&object.metadata.resource_version);
            seen(&object);
        }
        if done(&object) {
            return Ok(object);
        }
        if began.elapsed() > limit {
            let status = serde_json::to_string_pretty(&object.status).unwrap_or_default();
            return Err(Error::Other(format!(
                "{at} did not get there within {limit:?}; its status: {status}"
            )));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Status, reason and message of a condition; `None` when it is not there.
pub fn condition<'a>(object: &'a RobotImage, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = &object.status.as_ref()?.conditions;
    conditions
        .iter()
        .find(|c| c.type_ == kind)
        .map(|c| (c.status.as_str(), c.reason.as_str(), c.message.as_str()))
}

/// Whether it is Ready for its newest generation.
pub fn is_ready(object: &RobotImage) -> bool {
    let observed = object.status.as_ref().and_then(|status| status.observed_generation);
    observed == object.metadata.generation && matches!(condition(object, "Ready"), Some(("True", ..)))
}

/// Installs or upgrades the chart of this work tree and waits until the operator is available.
pub fn chart(bed: &Bed, values: &Value) -> Result<()> {
    Helm::of(bed)?
        .install("robotimage", SYSTEM, &work_tree().join("charts/robotimage"), values)
        .map(drop)
}
