//! `suspend`, `resume`, `cancel`, and the wish that `build` sets: small changes of one resource.
//!
//! Invariant: a change carries the resourceVersion that it was decided on, so nobody's change is lost; where somebody was
//! quicker it is decided anew. What is as wanted already is left alone.

use std::time::Duration;

use jiff::Timestamp;
use robotimage_crds::api::annotation;
use serde::Serialize;
use serde_json::{Value, json};

use crate::arguments::CancelArguments;
use crate::cluster::{Cluster, MANAGER};
use crate::error::Error;
use crate::out::Out;
use crate::report::Document;
use crate::resource::{Resource, is_over};

/// How often a change is decided anew.
const TRIES: u32 = 8;
/// Pause between two tries, times the number of the try.
const PAUSE: Duration = Duration::from_millis(50);

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Plan {
    /// This merge patch.
    Patch {
        /// What changes.
        patch: Value,
        /// In words.
        told: String,
    },
    /// Nothing, since it is so already.
    Nothing(String),
}

/// What was done.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    /// The resource, as it is now.
    pub(crate) resource: Resource,
    /// Whether it was changed.
    pub(crate) changed: bool,
    /// In words.
    pub(crate) told: String,
}

/// The document of `-o json`.
#[derive(Serialize, Debug)]
struct Change<'a> {
    namespace: &'a str,
    name: &'a str,
    changed: bool,
    message: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Changes a resource as `plan` says, which sees it as it is.
pub(crate) async fn change(cluster: &Cluster, name: &str, plan: impl Fn(&Resource) -> Result<Plan, Error>) -> Result<Done, Error> {
    for number in 1..=TRIES {
        let resource = cluster.get(name).await?;
        match plan(&resource)? {
            Plan::Nothing(told) => {
                return Ok(Done {
                    resource,
                    changed: false,
                    told,
                });
            }
            Plan::Patch { mut patch, told } => {
                patch["metadata"]["resourceVersion"] = json!(resource.image.metadata.resource_version);
                // A resource made anew under the name is not the one that was looked at.
                patch["metadata"]["uid"] = json!(resource.uid());
                if let Some(resource) = cluster.patch(name, &patch).await? {
                    return Ok(Done {
                        resource,
                        changed: true,
                        told,
                    });
                }
            }
        }
        tokio::time::sleep(PAUSE * number).await;
    }
    Err(Error::Contended {
        name: name.to_owned(),
        times: TRIES,
    })
}

/// Tells what was done.
pub(crate) fn tell(done: &Done, warnings: Vec<String>, out: Out) -> Result<(), Error> {
    if out.json_wanted() {
        return Out::json(&Document::new(
            "Change",
            Change {
                namespace: done.resource.namespace(),
                name: done.resource.name(),
                changed: done.changed,
                message: &done.told,
                warnings,
            },
        ));
    }
    Out::text(&format!("{}\n", done.told))?;
    for warning in warnings {
        out.note(&format!("note: {warning}"));
    }
    Ok(())
}

/// Runs `suspend` or `resume`; the exit code.
pub(crate) async fn suspend(cluster: &Cluster, name: &str, suspended: bool, out: Out) -> Result<u8, Error> {
    let done = change(cluster, name, |resource| Ok(suspension(resource, suspended))).await?;
    let mut warnings = Vec::new();
    let others = if done.changed { owners(&done.resource) } else { Vec::new() };
    if !others.is_empty() {
        warnings.push(format!("spec.suspend is also set by {}, which may set it back", others.join(", ")));
    }
    if suspended
        && done.changed
        && let Some(build) = done.resource.live()
    {
        warnings.push(format!(
            "build {} is left to end; `kubectl robotimage cancel {name}` ends it now",
            build.number
        ));
    }
    tell(&done, warnings, out)?;
    Ok(0)
}

