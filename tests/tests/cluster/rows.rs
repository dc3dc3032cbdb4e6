//! Every row of the table of states, as its golden file has it, before the real kstatus and the real `kubectl wait`.
//!
//! The operator's own tests write the files from its decisions; here each object is stored by a real API server first, so
//! that a status which the definition would prune or refuse is no row.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::BTreeMap;
use std::path::Path;

use kube::api::{Api, Patch, PatchParams, PostParams};
use robotimage_crds::api::RobotImage;
use robotimage_tests::kubectl::Kubectl;
use robotimage_tests::{Bed, Namespace, install, kstatus};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::setup::install_definition;

/// What a golden file says.
#[derive(Debug, Deserialize)]
struct Row {
    kstatus: String,
    /// The conditions that `kubectl wait` finds met.
    #[serde(default)]
    met: Vec<String>,
    after: Value,
}

/// All rows by the name of their file.
fn rows() -> BTreeMap<String, Row> {
    let folder = install::work_tree().join("operator/golden/rows");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .map(|path| {
            let text = std::fs::read_to_string(&path).unwrap();
            let row = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (stem(&path), row)
        })
        .collect()
}

fn stem(path: &Path) -> String {
    path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned()
}

/// Stores the row's object under this name: its spec through as many edits as its generation says, then its status.
async fn store(api: &Api<RobotImage>, name: &str, row: &Value) -> RobotImage {
    let generation = row["metadata"]["generation"].as_i64().expect("a generation");
    let mut object = json!({
        "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage",
        "metadata": {"name": name, "annotations": row["metadata"]["annotations"]},
        "spec": row["spec"],
    });
    for left in (0..generation).rev() {
        object["spec"] = row["spec"].clone();
        if left > 0 {
            object["spec"]["interval"] = json!(format!("{}s", 4000 + left));
        }
        let typed = serde_json::from_value::<RobotImage>(object.clone()).unwrap();
        match api.get_opt(name).await.unwrap() {
            None => drop(api.create(&PostParams::default(), &typed).await.unwrap()),
            Some(found) => {
                let mut next = typed;
                next.metadata.resource_version = found.metadata.resource_version;
                api.replace(name, &PostParams::default(), &next).await.unwrap();
            }
        }
    }
    let status = json!({"status": row["status"]});
    let stored = api
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .unwrap();
    assert_eq!(stored.metadata.generation, Some(generation), "{name}");
    assert_eq!(
        serde_json::to_value(&stored.status).unwrap(),
        row["status"],
        "{name}: the server stored another status"
    );
    stored
}

/// The objects that `kubectl wait` finds in this condition, without waiting.
fn met(kubectl: &Kubectl, condition: &str) -> Vec<String> {
    let wanted = format!("--for=condition={condition}");
    let output = kubectl.output(&["wait", &wanted, "rimg", "--all", "--timeout=0"]).unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    said.lines()
        .filter_map(|line| line.strip_suffix(" condition met")?.split_once('/'))
        .map(|(_, name)| name.to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and the real parts: make test runs it"]
async fn kstatus_and_kubectl_read_each_row_as_it_is_meant() {
    let bed = Bed::shared().await.unwrap();
    install_definition(&bed).await;
    let namespace = Namespace::fresh(&bed, "rows").await.unwrap();
    let rows = rows();
    let mut stored = Vec::new();
    for (name, row) in &rows {
        stored.push(store(&namespace.api(), &format!("row-{name}"), &row.after).await);
    }
    let real = kstatus::of(bed.cache(), &stored).unwrap();
    let mut wrong = Vec::new();
    println!("{:<34} {:<12} kstatus says", "row", "kstatus");
    for ((name, row), verdict) in rows.iter().zip(&real) {
        println!("{name:<34} {:<12} {}", verdict.status, verdict.message);
        if verdict.status != row.kstatus {
            wrong.push(format!("{name}: kstatus says {verdict:?}, the file {}", row.kstatus));
        }
    }
    let kubectl = Kubectl::within(&bed, namespace.name());
    for condition in ["Ready", "Available", "Reconciling", "Stalled"] {
        let mut real = met(&kubectl, condition);
        real.sort();
        let said = rows.iter().filter(|(_, row)| row.met.iter().any(|met| met == condition));
        let said: Vec<String> = said.map(|(name, _)| format!("row-{name}")).collect();
        println!(
            "kubectl wait --for=condition={condition}: met by {} of {} rows",
            real.len(),
            rows.len()
        );
        if real != said {
            wrong.push(format!("{condition}: kubectl finds it met by {real:?}, the files by {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    namespace.delete().await.unwrap();
}
