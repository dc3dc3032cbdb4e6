//! What the suites share: a cluster, our images, and the operator as the chart installs it.
//!
//! Invariant: the operator of the chart serves exactly the namespaces of [`SUITES`], so a suite that runs an operator of
//! its own never meets it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::api::{Api, DeleteParams, ListParams};
use robotimage_crds::custom_resource_definition;
use robotimage_tests::helm::Helm;
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::product::{Binaries, Images};
use robotimage_tests::{Bed, Error, Namespace, Result, audit, install};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::objects::merge;

/// Suites that the installed operator serves, each in a namespace of its own.
pub(crate) const SUITES: [&str; 7] = ["happy", "signal", "isolation", "inputs", "reuse", "kubectl", "sources"];

/// The shared things.
#[derive(Debug)]
pub(crate) struct Setup {
    /// The cluster and all servers.
    pub(crate) bed: Arc<Bed>,
    /// The release binaries.
    pub(crate) binaries: Binaries,
    /// Our two images, by digest.
    pub(crate) images: Images,
    /// Where the audit log ended before the operator was installed.
    pub(crate) mark: u64,
}

/// Does all of it once a process; who comes later gets the same, also when it failed.
pub(crate) async fn setup() -> Arc<Setup> {
    static SHARED: OnceCell<Result<Arc<Setup>, String>> = OnceCell::const_new();
    let made = SHARED
        .get_or_init(|| async { make().await.map(Arc::new).map_err(|error| error.to_string()) })
        .await;
    made.clone()
        .unwrap_or_else(|error| panic!("the shared set-up of the suites: {error}"))
}

async fn make() -> Result<Setup> {
    let bed = Bed::shared().await?;
    let mark = audit::mark(&bed.node().audit_log())?;
    sweep(&bed).await?;
    install_definition(&bed).await;
    let (binaries, images) = install::images(&bed).await?;
    let names = SUITES.map(name);
    for name in &names {
        Namespace::create(&bed, name).await?;
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut values = install::values(bed.book(), &images, &names)?;
    values["watchNamespaces"] = json!(names);
    install::chart(&bed, &values).map_err(|error| explained(&bed, &error))?;
    Ok(Setup {
        bed,
        binaries,
        images,
        mark,
    })
}

/// Installs the definition, once a process: suites that need no operator do not wait for one.
pub(crate) async fn install_definition(bed: &Bed) {
    static DONE: OnceCell<Result<(), String>> = OnceCell::const_new();
    let done = DONE
        .get_or_init(|| async { apply_definition(bed).map_err(|error| error.to_string()) })
        .await;
    done.clone().unwrap_or_else(|error| panic!("the definition of RobotImage: {error}"));
}

/// The definition, as the chart would install it, so that a later installation by Helm takes it over.
pub(crate) fn apply_definition(bed: &Bed) -> Result<()> {
    let mut definition = serde_json::to_value(custom_resource_definition()).expect("a definition is plain data");
    merge(
        &mut definition["metadata"],
        &json!({
            "labels": {"app.kubernetes.io/managed-by": "Helm"},
            "annotations": {
                "meta.helm.sh/release-name": "robotimage",
                "meta.helm.sh/release-namespace": install::SYSTEM,
            },
        }),
    );
    let kubectl = Kubectl::within(bed, "default");
    kubectl.apply(&definition.to_string())?;
    kubectl
        .run(&[
            "wait",
            "--for=condition=Established",
            "crd/robotimages.robotimage.dev",
            "--timeout=30s",
        ])
        .map(drop)
}

/// A chart that does not come up says only that time is over; its pods and the operator's log say why.
fn explained(bed: &Bed, error: &Error) -> Error {
    let kubectl = Kubectl::within(bed, install::SYSTEM);
    let views: [&[&str]; 3] = [
        &["get", "pods", "-o", "wide"],
        &["get", "events"],
        &["logs", "deployment/robotimage", "--tail=20"],
    ];
    let seen = views.map(|args| kubectl.run(args).unwrap_or_else(|error| error.to_string()));
    Error::Other(format!("{error}\n{}", seen.join("\n")))
}

/// The namespace of a suite.
fn name(suite: &str) -> String {
    format!("cluster-{}-{suite}", std::process::id())
}

impl Setup {
    /// The namespace of one of [`SUITES`].
    pub(crate) async fn namespace(&self, suite: &str) -> Result<Namespace> {
        assert!(SUITES.contains(&suite), "{suite} is not in the list of suites");
        Namespace::open(&self.bed, &name(suite)).await
    }

    /// A namespace that the installed operator does not serve.
    pub(crate) async fn unserved(&self, suite: &str) -> Result<Namespace> {
        Namespace::create(&self.bed, &name(suite)).await
    }
}

/// Removes the namespaces of test processes that have ended: on a kept cluster their robots would be polled for ever.
async fn sweep(bed: &Bed) -> Result<()> {
    let api: Api<NamespaceObject> = Api::all(bed.node().client().await?);
    let list = api.list(&ListParams::default().labels("robotimage.dev/testbed=true")).await;
    let list = list.map_err(Error::cluster("list of namespaces"))?;
    for name in list.items.into_iter().filter_map(|object| object.metadata.name) {
        let process = name.strip_prefix("cluster-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            api.delete(&name, &DeleteParams::default())
                .await
                .map_err(Error::cluster(format!("deletion of namespace {name}")))?;
        }
    }
    Ok(())
}

/// The objects that the chart makes with these values, without a cluster.
pub(crate) fn rendered(setup: &Setup, namespace: &str, values: &Value) -> Result<Vec<Value>> {
    let chart: PathBuf = install::work_tree().join("charts/robotimage");
    let text = Helm::of(&setup.bed)?.template("robotimage", namespace, &chart, values)?;
    let documents = text.split("\n---\n").map(str::trim).filter(|document| !document.is_empty());
    let parsed = documents.map(|document| {
        serde_saphyr::from_str::<Value>(document)
            .map_err(|error| Error::Other(format!("the chart renders something that is no YAML: {error}\n{document}")))
    });
    parsed.filter(|object| !matches!(object, Ok(Value::Null))).collect()
}