/// The change to a suspension.
fn suspension(resource: &Resource, wanted: bool) -> Plan {
    let name = resource.name();
    match (resource.suspended(), wanted) {
        (true, true) => Plan::Nothing(format!("robotimage {name} was suspended already")),
        (false, false) => Plan::Nothing(format!("robotimage {name} was not suspended")),
        (false, true) => Plan::Patch {
            patch: json!({"spec": {"suspend": true}}),
            told: format!("robotimage {name} suspended: no further builds and no polling"),
        },
        (true, false) => Plan::Patch {
            patch: json!({"spec": {"suspend": false}}),
            told: format!("robotimage {name} resumed: it is polled and built again"),
        },
    }
}

/// Who else says what spec.suspend is: a GitOps engine would set it back.
fn owners(resource: &Resource) -> Vec<String> {
    let fields = resource.image.metadata.managed_fields.iter().flatten();
    let mut names: Vec<String> = fields
        .filter(|entry| {
            let fields = entry.fields_v1.as_ref().map(|fields| &fields.0);
            fields.is_some_and(|fields| fields.pointer("/f:spec/f:suspend").is_some())
        })
        .filter_map(|entry| entry.manager.clone())
        .filter(|manager| manager != MANAGER)
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Runs `cancel`; the exit code.
pub(crate) async fn cancel(cluster: &Cluster, arguments: &CancelArguments, out: Out) -> Result<u8, Error> {
    let done = change(cluster, &arguments.name, |resource| cancellation(resource, arguments.number)).await?;
    tell(&done, Vec::new(), out)?;
    Ok(0)
}

/// The change that cancels a build.
fn cancellation(resource: &Resource, number: Option<i64>) -> Result<Plan, Error> {
    let name = resource.name();
    let Some(build) = &resource.status.latest_build else {
        return match number {
            Some(number) => Err(Error::NoSuchBuild {
                name: name.to_owned(),
                number,
                last: 0,
            }),
            None => Ok(Plan::Nothing(format!("robotimage {name} has no build to cancel"))),
        };
    };
    let number = number.unwrap_or(build.number);
    if number > build.number {
        return Err(Error::NoSuchBuild {
            name: name.to_owned(),
            number,
            last: build.number,
        });
    }
    let over = number < build.number || is_over(build.phase) && !resource.retrying();
    if over {
        let outcome = match resource.history(number) {
            Some(entry) => entry.outcome.clone(),
            None if number == build.number => format!("{:?}", build.phase),
            None => "long ago".to_owned(),
        };
        return Ok(Plan::Nothing(format!(
            "build {number} of robotimage {name} has ended already: {outcome}"
        )));
    }
    if resource.annotation(annotation::CANCEL) == Some(&number.to_string()) {
        return Ok(Plan::Nothing(format!(
            "build {number} of robotimage {name} is being canceled already"
        )));
    }
    let what = if resource.live().is_some() {
        "is being canceled"
    } else {
        "is not tried again"
    };
    Ok(Plan::Patch {
        patch: json!({"metadata": {"annotations": {annotation::CANCEL: number.to_string()}}}),
        told: format!("build {number} of robotimage {name} {what}"),
    })
}

/// The change that asks for a build.
pub(crate) fn force(resource: &Resource, now: Timestamp) -> Result<Plan, Error> {
    if resource.suspended() {
        return Err(Error::Suspended {
            name: resource.name().to_owned(),
        });
    }
    // Unlike any value before it, whatever clock that one came from.
    let mut token = now.to_string();
    if resource.annotation(annotation::FORCE_AT) == Some(&token) {
        token.push('+');
    }
    Ok(Plan::Patch {
        patch: json!({"metadata": {"annotations": {annotation::FORCE_AT: token}}}),
        told: format!("asked for a build of robotimage {}", resource.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::tests::{changed, resource};

    fn with_build(phase: &str, more: &Value) -> Resource {
        let mut status = json!({
            "observedGeneration": 3,
            "latestBuild": {"number": 7, "attempt": 1, "buildId": "0", "job": "j", "requestKey": "k", "generation": 3, "phase": phase},
            "history": [{"number": 6, "outcome": "PushDenied"}],
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            status[name] = value.clone();
        }
        resource(&status)
    }

    fn told(plan: Plan) -> String {
        match plan {
            Plan::Patch { told, .. } => format!("patch: {told}"),
            Plan::Nothing(told) => told,
        }
    }

    #[test]
    fn what_is_as_wanted_is_left_alone() {
        let running = resource(&json!({}));
        let suspended = changed(&json!({}), &json!({"suspend": true}));
        assert!(matches!(suspension(&running, true), Plan::Patch { patch, .. } if patch == json!({"spec": {"suspend": true}})));
        assert!(matches!(suspension(&suspended, false), Plan::Patch { patch, .. } if patch == json!({"spec": {"suspend": false}})));
        assert!(matches!(suspension(&running, false), Plan::Nothing(_)));
        assert!(matches!(suspension(&suspended, true), Plan::Nothing(_)));
    }

    #[test]
    fn only_what_goes_on_is_canceled() {
        let cancel = |resource: &Resource, number| cancellation(resource, number).map(told);
        let running = with_build("Running", &json!({}));
        assert_eq!(
            cancel(&running, None).unwrap(),
            "patch: build 7 of robotimage invoice-reader is being canceled"
        );
        assert_eq!(
            cancel(&running, Some(6)).unwrap(),
            "build 6 of robotimage invoice-reader has ended already: PushDenied"
        );
        assert!(cancel(&running, Some(5)).unwrap().ends_with("long ago"));
        assert!(matches!(cancellation(&running, Some(8)), Err(Error::NoSuchBuild { last: 7, .. })));
        assert!(cancel(&with_build("Succeeded", &json!({})), None).unwrap().ends_with("Succeeded"));
        let retrying = json!([{"type": "Reconciling", "status": "True", "reason": "ProgressingWithRetry", "message": "", "lastTransitionTime": "2026-03-01T09:00:00Z"}]);
        let retrying = with_build("Failed", &json!({"conditions": retrying}));
        assert!(cancel(&retrying, None).unwrap().ends_with("is not tried again"));
        assert!(cancel(&resource(&json!({})), None).unwrap().ends_with("no build to cancel"));
        assert!(cancellation(&resource(&json!({})), Some(1)).is_err());
    }

    #[test]
    fn each_wish_for_a_build_is_another_one() {
        let now: Timestamp = "2026-03-01T10:00:00.123456Z".parse().unwrap();
        let mut asked = resource(&json!({}));
        let wish = |token: &str| json!({"metadata": {"annotations": {"robotimage.dev/forceAt": token}}});
        let patch = |resource: &Resource| match force(resource, now) {
            Ok(Plan::Patch { patch, .. }) => patch,
            other => panic!("{other:?}"),
        };
        let token = "2026-03-01T10:00:00.123456Z";
        assert_eq!(patch(&asked), wish(token));
        asked.image.metadata.annotations = Some([(annotation::FORCE_AT.to_owned(), token.to_owned())].into());
        assert_eq!(patch(&asked), wish("2026-03-01T10:00:00.123456Z+"));
        let suspended = changed(&json!({}), &json!({"suspend": true}));
        assert!(matches!(force(&suspended, now), Err(Error::Suspended { .. })));
    }

    #[test]
    fn who_else_says_so_is_named() {
        let mut image = resource(&json!({}));
        let entry = |manager: &str, fields: Value| json!({"manager": manager, "fieldsV1": fields});
        image.image.metadata.managed_fields = serde_json::from_value(json!([
            entry("kustomize-controller", json!({"f:spec": {"f:suspend": {}}})),
            entry(MANAGER, json!({"f:spec": {"f:suspend": {}}})),
            entry("kubectl", json!({"f:spec": {"f:source": {}}})),
        ]))
        .unwrap();
        assert_eq!(owners(&image), ["kustomize-controller"]);
    }
}
