//! RobotImages at rest: as many as wanted, in many namespaces, each with a full status.
//!
//! Invariant: the status of each is one that the operator wrote itself, for a resource of the same spec, with ten entries of
//! history in it: an operator that starts finds nothing to do.

use std::sync::Arc;

use axum::http::Method;
use futures::{StreamExt, TryStreamExt};
use kube::api::{Api, ListParams};
use robotimage_crds::api::RobotImage;
use serde_json::{Value, json};

use super::ground::{Ground, namespace};
use super::operator::Operator;
use super::runner::{MockJobRunner, send};
use crate::error::{Error, Result};

/// Writes under way at the same time.
const AT_ONCE: usize = 16;
/// RobotImages in one namespace, all of the same source.
pub(super) const TOGETHER: usize = 20;
/// Entries of history.
const HISTORY: i64 = 10;
/// The field manager of whoever applies them.
const APPLIER: &str = "bench";

/// One namespace and its source.
#[derive(Debug, Clone)]
struct Place {
    namespace: String,
    url: String,
    branch: String,
    /// Of the first resource, as the operator wrote it, with a full history.
    status: Value,
}

/// The resources that are there.
#[derive(Debug)]
pub(super) struct Fleet {
    places: Vec<Place>,
    /// How many there are.
    pub(super) count: usize,
}

/// A RobotImage as a team writes it.
pub(super) fn robot_image(name: &str, url: &str, branch: &str, repository: &str) -> Value {
    json!({
        "apiVersion": "robotimage.dev/v1alpha1", "kind": "RobotImage",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/part-of": "invoices", "team": "finance"}},
        "spec": {
            "interval": "5m",
            "source": {"git": {"url": url, "ref": {"branch": branch}}, "path": "robots/a"},
            "robot": {"task": "Read invoices"},
            "image": {
                "repository": repository,
                "tags": ["{{source.short}}", "latest"],
                "labels": {"org.example.team": "finance", "org.example.cost": "4711"},
            },
            "build": {"timeout": "20m", "retries": 3},
        },
    })
}

/// Applies one, as Flux or `kubectl apply --server-side` do.
pub(super) async fn apply(client: &kube::Client, namespace: &str, object: &Value) -> Result<()> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("/apis/robotimage.dev/v1alpha1/namespaces/{namespace}/robotimages/{name}?fieldManager={APPLIER}&force=true");
    send(client, Method::PATCH, &path, "application/apply-patch+yaml", object).await
}

impl Fleet {
    /// Makes the namespaces for `objects` resources and has the operator build the first resource of each; gives every one of
    /// these a full history.
    pub(super) async fn seed(ground: &Ground, runner: &MockJobRunner, operator: Operator, objects: usize) -> Result<Self> {
        runner.pace(std::time::Duration::from_millis(50));
        let count = objects.div_ceil(TOGETHER);
        let sources = ground.branches(count)?;
        let mut places = Vec::new();
        for (number, (url, branch)) in sources.into_iter().enumerate() {
            let place = Place {
                namespace: format!("team-{number:03}"),
                url,
                branch,
                status: Value::Null,
            };
            namespace(&ground.client, &place.namespace).await?;
            apply(&ground.client, &place.namespace, &place.object(0, ground)).await?;
            places.push(place);
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of objects are far below 2^52")]
        let wanted = count as f64;
        operator.built(wanted).await?;
        operator.stop();
        let api: Api<RobotImage> = Api::all(ground.client.clone());
        let list = api
            .list(&ListParams::default())
            .await
            .map_err(Error::cluster("list of RobotImages"))?;
        for place in &mut places {
            let seed = list
                .items
                .iter()
                .find(|image| image.metadata.namespace.as_ref() == Some(&place.namespace));
            let status = seed.and_then(|seed| seed.status.as_ref());
            let status = status.ok_or_else(|| Error::Other(format!("no status in {}", place.namespace)))?;
            let status = serde_json::to_value(status).map_err(|error| Error::Other(format!("status: {error}")))?;
            place.status = full(status)?;
            patch_status(&ground.client, place, 0).await?;
        }
        Ok(Self { places, count })
    }

    /// Bytes of a status as JSON, of the spec beside it, and how many entries of history it has.
    pub(super) fn size(&self, ground: &Ground) -> (usize, usize, usize) {
        self.places.first().map_or((0, 0, 0), |place| {
            let history = place.status["history"].as_array().map_or(0, Vec::len);
            (
                place.status.to_string().len(),
                place.object(0, ground)["spec"].to_string().len(),
                history,
            )
        })
    }

    /// Adds resources until there are so many.
    pub(super) async fn grow(&mut self, ground: &Ground, objects: usize) -> Result<()> {
        let missing: Vec<(Arc<Place>, usize)> = (self.count..objects)
            .map(|number| {
                (
                    Arc::new(self.places[number % self.places.len()].clone()),
                    number / self.places.len(),
                )
            })
            .collect();
        futures::stream::iter(missing.into_iter().map(|(place, number)| {
            let client = ground.client.clone();
            let object = place.object(number, ground);
            async move {
                apply(&client, &place.namespace, &object).await?;
                patch_status(&client, &place, number).await
            }
        }))
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await?;
        self.count = self.count.max(objects);
        Ok(())
    }
}

impl Place {
    fn object(&self, number: usize, ground: &Ground) -> Value {
        robot_image(&robot(number), &self.url, &self.branch, &ground.repository)
    }
}

fn robot(number: usize) -> String {
    format!("invoice-robot-{number:03}")
}

async fn patch_status(client: &kube::Client, place: &Place, number: usize) -> Result<()> {
    let path = format!(
        "/apis/robotimage.dev/v1alpha1/namespaces/{}/robotimages/{}/status?fieldManager=robotimage-operator",
        place.namespace,
        robot(number)
    );
    let body = json!({"status": place.status});
    send(client, Method::PATCH, &path, "application/merge-patch+json", &body).await
}

/// The status with a full history: the newest build's number is ten, and of the ten half have failed.
fn full(mut status: Value) -> Result<Value> {
    let first = status["history"][0].clone();
    if first.is_null() {
        return Err(Error::Other(format!("a build left no history: {status}")));
    }
    let entries = (1..=HISTORY).rev().map(|number| {
        let mut entry = first.clone();
        entry["number"] = json!(number);
        entry["reasons"] = json!(["SourceChanged"]);
        if number % 2 == 1 {
            entry["outcome"] = json!("PackageBuildFailed");
            if let Some(entry) = entry.as_object_mut() {
                entry.remove("digest");
            }
        }
        entry
    });
    status["history"] = Value::Array(entries.collect());
    status["latestBuild"]["number"] = json!(HISTORY);
    status["buildCounter"] = json!(HISTORY);
    Ok(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_history_keeps_the_newest_success() {
        let status =
            full(json!({"history": [{"number": 1, "digest": "d", "outcome": "Succeeded"}], "latestBuild": {"number": 1}})).unwrap();
        let history = status["history"].as_array().unwrap();
        assert_eq!(
            (history.len(), &history[0]["number"], &history[0]["outcome"]),
            (10, &json!(10), &json!("Succeeded"))
        );
        assert_eq!(history.iter().filter(|entry| entry["outcome"] == "Succeeded").count(), 5);
        assert!(full(json!({"history": []})).is_err());
    }
}
